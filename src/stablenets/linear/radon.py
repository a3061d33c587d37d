"""The parallel-beam Radon transform: line integrals, as in X-ray tomography."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .operator import Operator, absolute_perron_bound, explicit_bounds, image_shape_of, small


class Radon(Operator):
    """Images (batch, channels, n, n) -> sinograms (batch, channels, angles, detectors), lengths in pixels.

    Pixel-driven: the value of a pixel at (x, y), from the centre, x to the right and y upwards, falls on the detector
    line at s = x cos(angle) + y sin(angle), and is shared by the two detectors around s in proportion to their
    nearness. The adjoint uses the same shares, computed in the same way: it is exact.

    Args:
        image_shape: (channels, n, n).
        angles: in degrees.

    Raises:
        InputError: an image that is not square, or angles that are not finite.

    Reference: Natterer, The mathematics of computerized tomography (2001), V.1.

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
        self.detectors = 2 * math.ceil(height * math.sqrt(0.5)) + 1
        self._hold(torch.ones(()), self.image_shape, (channels, len(self.angles), self.detectors))

    def _shares(self, angle: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """For each pixel the lower of its two detectors, and the share of the upper one."""
        n = self.image_shape[1]
        centred = torch.arange(n, dtype=torch.float64, device=like.device) - (n - 1) / 2
        radians = math.radians(angle)
        s = centred * math.cos(radians) - centred[:, None] * math.sin(radians) + self.detectors // 2
        lower = s.floor()
        return lower.long().flatten(), (s - lower).to(like.dtype).flatten()

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        pixels = x.flatten(2) * weight
        rows = []
        for angle in self.angles:
            lower, share = self._shares(angle, x)
            row = pixels.new_zeros(*x.shape[:2], self.detectors)
            row = row.index_add(2, lower, pixels * (1 - share))
            rows.append(row.index_add(2, lower + 1, pixels * share))
        return torch.stack(rows, 2)

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        pixels = y.new_zeros(*y.shape[:2], math.prod(self.image_shape[1:]))
        for i, angle in enumerate(self.angles):
            lower, share = self._shares(angle, y)
            row = y[:, :, i]
            pixels = pixels + (row[..., lower] * (1 - share) + row[..., lower + 1] * share)
        return (pixels * weight).view(*y.shape[:2], *self.image_shape[1:])

    @property
    def dot_lengths(self) -> tuple[int, int]:
        n = self.image_shape[1]
        return 4 * n + 8, 2 * len(self.angles) + 2  # a strip of width 2 holds fewer than 4 n + 8 pixels

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
