"""A vector field: x -> dx/dt, and what is proved of it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..core.claims import Claims
from ..core.component import Component
from ..linear.base import LinearMap

Norm = Callable[[LinearMap], Any]  # a number, or a 0-dim tensor with a gradient


def upper_bound(linear: LinearMap) -> float:
    """The norm that makes claims proofs."""
    return linear.norm_bound()


def estimate(linear: LinearMap) -> Tensor:
    """The norm that steers training: ||A v|| after one warm-started power iteration for v, from below.

    It is differentiable in the weights. A step that follows it sees that growing weights shorten the step; without
    this gradient, training is markedly worse (docs/results.md).
    """
    linear.norm_estimate()
    return linear(linear.singular_vector.clone()).norm()


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
