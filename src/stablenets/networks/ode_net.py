"""A Neural ODE that classifies images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from torch import nn

from ..fields import TimedTwoLayer
from ..linear import Conv2d
from .base import Provable
from .neural_ode import NeuralODE
from .stages import shape_of
from .stem import linear_head, stem


class OdeNet(Provable):
    """A strided stem, the flow of x' = B^T relu(A x + b + t v) on a small image, and a linear head.

    One field with 3 x 3 convolutions A and B, integrated over `time` by `steps` classical Runge-Kutta steps (Chen et
    al. 2018, section 3). It is no 1-Lipschitz network: what is proved is a product of norms, and large.

    Args:
        image_shape: (channels, height, width).
        classes: number of scores.
        channels: widths of the strided 5 x 5 convolutions; the last one is that of the state.
        hidden: channels between A and B.
        time: length of the flow.
        steps: number of Runge-Kutta steps, of four evaluations each.

    >>> import torch
    >>> OdeNet((1, 8, 8), 10, channels=(4, 8), hidden=8)(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        channels: tuple[int, ...] = (16, 32),
        hidden: int = 32,
        time: float = 1.0,
        steps: int = 2,
    ) -> None:
        super().__init__()
        self.image_shape, self.classes = shape_of(image_shape, classes), classes
        self.channels, self.hidden, self.time, self.steps = tuple(channels), hidden, time, steps
        layers, shape = stem(self.image_shape, channels)
        inner, outer = (Conv2d(shape[0], hidden, 3, shape[1:]) for _ in range(2))
        nn.init.kaiming_normal_(inner.weight)
        nn.init.zeros_(outer.weight)  # training starts from the identity
        self.body = NeuralODE(
            nn.Sequential(*layers),
            TimedTwoLayer(inner, outer),
            nn.Sequential(*linear_head(shape, classes)),
            time=time,
            steps=steps,
            input_shape=self.image_shape,
        )

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls((1, 4, 4), 3, channels=(3,), hidden=4)
