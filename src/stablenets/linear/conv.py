"""Convolutions with free weights, on signals and on images of a fixed size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from torch import nn

from ..core.errors import InputError, message
from .axis import Axis
from .convolution import Convolution
from .geometry import Geometry


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """One number for both dimensions, or one for each."""
    if not isinstance(size, Sequence):
        return size, size
    if len(size) != 2:
        raise InputError(message(f"{size!r} for two dimensions", "one number, or one for each"))
    return size[0], size[1]


class Conv1d(Convolution):
    """'Same' convolution x (batch, in_channels, length) -> (batch, out_channels, ceil(length / stride)).

    Everything else is as for `Conv2d`.

    >>> import torch
    >>> Conv1d(1, 2, 3, 8, stride=2)(torch.ones(1, 1, 8)).shape
    torch.Size([1, 2, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        length: int,
        padding: str = "zero",
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.length, self.padding = kernel_size, length, padding
        self.stride, self.dilation, self.groups = stride, dilation, groups
        geometry = Geometry((Axis(length, kernel_size, stride, dilation, padding),), groups)
        self.weight = nn.Parameter(self._set(geometry, in_channels, out_channels))
        self._start()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        maps = [
            cls(2, 3, 3, 7),
            cls(4, 2, 4, 9, stride=2, dilation=2, groups=2),
            cls(1, 2, 5, 6, "circular", stride=3),
            cls(2, 2, 4, 6, "reflect"),
        ]
        for a in maps:
            a.weight.data *= 3
            yield a


class Conv2d(Convolution):
    """'Same' convolution x (batch, in_channels, H, W) -> (batch, out_channels, ceil(H / stride), ceil(W / stride)).

    Output i sums the inputs i stride + t dilation - b, t = 0 ... kernel_size - 1, in each dimension, with
    b = dilation (kernel_size - 1) // 2: an even kernel's extra point lies after, as in PyTorch's `padding="same"`.

    Args:
        kernel_size, stride, dilation: one number, or one for H and one for W.
        image_size: H and W (one number for both): the norm of a convolution depends on it.
        padding: what lies beyond the border: "zero", "circular" (the image repeated) or "reflect" (the image mirrored
            at its outermost pixels).

    `norm_bound` is within 2 per cent of the norm: exact for small maps and for circular padding, otherwise by a
    Cholesky factorisation or, on larger images with zero padding, by Fourier analysis on a slightly larger torus
    (`norm_theorem` says which). Two exceptions, where nothing better is known at a bearable price: zero padding on
    images under 8 times as large as the kernel reaches when they also have very many channels (the Fourier bound is
    then off by up to some 10 per cent), and reflection on images too large for a factorisation (5 seconds and more:
    beyond about 64 channels on 16 x 16), where the bound may be twice the norm. A step that follows it is then
    shorter than need be; prefer zero or circular padding there.

    Raises:
        InputError: for sizes that are not positive integers, a circular kernel larger than the image or a circular
            stride that does not divide it, a reflection of more pixels than there are, or channels that do not fall
            into `groups` equal groups.

    >>> import torch
    >>> a = Conv2d(1, 2, 3, 5)
    >>> a(torch.ones(1, 1, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        image_size: int | Sequence[int],
        padding: str = "zero",
        *,
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.padding, self.groups = in_channels, out_channels, padding, groups
        self.kernel_size, self.image_size = pair(kernel_size), pair(image_size)
        self.stride, self.dilation = pair(stride), pair(dilation)
        sizes = zip(self.image_size, self.kernel_size, self.stride, self.dilation, strict=True)
        geometry = Geometry(tuple(Axis(*s, padding) for s in sizes), groups)
        self.weight = nn.Parameter(self._set(geometry, in_channels, out_channels))
        self._start()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        maps = [
            cls(2, 3, 3, (4, 4)),
            cls(2, 2, 3, (4, 5), "circular"),
            cls(2, 4, (2, 4), (5, 6), stride=(2, 1), dilation=(2, 1), groups=2),
            cls(1, 2, 3, (6, 4), "circular", stride=2),
            cls(2, 2, (3, 4), (5, 4), "reflect"),
        ]
        for a in maps:
            a.weight.data *= 3
            yield a
