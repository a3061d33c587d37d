"""Port-Hamiltonian fields: an energy that is exchanged and dissipated, never produced."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.properties import EnergyForm, Invariant, Lipschitz
from ..linear import Dense
from ..linear.bounds import spectral_norm_bound
from .activations import Ramp
from .base import EnergyField, Norm, upper_bound
from .convex_potential import ConvexPotential
from .examples import large
from .potential import Potential, RidgePotential


class PortHamiltonian(EnergyField):
    """x' = (J - R) grad H(x) with J = M - M^T and R = L L^T: the energy H never increases (van der Schaft 2006).

    Args:
        potential: H, on vectors of d entries.
        rank: of R, at most d; 0 for no dissipation at all (H is then constant).

    Parameters: `exchange` M (d, d) and `damping` L (d, rank).

    >>> f = PortHamiltonian(RidgePotential(Dense(4, 8)), rank=2)
    >>> f(torch.zeros(3, 4)).shape
    torch.Size([3, 4])
    """

    def __init__(self, potential: Potential, rank: int) -> None:
        super().__init__()
        if potential.state_shape is None or len(potential.state_shape) != 1:
            raise InputError(message(f"an energy on states of shape {potential.state_shape}", "vectors (d,)"))
        (d,) = potential.state_shape
        if not 0 <= rank <= d:
            raise InputError(message(f"rank={rank}", f"a number from 0 to {d}"))
        self.potential, self.rank, self.state_shape = potential, rank, (d,)
        self.exchange = nn.Parameter(torch.randn(d, d) / d**0.5)
        self.damping = nn.Parameter(torch.randn(d, rank) / d**0.5)

    def energy(self, x: Tensor) -> Tensor:
        return self.potential(x)

    def energy_gradient(self, x: Tensor) -> Tensor:
        return self.potential.gradient(x)

    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        # with rows for states, v A is A^T v; R v through L^T v first, so that v^T R v >= 0 in floating point as well
        return v @ (self.exchange.mT - self.exchange) - (v @ self.damping) @ self.damping.mT

    def claims(self, norm: Norm = upper_bound) -> Claims:
        energy = Invariant("energy", self.energy, convex=self.potential.convexity is not None)
        claims: list[Property] = [EnergyForm(energy, conserved=self.rank == 0)]
        smoothness = self.potential.smoothness(norm)
        if smoothness < math.inf:
            m, damping = self.exchange.detach().double(), self.damping.detach().double()
            size = spectral_norm_bound(m - m.mT - damping @ damping.mT)
            claims.append(Lipschitz(size * smoothness * (1 + 1e-12)))
        return Claims(claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(RidgePotential(Dense(4, 5)), rank=2))
        yield large(cls(ConvexPotential(3, (4,), convexity=0.5), rank=0), 1.5)
        yield large(cls(ConvexPotential(3, (4, 3), activation=Ramp(2.0)), rank=3), 1.0, seed=13)
