"""A field without structure: any module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from torch import Tensor, nn

from ..core.claims import Claims
from .base import Field, Norm, upper_bound


class FreeField(Field):
    """x' = module(x), about which nothing is proved: the residual branch of a ResNet, seen as a field.

    >>> import torch
    >>> FreeField(nn.Linear(3, 3))(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return self.module(x)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4)))
