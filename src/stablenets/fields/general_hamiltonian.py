"""Hamiltonian fields of an energy that need not separate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

from torch import Tensor

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.properties import EnergyForm, Hamiltonian, Invariant, Lipschitz
from ..linear import Conv2d
from .base import HamiltonianField, Norm, upper_bound
from .examples import large
from .layered_potential import DeepPotential
from .potential import PairedPotential, Potential, RidgePotential


class GeneralHamiltonian(HamiltonianField):
    """q' = dH/dp, p' = -dH/dq for any potential H(q, p) (chapter (20)); q and p are the halves of dimension 1.

    The energy is exactly the H whose gradient is taken. H need not be T(p) + V(q), so the explicit splittings do not
    apply: `ImplicitMidpoint` is symplectic, `DiscreteGradient` keeps H.

    Args:
        hamiltonian: H, for instance a `DeepPotential`.

    >>> import torch
    >>> f = GeneralHamiltonian(DeepPotential(4, (16, 16)))
    >>> f(torch.zeros(2, 4)).shape, f.energy(torch.zeros(2, 4)).shape
    (torch.Size([2, 4]), torch.Size([2]))
    """

    def __init__(self, hamiltonian: Potential) -> None:
        super().__init__()
        if hamiltonian.state_shape is not None and hamiltonian.state_shape[0] % 2:
            raise InputError(
                message(f"an energy on states of shape {hamiltonian.state_shape}", "positions and as many momenta")
            )
        self.hamiltonian = hamiltonian
        self.state_shape = hamiltonian.state_shape

    def energy(self, x: Tensor) -> Tensor:
        return self.hamiltonian(x)

    def energy_gradient(self, x: Tensor) -> Tensor:
        return self.hamiltonian.gradient(x)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        energy = Invariant("energy", self.energy, convex=self.hamiltonian.convexity is not None)
        claims: list[Property] = [Hamiltonian(), EnergyForm(energy, conserved=True)]
        smoothness = self.hamiltonian.smoothness(norm)
        if smoothness < math.inf:
            claims.append(Lipschitz(smoothness))
        return Claims(claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(next(DeepPotential.examples()))
        yield cls(next(PairedPotential.examples()))
        yield cls(large(RidgePotential(Conv2d(2, 3, 3, 2))))
