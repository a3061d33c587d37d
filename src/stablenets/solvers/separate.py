"""Adaptive steps of its own for every sample."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..fields import Field
from ..gradients import DenseMove
from ..integrators import EmbeddedRungeKutta
from ..integrators.control import as_size, factor, first_size, neutral, sizes
from .clock import Clock
from .record import ROUNDING, Record
from .solution import Status


@torch.no_grad()
def solve_separately(method: EmbeddedRungeKutta, f: Field, x: Tensor, clock: Clock) -> Record:
    """All decisions, and states without gradients. Samples leave the batch when they are done or cannot go on."""
    record = Record(x, len(method.b))
    rows, times = np.arange(len(x)), clock.sign * np.array(clock.values)
    t, passed = np.full(len(x), clock.start), np.ones(len(x), dtype=np.int64)
    slope = f(x, as_size(t, x))
    h = first_size(method, f, x, as_size(t, x), slope, clock.end - clock.start, False)
    before = np.full(len(x), neutral(method))
    record.evaluations += 2
    while len(rows):
        left = clock.end - t
        last = np.abs(left) <= 1.01 * h
        size = np.where(last, left, clock.sign * h)
        tensor = as_size(size, x)
        end, slopes = method.stages(f, x, tensor, as_size(t, x), slope)
        error = sizes(method, method.error_of(tensor, slopes), x, end, False)
        good = error <= 1
        record.count(rows, good)
        if good.any():
            ahead = np.where(good, np.where(last, clock.end, t + size), t)
            through = np.where(good, np.searchsorted(times, clock.sign * ahead, "right"), passed)
            chosen = np.flatnonzero(good)
            part = torch.as_tensor(chosen, device=x.device)
            move, places = _move(method, f, clock, record, rows, chosen, t, size, last, passed, through)
            record.add(move, x[part], [k[part] for k in slopes], end[part], places)
            accepted = as_size(good, x).bool()
            x, slope = torch.where(accepted, end, x), torch.where(accepted, slopes[-1], slope)
            t, passed = ahead, through
        h = np.abs(size) * factor(error, before, method.error_order)
        before = np.where(good, error, before)
        arrived = good & last
        short = ~arrived & (h <= ROUNDING * np.maximum(np.abs(t), abs(clock.end)))
        used = ~arrived & ~short & (record.accepted[rows] + record.rejected[rows] >= method.max_steps)
        record.status[rows[short]], record.status[rows[used]] = Status.NON_FINITE, Status.STEP_LIMIT
        stay = ~(arrived | short | used)
        if not stay.all():
            kept = torch.as_tensor(np.flatnonzero(stay), device=x.device)
            x, slope = x[kept], slope[kept]
            rows, t, h, passed, before = rows[stay], t[stay], h[stay], passed[stay], before[stay]
    return record


@torch.enable_grad()
def _move(
    method: EmbeddedRungeKutta,
    f: Field,
    clock: Clock,
    record: Record,
    rows: np.ndarray,
    chosen: np.ndarray,
    t: np.ndarray,
    size: np.ndarray,
    last: np.ndarray,
    passed: np.ndarray,
    through: np.ndarray,
) -> tuple[DenseMove, tuple[np.ndarray, np.ndarray]]:
    """The accepted step of the samples rows[chosen], and of its outputs which time and which sample they are."""
    like = record.x0.double()[:0]

    def tensor(values: np.ndarray) -> Tensor:
        return as_size(values[chosen], like)

    moving = rows[chosen]
    h, at = clock.shifted(tensor(size), tensor(t), tensor(t == clock.start), tensor(last))
    some = None if len(moving) == len(record.x0) else torch.as_tensor(moving, device=like.device)
    counts = (through - passed)[chosen]
    of = np.repeat(np.arange(len(chosen)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    inside = passed[chosen][of] + np.arange(len(of)) - first
    if not len(of):
        return DenseMove(method, f, h, at, "the solve", some), (inside, of)
    index = torch.as_tensor(of, device=like.device)
    offsets = clock.since(inside, at.flatten()[index], like)
    return DenseMove(method, f, h, at, "the solve", some, offsets, index), (inside, moving[of])
