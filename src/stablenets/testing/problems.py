"""One test problem for every form of field that integrators ask for, driven in time or not. ABC: not registered."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims, Map
from ..fields import (
    ConservativeField,
    ConstrainedField,
    EnergyField,
    Field,
    MassActionField,
    ShearField,
    SplitField,
)
from ..fields.base import Norm, upper_bound


class Problem(Field, abc.ABC):
    """A field about which nothing is claimed, nonlinear in everything; with `driven` every part depends on time."""

    def __init__(self, driven: bool) -> None:
        super().__init__()
        self.driven = driven

    def wave(self, t: float, frequency: float) -> float:
        """A factor that depends on time; 1 when the problem is autonomous."""
        return 1 + 0.5 * math.sin(frequency * t) if self.driven else 1.0

    def start(self) -> Tensor:
        """States to start from, (4, ...), float64."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(4, *(self.state_shape or ()), generator=generator, dtype=torch.float64)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(False)
        yield cls(True)


class NonlinearPendulum(Problem, SplitField, abc.ABC):
    """q' = p + 0.2 p^2, p' = -sin q."""

    state_shape = (2,)

    def velocity(self, p: Tensor, t: float = 0.0) -> Tensor:
        return (p + 0.2 * p.square()) * self.wave(t, 3)

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return -torch.sin(q) + (math.cos(2 * t) if self.driven else 0)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([self.velocity(p, t), self.force(q, t)], 1)


class Top(Problem, EnergyField, ConservativeField, abc.ABC):
    """x' = x cross grad H(x), with a skew matrix that depends on the state (and on time)."""

    state_shape = (3,)

    def start(self) -> Tensor:
        return super().start() / 2

    def energy(self, x: Tensor) -> Tensor:
        return (torch.cos(x) + x.square() * x.new_tensor([0.2, 0.5, 0.8])).sum(1)

    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        return self.wave(t, 3) * torch.linalg.cross(x, v)

    def invariants(self) -> tuple[Map, ...]:
        return (self.energy,)


class Swirl(Problem, ShearField, abc.ABC):
    """Every coordinate driven by the other two."""

    state_shape = (3,)
    blocks = (1, 1, 1)

    def rate(self, i: int, others: tuple[Tensor, ...], t: float = 0.0) -> Tensor:
        a, b = others
        return self.wave(t, 2 + i) * (torch.sin(a) - 0.5 * a * torch.cos(b))


class Reactions(Problem, MassActionField, abc.ABC):
    """Three species in a cycle; each is consumed at a rate that depends on the next."""

    state_shape = (3,)

    def start(self) -> Tensor:
        return super().start().abs()

    def matrix(self, x: Tensor, t: float = 0.0) -> Tensor:
        rates = self.wave(t, 3) * (0.5 + x.clamp(min=0).roll(1, 1))
        return torch.diag_embed(rates).roll(1, 1) - torch.diag_embed(rates)


class SphericalPendulum(Problem, ConstrainedField, abc.ABC):
    """A mass on the unit sphere in a force that depends on its place."""

    state_shape = (6,)

    def start(self) -> Tensor:
        return self.nearest(super().start())

    def masses(self, like: Tensor) -> Tensor:
        return like.new_tensor([1.5, 1.5, 1.5])

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return self.wave(t, 3) * torch.stack([torch.sin(2 * q[:, 1]), 0.3 * q[:, 2], -1 + q[:, 0].square()], 1)

    def constraint(self, q: Tensor) -> Tensor:
        return (q.square().sum(1, keepdim=True) - 1) / 2

    def constraint_jacobian(self, q: Tensor) -> Tensor:
        return q.unsqueeze(1)

    def nearest(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, 1)
        q = q / q.norm(dim=1, keepdim=True)
        return torch.cat([q, p - (p * q).sum(1, keepdim=True) * q], 1)


PROBLEMS: tuple[type[Problem], ...] = (NonlinearPendulum, Top, Swirl, Reactions, SphericalPendulum)
