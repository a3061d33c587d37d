"""Explicit Runge-Kutta methods. A method is its tableau; every claim is computed from it."""

from __future__ import annotations

import abc
import functools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.properties import (
    Averaged,
    Cocoercive,
    Expansive,
    FirstIntegral,
    Invertible,
    Lipschitz,
    OneSidedLipschitz,
    Preserves,
    SymmetricJacobian,
)
from ..fields.base import Field
from .base import Integrator, add_scaled

UP = 1 + 1e-13  # claims are rounded outwards by far more than the few roundings of their formulas


class ExplicitRungeKutta(Integrator[Field], abc.ABC):
    """k_i = f(x + h sum_j a_ij k_j, t + c_i h), x+ = x + h sum_i b_i k_i, with the strictly lower rows of a."""

    a: ClassVar[tuple[tuple[float, ...], ...]]
    b: ClassVar[tuple[float, ...]]

    def step(self, f: Field, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        k: list[Tensor] = []
        for row in self.a:
            k.append(f(combine(x, h, row, k), t + h * sum(row)))
        return combine(x, h, self.b, k)

    @classmethod
    @functools.cache
    def contractivity_radius(cls) -> float:
        """The radius r of circle contractivity (Dahlquist & Jeltsch 1979).

        The largest r with M + diag(b) / r >= 0 for M = diag(b) a + a^T diag(b) - b b^T. On every beta-cocoercive field
        a step is then non-expansive for h <= 2 beta r. It is 0 when a weight is not positive.
        """
        b = torch.tensor(cls.b, dtype=torch.float64)
        if (b <= 0).any():
            return 0.0
        a = torch.tensor([list(r) + [0.0] * (len(b) - len(r)) for r in cls.a], dtype=torch.float64)
        m = b[:, None] * a + (b[:, None] * a).T - b[:, None] * b
        lowest = float(torch.linalg.eigvalsh(m / (b[:, None] * b).sqrt())[0])
        exact = -1 / lowest
        return round(exact) if abs(exact - round(exact)) < 1e-14 else exact * (1 - 1e-12)

    def step_limit(self, field: Claims) -> float | None:
        cocoercive, r = field.get(Cocoercive), self.contractivity_radius()
        return 2 * cocoercive.beta * r if cocoercive and r > 0 else None

    def transfer(self, field: Claims, h: float) -> Claims:
        claims: list[Property] = [
            Preserves(c.invariant)  # every Runge-Kutta method keeps linear invariants
            for c in field
            if isinstance(c, FirstIntegral) and c.invariant.degree == 1
        ]
        limit, lipschitz, one_sided = (
            self.step_limit(field),
            field.get(Lipschitz),
            field.get(OneSidedLipschitz),
        )
        if limit is not None and 0 <= h <= limit:
            if type(self) is Euler and 0 < h < limit * (1 - 1e-12):
                claims.append(Averaged(h / limit * UP))  # I - h grad V with V convex, 1/beta-smooth
            claims.append(Lipschitz(1.0))
        if lipschitz is not None:
            increment = self._increment(abs(h) * lipschitz.bound) * UP
            claims.append(Lipschitz(math.nextafter(1 + increment, math.inf)))
            if increment < 1:
                claims += [Expansive(math.nextafter(1 - increment, 0)), Invertible()]
            if type(self) is Euler and one_sided is not None and h >= 0:
                reach = h * lipschitz.bound
                terms = 1.0, 2 * h * one_sided.nu, reach * reach  # `**` raises an error where this overflows
                square = sum(terms) + 1e-15 * sum(map(abs, terms))  # the terms may cancel
                claims.append(Lipschitz(math.sqrt(max(square, 0.0)) * UP))
                if one_sided.nu < 0 and field.get(SymmetricJacobian):
                    # f = -grad V, V strongly convex: the eigenvalues of Df are in [-L, nu], those of the step's
                    # Jacobian in [1 - h L, 1 + h nu] (Nesterov 2004, Thm 2.1.15)
                    claims.append(Lipschitz(max(abs(1 + h * one_sided.nu), abs(1 - reach)) * UP + 1e-15))
        return Claims(claims)

    def _increment(self, hl: float) -> float:
        """A Lipschitz bound of (step - identity) when h f is `hl`-Lipschitz."""
        k: list[float] = []
        for row in self.a:
            k.append(hl * (1 + sum(abs(c) * kj for c, kj in zip(row, k, strict=True))))
        return sum(abs(c) * kj for c, kj in zip(self.b, k, strict=True))

    @property
    def theorem(self) -> str:
        return (
            f"{type(self).__name__} is circle contractive with radius r = {self.contractivity_radius():g}: on a "
            "beta-cocoercive field a step is non-expansive for h <= 2 beta r (Dahlquist & Jeltsch 1979)"
        )


def combine(x: Tensor, h: Any, weights: tuple[float, ...], k: list[Tensor]) -> Tensor:
    """x + h sum_i weights_i k_i."""
    for c, slope in zip(weights, k, strict=True):
        if c != 0:
            x = add_scaled(x, slope, h * c)
    return x


class Euler(ExplicitRungeKutta):
    """x + h f(x): the residual layer; a gradient step on f = -grad V.

    >>> from stablenets.systems import HarmonicOscillator
    >>> Euler().step(HarmonicOscillator(), torch.tensor([[1.0, 0.0]]), 0.5)
    tensor([[ 1.0000, -0.5000]])
    """

    order, reference = 1, "Euler 1768; chapter (9), (19)"
    a, b = ((),), (1.0,)

    def step(self, f: Field, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        return x + f.scaled(x, h, t) if isinstance(h, Tensor) else super().step(f, x, h, t)


class Midpoint(ExplicitRungeKutta):
    """The explicit midpoint rule. A zero weight: not circle contractive, so never claimed non-expansive."""

    order, reference = 2, "Runge 1895; Hairer, Norsett & Wanner, Table II.1.1"
    a, b = ((), (1 / 2,)), (0.0, 1.0)


class Heun(ExplicitRungeKutta):
    """The explicit trapezoidal rule."""

    order, reference = 2, "Heun 1900; Hairer, Norsett & Wanner, Table II.1.1"
    a, b = ((), (1.0,)), (1 / 2, 1 / 2)


class SSPRK3(ExplicitRungeKutta):
    """The third-order strong-stability-preserving method of Shu and Osher."""

    order, reference = 3, "Shu & Osher 1988, (2.18)"
    a, b = ((), (1.0,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 2 / 3)


class RK4(ExplicitRungeKutta):
    """The classical Runge-Kutta method."""

    order, reference = 4, "Kutta 1901; Hairer, Norsett & Wanner, Table II.1.2"
    a, b = ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
