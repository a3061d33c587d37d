"""The Kepler problem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims, Map
from ..core.properties import EnergyForm, FirstIntegral, Hamiltonian, Invariant
from ..fields.base import HamiltonianField, Norm, SplitField, upper_bound


class Kepler(SplitField, HamiltonianField):
    """q'' = -mu q / |q|^3 in the plane: a planet around a sun at the origin, where the field is singular.

    Keeps the energy |p|^2 / 2 - mu / |q| and the angular momentum q_1 p_2 - q_2 p_1.

    Args:
        mu: the attraction, gravitational constant times mass.

    >>> f = Kepler()
    >>> x = torch.tensor([[1.0, 0.0, 0.0, 1.0]])  # a circular orbit
    >>> round(float(f.period(x)), 4)
    6.2832
    """

    state_shape = (4,)

    def __init__(self, mu: float = 1.0) -> None:
        super().__init__()
        self.mu = mu

    def velocity(self, p: Tensor, t: float = 0.0) -> Tensor:
        return p

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return -self.mu * q / q.norm(dim=1, keepdim=True) ** 3

    def energy(self, x: Tensor) -> Tensor:
        """|p|^2 / 2 - mu / |q|, shape (batch,)."""
        q, p = x.chunk(2, 1)
        return p.square().sum(1) / 2 - self.mu / q.norm(dim=1)

    def energy_gradient(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([-self.force(q), p], 1)

    def angular_momentum(self, x: Tensor) -> Tensor:
        """q_1 p_2 - q_2 p_1, shape (batch,)."""
        return x[:, 0] * x[:, 3] - x[:, 1] * x[:, 2]

    def invariants(self) -> tuple[Map, ...]:
        return self.energy, self.angular_momentum

    def period(self, x: Tensor) -> Tensor:
        """The time of one revolution, shape (batch,); NaN on an orbit that does not close (energy >= 0)."""
        axis = -self.mu / (2 * self.energy(x))
        return torch.where(axis > 0, 2 * math.pi * (axis**3 / self.mu).sqrt(), math.nan)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        momentum = Invariant("angular momentum", self.angular_momentum, degree=2)
        energy = EnergyForm(Invariant("energy", self.energy), conserved=True)
        return Claims([Hamiltonian(), energy, FirstIntegral(momentum)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(mu=2.5)
