"""Isometric changes of dimension, and the scaling of inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.outward import root
from ..core.properties import Isometry, Lipschitz
from .base import Layer


class Lift(Layer):
    """Append channels (or features) of zeros: an isometry into a larger space (lecture, "lifting").

    >>> Lift(1, 3)(torch.ones(2, 1, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise InputError(message(f"Lift from {in_channels} to {out_channels}", "at least as many channels"))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.input_shape = (in_channels,)

    def forward(self, x: Tensor) -> Tensor:
        # not len(x), which would fix the size of the batch when the layer is traced for export
        zeros = x.new_zeros(x.shape[0], self.out_channels - self.in_channels, *x.shape[2:])
        return torch.cat([x, zeros], 1)

    def claims(self) -> Claims:
        return Claims([Isometry()])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(4, 7)


class Project(Layer):
    """Keep the first channels (or features): the adjoint of `Lift`, 1-Lipschitz.

    >>> Project(3, 1)(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if not 1 <= out_channels <= in_channels:
            raise InputError(message(f"Project from {in_channels} to {out_channels}", "at most as many channels"))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.input_shape = (in_channels,)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.out_channels]

    def claims(self) -> Claims:
        return Claims([Lipschitz(1.0)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(7, 4)


class Normalise(Layer):
    """(x - mean) / std per channel, so that radii are in the units of the image: Lipschitz 1 / min(std).

    >>> Normalise((0.5,), (0.25,))(torch.ones(1, 1, 2, 2)).max()
    tensor(2.)
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        sound = all(map(math.isfinite, mean)) and all(0 < s < math.inf for s in std)
        if not mean or len(mean) != len(std) or not sound:
            needed = "as many means as positive standard deviations, all finite"
            raise InputError(message(f"Normalise({mean}, {std})", needed))
        self.mean, self.std = tuple(mean), tuple(std)
        self.input_shape = (len(mean),)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != len(self.mean):  # broadcasting would repeat channels, which is not 1/min(std)-Lipschitz
            raise InputError(message(f"{x.shape[1]} channels", f"{len(self.mean)}, one per mean"))
        shape = (1, -1, *[1] * (x.dim() - 2))
        return (x - x.new_tensor(self.mean).view(shape)) / x.new_tensor(self.std).view(shape)

    def claims(self) -> Claims:
        return Claims([Lipschitz(root(1 / Fraction(min(self.std)) ** 2, math.inf))])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls((0.1, 0.2, 0.3, 0.4), (0.5, 1.0, 2.0, 0.3))
