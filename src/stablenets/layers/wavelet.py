"""Thresholding in an orthonormal wavelet basis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError, message
from .proximal import Proximal


class HaarThreshold(Proximal):
    """W^T S(W x) with the orthonormal Haar transform W and soft thresholds S of all details at `levels` scales.

    The proximal map of g(x) = threshold |details of W x|_1, exactly: W is orthogonal. (Not coercive: the means at the
    coarsest scale cost nothing.) Images of any size are extended to a multiple of 2^levels by zeros, an isometry, and
    cropped again, its adjoint: the map stays firmly non-expansive, but is a proximal map of g itself only on images
    whose sides are such multiples.

    Args:
        threshold: of the details.
        levels: number of scales.

    Reference: Donoho & Johnstone 1994; Mallat, A wavelet tour of signal processing (2009), 7.7.

    >>> HaarThreshold(0.1, levels=2)(torch.ones(1, 1, 8, 8)).allclose(torch.ones(1, 1, 8, 8))
    True
    """

    roundings = 64.0

    def __init__(self, threshold: float, *, levels: int = 3) -> None:
        super().__init__()
        if not (0 < threshold < math.inf and levels >= 1):
            raise InputError(message(f"threshold={threshold}, levels={levels}", "positive numbers"))
        self.threshold, self.levels = threshold, levels
        self.input_shape = (1, 2**levels, 2**levels)

    def forward(self, x: Tensor) -> Tensor:
        size, unit = x.shape[-2:], 2**self.levels
        padded = F.pad(x, (0, -size[1] % unit, 0, -size[0] % unit))
        means, details = self.analyse(padded)
        for detail in reversed(details):
            means = synthesise(means, F.softshrink(detail, self.threshold))
        return means[..., : size[0], : size[1]]

    def analyse(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Means at the coarsest scale, and details (..., 3, height, width) from fine to coarse."""
        details = []
        for _ in range(self.levels):
            x, detail = analyse(x)
            details.append(detail)
        return x, details

    def penalty(self, x: Tensor) -> Tensor:
        return self.threshold * sum((d.abs().flatten(1).sum(1) for d in self.analyse(x)[1]), x.new_zeros(len(x)))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.6, levels=2)


def analyse(x: Tensor) -> tuple[Tensor, Tensor]:
    """Images (..., 2 h, 2 w) as means (..., h, w) and details (..., 3, h, w): an orthogonal change of basis."""
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    details = torch.stack([a - b + c - d, a + b - c - d, a - b - c + d], -3)
    return (a + b + c + d) / 2, details / 2


def synthesise(means: Tensor, details: Tensor) -> Tensor:
    """The inverse of `analyse`, which is its adjoint."""
    u, v, w = details.unbind(-3)
    rows = [
        torch.stack([means + u + v + w, means - u + v - w], -1),
        torch.stack([means + u - v - w, means - u - v + w], -1),
    ]
    return (torch.stack([r.flatten(-2) for r in rows], -2) / 2).flatten(-3, -2)
