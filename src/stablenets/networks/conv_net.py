"""The convolutional baseline, of the size of the Neural ODE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from torch import nn

from ..layers import Chain
from .base import Provable
from .stages import shape_of
from .stem import convolution, linear_head, stem


class ConvNet(Provable):
    """A strided stem, 3 x 3 convolutions with ReLU, and a linear head: `OdeNet` with layers for its flow.

    With the default sizes both have the same stem and head, and two 3 x 3 convolutions of 32 channels.

    Args:
        image_shape: (channels, height, width).
        classes: number of scores.
        channels: widths of the strided 5 x 5 convolutions.
        hidden: width of the 3 x 3 convolutions.
        depth: number of 3 x 3 convolutions.

    >>> import torch
    >>> ConvNet((1, 8, 8), 10, channels=(4, 8), hidden=8)(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        channels: tuple[int, ...] = (16, 32),
        hidden: int = 32,
        depth: int = 2,
    ) -> None:
        super().__init__()
        self.image_shape, self.classes = shape_of(image_shape, classes), classes
        self.channels, self.hidden, self.depth = tuple(channels), hidden, depth
        layers, shape = stem(self.image_shape, channels)
        for _ in range(depth):
            layers += [convolution(shape, hidden, 3), nn.ReLU()]
            shape = (hidden, *shape[1:])
        self.body = Chain(*layers, *linear_head(shape, classes))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls((1, 4, 4), 3, channels=(3,), hidden=4)
