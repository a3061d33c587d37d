"""The double pendulum in angles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import EnergyForm, Hamiltonian, Invariant
from ..fields.base import HamiltonianField, Norm, upper_bound


class DoublePendulum(HamiltonianField):
    """Two masses on massless rods, the second hanging on the first: states (q_1, q_2, p_1, p_2), angles and momenta.

    Args:
        masses: of the two bobs.
        lengths: of the two rods.
        gravity: acceleration.

    >>> DoublePendulum().energy(torch.zeros(1, 4))
    tensor([0.])
    """

    state_shape = (4,)

    def __init__(
        self,
        masses: tuple[float, float] = (1.0, 1.0),
        lengths: tuple[float, float] = (1.0, 1.0),
        *,
        gravity: float = 1.0,
    ) -> None:
        super().__init__()
        self.masses, self.lengths, self.gravity = tuple(masses), tuple(lengths), gravity

    def energy(self, x: Tensor) -> Tensor:
        """H(q, p), 0 at rest at the lowest point; shape (batch,)."""
        (m, n), (k, l), (a, b, u, v) = self.masses, self.lengths, x.unbind(1)
        cross = 2 * n * k * l * u * v * torch.cos(a - b)
        kinetic = (n * l * l * u * u + (m + n) * k * k * v * v - cross) / (
            2 * n * (k * l) ** 2 * (m + n * torch.sin(a - b).square())
        )
        heights = (m + n) * k * torch.sin(a / 2).square() + n * l * torch.sin(b / 2).square()
        return kinetic + 2 * self.gravity * heights

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims([Hamiltonian(), EnergyForm(Invariant("energy", self.energy), conserved=True)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls((1.0, 0.6), (0.8, 1.3), gravity=2.0)
