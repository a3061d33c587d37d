"""Batches from data that live on the device; every batch is a function of (seed, epoch, step)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from ..core.errors import InputError, message
from .augment import Augment


class DeviceLoader:
    """Shuffled batches of `x` (n, ...) and `y` (n,), which are moved to `device` once.

    Args:
        x: inputs.
        y: labels.
        batch_size: samples per batch.
        seed: any integer.
        device: where the data stay and the batches are made.
        augment: applied to each batch of inputs, with its own generator.
        drop_last: leave out the last batch of an epoch if it is smaller (unless it is the only one).

    Raises:
        InputError: no data, different numbers of inputs and labels, or `batch_size` below 1.

    >>> loader = DeviceLoader(torch.arange(6.0), torch.arange(6), 2, seed=1)
    >>> [y.tolist() for _, (x, y) in loader.epoch(0)] == [y.tolist() for _, (x, y) in loader.epoch(0)]
    True
    >>> [step for step, _ in loader.epoch(0, start=1)]
    [1, 2]
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        batch_size: int,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        drop_last: bool = True,
    ) -> None:
        if len(x) != len(y) or len(x) == 0:
            raise InputError(message(f"{len(x)} inputs and {len(y)} labels", "the same number, at least one"))
        if batch_size < 1:
            raise InputError(message(f"batch_size {batch_size}", "1 or more"))
        self.x, self.y = x.to(device), y.to(device)
        self.batch_size, self.seed, self.augment, self.drop_last = batch_size, seed, augment, drop_last

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.y), self.batch_size)
        return whole + (rest > 0 and (whole == 0 or not self.drop_last))

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
        """Yield `(step, (xb, yb))` for the steps of one epoch from `start` on, as if those before had been run.

        Raises:
            InputError: `start` is not a number of steps of an epoch.
        """
        if not 0 <= start <= len(self):
            raise InputError(message(f"start at step {start}", f"a number from 0 to {len(self)}"))
        order = torch.randperm(len(self.y), generator=generator(self.seed, epoch)).to(self.y.device)
        for step in range(start, len(self)):
            index = order[step * self.batch_size : (step + 1) * self.batch_size]
            xb, yb = self.x[index], self.y[index]
            if self.augment is not None:
                xb = self.augment(xb, generator(self.seed, epoch, step))
            yield step, (xb, yb)


def generator(*numbers: int) -> Generator:
    """A CPU generator seeded by a hash of the numbers, so that near or swapped numbers give unrelated streams.

    >>> torch.rand(1, generator=generator(0, 1)) == torch.rand(1, generator=generator(1, 0))
    tensor([False])
    """
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "big"))
