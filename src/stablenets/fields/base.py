"""A vector field: x -> dx/dt, and what is proved of it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core.claims import Claims, Map
from ..core.component import Component
from ..core.properties import gradient
from ..linear.base import LinearMap

Norm = Callable[[LinearMap], Any]  # a number, or a 0-dim tensor with a gradient


def upper_bound(linear: LinearMap) -> float:
    """The norm that makes claims proofs."""
    return linear.norm_bound()


def estimate(linear: LinearMap) -> Tensor:
    """The norm that steers training, mostly ||A v|| after one warm-started power iteration for v, from below.

    It is differentiable in the weights. A step that follows it sees that growing weights shorten the step; without
    this gradient, training is markedly worse (docs/results.md).
    """
    return linear.training_norm()


class Field(Component, root=True):
    """A vector field x' = f(x, t) on states (batch, ...).

    A subclass is one file: `forward`, `claims`, `examples`, `state_shape`.
    """

    state_shape: tuple[int, ...] | None = None  # shape of one sample, where the field fixes it

    @abc.abstractmethod
    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        """dx/dt at the states `x` (batch, ...) and the time `t`; the result has the shape of `x`."""

    @abc.abstractmethod
    def claims(self, norm: Norm = upper_bound) -> Claims:
        """What the field is proved to satisfy.

        `norm` says how the theorem obtains the norms of linear maps: with `upper_bound` the claims are proofs, with
        `estimate` they only steer training. Empty claims are allowed: nothing is known then.
        """

    def scaled(self, x: Tensor, h: Tensor, t: float = 0.0) -> Tensor:
        """h f(x) for a step size `h` with a gradient; a field may have a cheaper way than this product."""
        return h * self(x, t)

    def linear_maps(self) -> list[LinearMap]:
        """The linear maps whose norms enter the claims."""
        return [m for m in self.modules() if isinstance(m, LinearMap)]


class SplitField(Field, abc.ABC):
    """A field on x = (q, p), halves of dimension 1, with q' = velocity(p, t) and p' = force(q, t)."""

    @abc.abstractmethod
    def velocity(self, p: Tensor, t: float = 0.0) -> Tensor:
        """q' as a function of the momenta alone."""

    @abc.abstractmethod
    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        """p' as a function of the positions alone."""


class StableField(Field, abc.ABC):
    """A field with an equilibrium x* = `centre` and a convex Lyapunov function V that falls at least as exp(-decay t).

    V = 0 and grad V = 0 at x*, and only there. The field claims `Dissipates(Invariant("lyapunov", V), decay)`.
    """

    centre: Tensor  # x*, without a batch dimension
    decay: float

    @abc.abstractmethod
    def lyapunov(self, x: Tensor) -> Tensor:
        """V(x), shape (batch,)."""


class EnergyField(Field, abc.ABC):
    """x' = S(x, t) grad H(x) with S + S^T <= 0: H never increases, and is constant where S is skew.

    A subclass states the claim `EnergyForm`, from which its other claims about H follow. Hamiltonian fields, their
    dissipative relatives (port-Hamiltonian) and gradient flows (S = -I) have this form.
    """

    @abc.abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """H(x), shape (batch,)."""

    @abc.abstractmethod
    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        """S(x, t) v, linear in `v`, which has the shape of `x`."""

    def energy_gradient(self, x: Tensor) -> Tensor:
        """grad H(x), shaped like `x`."""
        return gradient(self.energy, x)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return self.structure(x, self.energy_gradient(x), t)


class ConservativeField(Field, abc.ABC):
    """A field that hands out its first integrals, so that a step can be projected onto their level sets."""

    @abc.abstractmethod
    def invariants(self) -> tuple[Map, ...]:
        """The functions (x -> (batch,)) of all first integrals that the field claims."""


class HamiltonianField(EnergyField, ConservativeField, abc.ABC):
    """q' = dH/dp, p' = -dH/dq, with q and p the halves of dimension 1."""

    def invariants(self) -> tuple[Map, ...]:
        return (self.energy,)

    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        by_q, by_p = v.chunk(2, 1)
        return torch.cat([by_p, -by_q], 1)


class ShearField(Field, abc.ABC):
    """Blocks of dimension 1, each driven by the others only: x_i' = rate(i, all blocks but x_i, t).

    So the divergence is zero, and freezing all blocks but one leaves a shear that is solved exactly.
    """

    blocks: tuple[int, ...]  # sizes along dimension 1

    @abc.abstractmethod
    def rate(self, i: int, others: tuple[Tensor, ...], t: float = 0.0) -> Tensor:
        """The derivative of block `i`, shaped like it."""

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        parts = x.split(self.blocks, 1)
        return torch.cat([self.rate(i, parts[:i] + parts[i + 1 :], t) for i in range(len(parts))], 1)


class MassActionField(Field, abc.ABC):
    """x' = A(x, t) x for x >= 0, where A has non-negative entries off its diagonal and columns that sum to zero.

    So states keep their sum and stay non-negative. States (batch, d); a negative entry is no concentration, and
    `matrix` must treat it as zero.
    """

    @abc.abstractmethod
    def matrix(self, x: Tensor, t: float = 0.0) -> Tensor:
        """A(x, t), shape (batch, d, d): entry (i, j) is the rate of flow from j to i."""

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return (self.matrix(x, t) @ x.unsqueeze(2)).squeeze(2)
