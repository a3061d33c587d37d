"""What all convolutions share: their geometry, and how their norms are bounded."""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .banded import cholesky_bound, layout
from .base import LinearMap
from .bounds import spectral_norm_bound
from .fourier import fourier_bound
from .geometry import Geometry

EXPLICIT_LIMIT = 600  # maps with a side no longer than this are bounded by the SVD of their explicit matrix
# floating-point operations of a Cholesky factorisation: 0.3 s where the Fourier bound is off by a few per cent at most,
# 5 s where it is off by a factor sqrt(2) or 2
CHOLESKY_LIMITS = {"zero": 1.2e10, "reflect": 2e11}
ROOMY = 8  # images this many times larger than the reach of their kernel leave the Fourier bound within 2 per cent


class Convolution(LinearMap, abc.ABC):
    """A 'same' convolution: a weight (out, in / groups, *kernel), and a `Geometry` that says what is done with it."""

    geometry: Geometry

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        _check(x, self.input_shape)
        return self.geometry.apply(x, weight)

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        _check(y, self.output_shape)
        return self.geometry.adjoint(y, weight)

    def _set(self, geometry: Geometry, in_channels: int, out_channels: int) -> Tensor:
        """Store the geometry and the shapes; returns an initial weight of norm near 1.

        Raises:
            InputError: when the channels cannot be cut into groups.
        """
        g = geometry.groups
        if not (g >= 1 and in_channels >= 1 and out_channels >= 1 and in_channels % g == out_channels % g == 0):
            raise InputError(
                message(f"{in_channels} and {out_channels} channels in {g} groups", "positive multiples of groups")
            )
        self.geometry = geometry
        self.input_shape, self.output_shape = (in_channels, *geometry.size), (out_channels, *geometry.outputs)
        # a symbol is a Gaussian matrix; of a strided map, `aliases` times as wide and with entries as much smaller
        aliases = math.prod(a.stride for a in geometry.axes)
        sides = (in_channels / g) ** 0.5 + (out_channels / g / aliases) ** 0.5
        return torch.randn(out_channels, in_channels // g, *geometry.kernel) / (geometry.taps**0.5 * sides)

    @property
    def dot_lengths(self) -> tuple[int, int]:
        g = self.geometry
        copies = math.prod(a.copies for a in g.axes)
        return self.input_shape[0] // g.groups * g.taps, self.output_shape[0] // g.groups * g.taps * copies

    def _method(self) -> str:
        """How the norm is bounded: "explicit", "cholesky" or "fourier", by the sizes alone."""
        g = self.geometry
        channels, out = self.input_shape[0] // g.groups, self.output_shape[0] // g.groups
        sides = channels * math.prod(g.size), out * math.prod(g.outputs)
        if min(sides) <= EXPLICIT_LIMIT and max(sides) <= 4 * EXPLICIT_LIMIT:
            return "explicit"
        roomy = all(a.size >= ROOMY * a.reach for a in g.axes)
        if g.padding == "circular" or (g.padding == "zero" and roomy):
            return "fourier"
        return "cholesky" if layout(out, channels, g).work <= CHOLESKY_LIMITS[g.padding] else "fourier"

    @torch.no_grad()
    def norm_bound(self) -> float:
        """By the explicit matrix, a Cholesky factorisation or Fourier analysis; see `norm_theorem`.

        With groups, the map is block diagonal: the largest bound of a group.
        """
        g, method = self.geometry, self._method()
        parts = g.by_group(self._weight64())
        one = Geometry(g.axes)
        if method == "explicit":
            eye = torch.eye(parts.shape[2] * math.prod(g.size), dtype=parts.dtype, device=parts.device)
            eye = eye.view(-1, parts.shape[2], *g.size)
            return max(spectral_norm_bound(one.apply(eye, w).flatten(1)) for w in parts)
        return max(cholesky_bound(w, one) if method == "cholesky" else fourier_bound(w, one) for w in parts)

    @property
    def norm_theorem(self) -> str:
        g, method = self.geometry, self._method()
        groups = "" if g.groups == 1 else "; the largest over the groups"
        strided = "" if all(a.stride == 1 for a in g.axes) else " (strided: polyphase components)"
        if method == "explicit":
            return f"largest singular value of the explicit matrix (float64 SVD with its backward error){groups}"
        if method == "cholesky":
            return f"t I - A^T A has a (banded) Cholesky factor, so ||A||^2 <= t{groups}"
        torus = f"largest singular value over the Fourier grid{strided}"
        if g.padding == "circular":
            return f"{torus} (Sedghi, Gupta & Long 2019, Thm 6){groups}"
        if g.padding == "zero":
            return f"zero padding is a compression of a convolution on a (twisted) torus: {torus}{groups}"
        return (
            f"reflection holds no input more than c times, so it has norm sqrt(c), and the convolution that follows is "
            f"a compression of one on a (twisted) torus: sqrt(c) times the {torus}{groups}"
        )


def _check(x: Tensor, shape: tuple[int, ...]) -> None:
    # the norm depends on the size: another one would void every claim without a sound
    if x.shape[1:] != shape:
        raise InputError(message(f"a batch of shape {tuple(x.shape)}", f"(batch, {', '.join(map(str, shape))})"))
