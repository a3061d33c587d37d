"""Activations that are layers: they mix channels, are 1-Lipschitz, and keep the norm of every gradient.

ReLU and its kind lose half of a gradient's norm at every layer, so a network of norm-one matrices and ReLU cannot reach
slope one (Anil, Lucas & Grosse 2019). The derivative of each activation here is an orthogonal matrix almost everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Lipschitz
from .base import Layer


def grouped(x: Tensor, size: int) -> Tensor:
    """States (batch, channels, ...) as (batch, channels / size, size, ...): groups of neighbouring channels."""
    if x.dim() < 2 or x.shape[1] % size:
        raise InputError(message(f"states of shape {tuple(x.shape)}", f"channels in dimension 1, a multiple of {size}"))
    return x.unflatten(1, (-1, size))


class GroupSort(Layer):
    """Sorts every group of `group_size` neighbouring channels, the largest first (Anil, Lucas & Grosse 2019).

    Pairs (the default) are the activation known as MaxMin. Sorting is 1-Lipschitz: it keeps |x| and never lowers
    <x, y> (the rearrangement inequality).

    Raises:
        InputError: when the channels are not a multiple of the group size.

    >>> GroupSort()(torch.tensor([[1.0, 2.0, 4.0, 3.0]]))
    tensor([[2., 1., 4., 3.]])
    """

    def __init__(self, group_size: int = 2) -> None:
        super().__init__()
        if group_size < 2:
            raise InputError(message(f"GroupSort({group_size})", "groups of two channels or more"))
        self.group_size = group_size
        self.input_shape = (2 * group_size,)

    def forward(self, x: Tensor) -> Tensor:
        groups = grouped(x, self.group_size)
        if self.group_size == 2:  # the same, several times faster than a sort
            a, b = groups.unbind(2)
            return torch.stack((torch.maximum(a, b), torch.minimum(a, b)), 2).flatten(1, 2)
        return groups.sort(2, descending=True).values.flatten(1, 2)

    def claims(self) -> Claims:
        return Claims([Lipschitz(1.0)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(3)


def MaxMin() -> GroupSort:
    """Larger and smaller of every pair of channels: `GroupSort(2)`."""
    return GroupSort(2)


class Abs(Layer):
    """|x|, entry by entry.

    >>> Abs()(torch.tensor([[-1.0, 2.0]]))
    tensor([[1., 2.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()

    def claims(self) -> Claims:
        return Claims([Lipschitz(1.0)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()


class Householder(Layer):
    """Reflects each pair z of neighbouring channels with v.z < 0 at the line v.z = 0, v = (sin a/2, -cos a/2).

    One learned angle a per pair; a = pi/2, where it starts, is MaxMin (Singla, Singla & Feizi 2022, (4)). It is the
    gradient step z - 2 v min(v.z, 0) of a convex function, hence continuous and 1-Lipschitz, and its derivative is the
    identity or a reflection.

    Args:
        channels: an even number.

    >>> Householder(4)(torch.tensor([[1.0, 2.0, 4.0, 3.0]])).detach()
    tensor([[2., 1., 4., 3.]])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise InputError(message(f"Householder({channels})", "an even number of channels"))
        self.channels = channels
        self.input_shape = (channels,)
        self.angle = nn.Parameter(torch.full((channels // 2,), math.pi / 2))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or x.shape[1] != self.channels:  # a single angle would be repeated without a sound
            raise InputError(message(f"states of shape {tuple(x.shape)}", f"{self.channels} channels in dimension 1"))
        a, b = grouped(x, 2).unbind(2)
        half = (self.angle / 2).view(-1, *[1] * (x.dim() - 2))
        v, w = half.sin(), -half.cos()
        fold = 2 * (v * a + w * b).clamp(max=0)
        return torch.stack((a - fold * v, b - fold * w), 2).flatten(1, 2)

    def claims(self) -> Claims:
        return Claims([Lipschitz(1.0)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        layer = cls(6)
        layer.angle.data.normal_(std=3)
        yield layer
