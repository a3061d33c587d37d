"""Chains of pendulums in angles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.linalg import divide
from ..core.properties import EnergyForm, Hamiltonian, Invariant
from ..fields.base import EnergyField, Norm, upper_bound


class NLinkPendulum(EnergyField):
    """A planar chain of `links` unit masses on massless rods of unit length, with friction in the angles.

    States (angles q, momenta p), the angles from the lowest point; H = p^T M(q)^-1 p / 2 + V(q), q' = dH/dp and
    p' = -dH/dq - friction q'. The energy is constant without friction, and never increases with it.

    Args:
        links: how many.
        friction: moment per angular velocity.
        gravity: acceleration.

    >>> NLinkPendulum(3)(torch.zeros(2, 6)).abs().max()
    tensor(0.)
    """

    def __init__(self, links: int = 2, *, friction: float = 0.0, gravity: float = 1.0) -> None:
        super().__init__()
        if links < 1 or friction < 0:
            raise InputError(message(f"{links} links, friction {friction}", "at least one link, and friction >= 0"))
        self.links, self.friction, self.gravity = links, friction, gravity
        self.state_shape = (2 * links,)

    def carried(self, like: Tensor) -> Tensor:
        """The number of masses that hang on each link, shape (links,)."""
        return torch.arange(self.links, 0, -1, dtype=like.dtype, device=like.device)

    def mass(self, q: Tensor) -> Tensor:
        """M(q), shape (batch, links, links): M_ij = cos(q_i - q_j) times the number of masses that hang on both."""
        carried = self.carried(q)
        return torch.minimum(carried[:, None], carried[None]) * torch.cos(q.unsqueeze(2) - q.unsqueeze(1))

    def angular_velocity(self, x: Tensor) -> Tensor:
        """q' = M(q)^-1 p, shape (batch, links)."""
        q, p = x.chunk(2, 1)
        return divide(self.mass(q), p)

    def energy(self, x: Tensor) -> Tensor:
        """H(q, p), shape (batch,)."""
        q, p = x.chunk(2, 1)
        heights = 2 * torch.sin(q / 2).square()  # 1 - cos q
        return (p * self.angular_velocity(x)).sum(1) / 2 + self.gravity * (self.carried(q) * heights).sum(1)

    def energy_gradient(self, x: Tensor) -> Tensor:
        q, _ = x.chunk(2, 1)
        v, carried = self.angular_velocity(x), self.carried(q)
        slope = torch.minimum(carried[:, None], carried[None]) * torch.sin(q.unsqueeze(2) - q.unsqueeze(1))
        kinetic = v * (slope @ v.unsqueeze(2)).squeeze(2)  # -v^T (dM/dq_i) v / 2
        return torch.cat([kinetic + self.gravity * carried * torch.sin(q), v], 1)

    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        by_q, by_p = v.chunk(2, 1)
        return torch.cat([by_p, -by_q - self.friction * by_p], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        kept = self.friction == 0
        claims: list[Property] = [EnergyForm(Invariant("energy", self.energy), conserved=kept)]
        return Claims([Hamiltonian(), *claims] if kept else claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(3, friction=0.3)
