"""The learning rate, as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, int], float]  # (step, total number of steps) -> learning rate of that step


def one_cycle(step: int, total: int, *, low: float = 1e-4, peak: float = 1e-2, warmup: float = 0.3) -> float:
    """The learning rate of step 0, 1, ..., total - 1: by cosine from `low` up to `peak`, then back to `low`.

    Chapter 6.2 names low, peak and the cosine on the way down. It leaves open how the way up looks and how long it is:
    here it is a cosine too, over the first `warmup` share of the steps. These are the defaults of
    `torch.optim.lr_scheduler.OneCycleLR`, whose values (div_factor=peak / low, final_div_factor=1) are met.

    Args:
        step: number of steps already done.
        total: steps of the whole training.
        low: learning rate of the first and of the last step.
        peak: the highest learning rate.
        warmup: share of the steps on the way up, in [0, 1].

    Reference: Smith & Topin (2019), Super-convergence: very fast training of neural networks using large learning
    rates.

    >>> [round(one_cycle(step, 11, warmup=6 / 11), 5) for step in (0, 5, 10)]
    [0.0001, 0.01, 0.0001]
    """
    top, last = max(0.0, warmup * total - 1), total - 1  # the steps, not always whole, of the peak and of the end
    if step <= top:
        climbed = step / top if top else 1.0
    else:
        climbed = max(0.0, (last - step) / (last - top))
    return low + (peak - low) * (1 - math.cos(math.pi * climbed)) / 2


def triangular(step: int, total: int, *, peak: float = 1e-3) -> float:
    """The learning rate of step 0, 1, ..., total - 1: by straight lines from 0 to `peak`, `peak` / 20 and 0.

    The corners are at 40, 80 and 100 % of the steps.

    Reference: the published code of the Convex Potential Layer networks (Meunier et al. 2022).

    >>> [round(triangular(step, 10, peak=1.0), 3) for step in (0, 2, 4, 6, 8, 9)]
    [0.0, 0.5, 1.0, 0.525, 0.05, 0.025]
    """
    done = step / total
    if done <= 0.4:
        return peak * done / 0.4
    if done <= 0.8:
        return peak * (1 - 0.95 * (done - 0.4) / 0.4)
    return peak / 20 * max(0.0, (1 - done) / 0.2)
