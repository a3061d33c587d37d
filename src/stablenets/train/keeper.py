"""When a checkpoint is written, and that it is never replaced by a broken state."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..core.errors import InputError, TrainingError, message
from .checkpoint import load, save, state_tensors
from .progress import Progress


class Keeper:
    """Keeps the state of one training in one file, or nowhere if `path` is None.

    Args:
        seconds: least time between two checkpoints written by `tick`.
        writes: False in all but one of several processes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        net: nn.Module,
        optimizer: Optimizer,
        settings: Mapping[str, Any],
        *,
        seconds: float = 30.0,
        writes: bool = True,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.net, self.optimizer, self.settings = net, optimizer, settings
        self.seconds, self.writes = seconds, writes
        self.found = self.path is not None and self.path.exists()
        self.written, self.step = time.monotonic(), 0

    def start(self, resume: bool) -> Progress:
        """The progress to continue from: that of the file, or none, of which a checkpoint is written at once.

        Raises:
            InputError: the file cannot be used, cannot be written, or would be overwritten without `resume`.
        """
        progress = Progress()
        if self.path is not None and self.found:
            if not resume:
                todo = "Resume the training, or choose another folder."
                raise InputError(message(f"{self.path} exists", "a checkpoint file not in use", todo))
            progress = load(self.path, self.net, self.optimizer, self.settings)
            self.step = progress.step
        else:
            self.save(progress)
        return progress

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, after `check`."""
        self.check(progress)
        if self.path is not None and self.writes:
            save(self.path, self.net, self.optimizer, progress, self.settings)
        self.written, self.step = time.monotonic(), progress.step

    def check(self, progress: Progress) -> None:
        """Make sure that the state is worth keeping.

        Raises:
            TrainingError: a weight, or the optimiser's state of one, is not finite; the file is left as it was.
        """
        for name, tensor in state_tensors(self.net, self.optimizer).items():
            if not tensor.isfinite().all():
                raise self.stopped(f"{name} is not finite after step {progress.step}")

    def tick(self, progress: Progress) -> None:
        """Write a checkpoint if the last one is `seconds` old."""
        if self.path is not None and time.monotonic() - self.written >= self.seconds:
            self.save(progress)

    def stopped(self, reason: str) -> TrainingError:
        """The error for a training that cannot go on, with what is left of it."""
        left = (
            "No checkpoint was kept."
            if self.path is None
            else f"The last good one, of step {self.step}, is {self.path}."
        )
        todo = f"{left} Train anew with a lower learning rate, or a higher weight decay."
        return TrainingError(message(reason, "finite loss and weights", todo))
