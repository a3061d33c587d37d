"""Rescaling by which any matrix or convolution becomes 1-Lipschitz, without a norm being computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ..core.errors import InputError, message
from .base import LinearMap
from .bounds import check_finite
from .conv import Conv1d, Conv2d
from .convolution import Convolution
from .dense import Dense
from .geometry import CONVOLVE

SHRINK = 2.0**-16  # of the squared norm, for rounding
TINY = 1e-12  # added to squared norms: rows of zeros stay zeros, and smaller ones are scaled less
EXTREME = 8.0  # |log q| is cut off here: any positive q will do, and proofs stay well conditioned


class AlmostOrthogonal(LinearMap):
    """B = D^(1/2) A with D_i = 1 / sum_j |A A^T|_ij q_j / q_i, for one q_i > 0 per output feature or channel.

    ||B|| <= 1 for every A and every q: D A A^T is similar to a matrix whose rows have absolute sums of at most 1
    (Prach & Lampert 2022, Thm 1; with q, Araujo et al. 2023). For a convolution with kernel K, |A A^T|_ij is the sum
    of |sum_c K_ic * K_jc| over all offsets, which bounds it for every image size: on all of Z^d the theorem applies,
    and a zero-padded convolution is a compression, a circular one a quotient. B is nearly orthogonal, and its norm
    close to 1, when A A^T is nearly diagonal.

    `Flow(ConvexGradient(AlmostOrthogonal(linear)), Euler(), steps=1)` is the SDP-based Lipschitz layer (SLL)
    x - 2 A^T T^-1 relu(A x + b), T = 1 / D, because relu is positively homogeneous. (In published code for convolutions
    q_j and 1 / q_i cancel; here q is live.)

    Args:
        linear: A, a `Dense`, or a `Conv1d` or `Conv2d` with stride 1 and zero or circular padding.

    Raises:
        InputError: for any other map.

    >>> from stablenets.linear import Dense
    >>> a = AlmostOrthogonal(Dense(3, 5))
    >>> a.linear.weight.data *= 100
    >>> float(torch.linalg.matrix_norm(a.matrix(), 2)) <= a.norm_bound() <= 1
    True
    """

    guaranteed_norm: ClassVar[float] = 1.0

    def __init__(self, linear: LinearMap) -> None:
        super().__init__()
        if not isinstance(linear, (Dense, Conv1d, Conv2d)) or (
            isinstance(linear, Convolution)
            and (linear.geometry.padding == "reflect" or any(a.stride > 1 for a in linear.geometry.axes))
        ):
            raise InputError(
                message(f"AlmostOrthogonal({linear})", "Dense, or Conv1d or Conv2d, zero or circular, with stride 1")
            )
        self.linear = linear
        self.input_shape, self.output_shape = linear.input_shape, linear.output_shape
        self.log_q = nn.Parameter(torch.zeros(linear.output_shape[0]))

    @property
    def weight(self) -> Tensor:
        weight = self.linear.weight
        if self.training:  # in the precision of the weights; bfloat16 would be off by per cents
            with torch.autocast(weight.device.type, enabled=False):
                return self._scaled(weight, self.log_q)
        return self._weight64().to(weight.dtype)

    def _weight64(self) -> Tensor:
        return self._scaled(self.linear.weight.double(), self.log_q.double())

    def _scaled(self, weight: Tensor, log_q: Tensor) -> Tensor:
        """D^(1/2) A.

        Rounding. The computed |A A^T|_ij are off by gamma_n |A| |A|^T, n = (inputs per output), and so B B^T exceeds
        what the theorem says by gamma_n || |B| ||^2 <= gamma_n taps outputs at most: below 1e-5 in float64 as long as
        inputs x outputs x taps^2 (of channels) stays below 1e10, whatever q. `SHRINK` takes 1.5e-5 off ||B||^2, which
        also covers rounding the entries of B to float32 while taps x outputs < 10,000: it moves B by at most
        2^-24 || |B| ||.
        """
        overlaps = self._overlaps(weight)
        overlaps = (overlaps + overlaps.mT) / 2  # symmetric but for rounding: now the above holds exactly
        log_q = (log_q - log_q.mean()).clamp(-EXTREME, EXTREME).view(overlaps.shape[0], -1)
        quotients = (log_q[:, None, :] - log_q[:, :, None]).exp()
        sums = (overlaps * quotients).sum(2).flatten()
        scale = (sums * (1 + SHRINK) + TINY).rsqrt()
        return scale.view(-1, *[1] * (weight.dim() - 1)) * weight

    def _overlaps(self, weight: Tensor) -> Tensor:
        """|A A^T| by group, (groups, out / groups, out / groups), summed over the offsets of a convolution."""
        if not isinstance(self.linear, Convolution):
            return (weight @ weight.mT).abs()[None]
        g = self.linear.geometry
        kernels = g.by_group(weight).transpose(0, 1).flatten(1, 2)  # (out / groups, in, *kernel)
        products = CONVOLVE[len(g.axes)](kernels, weight, padding=tuple(k - 1 for k in g.kernel), groups=g.groups)
        return products.abs().flatten(2).sum(2).unflatten(1, (g.groups, -1)).transpose(0, 1)

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.linear._forward(x, weight)

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        return self.linear._adjoint(y, weight)

    @property
    def dot_lengths(self) -> tuple[int, int]:
        return self.linear.dot_lengths

    @torch.no_grad()
    def norm_bound(self) -> float:
        """1, by the theorem; the weights only have to be finite."""
        check_finite(self._weight64())
        return self.guaranteed_norm

    def norm_estimate(self, iterations: int = 1) -> float:
        """1: nothing needs to be estimated."""
        return self.guaranteed_norm

    def training_norm(self) -> Tensor:
        return torch.full((), self.guaranteed_norm, device=self.log_q.device)

    @property
    def norm_theorem(self) -> str:
        return (
            "||D^(1/2) A|| <= 1 for D_i = 1 / sum_j |A A^T|_ij q_j / q_i and every q > 0 "
            "(Prach & Lampert 2022, Thm 1; Araujo et al. 2023)"
        )

    @classmethod
    def examples(cls) -> Iterator[Self]:
        maps = [Dense(3, 6), Dense(6, 3), Conv2d(2, 4, 3, (4, 5)), Conv2d(2, 4, (2, 3), 4, "circular", groups=2)]
        for linear in (*maps, Conv1d(2, 3, 3, 6, dilation=2)):
            linear.weight.data *= 3
            a = cls(linear)
            a.log_q.data = torch.linspace(-1, 1, len(a.log_q))
            yield a
