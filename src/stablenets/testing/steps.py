"""The suite of integrators: claims of one step on every field they accept, and the order."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor

from ..core.claims import Claims
from ..core.errors import ConvergenceError
from ..core.properties import Lipschitz, jacobian, spectral
from ..fields import Field
from ..integrators import Integrator
from .falsify import falsify, pairs
from .findings import Check, Verdict
from .problems import PROBLEMS, Problem

MULTIPLES = (0.1, 1.0, 1.5, 10.0)


def integrator_suite(integrator: Integrator[Any], seed: int) -> Iterator[Check]:
    """Claims of one step on every registered field, and the order with and without time dependence."""
    for name, cls in sorted(Field.registry.items()):
        if issubclass(cls, integrator.needs):
            yield f"steps of {name}", partial(_steps, integrator, cls, seed)
    for driven in (False, True):
        yield f"order, {'time-dependent' if driven else 'autonomous'}", partial(_order, integrator, driven)
    yield "reference", lambda: (bool(integrator.reference.strip()), integrator.reference)


def step_sizes(integrator: Integrator[Any], f: Field) -> list[float]:
    """0.1, 1, 1.5 and 10 times the step limit.

    Where there is no finite limit, times 1 / (Lipschitz constant); where there is no such constant either, the largest
    derivative at the samples takes its place.
    """
    limit = integrator.step_limit(claims := f.claims())
    if limit is None or math.isinf(limit):
        lipschitz = claims.get(Lipschitz)
        x, _ = pairs(f.state_shape or (4,), seed=0, count=4)
        exact = copy.deepcopy(f).double().requires_grad_(False)  # the samples are in float64
        limit = 1 / (lipschitz.bound if lipschitz else max(1.0, float(spectral(jacobian(exact, x)).max())))
    return [m * limit for m in MULTIPLES]


def one_step(integrator: Integrator[Any], f: Field, h: float, t: float = 0.0) -> Callable[[Tensor], Tensor]:
    """The map x -> one step of size `h` from x."""
    return lambda x: integrator.step(f, x, h, t)


def _steps(integrator: Integrator[Any], cls: type[Field], seed: int) -> Verdict:
    count = 0
    examples = itertools.islice(cls.examples(), 1 if integrator.solves else None)  # equations take long
    for i, example in enumerate(examples):
        f = copy.deepcopy(example).double().eval()
        claims = f.claims()
        shape, sizes = f.state_shape or (4,), step_sizes(integrator, f)
        for h in sizes:
            promised = integrator.transfer(claims, h)
            steps = 3 if h == sizes[1] else 0  # climb where the claims are tight
            try:
                attempts = falsify(one_step(integrator, f, h), promised, shape, seed=seed, steps=steps, count=8)
            except ConvergenceError as error:
                if must_solve(integrator, claims, h):
                    return False, f"with h = {h:.6g} on its example {i}: {error}"
                continue  # claims are about the states at which a step returns
            for attempt in attempts:
                count += 1
                if attempt.refuted:
                    return False, f"with h = {h:.6g} on its example {i}, {attempt}."
    return True, f"{count} claims stand." if count else "nothing is claimed."


def must_solve(integrator: Integrator[Any], field: Claims, h: float) -> bool:
    """Whether the equation of an implicit step has to have a solution that is found, at every state."""
    limit, lipschitz = integrator.step_limit(field), field.get(Lipschitz)
    if limit is None or lipschitz is None:
        return False
    return h <= (limit if math.isfinite(limit) else 1 / lipschitz.bound)


def problem_for(integrator: Integrator[Any]) -> type[Problem] | None:
    """The test problem of a form that the integrator accepts."""
    return next((p for p in PROBLEMS if issubclass(p, integrator.needs)), None)


def _order(integrator: Integrator[Any], driven: bool) -> Verdict:
    problem = problem_for(integrator)
    if problem is None:
        return True, f"not measured: it needs a {integrator.needs.__name__}."
    f: Any = problem(driven)
    x = f.start()
    exact, errors = _solution(f, x, 1.0), []
    for n in (8, 16, 32, 64, 128):
        z = x
        for i in range(n):
            z = integrator.step(f, z, 1.0 / n, i / n)
        errors.append(float((z - exact).norm()))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors) if b > 1e-12]
    if not rates:
        return integrator.order > 6, "errors fall below the rounding at once."
    above = 0.1 if integrator.order <= 4 else 1.0  # beyond, rounding comes before the leading term of the error alone
    return -0.1 <= rates[-1] - integrator.order <= above, f"measured {rates[-1]:.2f}, declared {integrator.order}."


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
