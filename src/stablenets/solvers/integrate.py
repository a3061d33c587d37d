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
from ..integrators import Dopri5, EmbeddedRungeKutta, ExplicitRungeKutta, Integrator
from .clock import Clock
from .fixed import equal_steps
from .joint import solve_jointly
from .record import Record
from .separate import solve_separately
from .solution import Solution, Stats, Status


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
    adaptive = h is None and steps is None and isinstance(method, EmbeddedRungeKutta)
    clock = Clock(times)
    _check(field, x0, clock, method, way, h, steps, adaptive)
    if adaptive:
        found = _adaptive(method, field, x0, clock, way)
    else:
        found = _fixed(method, field, x0, clock, h, steps, way)
    if raise_on_failure and not bool(found.done.all()):
        raise failure(found.status, method)
    return found


def _adaptive(method: EmbeddedRungeKutta, field: Field, x0: Tensor, clock: Clock, way: Gradient) -> Solution:
    if clock.start == clock.end:  # x + 0 f(x, t): f is its derivative in the times
        return _fixed(method, field, x0, clock, None, 1, way)
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


def _fixed(
    method: Integrator[Any], field: Field, x0: Tensor, clock: Clock, h: float | None, steps: int | None, way: Gradient
) -> Solution:
    moves, index = equal_steps(method, field, clock, h, steps)
    _, outputs = way.trace(moves, x0)
    every = [x0, *outputs]
    states = torch.stack([every[i] for i in index])
    finite = states.detach().isfinite().flatten(2).all(2).all(0)
    taken = torch.full_like(finite, len(moves), dtype=torch.int64)
    evaluations = taken * len(method.b) if isinstance(method, ExplicitRungeKutta) else None
    status = torch.where(finite, int(Status.DONE), int(Status.NON_FINITE))
    return Solution(states, status, Stats(evaluations, taken, torch.zeros_like(taken)))


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


def _check(
    field: Field,
    x0: Tensor,
    clock: Clock,
    method: Integrator[Any],
    way: Gradient,
    h: float | None,
    steps: int | None,
    adaptive: bool,
) -> None:
    if not isinstance(field, method.needs):
        accepted = ", ".join(Integrator.accepting(field)) if isinstance(field, Field) else "none, as it is no Field"
        raise TypeError(
            f"{type(method).__name__} integrates a {method.needs.__name__}, but got {type(field).__name__}. Integrators "
            f"that accept it: {accepted}."
        )
    way.check(method, "integrate")
    if not adaptive and (h is None) == (steps is None):
        todo = "Or take an integrator that chooses its steps: Bosh3, Dopri5, Tsit5."
        raise InputError(message(f"{type(method).__name__} with h={h}, steps={steps}", "one of h and steps", todo))
    for name, value in (("h", h), ("steps", steps)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(message(f"{name}={value}", f"a positive, finite {name}; the times say the direction"))
    if not x0.is_floating_point() or x0.dim() < 1:
        raise InputError(message(f"x0 of {x0.dtype} and shape {tuple(x0.shape)}", "floating-point states (batch, ...)"))
    if field.state_shape is not None and x0.shape[1:] != field.state_shape:
        expected = ", ".join(map(str, field.state_shape))
        raise InputError(message(f"x0 of shape {tuple(x0.shape)}", f"(batch, {expected})"))
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return  # no decisions there
    finite = x0.detach().isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        wrong = (~finite).nonzero().flatten().tolist()
        raise InputError(message(f"x0 of sample {wrong[0]} is not finite", "finite states"))
    with torch.no_grad():
        slope = field(x0[:2], clock.start)
    if slope.shape != x0[:2].shape or slope.dtype != x0.dtype:
        given = f"{type(field).__name__} gives {tuple(slope.shape)} of {slope.dtype} for states {tuple(x0[:2].shape)}"
        raise InputError(message(f"{given} of {x0.dtype}", "slopes like the states"))
