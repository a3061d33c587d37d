"""Separable Hamiltonian fields: q' = dT/dp, p' = -dV/dq."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.properties import EnergyForm, Hamiltonian, Invariant, Lipschitz
from ..linear import Conv2d, Dense
from .activations import LeakyReLU, ReLU, Tanh
from .base import HamiltonianField, Norm, SplitField, upper_bound
from .examples import large
from .gradient import ConvexGradient
from .gradient_field import GradientField
from .potential import RidgePotential


class SeparableHamiltonian(SplitField, HamiltonianField):
    """H(q, p) = T(p) + V(q), each the potential of a gradient field (chapter (28)).

    With `GradientField(RidgePotential(A))` this is the lecture's q' = A^T diag(u) sigma(A p + a), p' = -B^T diag(v)
    sigma(B q + b).

    Args:
        kinetic: -grad T as a field of the momenta, a `ConvexGradient` or a `GradientField`.
        potential: -grad V as a field of the positions, likewise.

    >>> f = SeparableHamiltonian(ConvexGradient(Dense(2, 5), Tanh()), ConvexGradient(Dense(2, 7), Tanh()))
    >>> f(torch.randn(3, 4)).shape, f.energy(torch.randn(3, 4)).shape
    (torch.Size([3, 4]), torch.Size([3]))
    """

    def __init__(self, kinetic: ConvexGradient | GradientField, potential: ConvexGradient | GradientField) -> None:
        super().__init__()
        if kinetic.state_shape is None or kinetic.state_shape != potential.state_shape:
            raise InputError(
                message(
                    f"kinetic acts on {kinetic.state_shape}, potential on {potential.state_shape}",
                    "the same shape for positions and momenta",
                )
            )
        self.kinetic, self.potential = kinetic, potential
        channels, *rest = kinetic.state_shape
        self.state_shape = (2 * channels, *rest)

    def velocity(self, p: Tensor, t: float = 0.0) -> Tensor:
        return -self.kinetic(p, t)

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return self.potential(q, t)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([self.velocity(p, t), self.force(q, t)], 1)

    def energy(self, x: Tensor) -> Tensor:
        """H(q, p), shape (batch,)."""
        q, p = x.chunk(2, 1)
        return self.kinetic.potential(p) + self.potential.potential(q)

    def energy_gradient(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([-self.force(q), self.velocity(p)], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        parts = [part.claims(norm).get(Lipschitz) for part in (self.kinetic, self.potential)]
        claims: list[Property] = [Hamiltonian(), EnergyForm(Invariant("energy", self.energy), conserved=True)]
        if None not in parts:
            bound = max(p.bound for p in parts if p is not None)
            claims.append(Lipschitz(bound))
        return Claims(claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for a, b, sigma in ((3, 5, Tanh()), (4, 2, ReLU()), (3, 3, LeakyReLU(0.3))):
            fields = ConvexGradient(Dense(2, a), sigma), ConvexGradient(Dense(2, b), sigma)
            for f in fields:
                f.linear.weight.data *= 2.5
                f.bias.data += 0.5
            yield cls(*fields)
        yield large(cls(*(GradientField(RidgePotential(Dense(2, width))) for width in (5, 4))))
        conv = [ConvexGradient(Conv2d(1, 2, 3, 3), Tanh()) for _ in range(2)]
        yield cls(*conv)
