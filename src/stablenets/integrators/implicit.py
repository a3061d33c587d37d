"""Implicit Runge-Kutta methods. A method is its tableau; every claim is computed from it."""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.properties import (
    Averaged,
    Cocoercive,
    Decreases,
    Dissipates,
    Expansive,
    FirstIntegral,
    Hamiltonian,
    Invertible,
    Lipschitz,
    OneSidedLipschitz,
    Preserves,
    Symplectic,
)
from ..fields.base import Field
from .base import Integrator, add_scaled
from .solve import solve

UP = 1 + 1e-13  # claims are rounded outwards by far more than the few roundings of their formulas
MARGIN = 0.99  # of the step at which the equation may stop being solvable: keeps its matrix away from singular ones


class ImplicitRungeKutta(Integrator[Field], abc.ABC):
    """z_i = h sum_j a_ij f(x + z_j, t + c_j h), x+ = x + sum_i d_i z_i with d^T = b^T a^-1.

    The increments z are solved for every sample by itself, to rounding; derivatives are exact (`solve`). A sample whose
    equation is not solved raises a ConvergenceError. With M = diag(b) a + a^T diag(b) - b b^T, claims of non-expansion
    rest on M >= 0 (algebraic stability), those of symplecticity and of quadratic invariants on M = 0. Beyond the step
    limit, or without one, claims are about the states at which the step returns.
    """

    solves = True
    a: ClassVar[tuple[tuple[float, ...], ...]]
    b: ClassVar[tuple[float, ...]]
    solvable: ClassVar[float]
    """For h nu < `solvable`, and f one-sided nu-Lipschitz, the equation has exactly one solution: the largest
    min eig (D a^-1 + a^-T D) / 2 relative to a diagonal D > 0 (Hairer & Wanner, Thm IV.14.2-14.4)."""

    def step(self, f: Field, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        a, nodes = self.a, [sum(row) for row in self.a]

        def increments(z: Tensor, x: Tensor, h: Any) -> Tensor:
            slopes = [f(x + increment, t + c * h) for increment, c in zip(z.unbind(1), nodes, strict=True)]
            return torch.stack([_sum([h * weight for weight in row], slopes) for row in a], 1)

        slope = f(x, t)
        start = torch.stack([c * h * slope for c in nodes], 1)
        z = solve(increments, start, x, h, name=type(self).__name__)
        return x + _sum(self._weights(), z.unbind(1))

    @classmethod
    @functools.cache
    def _weights(cls) -> tuple[float, ...]:
        """d with d^T = b^T a^-1; x+ - x from the increments has no rounding errors of h f."""
        return tuple(float(d) for d in np.linalg.solve(np.array(cls.a).T, np.array(cls.b)))

    @classmethod
    def stability_matrix(cls) -> np.ndarray:
        """M = diag(b) a + a^T diag(b) - b b^T."""
        a, b = np.array(cls.a), np.array(cls.b)
        m = b[:, None] * a + (b[:, None] * a).T - np.outer(b, b)
        return np.where(abs(m) < 1e-15, 0.0, m)

    @classmethod
    @functools.cache
    def damping(cls) -> float | None:
        """A mu with M >= mu b b^T, the largest where there is one stage; None where M >= 0 fails or a weight is <= 0.

        0 for Gauss methods, 1 for implicit Euler.
        """
        m = cls.stability_matrix()
        if min(cls.b) <= 0 or np.linalg.eigvalsh(m)[0] < -1e-15:
            return None
        return float(m[0, 0]) / cls.b[0] ** 2 if len(cls.b) == 1 else 0.0

    def step_limit(self, field: Claims) -> float | None:
        nu = _one_sided(field)
        if nu is None:
            return None
        return MARGIN * self.solvable / nu if nu > 0 else math.inf

    def transfer(self, field: Claims, h: float) -> Claims:
        kept = [c.invariant for c in field if isinstance(c, FirstIntegral)]
        claims: list[Property] = [Preserves(i) for i in kept if i.degree == 1]
        if not self.stability_matrix().any():
            claims += [Preserves(i) for i in kept if i.degree == 2]
            if h >= 0:
                claims += [Decreases(c.function) for c in field if isinstance(c, Dissipates) and c.function.degree == 2]
            if field.get(Hamiltonian):
                claims.append(Symplectic())
        limit = self.step_limit(field)
        if limit is not None and 0 <= h <= limit:
            claims += self._distances(field, h)
        return Claims(claims)

    def _distances(self, field: Claims, h: float) -> list[Property]:
        """What a step does to distances, where its equation has one solution."""
        claims: list[Property] = []
        nu, lipschitz, cocoercive = _one_sided(field), field.get(Lipschitz), field.get(Cocoercive)
        assert nu is not None
        size = lipschitz.bound if lipschitz else math.inf
        mu = self.damping()
        if mu is not None and nu <= 0:
            claims.append(Lipschitz(1.0))
            excess = 2 * cocoercive.beta / h + mu if cocoercive and h > 0 else mu
            if h > 0 and 0 < excess < 1e15:  # |x - y|^2 - |x+ - y+|^2 >= excess |(x - x+) - (y - y+)|^2
                claims.append(Averaged(min(1 / (1 + excess) * UP, 1 - 1e-16)))
        low, high = self._stretch(h, nu, size)
        if high < math.inf:
            claims.append(Lipschitz(high * UP))
        if low > 0:
            claims += [Expansive(low / UP), Invertible()]
        return claims

    @abc.abstractmethod
    def _stretch(self, h: float, nu: float, size: float) -> tuple[float, float]:
        """Bounds of |x+ - y+| / |x - y|, below and above, for a one-sided nu-Lipschitz, `size`-Lipschitz field."""


class OneStage(ImplicitRungeKutta, abc.ABC):
    """x = z - theta h f(z), x+ = z + (1 - theta) h f(z)."""

    def step(self, f: Field, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        """As in the base class; without its sums over stages, which cost a third of the step of a small field."""
        theta = self.a[0][0]

        def increment(z: Tensor, x: Tensor, h: Any) -> Tensor:
            return theta * h * f(x + z, t + theta * h)

        z = solve(increment, theta * h * f(x, t), x, h, name=type(self).__name__)
        return x + z / theta

    def _stretch(self, h: float, nu: float, size: float) -> tuple[float, float]:
        """Sharp: with s = <dz, df> / |dz|^2 <= nu and r = |df| / |dz| in [|s|, size], the squared ratio is
        (1 + 2 (1 - theta) h s + (1 - theta)^2 h^2 r^2) / (1 - 2 theta h s + theta^2 h^2 r^2): increasing in s, and a
        Moebius function of r^2.
        """
        theta = self.a[0][0]

        def square(r: float) -> float:
            if math.isinf(r):
                return (1 / theta - 1) ** 2
            out, back = (1 - theta) * h, theta * h
            return (1 + 2 * out * nu + (out * r) ** 2) / (1 - 2 * back * nu + (back * r) ** 2)

        high = math.sqrt(max(square(min(abs(nu), size)), square(size)) if h > 0 else 1.0)
        low = (1 - (1 - theta) * h * size) / (1 + theta * h * size) if math.isfinite(size) else 0.0
        return low, high


class ImplicitEuler(OneStage):
    """x+ = x + h f(x+), the proximal step on f = -grad V: averaged on every monotone field, at every h.

    On a field with <f(x) - f(y), x - y> <= -c |x - y|^2 it contracts by 1 / (1 + c h). A convex V that never increases
    along the flow never increases along the steps either.

    >>> from stablenets.systems import HarmonicOscillator
    >>> ImplicitEuler().step(HarmonicOscillator(), torch.tensor([[1.0, 0.0]]), 0.5)
    tensor([[ 0.8000, -0.4000]])
    """

    order, reference = 1, "Hairer & Wanner, IV.12; Bauschke & Combettes, Prop. 23.8"
    a, b, solvable = ((1.0,),), (1.0,), 1.0

    def transfer(self, field: Claims, h: float) -> Claims:
        claims = list(super().transfer(field, h))
        if h >= 0:  # for convex V: V(x+) - V(x) <= <grad V(x+), x+ - x> = h <grad V(x+), f(x+)> <= -h rate V(x+)
            falling = [(c.function, c.rate) for c in field if isinstance(c, Dissipates)]
            falling += [(c.invariant, 0.0) for c in field if isinstance(c, FirstIntegral)]
            claims += [Decreases(v, min(1.0, UP / (1 + h * rate))) for v, rate in falling if v.convex]
        return Claims(claims)

    @property
    def theorem(self) -> str:
        return (
            "ImplicitEuler is the resolvent of -h f: averaged with alpha = 1/2 on every monotone field, for every h, "
            "and a contraction by 1 / (1 + c h) where <f(x) - f(y), x - y> <= -c |x - y|^2"
        )


class ImplicitMidpoint(OneStage):
    """x+ = x + h f((x + x+) / 2): symplectic, keeps quadratic invariants, non-expansive on monotone fields at every h.

    >>> from stablenets.systems import HarmonicOscillator
    >>> x = ImplicitMidpoint().step(HarmonicOscillator(), torch.tensor([[1.0, 0.0]]), 0.5)
    >>> print(round(float(x.norm()), 6))
    1.0
    """

    order, reference = 2, "Hairer, Lubich & Wanner, Thms IV.2.1 and VI.4.3; Hairer & Wanner, Thm IV.12.9"
    a, b, solvable = ((0.5,),), (1.0,), 2.0

    @property
    def theorem(self) -> str:
        return _GAUSS.format(type(self).__name__)


_ROOT = math.sqrt(3) / 6


class GaussLegendre4(ImplicitRungeKutta):
    """The two-stage Gauss method: order 4, with the invariants of the implicit midpoint rule.

    >>> from stablenets.systems import HarmonicOscillator
    >>> x = GaussLegendre4().step(HarmonicOscillator(), torch.tensor([[1.0, 0.0]]), 0.5)
    >>> print(round(float(x[0, 0]) - math.cos(0.5), 5))
    2e-05
    """

    order, reference = 4, "Kuntzmann 1961, Butcher 1964; Hairer, Lubich & Wanner, II.1.3; Hairer & Wanner, IV.14"
    a, b = ((0.25, 0.25 - _ROOT), (0.25 + _ROOT, 0.25)), (0.5, 0.5)
    solvable = 3.0

    def _stretch(self, h: float, nu: float, size: float) -> tuple[float, float]:
        """1 -+ h L sum_i b_i |dx_i| / |dx|, where (I - h L |a|) bounds the stages' distances."""
        hl = h * size
        a = abs(np.array(self.a))
        if not hl * float(abs(np.linalg.eigvals(a)).max()) < MARGIN:
            return 0.0, 1.0 if nu <= 0 else math.inf
        stages = np.linalg.solve(np.eye(len(a)) - hl * a, np.ones(len(a)))
        increment = hl * float(np.array(self.b) @ stages) * UP
        return 1 - increment, 1.0 if nu <= 0 else 1 + increment

    @property
    def theorem(self) -> str:
        return _GAUSS.format(type(self).__name__)


_GAUSS = (
    "{} is a Gauss method (diag(b) a + a^T diag(b) = b b^T): symplectic on Hamiltonian fields, it keeps quadratic "
    "invariants, and it is non-expansive on monotone fields for every h (B-stable)"
)


def _sum(weights: Sequence[Any], values: Sequence[Tensor]) -> Tensor:
    total = weights[0] * values[0]
    for w, v in zip(weights[1:], values[1:], strict=True):
        total = add_scaled(total, v, w)
    return total


def _one_sided(field: Claims) -> float | None:
    """The best known one-sided Lipschitz constant."""
    known = [c.nu for c in field if isinstance(c, OneSidedLipschitz)]
    known += [c.bound for c in field if isinstance(c, Lipschitz)]
    return min(known, default=None)
