"""A solution step by step, without an end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..core.errors import InputError, IntegrationError, message
from ..fields import Field
from ..integrators import Dopri5, EmbeddedRungeKutta, Integrator
from ..integrators.control import factor, first_size, neutral, sizes
from .check import check
from .record import ROUNDING


def steps(
    field: Field, x0: Tensor, t0: float = 0.0, *, integrator: Integrator[Any] | None = None, h: float | None = None
) -> Iterator[tuple[float, Tensor]]:
    """Times and states (t, x), one step after the other, beginning with (t0, x0); it never ends by itself.

    Gradients reach `x0` and the parameters, by backpropagation; step sizes are constants. Take the states under
    `torch.no_grad()` if they are not wanted: the graph grows with every step.

    Args:
        field: any field that the integrator accepts.
        x0: (batch, ...).
        t0: the time of `x0`.
        integrator: by default `Dopri5()`. One that estimates its errors chooses the steps, the same for all samples.
        h: the step size, negative for backwards; where the integrator chooses the steps, the first (default: chosen).

    Raises:
        InputError, TypeError: as `integrate`.
        IntegrationError: when the steps that the tolerances need fall below the rounding of the time.

    >>> import itertools
    >>> import torch
    >>> from stablenets.systems import HarmonicOscillator
    >>> from stablenets.integrators import StormerVerlet
    >>> x = torch.tensor([[1.0, 0.0]])
    >>> [round(t, 1) for t, _ in itertools.islice(steps(HarmonicOscillator(), x, integrator=StormerVerlet(), h=0.1), 4)]
    [0.0, 0.1, 0.2, 0.3]
    """
    method = Dopri5() if integrator is None else integrator
    check(field, x0, t0, method)
    if h is not None and not (math.isfinite(h) and h != 0):
        raise InputError(message(f"h={h}", "a finite h, not 0; a negative one goes backwards"))
    if isinstance(method, EmbeddedRungeKutta):
        return _chosen(method, field, x0, t0, h)
    if h is None:
        raise InputError(message(f"{type(method).__name__} without h", "h", "Or take Bosh3, Dopri5 or Tsit5."))
    return _equal(method, field, x0, t0, h)


def _equal(method: Integrator[Any], field: Field, x: Tensor, t0: float, h: float) -> Iterator[tuple[float, Tensor]]:
    count = 0
    while True:
        t = t0 + count * h
        yield t, x
        x, count = method.step(field, x, h, t), count + 1


def _chosen(
    method: EmbeddedRungeKutta, field: Field, x: Tensor, t: float, h: float | None
) -> Iterator[tuple[float, Tensor]]:
    slope, before = field(x, t), neutral(method)
    sign = math.copysign(1.0, h or 1.0)
    size = float(first_size(method, field, x, t, slope, sign * math.inf, True)[0]) if h is None else abs(h)
    yield t, x
    while True:
        end, slopes = method.stages(field, x, sign * size, t, slope)
        wrong = method.error_of(size, [k.detach() for k in slopes])
        error = float(sizes(method, wrong, x.detach(), end.detach(), True)[0])
        taken, size = size, size * float(factor(error, before, method.error_order))
        if error <= 1:
            x, slope, t, before = end, slopes[-1], t + sign * taken, error
            yield t, x
        elif size <= ROUNDING * abs(t):
            given = f"{type(method).__name__} at t = {t:.6g} needs steps below the rounding of the time"
            raise IntegrationError(message(given, "a solution beyond this time", "integrate() sets bad samples aside."))
