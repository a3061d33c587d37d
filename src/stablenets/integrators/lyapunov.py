"""Steps along which a Lyapunov function falls, whatever their size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Decreases, Dissipates, positive
from ..fields.base import Field, StableField
from .base import Integrator
from .runge_kutta import RK4, Euler


class LyapunovStep(Integrator[StableField]):
    """A step of another method, drawn towards the equilibrium x* as far as V needs: V(x+) <= exp(-decay h) V(x).

    With y = the other method's step from x,

        x+ = x* + s (y - x*),   s = min(1, exp(-decay h) V(x) / V(y)).

    V is convex with V(x*) = 0, so V(x+) <= s V(y), for every h > 0. Solutions fall as fast, so s = 1 up to the error of
    the other method, whose order is kept. s is differentiable almost everywhere; at x* the step is the other method's.

    Where y overflows, x+ = x* + exp(-decay h) (x - x*), for which convexity says the same. Where even the rounded x+
    has no V(x+) <= V(x) (at distances from x* near the rounding of x* itself), the state stays: V never increases in
    floating point either.

    Args:
        method: the other method, for any field (default RK4).

    >>> from stablenets.fields import ConvexPotential, LyapunovStable, TwoLayerField
    >>> from stablenets.linear import Dense
    >>> f = LyapunovStable(TwoLayerField(Dense(2, 8), Dense(2, 8)), ConvexPotential(2, (8, 8)))
    >>> x = torch.randn(5, 2)
    >>> bool((f.lyapunov(LyapunovStep().step(f, x, 10.0)) < f.lyapunov(x)).all())
    True
    """

    needs = StableField
    reference = "convexity of V; Kolter & Manek 2019 for the field"
    order: ClassVar[int] = 4  # of the default; `self.order` is that of the method

    def __init__(self, method: Integrator[Any] | None = None) -> None:
        super().__init__()
        self.method = method or RK4()
        if self.method.needs is not Field:
            given = f"{type(self.method).__name__}, which needs a {self.method.needs.__name__}"
            raise InputError(message(given, "a method for any field, such as RK4 or Euler"))
        self.order = self.method.order  # pyright: ignore[reportAttributeAccessIssue]

    def step(self, f: StableField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        factor = torch.as_tensor(-f.decay * h, dtype=x.dtype, device=x.device).exp()
        y, straight = self.method.step(f, x, h, t), f.centre + factor * (x - f.centre)
        now, proposed = f.lyapunov(x), f.lyapunov(y)
        target = now * factor
        s = torch.where(proposed <= target, 1.0, target / positive(proposed))
        drawn = f.centre + _each(s, x) * (y - f.centre)
        drawn = torch.where(_each(proposed.isfinite(), x), drawn, straight)
        return torch.where(_each(f.lyapunov(drawn) <= now, x), drawn, x)

    def transfer(self, field: Claims, h: float) -> Claims:
        if h < 0:
            return Claims()
        decay = (c for c in field if isinstance(c, Dissipates) and c.function.name == "lyapunov")
        return Claims(Decreases(c.function, min(1.0, math.nextafter(math.exp(-c.rate * h), 1))) for c in decay)

    def step_limit(self, field: Claims) -> float | None:
        return math.inf if any(isinstance(c, Dissipates) and c.function.name == "lyapunov" for c in field) else None

    @property
    def theorem(self) -> str:
        return "V is convex with minimum V(x*) = 0: x* + s (y - x*) has V <= s V(y) for 0 <= s <= 1, for every h"

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(Euler())


def _each(values: Tensor, x: Tensor) -> Tensor:
    """One value per sample, shaped to multiply the states."""
    return values.view(-1, *[1] * (x.dim() - 1))
