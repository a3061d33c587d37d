"""The harmonic oscillator, the chapter's Example 3."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import EnergyForm, Hamiltonian, Invariant, Lipschitz, OneSidedLipschitz
from ..fields.base import HamiltonianField, Norm, SplitField, upper_bound


class HarmonicOscillator(SplitField, HamiltonianField):
    """q' = p, p' = -omega^2 q, with energy (p^2 + omega^2 q^2) / 2 and frequency `omega` in radians per unit of time.

    >>> HarmonicOscillator()(torch.tensor([[1.0, 0.0]]))
    tensor([[ 0., -1.]])
    """

    state_shape = (2,)

    def __init__(self, omega: float = 1.0) -> None:
        super().__init__()
        self.omega = omega

    def velocity(self, p: Tensor, t: float = 0.0) -> Tensor:
        return p

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return -(self.omega**2) * q

    def energy(self, x: Tensor) -> Tensor:
        """(p^2 + omega^2 q^2) / 2, shape (batch,)."""
        q, p = x.chunk(2, 1)
        return ((p.square() + self.omega**2 * q.square()) / 2).flatten(1).sum(1)

    def energy_gradient(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([self.omega**2 * q, p], 1)

    def solution(self, x: Tensor, time: float) -> Tensor:
        """The exact state after `time`."""
        q, p = x.chunk(2, 1)
        c, s = math.cos(self.omega * time), math.sin(self.omega * time)
        return torch.cat([c * q + s / self.omega * p, -self.omega * s * q + c * p], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        energy = Invariant("energy", self.energy, degree=2, convex=True)
        square = self.omega**2
        rates = Lipschitz(max(1.0, square)), OneSidedLipschitz(abs(1 - square) / 2)
        return Claims([Hamiltonian(), EnergyForm(energy, conserved=True), *rates])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(omega=1.7)
