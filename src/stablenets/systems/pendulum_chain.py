"""The double pendulum in Cartesian coordinates, with the rods as constraints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import FirstIntegral, Invariant
from ..core.regions import TangentTo, Within
from ..fields.base import Norm, upper_bound
from ..fields.rods import RigidRods


class DoublePendulumCartesian(RigidRods):
    """The places q = (x_1, y_1, x_2, y_2) of both bobs, y upwards, and their momenta p: states (batch, 8).

    Constraints: (|q_1|^2 - l_1^2) / 2 = 0 and (|q_2 - q_1|^2 - l_2^2) / 2 = 0.

    Args:
        bobs: the two masses.
        lengths: of the two rods.
        gravity: acceleration.

    >>> f = DoublePendulumCartesian()
    >>> f.from_angles(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([[ 0., -1.,  0., -2.,  0.,  0.,  0.,  0.]])
    """

    state_shape = (8,)

    def __init__(
        self,
        bobs: tuple[float, float] = (1.0, 1.0),
        lengths: tuple[float, float] = (1.0, 1.0),
        *,
        gravity: float = 1.0,
    ) -> None:
        super().__init__()
        self.bobs, self.lengths, self.gravity = tuple(bobs), tuple(lengths), gravity

    def masses(self, like: Tensor) -> Tensor:
        return like.new_tensor(self.bobs).repeat_interleave(2)

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return (-self.gravity * self.masses(q) * q.new_tensor([0.0, 1.0, 0.0, 1.0])).expand_as(q)

    def from_angles(self, angles: Tensor, velocities: Tensor) -> Tensor:
        """The state (batch, 8) with angles (batch, 2) from the lowest point and angular velocities (batch, 2)."""
        l = angles.new_tensor(self.lengths)
        rods = torch.stack([l * torch.sin(angles), -l * torch.cos(angles)], 2)
        speeds = velocities.unsqueeze(2) * torch.stack([-rods[..., 1], rods[..., 0]], 2)
        q, v = rods.cumsum(1).flatten(1), speeds.cumsum(1).flatten(1)
        return torch.cat([q, v * self.masses(v)], 1)

    def energy(self, x: Tensor) -> Tensor:
        """Kinetic energy plus weight times height, shape (batch,)."""
        q, p = x.chunk(2, 1)
        return (p.square() / self.masses(p)).sum(1) / 2 - (self.force(q) * q).sum(1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        rods = self.manifold()
        return Claims([TangentTo(rods), Within(rods, FirstIntegral(Invariant("energy", self.energy)))])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls((1.0, 0.6), (0.8, 1.3), gravity=2.0)
