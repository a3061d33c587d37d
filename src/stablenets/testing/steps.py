"""The suite of integrators: claims of one step on every field they accept, and the order."""

from __future__ import annotations

import abc
import copy
import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import Lipschitz
from ..fields import Field, SplitField
from ..fields.base import Norm, upper_bound
from ..integrators import Integrator
from .falsify import falsify
from .findings import Check, Verdict

MULTIPLES = (0.1, 1.0, 1.5, 10.0)


class NonlinearPendulum(SplitField, abc.ABC):
    """q' = p + 0.2 p^2, p' = -sin q, both modulated in time when `driven`. ABC: a test case, not registered."""

    state_shape = (2,)

    def __init__(self, driven: bool) -> None:
        super().__init__()
        self.driven = driven

    def velocity(self, p: Tensor, t: float = 0.0) -> Tensor:
        return (p + 0.2 * p.square()) * (1 + 0.5 * math.sin(3 * t) if self.driven else 1)

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return -torch.sin(q) + (math.cos(2 * t) if self.driven else 0)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([self.velocity(p, t), self.force(q, t)], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(False)
        yield cls(True)


def integrator_suite(integrator: Integrator[Any], seed: int) -> Iterator[Check]:
    """Claims of one step on every registered field, and the order with and without time dependence."""
    for name, cls in sorted(Field.registry.items()):
        if issubclass(cls, integrator.needs):
            yield f"steps of {name}", partial(_steps, integrator, cls, seed)
    for driven in (False, True):
        yield f"order, {'time-dependent' if driven else 'autonomous'}", partial(_order, integrator, driven)
    yield "reference", lambda: (bool(integrator.reference.strip()), integrator.reference)


def step_sizes(integrator: Integrator[Any], claims: Claims) -> list[float]:
    """0.1, 1, 1.5 and 10 times the step limit, or 1 / (Lipschitz constant) where there is no finite limit."""
    limit = integrator.step_limit(claims)
    if limit is None or math.isinf(limit):
        lipschitz = claims.get(Lipschitz)
        limit = 1 / lipschitz.bound if lipschitz else 1.0
    return [m * limit for m in MULTIPLES]


def one_step(integrator: Integrator[Any], f: Field, h: float, t: float = 0.0) -> Callable[[Tensor], Tensor]:
    """The map x -> one step of size `h` from x."""
    return lambda x: integrator.step(f, x, h, t)


def _steps(integrator: Integrator[Any], cls: type[Field], seed: int) -> Verdict:
    count = 0
    for i, example in enumerate(cls.examples()):
        f = copy.deepcopy(example).double().eval()
        claims = f.claims()
        shape, sizes = f.state_shape or (4,), step_sizes(integrator, claims)
        for h in sizes:
            promised = integrator.transfer(claims, h)
            steps = 3 if h == sizes[1] else 0  # climb where the claims are tight
            for attempt in falsify(one_step(integrator, f, h), promised, shape, seed=seed, steps=steps, count=8):
                count += 1
                if attempt.refuted:
                    return False, f"with h = {h:.6g} on its example {i}, {attempt}."
    return True, f"{count} claims stand." if count else "nothing is claimed."


def _order(integrator: Integrator[Any], driven: bool) -> Verdict:
    f: Any = NonlinearPendulum(driven)
    if not isinstance(f, integrator.needs):
        return True, f"not measured: it needs a {integrator.needs.__name__}."
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    exact, errors = _solution(f, x, 1.0), []
    for n in (8, 16, 32, 64, 128):
        z = x
        for i in range(n):
            z = integrator.step(f, z, 1.0 / n, i / n)
        errors.append(float((z - exact).norm()))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors) if b > 1e-12]
    if not rates:
        return integrator.order > 6, "errors fall below the rounding at once."
    return abs(rates[-1] - integrator.order) <= 0.1, f"measured {rates[-1]:.2f}, declared {integrator.order}."


def _solution(f: Field, x: Tensor, time: float, steps: int = 64) -> Tensor:
    """A reference solution by extrapolation of the midpoint rule (Gragg, Bulirsch & Stoer), no integrator of ours."""
    for i in range(steps):
        x = _extrapolated(f, x, i * time / steps, time / steps)
    return x


def _extrapolated(f: Field, x: Tensor, t: float, size: float) -> Tensor:
    rows: list[list[Tensor]] = []
    numbers = [2, 4, 6, 8]
    for k, n in enumerate(numbers):
        h = size / n
        old, new = x, x + h * f(x, t)
        for i in range(1, n):
            old, new = new, old + 2 * h * f(new, t + i * h)
        row = [(old + new + h * f(new, t + size)) / 2]
        for j in range(k):
            row.append(row[j] + (row[j] - rows[-1][j]) / ((n / numbers[k - j - 1]) ** 2 - 1))
        rows.append(row)
    return rows[-1][-1]
