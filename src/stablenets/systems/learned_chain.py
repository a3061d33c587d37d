"""A double pendulum whose force and masses are learned, and whose rods are rigid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.linalg import divide
from ..core.properties import FirstIntegral, Invariant
from ..core.regions import TangentTo, Within
from ..fields import Potential, RidgePotential
from ..fields.base import Norm, upper_bound
from ..fields.constrained import ConstrainedField
from ..fields.examples import large
from ..linear import Dense
from .pendulum_chain import DoublePendulumCartesian


class LearnedDoublePendulum(ConstrainedField):
    """q' = M^-1 p, p' = -grad V(q) - G(q)^T lambda, with the rods of a double pendulum as constraints.

    Learned are the potential V and the two masses (as logarithms, so that they are positive); the rods are exact,
    whatever the weights. States (x_1, y_1, x_2, y_2) and their momenta, as in `DoublePendulumCartesian`.

    Args:
        potential: V, on vectors of 4 entries.
        lengths: of the two rods.

    >>> f = LearnedDoublePendulum(RidgePotential(Dense(4, 8)))
    >>> f(f.nearest(torch.randn(3, 8))).shape
    torch.Size([3, 8])
    """

    state_shape = (8,)

    def __init__(self, potential: Potential, lengths: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        if potential.state_shape != (4,):
            raise InputError(message(f"a potential on states of shape {potential.state_shape}", "the shape (4,)"))
        self.potential, self.lengths = potential, tuple(lengths)
        self.log_masses = nn.Parameter(torch.zeros(2))
        self._geometry = DoublePendulumCartesian(lengths=lengths)

    def masses(self, like: Tensor) -> Tensor:
        return self.log_masses.exp().to(like.dtype).repeat_interleave(2)

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return -self.potential.gradient(q)

    def constraint(self, q: Tensor) -> Tensor:
        return self._geometry.constraint(q)

    def constraint_jacobian(self, q: Tensor) -> Tensor:
        return self._geometry.constraint_jacobian(q)

    def nearest(self, x: Tensor) -> Tensor:
        """The rods brought to their lengths, and the momenta's part along them removed."""
        q = self._geometry.nearest(x)[:, :4]
        p, g = x[:, 4:], self.constraint_jacobian(q)
        along = divide(self.stiffness(g), (g @ (p / self.masses(p)).unsqueeze(2)).squeeze(2))
        return torch.cat([q, p - self.react(g, along)], 1)

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
