"""Rigid rods in the plane, and a double pendulum whose force and masses are learned."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.linalg import divide
from ..core.properties import FirstIntegral, Invariant
from ..core.regions import TangentTo, Within
from ..linear import Dense
from .base import Norm, upper_bound
from .constrained import ConstrainedField
from .examples import large
from .potential import Potential, RidgePotential


class RigidRods(ConstrainedField, abc.ABC):
    """Two bobs in the plane at q = (x_1, y_1, x_2, y_2), on rods from the origin to the first and on to the second.

    Constraints: (|q_1|^2 - l_1^2) / 2 = 0 and (|q_2 - q_1|^2 - l_2^2) / 2 = 0.
    """

    state_shape = (8,)
    lengths: tuple[float, ...]

    def rods(self, q: Tensor) -> Tensor:
        """The vectors along both rods, (batch, 2, 2)."""
        first, second = q.chunk(2, 1)
        return torch.stack([first, second - first], 1)

    def constraint(self, q: Tensor) -> Tensor:
        return (self.rods(q).square().sum(2) - q.new_tensor(self.lengths).square()) / 2

    def constraint_jacobian(self, q: Tensor) -> Tensor:
        first, second = self.rods(q).unbind(1)
        rows = torch.cat([first, torch.zeros_like(first)], 1), torch.cat([-second, second], 1)
        return torch.stack(rows, 1)

    def nearest(self, x: Tensor) -> Tensor:
        """The rods brought to their lengths, and the momenta's part along them removed."""
        q, p = x.chunk(2, 1)
        rods = self.rods(q)
        first, second = (rods / rods.norm(dim=2, keepdim=True) * q.new_tensor(self.lengths).unsqueeze(1)).unbind(1)
        q = torch.cat([first, first + second], 1)
        g = self.constraint_jacobian(q)
        along = divide(self.stiffness(g), (g @ (p / self.masses(p)).unsqueeze(2)).squeeze(2))
        return torch.cat([q, p - self.react(g, along)], 1)


class LearnedDoublePendulum(RigidRods):
    """q' = M^-1 p, p' = -grad V(q) - G(q)^T lambda, with the rods of a double pendulum as constraints.

    Learned are the potential V and the two masses (as logarithms, so that they are positive); the rods are exact,
    whatever the weights. States (x_1, y_1, x_2, y_2) and their momenta, as in `systems.DoublePendulumCartesian`.

    Args:
        potential: V, on vectors of 4 entries.
        lengths: of the two rods.

    >>> f = LearnedDoublePendulum(RidgePotential(Dense(4, 8)))
    >>> f(f.nearest(torch.randn(3, 8))).shape
    torch.Size([3, 8])
    """

    def __init__(self, potential: Potential, lengths: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        if potential.state_shape != (4,):
            raise InputError(message(f"a potential on states of shape {potential.state_shape}", "the shape (4,)"))
        self.potential, self.lengths = potential, tuple(lengths)
        self.log_masses = nn.Parameter(torch.zeros(2))

    def masses(self, like: Tensor) -> Tensor:
        return self.log_masses.exp().to(like.dtype).repeat_interleave(2)

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return -self.potential.gradient(q)

    def energy(self, x: Tensor) -> Tensor:
        """p^T M^-1 p / 2 + V(q), shape (batch,)."""
        q, p = x.chunk(2, 1)
        return (p.square() / self.masses(p)).sum(1) / 2 + self.potential(q)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        rods = self.manifold()
        return Claims([TangentTo(rods), Within(rods, FirstIntegral(Invariant("energy", self.energy)))])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(RidgePotential(Dense(4, 6))), 1.0)
