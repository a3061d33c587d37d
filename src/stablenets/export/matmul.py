"""Float64 without convolutions: onnxruntime has no float64 kernels for them, so here they are matrix products.

The sums are the same, in another order, which the rounding analysis of a certificate allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError, message
from .program import Decompositions

aten = torch.ops.aten


def _patches(
    x: Tensor, size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """The entries of `x` (batch, channels, *image) under each tap of a kernel: (batch, channels, taps, *positions)."""
    n = len(size)
    stride, padding, dilation = (list(v) * n if len(v) == 1 else list(v) for v in (stride, padding, dilation))
    x = F.pad(x, [p for p in reversed(padding) for _ in range(2)])
    for i, (k, s, d) in enumerate(zip(size, stride, dilation, strict=True)):  # one direction after the other
        dim = 2 + 2 * i  # the taps of the directions before it stand in front
        end = x.shape[dim] - d * (k - 1)  # of the positions of the first tap
        x = torch.stack([aten.slice.Tensor(x, dim, j * d, j * d + end, s) for j in range(k)], 2 + i)
    return x.flatten(2, 1 + n)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Tensor:
    """`F.conv1d` and `F.conv2d`, as one product of the kernel's matrix with the patches of the image.

    >>> x, kernel = torch.rand(2, 4, 9, 9, dtype=torch.float64), torch.rand(6, 2, 3, 3, dtype=torch.float64)
    >>> y = convolution(x, kernel, None, [2], [1], [1], 2)
    >>> torch.allclose(y, F.conv2d(x, kernel, stride=2, padding=1, groups=2))
    True
    """
    found = _patches(x, weight.shape[2:], stride, padding, dilation)
    positions = found.shape[3:]
    columns = found.reshape(x.shape[0], groups, -1, math.prod(positions))
    rows = weight.reshape(groups, weight.shape[0] // groups, -1)
    y = (rows @ columns).reshape(x.shape[0], weight.shape[0], *positions)
    return y if bias is None else y + bias.view(-1, *[1] * len(positions))


def average_pooling(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """`F.avg_pool2d` without padding, as a sum of slices."""
    size = list(kernel_size) * (2 // len(kernel_size))
    if any(padding) or ceil_mode:
        raise InputError(message("AvgPool2d with padded windows", "windows inside the image, for a float64 ONNX file"))
    return _patches(x, size, stride or size, (0,), (1,)).sum(2) / (divisor_override or math.prod(size))


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """`F.leaky_relu`, with its one rounding."""
    return x.clamp(min=0) + negative_slope * x.clamp(max=0)


DECOMPOSITIONS: Decompositions = {
    aten.conv1d.default: convolution,
    aten.conv2d.default: convolution,
    aten.avg_pool2d.default: average_pooling,
    aten.leaky_relu.default: leaky_relu,
}
