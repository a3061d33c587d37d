"""The times of a solve: as numbers for decisions, as tensors where they have gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError, message


class Clock:
    """`values` are numbers in float64. `exact` is the tensor of times in float64 if it needs a gradient, else None."""

    def __init__(self, times: Sequence[float] | Tensor) -> None:
        given = times.detach().flatten().tolist() if isinstance(times, Tensor) else [float(t) for t in times]
        if len(given) < 2 or (isinstance(times, Tensor) and times.dim() != 1):
            shape = f"of shape {tuple(times.shape)}" if isinstance(times, Tensor) else f"{given}"
            raise InputError(message(f"times {shape}", "two or more times in a row, the first that of x0"))
        self.values: list[float] = given
        wrong = next((i for i, t in enumerate(given) if not math.isfinite(t)), None)
        if wrong is not None:
            raise InputError(message(f"times[{wrong}] = {given[wrong]}", "finite times"))
        self.sign = 1.0 if given[-1] >= given[0] else -1.0
        for i, (a, b) in enumerate(itertools.pairwise(given)):
            if self.sign * (b - a) < 0:
                todo = "Sort them; the same time may occur more than once."
                raise InputError(message(f"times[{i}] = {a} and times[{i + 1}] = {b}", "monotone times", todo))
        self.exact = times.double() if isinstance(times, Tensor) and times.requires_grad else None
        self.start, self.end = given[0], given[-1]

    def __getitem__(self, i: int) -> Any:
        return self.values[i] if self.exact is None else self.exact[i]

    @torch.enable_grad()  # steps keep their gradients in time while states are computed without
    def since(self, index: Any, t: Any, like: Tensor) -> Tensor:
        """The times with these indices (a slice or an array) minus `t`, in float64."""
        values = self.exact
        if values is None:
            values = torch.tensor(self.values, dtype=torch.float64, device=like.device)
        return values[index] - t

    @torch.enable_grad()
    def shifted(self, h: Any, t: Any, first: Any, last: Any) -> tuple[Any, Any]:
        """Size and time of a step with their gradients: the `first` moves with the start, the `last` with the end.

        Both are numbers or tensors of 0 and 1; all other ends of steps are constants.
        """
        if self.exact is None:
            return h, t
        start, end = self.exact[0] - self.start, self.exact[-1] - self.end  # zeros with a gradient
        return h - first * start + last * end, t + first * start
