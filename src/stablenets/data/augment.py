"""Random changes of training images that keep their class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..core.errors import InputError, message

# What a loader accepts: (images (batch, C, H, W), a CPU generator to draw from) -> images of the same shape.
Augment = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class ShiftFlip:
    """Shift each image by up to `shift` pixels each way (black moves in) and mirror half of them left to right.

    The random numbers are drawn on the CPU, so that they do not depend on the device of the images.

    Args:
        shift: largest shift in pixels, along each axis.
        flip: whether to mirror.

    Raises:
        InputError: negative `shift`.

    >>> x = torch.rand(5, 1, 8, 8)
    >>> ShiftFlip(shift=0, flip=False)(x, Generator()).equal(x), ShiftFlip()(x, Generator()).shape
    (True, torch.Size([5, 1, 8, 8]))
    """

    shift: int = 2
    flip: bool = True

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise InputError(message(f"shift of {self.shift} pixels", "0 or more"))

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        batch, channels, height, width = x.shape
        row, column = torch.randint(2 * self.shift + 1, (2, batch, 1), generator=generator)
        mirrored = torch.rand(batch, 1, generator=generator) < (0.5 if self.flip else 0.0)
        across = torch.arange(width)
        rows = row + torch.arange(height)
        columns = column + torch.where(mirrored, across.flip(0), across)
        # one gather of pixels from the padded images does both changes
        pixel = rows[:, :, None] * (width + 2 * self.shift) + columns[:, None, :]
        index = pixel.view(batch, 1, -1).to(x.device).expand(-1, channels, -1)
        return F.pad(x, (self.shift,) * 4).flatten(2).gather(2, index).view(x.shape)
