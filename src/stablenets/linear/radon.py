"""The parallel-beam Radon transform: line integrals, as in X-ray tomography."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .operator import Operator, absolute_perron_bound, explicit_bounds, image_shape_of, small


class Radon(Operator):
    """Images (batch, channels, n, n) -> sinograms (batch, channels, angles, detectors), lengths in pixels.

    The image is constant on each pixel, a unit square, and a detector measures the mean over its width of 1. So the
    pixel around (x, y), from the centre, x to the right and y upwards, casts a trapezoidal shadow of area 1 around
    s = x cos(angle) + y sin(angle), of which each detector gets what falls on it. The adjoint uses the same shares,
    computed in the same way: it is exact.

    Args:
        image_shape: (channels, n, n).
        angles: in degrees.

    Raises:
        InputError: an image that is not square, or angles that are not finite.

    Reference: Long, Fessler & Balter 2010, 3D forward and back-projection using separable footprints.

    >>> Radon((1, 8, 8), (0.0, 90.0))(torch.ones(1, 1, 8, 8)).sum((2, 3))  # each angle sees the whole mass
    tensor([[128.]])
    """

    def __init__(self, image_shape: Sequence[int], angles: Sequence[float]) -> None:
        super().__init__()
        channels, height, width = image_shape_of(image_shape)
        if height != width:
            raise InputError(message(f"images of {height} x {width}", "square ones", "Pad the shorter side by zeros."))
        if not len(angles) or not all(map(math.isfinite, angles)):
            raise InputError(message(f"angles={list(angles)}", "at least one, in degrees, all finite"))
        self.image_shape, self.angles = (channels, height, width), tuple(map(float, angles))
        self.detectors = 2 * math.ceil(height * math.sqrt(0.5)) + 3
        self._hold(torch.ones(()), self.image_shape, (channels, len(self.angles), self.detectors))

    def _shares(self, angle: float, like: Tensor) -> tuple[Tensor, list[Tensor]]:
        """For each pixel the first detector that its shadow may meet, and the shares of that one and the next two."""
        n = self.image_shape[1]
        centred = torch.arange(n, dtype=torch.float64, device=like.device) - (n - 1) / 2
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        place = (centred * c - centred[:, None] * s).flatten() + self.detectors // 2
        first = (place - (abs(c) + abs(s)) / 2 + 0.5).floor()
        left = [_shadow(first + (k - 0.5) - place, abs(c), abs(s)) for k in range(4)]
        return first.long(), [(b - a).clamp(min=0).to(like.dtype) for a, b in itertools.pairwise(left)]

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        pixels = x.flatten(2) * weight
        rows = []
        for angle in self.angles:
            first, shares = self._shares(angle, x)
            row = pixels.new_zeros(*x.shape[:2], self.detectors)
            for k, share in enumerate(shares):
                row = row.index_add(2, first + k, pixels * share)
            rows.append(row)
        return torch.stack(rows, 2)

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        pixels = y.new_zeros(*y.shape[:2], math.prod(self.image_shape[1:]))
        for i, angle in enumerate(self.angles):
            first, shares = self._shares(angle, y)
            for k, share in enumerate(shares):
                pixels = pixels + y[:, :, i][..., first + k] * share
        return (pixels * weight).view(*y.shape[:2], *self.image_shape[1:])

    @property
    def dot_lengths(self) -> tuple[int, int]:
        n = self.image_shape[1]
        return 6 * n + 8, 3 * len(self.angles) + 2  # a strip of width 1 + sqrt(2) holds fewer than 6 n + 8 centres

    @torch.no_grad()
    def norm_bound(self) -> float:
        """By the explicit matrix of one channel if it is small, else by `perron_bound`: all entries are >= 0."""
        one = Radon((1, *self.image_shape[1:]), self.angles).to(self.weight.device)
        return explicit_bounds(one)[1] if small(one) else absolute_perron_bound(one)

    @property
    def norm_theorem(self) -> str:
        if small(Radon((1, *self.image_shape[1:]), self.angles)):
            return "largest singular value of the explicit matrix (float64 SVD with its backward error)"
        return "||A||^2 <= max (A^T A v)_i / v_i for v > 0 (Collatz & Wielandt): no entry is negative"

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls((2, 6, 6), (0.0, 30.0, 77.0, 120.0))
        yield cls((1, 5, 5), (45.0,))


def _shadow(t: Tensor, a: float, b: float) -> Tensor:
    """The part at the left of t of a trapezoid of area 1 around 0: the convolution of intervals of widths a and b."""
    if min(a, b) < 1e-6:
        return (t / max(a, b) + 0.5).clamp(0, 1)
    corners = ((a + b) / 2, (a - b) / 2, (b - a) / 2, -(a + b) / 2)
    q = [(t + corner).clamp(min=0).square() for corner in corners]
    return ((q[0] - q[1] - q[2] + q[3]) / (2 * a * b)).clamp(0, 1)
