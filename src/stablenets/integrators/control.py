"""How long the steps are: the first from two slopes, the others from the errors of the last two (a PI controller)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..fields.base import Field
from .base import add_scaled
from .embedded import EmbeddedRungeKutta

SAFETY, SHORTEST, LONGEST = 0.9, 0.2, 10.0
NOW, BEFORE = 0.85, 0.2
HUGE, TINY = 1e30, 1e-30


@torch.no_grad()
def sizes(method: EmbeddedRungeKutta, v: Tensor, x: Tensor, y: Tensor, joint: bool) -> np.ndarray:
    """The root mean square of v / (atol + rtol max(|x|, |y|)), of each sample, or, `joint`, of all (one number).

    What is not finite counts as infinite.
    """
    scaled = v / torch.maximum(x.abs(), y.abs()).mul_(method.rtol).add_(method.atol)
    if joint:
        found = np.array([float(torch.linalg.vector_norm(scaled)) / max(scaled.numel(), 1) ** 0.5])
    else:
        flat = scaled.flatten(1)
        found = np.array(torch.linalg.vector_norm(flat, dim=1).tolist()) / max(flat.shape[1], 1) ** 0.5
    return np.where(np.isfinite(found), found, np.inf)


def factor(error: Any, before: Any, order: int) -> np.ndarray:
    """By what steps change, given their errors, and those of the accepted steps before, in units of the tolerance.

    Gustafsson's controller (1991) with the exponents of Hairer & Wanner (IV.2, beta = 0.2 / order) and the error
    SAFETY^order as its fixed point. Where the error is above 1 the step is taken again, shortened by this error alone.
    """
    target = SAFETY**order
    e, e1 = np.clip(error, TINY, HUGE) / target, np.clip(before, TINY, HUGE) / target
    accepted = e ** (-NOW / order) * e1 ** (BEFORE / order)
    rejected = np.minimum(e ** (-1 / order), SAFETY)
    return np.clip(np.where(error <= 1, accepted, rejected), SHORTEST, LONGEST)


@torch.no_grad()
def first_size(
    method: EmbeddedRungeKutta, f: Field, x: Tensor, t: Any, slope: Tensor, span: float, joint: bool
) -> np.ndarray:
    """A first step size, positive, at most |span|, with `slope` = f(x, t) and one more evaluation.

    As Hairer, Norsett & Wanner (II.4, "starting step size"), made independent of the unit of time: slopes change within
    a time tau = |f| / |f'|, and a step h is taken to err by |f| tau (h / tau)^order, of which 0.01 is allowed. The sign
    of `span` is the direction.
    """
    size, speed = sizes(method, x, x, x, joint), sizes(method, slope, x, x, joint)
    slow = (size < 1e-5) | (speed < 1e-5) | ~np.isfinite(speed)
    trial = np.minimum(np.where(slow, 1e-6, 0.01 * size / np.where(slow, 1.0, speed)), abs(span))
    signed = np.sign(span) * trial
    ahead = float(signed[0]) if joint else as_size(signed, x)
    bend = sizes(method, f(add_scaled(x, slope, ahead), t + ahead) - slope, x, x, joint)  # tau = trial speed / bend
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        tau = trial * np.maximum(speed / bend, 1.0)
        wanted = tau * (0.01 / (np.maximum(speed, bend / trial) * tau)) ** (1 / method.order)
    wanted = np.where(np.isfinite(wanted), wanted, np.where(np.isfinite(bend), np.inf, 0.1 * trial))
    return np.minimum(np.minimum(100 * trial, wanted), abs(span))


def as_size(values: np.ndarray, x: Tensor) -> Tensor:
    """Numbers for the samples of `x` as a tensor (batch, 1, ..., 1)."""
    return torch.as_tensor(values).to(x.dtype).to(x.device).view(-1, *[1] * (x.dim() - 1))


def neutral(method: EmbeddedRungeKutta) -> float:
    """An error after which the next step has the same size."""
    return SAFETY**method.error_order
