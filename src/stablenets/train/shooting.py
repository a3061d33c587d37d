"""Fit a field to observed states: integrate through windows of them and compare (multiple shooting)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import InputError, message
from ..fields import Field
from ..integrators import RK4, Integrator


class Shooting(nn.Module):
    """Solutions of a field that start in `starts`: a module to be minimised over the field's weights.

    Args:
        field: x' = f(x, t) on states (batch, d).
        starts: (windows, d), the first observed state of each window.
        free: learn the starts too. Observed states are noisy, and a solution that must start in the noise is wrong from
            there on; with free starts a window is a maximum-likelihood fit.
        method: any integrator that accepts the field; RK4 by default, whose steps may differ between the samples.

    >>> from stablenets.systems import HarmonicOscillator
    >>> net = Shooting(HarmonicOscillator(), torch.tensor([[1.0, 0.0]]), free=True)
    >>> net(torch.full((1, 2), 0.1), substeps=2).shape
    torch.Size([1, 3, 2])
    """

    def __init__(self, field: Field, starts: Tensor, *, free: bool, method: Integrator[Any] | None = None) -> None:
        super().__init__()
        self.field, self.method = field, method or RK4()
        self.starts = nn.Parameter(starts.clone(), requires_grad=free)

    def forward(self, intervals: Tensor | float, substeps: int = 1, *, count: int = 0, hold: bool = False) -> Tensor:
        """States (windows, 1 + n, d) at the start and after each of n intervals.

        Args:
            intervals: their lengths (windows, n), different for each sample; or one length for all, with `count` of
                them (which every method can do).
            substeps: steps per interval.
            hold: take the starts as constants. Learn the field like that first: where its initial weights are far off,
                free starts run away to states from which it fits, and stay there in a local minimum.
        """
        if isinstance(intervals, Tensor) and not isinstance(self.method, RK4):
            raise InputError(message(f"intervals (windows, n) for {type(self.method).__name__}", "one length, or RK4"))
        sizes = list(intervals.T.unsqueeze(2) / substeps) if isinstance(intervals, Tensor) else []
        states: list[Tensor] = [self.starts.detach() if hold else self.starts]
        for h in sizes or [intervals / substeps] * count:
            x: Tensor = states[-1]
            for _ in range(substeps):
                x = self.method.step(self.field, x, h)
            states.append(x)
        return torch.stack(states, 1)
