"""Convex potentials with a given minimum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .activations import Activation, Ramp, ReLU
from .base import Norm, upper_bound
from .examples import large
from .layered_potential import LayeredPotential
from .potential import point


class ConvexPotential(LayeredPotential):
    """A convex V >= convexity |x - x*|^2 / 2 with V = 0 and grad V = 0 at x* = `equilibrium`, and only there.

    An input-convex network (Amos, Xu & Kolter 2017): U_k >= 0, c >= 0 (absolute values of the parameters) and a
    convex, non-decreasing gamma. Every b_k <= 0 and gamma(z) = 0 for z <= 0, so that each layer vanishes at x* with its
    gradient. This loses nothing: a convex function whose minimum is 0 at x* is a supremum of (a^T y - b)_+, b >= 0. It
    replaces the usual g(x) - g(x*), whose digits cancel where the trajectories end: here V is exact to a few roundings
    *relative to V*, down to the equilibrium.

    Args:
        features: the dimension of the state.
        widths: of the hidden layers.
        activation: sigma >= 0 with sigma(z) = 0 for z <= 0 (default `Ramp()`, Kolter and Manek's smoothed ReLU).
        convexity: the strong convexity, > 0.
        equilibrium: x* (default the origin).

    >>> v = ConvexPotential(2, (16, 16), equilibrium=(1.0, 2.0))
    >>> at = torch.tensor([[1.0, 2.0]])
    >>> v(at), v.gradient(at)
    (tensor([0.], grad_fn=<AddBackward0>), tensor([[0., 0.]], grad_fn=<AddBackward0>))
    """

    convexity: float  # pyright: ignore[reportIncompatibleVariableOverride]
    centre: Tensor

    def __init__(
        self,
        features: int,
        widths: tuple[int, ...],
        *,
        activation: Activation | None = None,
        convexity: float = 0.1,
        equilibrium: tuple[float, ...] | None = None,
    ) -> None:
        sigma = activation or Ramp()
        super().__init__(features, widths, sigma)
        probe = sigma(torch.tensor([-1e3, -1.0, 0.0]))
        if float(probe.abs().max()) or sigma.slope[0] < 0:
            raise InputError(message(f"{type(sigma).__name__}", "an activation that is 0 up to 0: Ramp or ReLU"))
        if not 0 < convexity < math.inf:
            raise InputError(message(f"convexity={convexity}", "a positive number"))
        self.convexity, self.equilibrium = convexity, equilibrium
        self.register_buffer("centre", point(equilibrium, (features,)), persistent=False)

    def weights(self) -> tuple[list[Tensor], list[Tensor], Tensor]:
        return [u.abs() for u in self.inner], [-b.abs() for b in self.biases], self.outer.abs()

    def forward(self, x: Tensor) -> Tensor:
        y = x - self.centre
        return self._value(y) + self.convexity / 2 * y.square().sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        y = x - self.centre
        return self._gradient(y) + self.convexity * y

    def smoothness(self, norm: Norm = upper_bound) -> Any:
        return (super().smoothness(norm) + self.convexity) * (1 + 1e-15)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(
            cls(4, (5, 3), activation=Ramp(2.0)), 1.5, seed=12
        )  # seeds with points where the Hessian is not far below its bound
        yield large(cls(3, (4, 3), activation=Ramp(2.0), convexity=0.02, equilibrium=(0.5, -1.0, 2.0)), 1.5, seed=2)
        yield large(cls(2, (5, 3), activation=ReLU()))
