"""Gradient networks: the gradient flow of any potential."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

from torch import Tensor

from ..core.claims import Claims, Property
from ..core.properties import Cocoercive, EnergyForm, Invariant, Lipschitz, OneSidedLipschitz, SymmetricJacobian
from ..linear import Conv2d
from .activations import ReLU
from .base import EnergyField, Norm, upper_bound
from .convex_potential import ConvexPotential
from .examples import large
from .layered_potential import DeepPotential
from .potential import PairedPotential, Potential, RidgePotential


class GradientField(EnergyField):
    """x' = -grad V(x), whose Jacobian is symmetric and along which V never increases (lecture, gradient networks).

    Where V - m |x|^2 / 2 is convex, any two solutions approach each other as exp(-m t); where V is convex and its
    gradient L-Lipschitz, the field is cocoercive with beta = 1 / L (Baillon & Haddad).

    Args:
        potential: V.

    >>> from stablenets.fields import ConvexPotential
    >>> import torch
    >>> f = GradientField(ConvexPotential(3, (8, 8), convexity=0.5))
    >>> f(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    >>> f.claims().get(OneSidedLipschitz)
    OneSidedLipschitz(nu=-0.5)
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.state_shape = potential.state_shape

    def energy(self, x: Tensor) -> Tensor:
        """V(x), shape (batch,)."""
        return self.potential(x)

    def energy_gradient(self, x: Tensor) -> Tensor:
        return self.potential.gradient(x)

    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        return -v

    def claims(self, norm: Norm = upper_bound) -> Claims:
        smoothness, convexity = self.potential.smoothness(norm), self.potential.convexity
        energy = Invariant("energy", self.energy, convex=convexity is not None)
        claims: list[Property] = [SymmetricJacobian(), EnergyForm(energy, conserved=False)]
        if smoothness < math.inf:
            smoothness = max(smoothness, 1e-30)  # any larger constant is true as well
            claims.append(Lipschitz(smoothness) if convexity is None else Cocoercive(1 / smoothness))
        if convexity is not None:
            claims.append(OneSidedLipschitz(-convexity))
        return Claims(claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for kind in (RidgePotential, DeepPotential, ConvexPotential, PairedPotential):
            yield cls(next(kind.examples()))
        yield cls(large(ConvexPotential(3, (4, 3), activation=ReLU(), convexity=0.5)))
        yield cls(large(RidgePotential(Conv2d(1, 2, 3, (3, 2)))))
