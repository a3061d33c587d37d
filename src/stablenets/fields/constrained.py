"""Mechanical systems with constraints on the positions."""

from __future__ import annotations

import abc

import torch
from torch import Tensor

from ..core.linalg import divide
from ..core.regions import Region
from .base import Field


class ConstrainedField(Field, abc.ABC):
    """q' = M^-1 p, p' = force(q, t) - G(q)^T lambda with c(q) = 0, G = Dc and a constant diagonal mass matrix M.

    lambda is the reaction of the constraints: the one that keeps G M^-1 p = 0. The field is defined for all q, p (where
    G has full rank); its physics is on the manifold c(q) = 0, G(q) M^-1 p = 0. States (batch, 2 n) hold q, then p.
    """

    @abc.abstractmethod
    def masses(self, like: Tensor) -> Tensor:
        """The diagonal of M, shape (n,), in the dtype and on the device of `like`."""

    @abc.abstractmethod
    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        """The force without the constraints' reaction, (batch, n)."""

    @abc.abstractmethod
    def constraint(self, q: Tensor) -> Tensor:
        """c(q), shape (batch, m)."""

    @abc.abstractmethod
    def constraint_jacobian(self, q: Tensor) -> Tensor:
        """G(q) = Dc(q), shape (batch, m, n)."""

    @abc.abstractmethod
    def nearest(self, x: Tensor) -> Tensor:
        """A state of the manifold for any state (batch, 2 n); itself when it is there already."""

    def manifold(self) -> Region:
        return Region("constraints", self.residual, self.nearest)

    def residual(self, x: Tensor) -> Tensor:
        """(c(q), G(q) M^-1 p), shape (batch, 2 m)."""
        q, p = x.chunk(2, 1)
        hidden = (self.constraint_jacobian(q) @ (p / self.masses(p)).unsqueeze(2)).squeeze(2)
        return torch.cat([self.constraint(q), hidden], 1)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        q, p = x.chunk(2, 1)
        v, force = p / self.masses(p), self.force(q, t)
        g = self.constraint_jacobian(q)
        # d/dt (G v) = 0
        bending = torch.func.jvp(lambda q: (self.constraint_jacobian(q) @ v.unsqueeze(2)).squeeze(2), (q,), (v,))[1]
        pull = (g @ (force / self.masses(p)).unsqueeze(2)).squeeze(2) + bending
        reaction = self.react(g, divide(self.stiffness(g), pull))
        return torch.cat([v, force - reaction], 1)

    def stiffness(self, g: Tensor) -> Tensor:
        """G M^-1 G^T, shape (batch, m, m)."""
        return (g / self.masses(g)) @ g.mT

    def react(self, g: Tensor, multipliers: Tensor) -> Tensor:
        """G^T lambda, shape (batch, n)."""
        return (g.mT @ multipliers.unsqueeze(2)).squeeze(2)
