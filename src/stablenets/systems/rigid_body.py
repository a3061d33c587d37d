"""The free rigid body."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims, Map
from ..core.properties import DivergenceFree, EnergyForm, FirstIntegral, Invariant
from ..fields.base import ConservativeField, EnergyField, Norm, upper_bound
from ..fields.invariants import SQUARED_NORM, squared_norm


class RigidBody(EnergyField, ConservativeField):
    """Euler's equations x' = x cross (x / inertia) for the angular momentum x in the body's frame.

    Keeps the energy sum x_i^2 / (2 inertia_i) and |x|^2.

    Args:
        inertia: the three principal moments of inertia.

    >>> RigidBody((1.0, 2.0, 3.0))(torch.tensor([[0.0, 1.0, 1.0]]))
    tensor([[-0.1667,  0.0000,  0.0000]])
    """

    state_shape = (3,)

    def __init__(self, inertia: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> None:
        super().__init__()
        self.inertia = tuple(inertia)

    def energy(self, x: Tensor) -> Tensor:
        """The kinetic energy, shape (batch,)."""
        return (x * self.energy_gradient(x)).sum(1) / 2

    def energy_gradient(self, x: Tensor) -> Tensor:
        """The angular velocity."""
        return x / x.new_tensor(self.inertia)

    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        return torch.linalg.cross(x, v)

    def invariants(self) -> tuple[Map, ...]:
        return self.energy, squared_norm

    def claims(self, norm: Norm = upper_bound) -> Claims:
        energy = Invariant("energy", self.energy, degree=2, convex=True)
        return Claims([DivergenceFree(), EnergyForm(energy, conserved=True), FirstIntegral(SQUARED_NORM)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls((0.7, 2.0, 1.1))
