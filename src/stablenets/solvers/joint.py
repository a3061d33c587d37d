"""Adaptive steps, the same for all samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..fields import Field
from ..gradients import DenseMove
from ..integrators import EmbeddedRungeKutta
from ..integrators.control import factor, first_size, neutral, sizes
from .clock import Clock
from .record import ROUNDING, Record
from .solution import Status

CHANCES = 3  # how often samples that use up the steps are left behind, so that the others can go on


def solve_jointly(method: EmbeddedRungeKutta, f: Field, x: Tensor, clock: Clock) -> Record | None:
    """All decisions and, where gradients are enabled, states with gradients.

    A sample that cannot go on is left behind. With gradients enabled that is None instead: their graph would lead
    through what is not finite.
    """
    record = Record(x, len(method.b))
    direct = torch.is_grad_enabled()
    rows: np.ndarray = np.arange(len(x))
    times = np.array(clock.values)
    t, passed, before, attempts, chances = clock.start, 1, neutral(method), 0, CHANCES
    slope = f(x, clock[0])
    h = float(first_size(method, f, x, t, slope, clock.end - t, True)[0])
    record.evaluations += 2
    while len(rows):
        left = clock.end - t
        last = abs(left) <= 1.01 * h
        size = left if last else clock.sign * h
        ahead = clock.end if last else t + size
        exact_size, exact_t = clock.shifted(size, t, float(t == clock.start), float(last))
        end, slopes = method.stages(f, x, _like(exact_size, x), _like(exact_t, x), slope)
        wrong = method.error_of(size, [k.detach() for k in slopes])
        error = float(sizes(method, wrong, x.detach(), end.detach(), True)[0])
        attempts += 1
        record.count(rows, error <= 1)
        if error <= 1:
            some = None if len(rows) == len(record.x0) else torch.as_tensor(rows, device=x.device)
            through = int(np.searchsorted(clock.sign * times, clock.sign * ahead, "right"))
            offsets = clock.since(slice(passed, through), exact_t, x) if through > passed else None
            move = DenseMove(method, f, exact_size, exact_t, "the solve", some, offsets)
            inside = np.arange(passed, through)
            record.add(move, x, slopes, end, (inside.repeat(len(rows)), np.tile(rows, len(inside))))
            x, slope, t, passed = end, slopes[-1], ahead, through
            if last:
                break
            h, before = h * float(factor(error, before, method.error_order)), error
            if attempts < method.max_steps:
                continue
        else:
            h = abs(size) * float(factor(error, before, method.error_order))
        short = h <= ROUNDING * max(abs(t), abs(clock.end))
        if not short and attempts < method.max_steps:
            continue
        if direct:
            return None
        own = sizes(method, wrong, x, end, False)
        worst = own >= (min(1.0, own.max()) if short else own.max() / 10)
        chances -= not short
        worst |= chances == 0
        record.status[rows[worst]] = Status.NON_FINITE if short else Status.STEP_LIMIT
        kept = torch.as_tensor(np.flatnonzero(~worst), device=x.device)
        rows, x, slope, before, attempts = rows[~worst], x[kept], slope[kept], neutral(method), 0
        if len(rows):
            h = float(first_size(method, f, x, t, slope, clock.end - t, True)[0])
            record.evaluations[rows] += 1
    return record


def _like(value: Any, x: Tensor) -> Any:
    return value.to(x.dtype) if isinstance(value, Tensor) else value
