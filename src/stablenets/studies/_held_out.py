"""What the studies of learned flow maps share: training on pairs, and errors on held-out states and long roll-outs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor, nn

FAR = 1e3  # a roll-out is followed until it gets so far, in units of its first norm


@torch.no_grad()
def roll_out(step: Callable[[Tensor], Tensor], x: Tensor, steps: int) -> Tensor:
    """The states (steps + 1, batch, ...); samples that leave for infinity stay at the last state that is near."""
    found, limit = [x], FAR * x.flatten(1).norm(dim=1)
    for _ in range(steps):
        y = step(found[-1])
        near = y.flatten(1).norm(dim=1) < limit  # also not NaN
        found.append(torch.where(near.view(-1, *[1] * (x.dim() - 1)), y, found[-1]))
    return torch.stack(found)


def relative_error(found: Tensor, true: Tensor) -> float:
    """The mean over samples of |found - true| / |true|; both (batch, d)."""
    return float(((found - true).norm(dim=1) / true.norm(dim=1)).mean())


def norm_drift(states: Tensor) -> float:
    """The largest ||x_n| / |x_0| - 1| over all times and samples of a roll-out (times, batch, d)."""
    norms = states.norm(dim=2)
    return float((norms / norms[0] - 1).abs().max())


def parameters(net: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in net.parameters())


def spread(values: Sequence[float], form: str) -> str:
    """The median, with least and largest in brackets.

    >>> spread([1.0, 3.0, 2.0], ".1f")
    '2.0 (1.0 to 3.0)'
    """
    middle, low, high = (format(v, form) for v in (median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"
