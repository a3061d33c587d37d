"""What an adaptive solve decided and computed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..gradients import DenseMove, Trace
from .solution import Stats

ROUNDING = 16 * np.finfo(np.float64).eps  # a step shorter than this, relative to the time, is none


@dataclass
class Record:
    """Accepted steps with the states before each of them, and their outputs; the counts are (batch,)."""

    x0: Tensor
    stages: int  # evaluations per step
    moves: list[DenseMove] = field(default_factory=list)
    starts: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    places: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Of the numbers in each output: which time, which sample."""

    def __post_init__(self) -> None:
        n = len(self.x0)
        self.end = self.x0
        self.status = np.zeros(n, dtype=np.int64)
        self.accepted, self.rejected = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.evaluations = np.zeros(n, dtype=np.int64)

    def count(self, rows: np.ndarray, accepted: np.ndarray | bool) -> None:
        """One attempted step of the samples `rows`."""
        self.accepted[rows] += accepted
        self.rejected[rows] += np.logical_not(accepted)
        self.evaluations[rows] += self.stages

    def add(
        self, move: DenseMove, start: Tensor, slopes: list[Tensor], end: Tensor, places: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """An accepted step, given the states and slopes of the samples that take it."""
        self.moves.append(move)
        self.starts.append(self.end)
        if move.offsets is not None:
            self.outputs.append(move.outputs(start, slopes))
            self.places.append(places)
        self.end = end if move.rows is None else self.end.index_copy(0, move.rows, end)

    def trace(self) -> Trace:
        return Trace(self.starts, self.end, self.outputs)

    def stats(self) -> Stats:
        device = self.x0.device
        counts = (self.evaluations, self.accepted, self.rejected)
        return Stats(*(torch.as_tensor(c, device=device) for c in counts))

    def states(self, outputs: list[Tensor], times: int) -> Tensor:
        """The states (times, batch, ...) from the outputs of all steps."""
        x0 = self.x0
        if all(move.rows is None and move.of is None for move in self.moves) and not self.status.any():
            return torch.cat([x0.unsqueeze(0), *outputs])
        full = torch.cat([x0.unsqueeze(0), x0.new_full((times - 1, *x0.shape), torch.nan)])
        if not outputs:
            return full
        time, row = (torch.as_tensor(np.concatenate(p), device=x0.device) for p in zip(*self.places, strict=True))
        values = torch.cat([v.reshape(-1, *x0.shape[1:]) for v in outputs])
        return full.index_put((time, row), values)
