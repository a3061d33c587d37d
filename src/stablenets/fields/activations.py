"""Increasing activations with their slope intervals."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.component import Component


class Activation(Component, root=True):
    """A scalar function applied entrywise, non-decreasing, with every slope in `slope` = (lowest, highest).

    `bound` is an upper bound of its absolute values, infinite where there is none.
    """

    slope: tuple[float, float]
    bound: float = math.inf

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()

    @abc.abstractmethod
    def potential(self, z: Tensor) -> Tensor:
        """The convex antiderivative, entrywise: the gradient of sum(potential(z)) is the activation."""


class ReLU(Activation):
    """max(0, z), slopes in [0, 1].

    >>> ReLU()(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    slope = (0.0, 1.0)

    def forward(self, z: Tensor) -> Tensor:
        return F.relu(z)

    def potential(self, z: Tensor) -> Tensor:
        return F.relu(z).square() / 2


class Tanh(Activation):
    """tanh z, slopes in [0, 1].

    >>> Tanh()(torch.zeros(1))
    tensor([0.])
    """

    slope, bound = (0.0, 1.0), 1.0

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z)

    def potential(self, z: Tensor) -> Tensor:
        return z.abs() + F.softplus(-2 * z.abs()) - 0.6931471805599453  # log cosh z without overflow


class LeakyReLU(Activation):
    """z where positive, `negative_slope` z elsewhere; slopes in [negative_slope, 1].

    >>> LeakyReLU(0.5)(torch.tensor([-1.0, 2.0]))
    tensor([-0.5000,  2.0000])
    """

    def __init__(self, negative_slope: float = 0.1) -> None:
        super().__init__()
        if not 0 <= negative_slope <= 1:
            raise ValueError(f"negative_slope = {negative_slope}; needed: a number in [0, 1]")
        self.negative_slope = negative_slope

    @property
    def slope(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return min(self.negative_slope, 1.0), max(self.negative_slope, 1.0)

    def forward(self, z: Tensor) -> Tensor:
        return F.leaky_relu(z, self.negative_slope)

    def potential(self, z: Tensor) -> Tensor:
        return z * F.leaky_relu(z, self.negative_slope) / 2


class Softplus(Activation):
    """log(1 + exp z), slopes in [0, 1].

    >>> Softplus()(torch.zeros(1))
    tensor([0.6931])
    """

    slope = (0.0, 1.0)

    def forward(self, z: Tensor) -> Tensor:
        return F.softplus(z, threshold=40.0)  # torch's default 20 makes slopes and values jump in float64

    def potential(self, z: Tensor) -> Tensor:
        raise NotImplementedError("the antiderivative of softplus is a dilogarithm")


class Sigmoid(Activation):
    """1 / (1 + exp(-z)), slopes in [0, 1/4]; its potential is softplus.

    >>> Sigmoid()(torch.zeros(1))
    tensor([0.5000])
    """

    slope, bound = (0.0, 0.25), 1.0

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z)

    def potential(self, z: Tensor) -> Tensor:
        return F.softplus(z, threshold=40.0)


class Ramp(Activation):
    """0 below 0, 1 above `width`, linear between; slopes in [0, 1 / width].

    Its potential is the smoothed ReLU of Kolter & Manek 2019: 0, then z^2 / (2 width), then z - width / 2. It is
    convex, non-decreasing and continuously differentiable, and *exactly* zero, with its slope, for z <= 0.

    >>> Ramp(2.0)(torch.tensor([-1.0, 1.0, 5.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """

    bound = 1.0

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if not 0 < width < math.inf:
            raise ValueError(f"width = {width}; needed: a positive number")
        self.width = width

    @property
    def slope(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 0.0, 1 / self.width

    def forward(self, z: Tensor) -> Tensor:
        return (z / self.width).clamp(0.0, 1.0)

    def potential(self, z: Tensor) -> Tensor:
        return self.forward(z).square() * (self.width / 2) + F.relu(z - self.width)


class HardTanh(Activation):
    """z cut off at -1 and 1: odd, slopes in [0, 1].

    >>> HardTanh()(torch.tensor([-3.0, 0.5]))
    tensor([-1.0000,  0.5000])
    """

    slope, bound = (0.0, 1.0), 1.0

    def forward(self, z: Tensor) -> Tensor:
        return F.hardtanh(z)

    def potential(self, z: Tensor) -> Tensor:
        return F.hardtanh(z).square() / 2 + F.relu(z.abs() - 1)  # Huber's function


class SoftShrink(Activation):
    """What `HardTanh` cuts off, z - HardTanh(z): 0 in [-1, 1], then of slope 1. Odd, slopes in [0, 1].

    >>> SoftShrink()(torch.tensor([-3.0, 0.5]))
    tensor([-2.,  0.])
    """

    slope = (0.0, 1.0)

    def forward(self, z: Tensor) -> Tensor:
        return F.softshrink(z, 1.0)

    def potential(self, z: Tensor) -> Tensor:
        return F.relu(z.abs() - 1).square() / 2
