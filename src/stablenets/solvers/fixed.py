"""Steps of equal sizes between the requested times, which they meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import ConvergenceError
from ..fields import Field
from ..gradients import Advance, Gradient, Move
from ..integrators import Euler, ExplicitRungeKutta, Integrator
from .clock import Clock
from .solution import Solution, Stats, Status


def equal_steps(
    integrator: Integrator[Any], field: Field, clock: Clock, h: float | None, steps: int | None
) -> tuple[list[Move], list[int]]:
    """`steps` steps between any two times, or the smallest number of them that are not longer than `h`.

    Returns the steps and, for each time, the number of outputs up to it (0: the initial states).

    A time that occurs twice is reached by no step; if times have gradients, by x + 0 f(x, t), with f as its derivative.
    """
    moves: list[Move] = []
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


def solve_fixed(moves: Sequence[Move], index: Sequence[int], x0: Tensor, way: Gradient) -> Solution:
    """Take the steps. Samples that come to nothing are constants, so as not to spoil the gradients of the others."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():  # no decisions there
        states = _states(moves, index, x0, way)
        finite = states.isfinite().flatten(2).all(2).all(0)
        return Solution(states, torch.where(finite, int(Status.DONE), int(Status.NON_FINITE)), _stats(moves, finite))
    status = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
    lost = torch.full((len(index), *x0.shape), torch.nan, dtype=x0.dtype, device=x0.device)
    lost[0] = x0.detach()
    while True:
        good = (status == Status.DONE).nonzero().flatten()
        whole = len(good) == len(x0)
        try:
            states = _states(moves, index, x0 if whole else x0[good], way)
        except ConvergenceError as error:
            if not error.samples:
                raise
            status[good[list(error.samples)]] = int(Status.UNSOLVED)
            continue
        finite = states.detach().isfinite().flatten(2).all(2)
        if bool(finite.all()):
            break
        reached = finite.cumprod(0).bool()
        reached = reached.view(*reached.shape, *[1] * (x0.dim() - 1))
        lost[:, good] = torch.where(reached, states.detach(), torch.nan)
        status[good[~finite.all(0)]] = int(Status.NON_FINITE)
    return Solution(states if whole else lost.index_copy(1, good, states), status, _stats(moves, status))


def _states(moves: Sequence[Advance], index: Sequence[int], x0: Tensor, way: Gradient) -> Tensor:
    every = [x0, *way.trace(moves, x0)[1]]
    return torch.stack([every[i] for i in index])


def _stats(moves: Sequence[Move], like: Tensor) -> Stats:
    """Every sample takes all steps."""
    methods = [move.integrator for move in moves]
    stages = [len(m.b) for m in methods if isinstance(m, ExplicitRungeKutta)]
    taken = torch.full_like(like, len(moves), dtype=torch.int64)
    evaluations = torch.full_like(taken, sum(stages)) if len(stages) == len(methods) else None
    return Stats(evaluations, taken, torch.zeros_like(taken))
