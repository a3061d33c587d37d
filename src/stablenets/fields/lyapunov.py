"""Learned dynamics with a globally stable equilibrium."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Dissipates, Invariant, inner, positive
from ..linear import Dense
from .base import Field, Norm, StableField, upper_bound
from .convex_potential import ConvexPotential
from .examples import large
from .free import FreeField
from .two_layer import TwoLayerField


class LyapunovStable(StableField):
    """x' = g - grad V relu(<grad V, g> + rate V) / |grad V|^2 with g(x) = free(x) - free(x*) (chapter (29)).

    Any field, less the part that would let V fall slower than exp(-rate t): every solution converges to x*, where V has
    its minimum (Kolter & Manek 2019). Subtracting free(x*) makes x* an equilibrium; together with the strong convexity
    of V it makes f Lipschitz continuous there. Values and gradients are finite at x* (the formula as printed is 0 / 0):
    f(x*) = 0.

    Args:
        free: what to learn; any field on vectors.
        potential: V, which holds the equilibrium x*.
        rate: of the exponential decay of V, positive.

    `integrators.LyapunovStep` keeps the decay in discrete time; other steps may lose it.

    >>> f = LyapunovStable(TwoLayerField(Dense(2, 8), Dense(2, 8)), ConvexPotential(2, (8, 8)))
    >>> bool((f(torch.zeros(1, 2)) == 0).all())
    True
    """

    def __init__(self, free: Field, potential: ConvexPotential, *, rate: float = 0.1) -> None:
        super().__init__()
        if free.state_shape not in (None, potential.state_shape):
            given = f"free acts on {free.state_shape}, the potential on {potential.state_shape}"
            raise InputError(message(given, "the same states"))
        if not 0 < rate < math.inf:
            raise InputError(message(f"rate={rate}", "a positive number"))
        self.free, self.potential, self.rate = free, potential, rate
        self.decay = rate
        self.state_shape = potential.state_shape

    @property
    def centre(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.potential.centre

    def lyapunov(self, x: Tensor) -> Tensor:
        return self.potential(x)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        values = self.free(torch.cat([x, self.centre[None]]), t)  # in one batch, so that they round alike
        g = values[:-1] - values[-1:]
        slope = self.potential.gradient(x)
        excess = F.relu(inner(slope, g) + self.rate * self.potential(x))
        # both are of order |x - x*|^2, and zero at x*: the clamp makes their quotient zero there, with its gradient
        return g - slope * (excess / positive(inner(slope, slope)))[:, None]

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims([Dissipates(Invariant("lyapunov", self.lyapunov, convex=True), self.rate)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        potentials = list(ConvexPotential.examples())
        yield cls(next(FreeField.examples()), potentials[0])
        yield cls(large(TwoLayerField(Dense(3, 8), Dense(3, 8))), potentials[1], rate=0.5)
