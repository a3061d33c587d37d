"""Kernels of blurs: non-negative, with sum 1, of an odd number of entries in each direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.errors import InputError, message

LARGEST = 4096  # pixels that a kernel may span


def gaussian_kernel(sigma: float, size: int | None = None) -> Tensor:
    """A Gaussian of standard deviation `sigma` (pixels), cut off at 3 sigma or to `size` x `size` entries; float64.

    >>> gaussian_kernel(1.0).shape, round(float(gaussian_kernel(1.0).sum()), 12)
    (torch.Size([7, 7]), 1.0)
    """
    if not 0 < sigma <= LARGEST / 6:
        raise InputError(message(f"sigma={sigma}", f"a positive number of pixels, at most {LARGEST // 6}"))
    count = 2 * math.ceil(3 * sigma) + 1 if size is None else size
    if isinstance(count, bool) or not isinstance(count, int) or count < 1 or count % 2 == 0:
        raise InputError(message(f"size={size!r}", "an odd, positive number of entries"))
    x = torch.arange(count, dtype=torch.float64) - count // 2
    row = torch.exp(-0.5 * (x / sigma).square())
    kernel = torch.outer(row, row)
    return kernel / kernel.sum()


def motion_kernel(length: float, angle: float = 0.0) -> Tensor:
    """A camera that moves by `length` pixels in the direction `angle` (degrees, anticlockwise from the right); float64.

    The path is sampled finely, and every sample is shared by the four pixels around it (bilinear weights).

    >>> motion_kernel(3.0)
    tensor([[0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
            [0.0417, 0.2917, 0.3333, 0.2917, 0.0417],
            [0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.0000, 0.0000, 0.0000]], dtype=torch.float64)
    """
    if not (0 < length <= LARGEST and math.isfinite(angle)):
        raise InputError(
            message(f"length={length}, angle={angle}", f"a length of up to {LARGEST} pixels, an angle in degrees")
        )
    reach = math.ceil(length / 2)
    samples = 2 * math.ceil(64 * length)
    t = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples * length - length / 2
    rows, columns = reach - t * math.sin(math.radians(angle)), reach + t * math.cos(math.radians(angle))
    kernel = torch.zeros(2 * reach + 2, 2 * reach + 2, dtype=torch.float64)
    for down in (0, 1):
        for right in (0, 1):
            i, j = rows.floor().long(), columns.floor().long()
            weight = (rows - i - (1 - down)).abs() * (columns - j - (1 - right)).abs()
            kernel.index_put_((i + down, j + right), weight, accumulate=True)
    kernel = kernel[:-1, :-1]  # the path never reaches the last row and column with a positive weight
    return kernel / kernel.sum()
