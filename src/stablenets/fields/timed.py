"""Free fields that depend on time: time is one more entry, or one more channel, of the state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from .base import Field, Norm, upper_bound
from .examples import large


def with_time(x: Tensor, t: Any) -> Tensor:
    """The states with the time appended along dimension 1, (batch, d + 1, ...).

    `t` is a number, a 0-dim tensor, or (batch, 1, ..., 1): a time for every sample.
    """
    if not isinstance(t, Tensor):
        return torch.cat([x, torch.full_like(x[:, :1], t)], 1)
    times = t.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
    return torch.cat([x, times.expand(x.shape[0], 1, *x.shape[2:])], 1)


class TimedField(Field):
    """x' = module([x, t]), about which nothing is proved: a network that sees the time (lecture, F_theta(t, x)).

    Args:
        module: from d + 1 features to d, or from c + 1 channels to c.

    >>> TimedField(nn.Linear(3, 2))(torch.zeros(5, 2), t=0.5).shape
    torch.Size([5, 2])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, t: Any = 0.0) -> Tensor:
        return self.module(with_time(x, t))

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims()

    @classmethod
    def perceptron(cls, features: int, width: int, depth: int = 2) -> Self:
        """A field on (batch, features) of `depth` hidden layers of `width` tanh units."""
        layers: list[nn.Module] = []
        inputs = features + 1
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.Tanh()]
            inputs = width
        return cls(nn.Sequential(*layers, nn.Linear(inputs, features)))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls.perceptron(4, 6, 1))
