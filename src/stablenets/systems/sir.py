"""The epidemic model SIR."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import FirstIntegral, QuasiPositive
from ..fields.base import MassActionField, Norm, upper_bound
from ..fields.invariants import MASS


class SIR(MassActionField):
    """s' = -beta i s, i' = beta i s - gamma i, r' = gamma i: susceptible, infected and recovered parts of a population.

    Their sum is constant, and none becomes negative (Kermack & McKendrick 1927).

    Args:
        beta: contacts that infect, per unit of time.
        gamma: recoveries per unit of time.

    >>> SIR()(torch.tensor([[0.5, 0.5, 0.0]]))
    tensor([[-0.2500, -0.2500,  0.5000]])
    """

    state_shape = (3,)

    def __init__(self, beta: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__()
        self.beta, self.gamma = beta, gamma

    def matrix(self, x: Tensor, t: float = 0.0) -> Tensor:
        infection = self.beta * x[:, 1].clamp(min=0)
        recovery, zero = torch.full_like(infection, self.gamma), torch.zeros_like(infection)
        rows = (-infection, zero, zero), (infection, -recovery, zero), (zero, recovery, zero)
        return torch.stack([torch.stack(row, 1) for row in rows], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims([FirstIntegral(MASS), QuasiPositive()])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(beta=3.0, gamma=0.4)
