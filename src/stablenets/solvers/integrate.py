"""Solve an initial value problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError, IntegrationError, message
from ..fields import Field
from ..gradients import Backpropagation, Gradient
from ..integrators import Dopri5, EmbeddedRungeKutta, Integrator
from .check import check, check_transforms
from .clock import Clock
from .fixed import equal_steps, solve_fixed
from .joint import solve_jointly
from .record import Record
from .separate import solve_separately
from .solution import Solution, Status


def integrate(
    field: Field,
    x0: Tensor,
    times: Sequence[float] | Tensor,
    *,
    integrator: Integrator[Any] | None = None,
    h: float | None = None,
    steps: int | None = None,
    gradient: Gradient | None = None,
    raise_on_failure: bool = False,
) -> Solution:
    """The solution of x' = field(x, t), x(times[0]) = x0, at all `times`, forwards or backwards.

    Without `h` and `steps` an integrator that estimates its errors (`Bosh3`, `Dopri5`, `Tsit5`) chooses the steps, and
    times between them are given by its dense output. Otherwise steps of equal sizes meet every time.

    A sample that cannot be solved does not stop the others: `Solution.status` tells.

    Gradients reach `x0`, the parameters of the field and, if they are a tensor that requires it, all times; step sizes
    that the integrator chose are constants.

    Args:
        field: any field that the integrator accepts.
        x0: (batch, ...), at the first time.
        times: two or more, monotone; a time may occur more than once.
        integrator: by default `Dopri5()`.
        h: the longest step, positive.
        steps: the number of steps between two times.
        gradient: how the solve is differentiated (default `Backpropagation()`).
        raise_on_failure: raise an error if a sample was not solved.

    Raises:
        TypeError: when the integrator does not accept the field, or the gradient the integrator.
        InputError: for times that are not monotone, states that are not finite, a field that returns another shape...
        IntegrationError: with `raise_on_failure`, naming the samples.

    >>> from stablenets.systems import HarmonicOscillator
    >>> found = integrate(HarmonicOscillator(), torch.tensor([[1.0, 0.0]]), [0.0, 1.0, 2.0])
    >>> found.states.shape, found.status
    (torch.Size([3, 1, 2]), tensor([0]))
    """
    method = Dopri5() if integrator is None else integrator
    way = Backpropagation() if gradient is None else gradient
    adaptive = isinstance(method, EmbeddedRungeKutta) and h is None and steps is None
    check_transforms(adaptive, isinstance(times, Tensor), way)
    clock = Clock(times)
    check(field, x0, clock.start, method)
    way.check(method, "integrate")
    if steps is not None and not isinstance(steps, int):
        raise InputError(message(f"steps={steps!r}", "a whole number of steps between two times"))
    for name, value in (("h", h), ("steps", steps)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(message(f"{name}={value}", f"a positive, finite {name}; the times say the direction"))
    if adaptive:
        found = _adaptive(method, field, x0, clock, way)
    elif (h is None) == (steps is None):
        todo = "Or take an integrator that chooses its steps: Bosh3, Dopri5, Tsit5."
        raise InputError(message(f"{type(method).__name__} with h={h}, steps={steps}", "one of h and steps", todo))
    else:
        found = solve_fixed(*equal_steps(method, field, clock, h, steps), x0, way)
    if raise_on_failure and not bool(found.done.all()):
        raise failure(found.status, method)
    return found


def _adaptive(method: Any, field: Field, x0: Tensor, clock: Clock, way: Gradient) -> Solution:
    if clock.start == clock.end:  # x + 0 f(x, t): f is its derivative in the times
        return solve_fixed(*equal_steps(method, field, clock, None, 1), x0, way)
    wanted = torch.is_grad_enabled()
    record: Record | None = None
    direct = wanted and method.joint and isinstance(way, Backpropagation)
    if direct:
        record = solve_jointly(method, field, x0, clock)
    if record is not None:
        outputs = record.outputs
    else:
        with torch.no_grad():
            record = (solve_jointly if method.joint else solve_separately)(method, field, x0, clock)
        assert record is not None
        outputs = record.outputs
        if wanted:
            record.x0 = x0
            _, outputs = way.trace(record.moves, x0, record.trace())
    states = record.states(outputs, len(clock.values))
    return Solution(states, torch.as_tensor(record.status, device=x0.device), record.stats())


def failure(status: Tensor, method: Integrator[Any]) -> IntegrationError:
    """The error for samples that were not solved."""
    parts = []
    for kind in list(Status)[1:]:
        samples = (status == kind).nonzero().flatten().tolist()
        if samples:
            some = ", ".join(map(str, samples[:8])) + (", ..." if len(samples) > 8 else "")
            parts.append(f"{kind.name.lower().replace('_', ' ')}: {some}")
    given = f"{type(method).__name__} did not solve all of {len(status)} samples ({'; '.join(parts)})"
    todo = "Raise max_steps or the tolerances, or shorten the times; without raise_on_failure the status tells."
    return IntegrationError(message(given, "a solution up to the last time", todo))
