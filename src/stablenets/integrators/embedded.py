"""Explicit Runge-Kutta methods that estimate their own error, and give the solution inside a step."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.properties import FirstIntegral, Preserves
from ..fields.base import Field
from .runge_kutta import ExplicitRungeKutta, combine


class EmbeddedRungeKutta(ExplicitRungeKutta, abc.ABC):
    """With k_(s+1) = f(x+, t + h), the error h sum_i e_i k_i and x(t + theta h) = x + h sum_i b_i(theta) k_i.

    `step` is one step of the given size, like that of every Runge-Kutta method, and so are its claims. With adaptive
    steps (`stablenets.integrate`) sizes depend on the states, and only `adaptive_claims` remain.

    A step is accepted where |error_j| / (atol + rtol max(|x_j|, |x+_j|)), in the root mean square over the entries j,
    is at most 1; the next size follows from the last two errors (`control`).

    Args:
        rtol, atol: relative and absolute tolerance of the error of one step.
        joint: one step size for all samples, from the mean square over all of them: fastest where they resemble each
            other. Otherwise every sample has its own steps and times, whatever else is in the batch; the field then
            gets times of shape (batch, 1, ..., 1).
        max_steps: accepted and rejected steps after which a sample is given up.
    """

    error: ClassVar[tuple[float, ...]]
    error_order: ClassVar[int]
    """The error of a step is estimated as O(h^error_order)."""
    dense: ClassVar[tuple[tuple[float, ...], ...]]
    """b_i(theta) by its coefficients of theta, theta^2, ..."""
    dense_order: ClassVar[int]

    def __init__(self, rtol: float = 1e-6, atol: float = 1e-8, *, joint: bool = True, max_steps: int = 10_000) -> None:
        super().__init__()
        name = type(self).__name__
        if not (0 < rtol < 1 and 0 < atol < math.inf):
            raise InputError(message(f"{name} with rtol={rtol}, atol={atol}", "0 < rtol < 1 and 0 < atol"))
        if max_steps < 1:
            raise InputError(message(f"{name} with max_steps={max_steps}", "at least 1"))
        self.rtol, self.atol, self.joint, self.max_steps = rtol, atol, joint, max_steps

    def stages(self, f: Field, x: Tensor, h: Any, t: Any, first: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """x+ and all slopes, that at x+ included; `first` is f(x, t) if it is known already."""
        k = [f(x, t) if first is None else first]
        for row in self.a[1:]:
            k.append(f(combine(x, h, row, k), t + h * sum(row)))
        end = combine(x, h, self.b, k)
        k.append(f(end, t + h))
        return end, k

    def error_of(self, h: Any, k: Sequence[Tensor]) -> Tensor:
        """The estimated error of a step of size `h` with the slopes `k`."""
        total = None
        for e, slope in zip(self.error, k, strict=True):
            if e:
                total = slope * e if total is None else torch.add(total, slope, alpha=e)
        assert total is not None
        return total * h

    def weights(self, theta: Tensor) -> Tensor:
        """b_i(theta), shape (len(theta), s + 1)."""
        powers = [theta]
        for _ in self.dense[0][1:]:
            powers.append(powers[-1] * theta)
        return torch.stack(powers, 1) @ theta.new_tensor(self.dense).T

    def adaptive_claims(self, field: Claims) -> Claims:
        """What a solve with adaptive steps is proved to satisfy: linear invariants are kept by steps of any sizes.

        Nothing about distances follows, since two states are not taken by the same steps, and an output between steps
        is not a step.
        """
        kept: list[Property] = [
            Preserves(c.invariant) for c in field if isinstance(c, FirstIntegral) and c.invariant.degree == 1
        ]
        return Claims(kept)
