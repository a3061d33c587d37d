"""Contracting dynamics: towards one equilibrium only, and for all pairs of solutions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.properties import (
    Cocoercive,
    Dissipates,
    EnergyForm,
    Invariant,
    Lipschitz,
    OneSidedLipschitz,
    SymmetricJacobian,
)
from ..linear import Conv2d, Dense, LinearMap
from .activations import Softplus, Tanh
from .base import EnergyField, Field, Norm, StableField, upper_bound
from .examples import large
from .gradient import ConvexGradient
from .invariants import squared_norm
from .potential import point


class EquilibriumContracting(StableField, EnergyField):
    """x' = A(x) (x - x*) with A(x) = -rate I - K^T D K + W^T D K - K^T D W, so Sym A <= -rate (chapter (30)).

    D(x) = diag(sigmoid(G x + b)) holds gates in (0, 1). What holds is that |x - x*| falls at least as exp(-rate t).
    *Not* that two solutions approach each other: Df is not A, and Sym Df may have large positive eigenvalues. For a
    field that contracts all pairs take `Contracting`.

    Args:
        damping: K, dense or convolutional.
        twist: W, of the same shapes.
        gate: G, of the same shapes.
        rate: positive.
        equilibrium: the entries of x* (default the origin).

    >>> f = EquilibriumContracting(Dense(3, 8), Dense(3, 8), gate=Dense(3, 8), rate=0.5)
    >>> bool((f(torch.zeros(1, 3)) == 0).all())
    True
    """

    def __init__(
        self,
        damping: LinearMap,
        twist: LinearMap,
        *,
        gate: LinearMap,
        rate: float = 0.1,
        equilibrium: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        if len({(a.input_shape, a.output_shape) for a in (damping, twist, gate)}) > 1:
            raise InputError(message("linear maps of different shapes", "one shape for damping, twist and gate"))
        if not 0 < rate < math.inf:
            raise InputError(message(f"rate={rate}", "a positive number"))
        self.damping, self.twist, self.gate, self.rate, self.equilibrium = damping, twist, gate, rate, equilibrium
        self.decay = 2 * rate  # of |x - x*|^2
        self.bias = nn.Parameter(torch.zeros(gate.output_shape[0]))
        self.state_shape = damping.input_shape
        self.register_buffer("centre", point(equilibrium, self.state_shape), persistent=False)

    def energy(self, x: Tensor) -> Tensor:
        """|x - x*|^2 / 2, shape (batch,)."""
        return squared_norm(x - self.centre) / 2

    def energy_gradient(self, x: Tensor) -> Tensor:
        return x - self.centre

    def lyapunov(self, x: Tensor) -> Tensor:
        return self.energy(x)

    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        """A(x) v, of the shape of `v`."""
        d = torch.sigmoid(self.gate(x) + self.bias.view(-1, *[1] * (x.dim() - 2)))
        kv, wv = d * self.damping(v), d * self.twist(v)
        return self.twist.adjoint(kv) - self.damping.adjoint(kv + wv) - self.rate * v

    def claims(self, norm: Norm = upper_bound) -> Claims:
        distance = Invariant("lyapunov", self.energy, degree=2, convex=True)
        return Claims([EnergyForm(distance, conserved=False), Dissipates(distance, self.decay)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(Dense(3, 6), Dense(3, 6), gate=Dense(3, 6), equilibrium=(1.0, -0.5, 0.0)))
        yield large(cls(Conv2d(1, 2, 3, 3), Conv2d(1, 2, 3, 3), gate=Conv2d(1, 2, 3, 3), rate=0.5))


class Contracting(Field):
    """x' = -rate x - A^T sigma(A x + b) + (W - W^T) x: any two solutions approach each other as exp(-rate t).

    A strongly monotone field: the gradient of a convex function, a rotation, and a decay, whose symmetric parts are at
    most 0, 0 and -rate. The rate is a worst case over all pairs and proved; it is attained where sigma is flat.

    Args:
        gradient: -A^T sigma(A x + b).
        rotation: W, a linear map of the state space into itself; None: no rotation.
        rate: positive.

    >>> f = Contracting(ConvexGradient(Dense(3, 8)), Dense(3, 3), rate=0.5)
    >>> f.claims().get(OneSidedLipschitz)
    OneSidedLipschitz(nu=-0.5)
    """

    def __init__(self, gradient: ConvexGradient, rotation: LinearMap | None = None, *, rate: float = 0.1) -> None:
        super().__init__()
        shape = gradient.linear.input_shape
        if rotation is not None and not rotation.input_shape == rotation.output_shape == shape:
            given = f"a rotation from {rotation.input_shape} to {rotation.output_shape}"
            raise InputError(message(given, f"a linear map from {shape} to itself"))
        if not 0 < rate < math.inf:
            raise InputError(message(f"rate={rate}", "a positive number"))
        self.gradient, self.rotation, self.rate = gradient, rotation, rate
        self.state_shape = shape

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        f = self.gradient(x, t) - self.rate * x
        return f if self.rotation is None else f + self.rotation(x) - self.rotation.adjoint(x)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        smoothness = self.gradient.claims(norm).get(Lipschitz)
        assert smoothness is not None  # every ConvexGradient claims one
        bound = (smoothness.bound + self.rate) * (1 + 1e-15)
        claims: list[Property] = [OneSidedLipschitz(-self.rate)]
        if self.rotation is None:
            claims += [Cocoercive(1 / bound), SymmetricJacobian()]
        else:
            claims.append(Lipschitz((bound + 2 * norm(self.rotation)) * (1 + 1e-15)))
        return Claims(claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(ConvexGradient(Dense(4, 6), Tanh()), Dense(4, 4)))
        yield large(cls(ConvexGradient(Conv2d(1, 2, 3, 3), Softplus()), Conv2d(1, 1, 3, 3), rate=0.5))
        yield large(cls(ConvexGradient(Dense(4, 6), Tanh())))
