"""Weights that depend on time."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, Self

from torch import Tensor, nn

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..linear import Dense
from .base import Field, Norm, upper_bound
from .examples import large
from .gradient import ConvexGradient
from .two_layer import TwoLayerField


class PiecewiseConstant(Field):
    """x' = f_k(x, t) for t in [k, k + 1) * interval: weights that are piecewise constant in time.

    With `TwoLayerField`s this is the lecture's x' = B(t)^T tanh(A(t) x + b(t)). Before the first interval and after the
    last one the nearest field stays. Times within 1e-9 intervals below a boundary count as the boundary, since sums of
    step sizes round.

    Let steps end where the intervals do. Euler, the midpoint rules and Gauss methods then keep their order; a method
    with a stage at the end of its step (Heun, RK4) meets the next weights there, which leaves it of order 1.

    It has the properties that all its fields have, with the weakest constants.

    Args:
        fields: f_0, f_1, ..., on the same states.
        interval: the time that each lasts.

    >>> import torch
    >>> f = PiecewiseConstant(*[TwoLayerField(Dense(3, 3), Dense(3, 3)) for _ in range(4)], interval=0.25)
    >>> f(torch.zeros(2, 3), t=0.8).shape
    torch.Size([2, 3])
    """

    def __init__(self, *fields: Field, interval: float) -> None:
        super().__init__()
        if not fields or len({f.state_shape for f in fields}) > 1:
            shapes = ", ".join(str(f.state_shape) for f in fields)
            raise InputError(message(f"fields on states of shapes ({shapes})", "one or more fields on the same states"))
        if not 0 < interval < math.inf:
            raise InputError(message(f"interval={interval}", "a positive time"))
        self.fields, self.interval = nn.ModuleList(fields), interval
        self.state_shape = fields[0].state_shape

    def at(self, t: Any) -> int:
        """The index of the field at time `t`."""
        if isinstance(t, Tensor):
            if t.numel() != 1:
                todo = "Take one step size for all samples (joint=True)."
                raise InputError(message("PiecewiseConstant with a time for every sample", "one time for all", todo))
            t = float(t.detach())
        return min(max(math.floor(t / self.interval + 1e-9), 0), len(self.fields) - 1)

    def forward(self, x: Tensor, t: Any = 0.0) -> Tensor:
        return self.fields[self.at(t)](x, t)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        every: list[Claims] = [f.claims(norm) for f in self.fields]  # pyright: ignore[reportCallIssue]
        kept: list[Property] = []
        for first in every[0]:
            same = [c for claims in every for c in claims if c.kind() == first.kind()]
            if len(same) == len(every):
                kept.append(functools.reduce(lambda a, b: b if a.stronger(b) else a, same))
        return Claims(kept)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(*(TwoLayerField(Dense(3, 4), Dense(3, 4)) for _ in range(3)), interval=0.2))
        yield large(cls(ConvexGradient(Dense(4, 6)), ConvexGradient(Dense(4, 3)), interval=0.25))
