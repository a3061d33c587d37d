"""A 'same' convolution in any number of dimensions, and its exact adjoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .axis import Axis

CONVOLVE: dict[int, Any] = {1: F.conv1d, 2: F.conv2d}
TRANSPOSE: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d}


@dataclass(frozen=True)
class Geometry:
    """A convolution but for its weight (out, in / groups, *kernel): an `Axis` per dimension, and groups."""

    axes: tuple[Axis, ...]
    groups: int = 1

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(a.size for a in self.axes)

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(a.outputs for a in self.axes)

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(a.kernel for a in self.axes)

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def padding(self) -> str:
        return self.axes[0].padding

    def by_group(self, weight: Tensor) -> Tensor:
        """The weight as (groups, out / groups, in / groups, *kernel): the map is block diagonal in them."""
        return weight.unflatten(0, (self.groups, -1))

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """A x for a batch (batch, in, *size)."""
        options = {"stride": tuple(a.stride for a in self.axes), "dilation": tuple(a.dilation for a in self.axes)}
        return self._convolve(x, weight, [(a.before, a.after) for a in self.axes], options)

    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """A^T y for a batch (batch, out, *outputs)."""
        if self.padding != "reflect" and all(a.stride == 1 for a in self.axes):
            # the convolution with the flipped, transposed kernel: faster than conv_transpose2d
            swapped = self.by_group(weight).transpose(1, 2).flatten(0, 1).flip(tuple(range(2, weight.dim())))
            dilation = {"dilation": tuple(a.dilation for a in self.axes)}
            return self._convolve(y, swapped, [(a.after, a.before) for a in self.axes], dilation)
        padded = TRANSPOSE[len(self.axes)](
            y,
            weight,
            stride=tuple(a.stride for a in self.axes),
            output_padding=tuple(a.size - 1 - (a.outputs - 1) * a.stride for a in self.axes),
            groups=self.groups,
            dilation=tuple(a.dilation for a in self.axes),
        )
        return self.fold(padded)

    def extend(self, x: Tensor) -> Tensor:
        """`x` (batch, in, *size) with its padding on all sides."""
        return self._padded(x, [(a.before, a.after) for a in self.axes])

    def fold(self, padded: Tensor) -> Tensor:
        """The adjoint of `extend`."""
        for dim, axis in enumerate(self.axes, 2):
            padded = _fold(padded, axis, dim)
        return padded

    def _convolve(self, x: Tensor, weight: Tensor, margins: list[tuple[int, int]], options: dict[str, Any]) -> Tensor:
        """Pad by the margins of each dimension, and convolve without padding."""
        convolve = CONVOLVE[len(self.axes)]
        if all(a == b and (self.padding == "zero" or a == 0) for a, b in margins):
            return convolve(x, weight, padding=tuple(a for a, _ in margins), groups=self.groups, **options)
        return convolve(self._padded(x, margins), weight, groups=self.groups, **options)

    def _padded(self, x: Tensor, margins: list[tuple[int, int]]) -> Tensor:
        mode = "constant" if self.padding == "zero" else self.padding
        flat = [m for pair in reversed(margins) for m in pair]  # F.pad starts at the last dimension
        return F.pad(x, flat, mode=mode)


def _fold(y: Tensor, axis: Axis, dim: int) -> Tensor:
    """The adjoint of padding along one dimension: every margin is added to where its values came from."""
    left, right, n = axis.before, axis.after, axis.size
    folded = y.narrow(dim, left, n)
    if axis.padding == "zero":
        return folded
    first, last = y.narrow(dim, 0, left), y.narrow(dim, left + n, right)
    if axis.padding == "circular":
        ends = ((first, n - left), (last, 0))
    else:
        ends = ((first.flip(dim), 1), (last.flip(dim), n - 1 - right))
    for values, start in ends:
        around = [0, 0] * (y.dim() - 1 - dim) + [start, n - start - values.shape[dim]]
        folded = folded + F.pad(values, around)
    return folded
