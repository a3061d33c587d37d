"""What studies share that learn dynamics: windows of trajectories, roll-outs and errors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..fields import Field
from ..integrators import Integrator


@torch.no_grad()
def roll_out(f: Field, method: Integrator[Any], x: Tensor, h: float, count: int, substeps: int = 1) -> Tensor:
    """The states (batch, 1 + count, d) at the times 0, h, 2 h, ... of solutions from `x` (batch, d)."""
    states = [x]
    for _ in range(count):
        for _ in range(substeps):
            x = method.step(f, x, h / substeps)
        states.append(x)
    return torch.stack(states, 1)


def windows(x: Tensor, length: int) -> Tensor:
    """Stretches (n, 1 + length, d) of `length` intervals that cover trajectories (m, 1 + k, d), k a multiple of it."""
    return torch.cat([x[:, i : i + length + 1] for i in range(0, x.shape[1] - 1, length)])


def mean_square(a: Tensor, b: Tensor) -> float:
    """The mean of (a - b)^2; 1e300 where `a` is not finite, since a table must hold a number."""
    found = float((a - b).square().mean())
    return found if found < 1e300 else 1e300


def size(f: Field) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in f.parameters())
