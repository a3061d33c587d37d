"""The mathematical pendulum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import EnergyForm, Hamiltonian, Invariant, Lipschitz
from ..fields.base import HamiltonianField, Norm, SplitField, upper_bound


class Pendulum(SplitField, HamiltonianField):
    """q' = p, p' = -omega^2 sin q: the angle q from the lowest point, with energy p^2 / 2 + omega^2 (1 - cos q).

    Args:
        omega: sqrt(g / l), the frequency of small oscillations in radians per unit of time.

    >>> Pendulum()(torch.tensor([[0.0, 1.0]]))
    tensor([[1., -0.]])
    """

    state_shape = (2,)

    def __init__(self, omega: float = 1.0) -> None:
        super().__init__()
        self.omega = omega

    def velocity(self, p: Tensor, t: float = 0.0) -> Tensor:
        return p

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return -(self.omega**2) * torch.sin(q)

    def energy(self, x: Tensor) -> Tensor:
        """H(q, p), shape (batch,)."""
        q, p = x.chunk(2, 1)
        return (p.square() / 2 + 2 * self.omega**2 * torch.sin(q / 2).square()).flatten(1).sum(1)  # no cancellation

    def energy_gradient(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([-self.force(q), p], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        energy = Invariant("energy", self.energy)
        return Claims([Hamiltonian(), EnergyForm(energy, conserved=True), Lipschitz(max(1.0, self.omega**2))])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(omega=2.3)
