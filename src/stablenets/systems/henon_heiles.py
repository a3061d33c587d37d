"""The Henon-Heiles system."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import EnergyForm, Hamiltonian, Invariant
from ..fields.base import HamiltonianField, Norm, SplitField, upper_bound


class HenonHeiles(SplitField, HamiltonianField):
    """H = |p|^2 / 2 + |q|^2 / 2 + q_1^2 q_2 - q_2^3 / 3: chaotic for energies near 1/6, and unbounded for some above.

    >>> HenonHeiles()(torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    tensor([[0., 0., -0., -0.]])
    """

    state_shape = (4,)

    def velocity(self, p: Tensor, t: float = 0.0) -> Tensor:
        return p

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        a, b = q[:, 0], q[:, 1]
        return -torch.stack([a + 2 * a * b, b + a * a - b * b], 1)

    def energy(self, x: Tensor) -> Tensor:
        """H(q, p), shape (batch,)."""
        a, b = x[:, 0], x[:, 1]
        return x.square().sum(1) / 2 + a * a * b - b**3 / 3

    def energy_gradient(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([-self.force(q), p], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims([Hamiltonian(), EnergyForm(Invariant("energy", self.energy, degree=3), conserved=True)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
