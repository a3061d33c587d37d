"""The system of the chapter's Exercise 11."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import Dissipates
from ..core.regions import Region, Within
from ..fields.base import Field, Norm, upper_bound
from ..fields.invariants import SQUARED_NORM

RADIUS = 0.25


def _outside(x: Tensor) -> Tensor:
    return F.relu(x.norm(dim=1, keepdim=True) - RADIUS)


def _into(x: Tensor) -> Tensor:
    return x * (RADIUS / x.norm(dim=1, keepdim=True)).clamp(max=1.0)


DISC = Region("the disc of radius 1/4", _outside, _into)


class QuadraticSink(Field):
    """x' = -x + y^2, y' = -2 y + 3 x^2: the origin is stable only locally (there is another equilibrium).

    V = x^2 + y^2 is a Lyapunov function near it: V' = -2 x^2 (1 - 3 y) - 2 y^2 (2 - x), which is at most -V / 2 where
    |y| <= 1/4 and |x| <= 1/4. So the disc of radius 1/4 is never left.

    >>> QuadraticSink()(torch.tensor([[0.1, 0.0]]))
    tensor([[-0.1000,  0.0300]])
    """

    state_shape = (2,)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        a, b = x.unbind(1)
        return torch.stack([-a + b * b, -2 * b + 3 * a * a], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims([Within(DISC, Dissipates(SQUARED_NORM, rate=0.5))])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
