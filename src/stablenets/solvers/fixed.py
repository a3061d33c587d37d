"""Steps of equal sizes between the requested times, which they meet."""

from __future__ import annotations

import math
from typing import Any

from ..fields import Field
from ..gradients import Advance, Move
from ..integrators import Euler, Integrator
from .clock import Clock


def equal_steps(
    integrator: Integrator[Any], field: Field, clock: Clock, h: float | None, steps: int | None
) -> tuple[list[Advance], list[int]]:
    """`steps` steps between any two times, or the smallest number of them that are not longer than `h`.

    Returns the steps and, for each time, the number of outputs up to it (0: the initial states).

    A time that occurs twice is reached by no step; if times have gradients, by x + 0 f(x, t), with f as its derivative.
    """
    moves: list[Advance] = []
    outputs = [0]
    for i in range(1, len(clock.values)):
        span = clock.values[i] - clock.values[i - 1]
        if span == 0 and clock.exact is None:
            outputs.append(outputs[-1])
            continue
        count = 1 if span == 0 else steps or max(1, math.ceil(abs(span) / (h or 1) * (1 - 1e-12)))
        method = Euler() if span == 0 and not integrator.exact_inverse else integrator
        start, size = clock[i - 1], (clock[i] - clock[i - 1]) / count
        for j in range(count):
            moves.append(Move(method, field, size, start + j * size, "the solve", saved=j == count - 1))
        outputs.append(outputs[-1] + 1)
    return moves, outputs
