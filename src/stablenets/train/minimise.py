"""Minimise any loss of a network: the loop behind every training that is not image classification."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..core.errors import ClaimError, InputError, message
from .interrupt import deferred_interrupt
from .keeper import Keeper
from .schedule import one_cycle

Objective = Callable[[nn.Module, int], Tensor]  # (network, steps already done) -> loss, 0-dim
OnStep = Callable[[int, int, float], None]  # (steps done, their total, loss before the step)

ROUND = 20  # iterations of L-BFGS between two looks at Ctrl-C
WORST = 1e100  # stands for a loss that is not finite: the line search must compute with it
START = 1e10  # the loss is scaled to start here: torch's L-BFGS learns nothing from changes below 1e-10


class PeakSchedule(Protocol):
    """A learning rate by step and total number of steps, scaled to its highest value (`one_cycle`, `triangular`)."""

    def __call__(self, step: int, total: int, *, peak: float) -> float: ...


def minimise(
    net: nn.Module,
    loss: Objective,
    *,
    steps: int,
    peak: float = 1e-2,
    schedule: PeakSchedule = one_cycle,
    refine: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_step: OnStep | None = None,
) -> float:
    """Minimise `loss(net, step)` by Adam, then perhaps by L-BFGS, and leave `net` in evaluation mode.

    Adam alone leaves a small structured network digits above what it can represent; `refine` recovers them. A training
    killed at any moment and resumed ends with bitwise the weights of an uninterrupted one, on the same machine and
    number of threads, if the loss depends on nothing but the weights and the step (draw batches from a generator seeded
    with the step).

    Args:
        net: any module, trained where and in the precision in which it is.
        loss: 0-dim tensor to minimise, given the network and the number of steps already done. During `refine` the step
            stays at `steps`, so that all iterations see one function.
        steps: of Adam.
        peak: the highest learning rate.
        schedule: the shape of the learning rate.
        refine: largest number of L-BFGS iterations (full memory of 100 pairs, strong Wolfe line search) after Adam.
            They stop where rounding ends their progress; the best weights seen are kept. Needs float64.
        checkpoint: file for the state of the training, written at the start, every `checkpoint_seconds` of Adam's
            steps, and after them. L-BFGS starts again from there when it is interrupted.
        resume: continue from `checkpoint`; start from the beginning where there is none yet.
        settings: whatever the training depends on (data, seed of the weights), as JSON-able values; resuming compares
            them with those of the checkpoint.
        on_step: called after each step, and after every 20 iterations of L-BFGS, with the steps done, `steps + refine`,
            and the loss.

    Returns:
        The loss of the final network.

    Raises:
        InputError: an argument out of its range, or a checkpoint that cannot be used, written or overwritten.
        TrainingError: loss or weights are not finite, or the loss could not be computed; the checkpoint is untouched.
        KeyboardInterrupt: after Ctrl-C, once the running step is done and the checkpoint is written.

    Reference: Kingma & Ba (2015); Nocedal & Wright, Numerical optimization (2006), algorithm 7.5 and section 3.5.

    >>> net = nn.Linear(1, 1).double()
    >>> x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    >>> minimise(net, lambda net, step: (net(x) - 3 * x - 1).square().mean(), steps=10, refine=50) < 1e-25
    True
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    _check(steps, refine, peak, trained)
    net.train()
    total = steps + refine
    adam = torch.optim.Adam(trained, lr=peak, fused=True)
    known = dict(settings or {}) | {
        "steps": steps,
        "refine": refine,
        "learning rates": [schedule(step, steps, peak=peak) for step in (0, steps // 4, steps // 2, max(0, steps - 1))],
    }
    keeper = Keeper(checkpoint, net, adam, known, seconds=checkpoint_seconds)
    progress = keeper.start(resume)
    with deferred_interrupt() as interrupted:
        for step in range(progress.step, steps):
            began = time.perf_counter()
            for group in adam.param_groups:
                group["lr"] = schedule(step, steps, peak=peak)
            adam.zero_grad()
            try:
                value = loss(net, step)
            except (ClaimError, ArithmeticError) as error:  # no step is allowed, or an implicit one is not solved
                raise keeper.stopped(f"{error} (step {step + 1})") from error
            if not math.isfinite(number := float(value.detach())):
                raise keeper.stopped(f"the loss is {number} at step {step + 1} of {steps}")
            value.backward()
            adam.step()
            progress.add(number, 0, 1, time.perf_counter() - began)
            if on_step:
                on_step(step + 1, total, number)
            if interrupted():
                keeper.save(progress)
                raise KeyboardInterrupt
            keeper.tick(progress)
        if checkpoint is None:
            keeper.check(progress)
        elif progress.step > keeper.step:
            keeper.save(progress)
        if refine:

            def told(done: int, value: float) -> None:
                if on_step:
                    on_step(steps + done, total, value)

            _refine(trained, lambda: loss(net, steps), refine, interrupted, told)
    net.eval()
    if not math.isfinite(number := float(loss(net, total).detach())):
        raise keeper.stopped(f"the loss is {number} at the end")
    return number


def _refine(
    trained: list[nn.Parameter],
    loss: Callable[[], Tensor],
    iterations: int,
    interrupted: Callable[[], bool],
    report: Callable[[int, float], object],
) -> None:
    """L-BFGS until `iterations` or until ROUND of them gain nothing; the parameters end at the best point seen."""
    best, scale, kept = math.inf, 0.0, [p.detach().clone() for p in trained]
    lbfgs = torch.optim.LBFGS(
        trained,
        max_iter=1,
        max_eval=10**9,
        history_size=100,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        nonlocal best, scale
        lbfgs.zero_grad(set_to_none=False)
        try:
            value = loss()
            number = float(value.detach())
        except (ClaimError, ArithmeticError):
            return trained[0].new_tensor(WORST)
        if not math.isfinite(number):  # a trial of the line search went too far: it must try a shorter one
            return trained[0].new_tensor(WORST)
        scale = scale or START / max(abs(number), 1e-200)
        (value * scale).backward()
        if number < best:
            best = number
            for old, p in zip(kept, trained, strict=True):
                old.copy_(p.detach())
        return value.detach() * scale

    done = 0
    while done < iterations:
        before, count = best, min(ROUND, iterations - done)
        lbfgs.param_groups[0]["max_iter"] = count
        lbfgs.step(closure)
        done += count
        report(done, best)
        if interrupted():
            raise KeyboardInterrupt
        if not best < before:
            break
    with torch.no_grad():
        for old, p in zip(kept, trained, strict=True):
            p.copy_(old)


def _check(steps: int, refine: int, peak: float, trained: list[nn.Parameter]) -> None:
    if not (steps >= 0 and refine >= 0 and steps + refine >= 1):
        raise InputError(message(f"steps={steps}, refine={refine}", "numbers of steps, at least one of them positive"))
    if not 0 < peak < math.inf:
        raise InputError(message(f"peak={peak}", "a positive, finite learning rate"))
    if not trained:
        raise InputError(message("a network without trainable parameters", "at least one that requires a gradient"))
    if refine and any(p.dtype != torch.float64 for p in trained):
        todo = "Call net.double() first, and give the loss float64 data."
        raise InputError(message(f"refine={refine} for parameters in {trained[0].dtype}", "float64", todo))
