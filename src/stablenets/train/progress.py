"""How far a training has come: everything that is not a tensor."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch; a line of `metrics.jsonl`.

    Attributes:
        epoch: its number, from 1.
        step: optimiser steps done since training began.
        loss: mean over the epoch's samples, with the weights that each step had.
        train_accuracy: share of the epoch's samples classified correctly, likewise.
        test_accuracy: what `evaluate` returned; None where it was not called.
        lr: learning rate of the epoch's last step.
        seconds: time of the epoch's training steps, without evaluation.
        flow_steps: number of steps of each `Flow` of the network at the end of the epoch.
    """

    epoch: int
    step: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    lr: float
    seconds: float
    flow_steps: list[int]


@dataclass
class Progress:
    """Steps done, epochs finished, and the sums over the epoch under way.

    >>> progress = Progress()
    >>> progress.add(loss=1.5, correct=1, count=2, seconds=0.1)
    >>> Progress.from_json(progress.json()) == progress
    True
    >>> progress.finish(None, 0.01, []).train_accuracy, progress.count
    (0.5, 0)
    """

    step: int = 0
    loss: float = 0.0
    correct: int = 0
    count: int = 0
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)

    def add(self, loss: float, correct: int, count: int, seconds: float) -> None:
        """Count one optimiser step on `count` samples, with the sum of their losses."""
        self.step += 1
        self.loss += loss
        self.correct += correct
        self.count += count
        self.seconds += seconds

    def finish(self, test_accuracy: float | None, lr: float, flow_steps: list[int]) -> Epoch:
        """Close the epoch under way: append it to the history and return it."""
        loss, accuracy = self.loss / self.count, self.correct / self.count
        number = len(self.history) + 1
        epoch = Epoch(number, self.step, loss, accuracy, test_accuracy, lr, self.seconds, flow_steps)
        self.history.append(epoch)
        self.loss, self.correct, self.count, self.seconds = 0.0, 0, 0, 0.0
        return epoch

    def json(self) -> dict[str, Any]:
        """Numbers, lists and dictionaries only."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of `json`."""
        arguments: dict[str, Any] = value | {"history": [Epoch(**epoch) for epoch in value["history"]]}
        return cls(**arguments)
