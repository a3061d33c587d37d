"""A field without structure: any module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from torch import Tensor, nn

from ..core.claims import Claims
from ..linear import Conv2d
from .base import Field, Norm, upper_bound
from .examples import large


class FreeField(Field):
    """x' = module(x), about which nothing is proved: the residual branch of a ResNet, seen as a field.

    Args:
        module: maps states (batch, ...) to states of the same shape.
        shape: of one state, for a module that acts on no other (a `Conv2d`).

    >>> import torch
    >>> FreeField(nn.Linear(3, 3))(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """

    optional = ("shape",)

    def __init__(self, module: nn.Module, *, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.module = module
        self.shape = self.state_shape = None if shape is None else tuple(shape)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return self.module(x)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4)))
        convolutions = nn.Sequential(Conv2d(1, 2, 3, (3, 2)), nn.Tanh(), Conv2d(2, 1, 3, (3, 2)))
        yield large(cls(convolutions, shape=(1, 3, 2)))
