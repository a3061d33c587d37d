"""Second-order equations as fields on positions and velocities."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Lipschitz
from ..linear import Dense, LinearMap
from .base import Field, Norm, upper_bound
from .examples import large
from .timed import with_time


class SecondOrder(Field):
    """q'' = a(q, q', t) as (q, v)' = (v, a(q, v, t)), with q and v the halves of dimension 1 (lecture, appendix).

    Paths of q may cross, which those of a first-order equation cannot. For forces that depend on q alone take
    `SeparableHamiltonian`, and for friction `PortHamiltonian`: much more is proved about them.

    It is sqrt(1 + L^2)-Lipschitz if a is L-Lipschitz in (q, v); this is claimed for linear a. A (Lipschitz) field like
    this is invertible for small steps; nothing bounds its growth otherwise.

    Args:
        acceleration: maps [q, v] (batch, 2 d, ...) to (batch, d, ...): a `LinearMap`, or any module.
        timed: whether it takes [q, v, t] instead, the time being the last entry or channel.

    Raises:
        InputError: a linear map of other shapes, or a timed one.

    Reference: Norcliffe, Bodnar, Day, Simidjievski & Lio (2020), On second order behaviour in augmented neural ODEs.

    >>> f = SecondOrder(nn.Linear(4, 2))
    >>> f(torch.ones(3, 4))[:, :2].detach()
    tensor([[1., 1.],
            [1., 1.],
            [1., 1.]])
    """

    def __init__(self, acceleration: nn.Module, *, timed: bool = False) -> None:
        super().__init__()
        self.acceleration, self.timed = acceleration, timed
        if isinstance(acceleration, LinearMap):
            (inputs, *size), (outputs, *rest) = acceleration.input_shape, acceleration.output_shape
            if inputs != 2 * outputs or size != rest or timed:
                given = f"a linear acceleration from {acceleration.input_shape} to {acceleration.output_shape}"
                raise InputError(message(given + (", timed" if timed else ""), "one from (2 d, ...) to (d, ...)"))
            self.state_shape = acceleration.input_shape

    def forward(self, x: Tensor, t: Any = 0.0) -> Tensor:
        if x.shape[1] % 2:
            raise InputError(message(f"states of {x.shape[1]} entries", "positions and as many velocities"))
        _, v = x.chunk(2, 1)
        return torch.cat([v, self.acceleration(with_time(x, t) if self.timed else x)], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        if not isinstance(self.acceleration, LinearMap):
            return Claims()
        size = norm(self.acceleration)
        bound = (1 + size * size) ** 0.5 * (1 + 1e-15)
        return Claims([Lipschitz(bound)] if bound < math.inf else [])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)), timed=True))
        yield large(cls(Dense(4, 2)))
