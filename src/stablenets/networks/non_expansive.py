"""The chapter's non-expansive network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from torch import nn

from ..fields import ConvexGradient
from ..integrators import Euler
from ..layers import Chain, Flow, NormalisedHead
from ..linear import Conv2d, Dense, LinearMap
from .base import Provable
from .stages import shape_of, stages


class NonExpansiveNet(Provable):
    """Euler steps of convex gradient fields between isometries, then a normalised head (chapter 6, snippet 1).

    Every layer before the head is 1-Lipschitz by construction and stays so while training.

    Args:
        image_shape: (channels, height, width).
        classes: number of scores.
        patch: each stage turns patches of `patch` x `patch` pixels into channels.
        channels: width of each stage, by appending channels of zeros; None appends none.
        blocks: number of convolutional blocks (3 x 3) of each stage.
        hidden: hidden channels of the convolutional blocks.
        dense_width, dense_blocks: hidden width and number of the dense blocks.
        time: integration time of each block, split into as many steps as its weights need (the chapter's rule);
            None takes one step of the largest size the weights allow (the Convex Potential Layer's rule).

    >>> import torch
    >>> NonExpansiveNet((1, 8, 8), 10, patch=2, blocks=(1, 1))(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        patch: int = 4,
        channels: tuple[int, ...] | None = None,
        blocks: tuple[int, ...] = (4,),
        hidden: int = 64,
        dense_width: int = 512,
        dense_blocks: int = 3,
        time: float | None = None,
    ) -> None:
        super().__init__()
        self.image_shape, self.classes = shape_of(image_shape, classes), classes
        self.patch, self.blocks, self.hidden = patch, tuple(blocks), hidden
        self.channels = None if channels is None else tuple(channels)
        self.dense_width, self.dense_blocks, self.time = dense_width, dense_blocks, time

        def flow(linear: LinearMap) -> Flow:
            field = ConvexGradient(linear)
            return Flow(field, Euler(), steps=1) if time is None else Flow(field, Euler(), time=time)

        layers, features = stages(
            self.image_shape, patch, channels, blocks, lambda c, size: flow(Conv2d(c, hidden, 3, size))
        )
        layers.append(nn.Flatten())
        layers += [flow(Dense(features, dense_width)) for _ in range(dense_blocks)]
        self.body = Chain(*layers, NormalisedHead(features, classes))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls((1, 4, 4), 3, patch=2, blocks=(2,), hidden=5, dense_width=8, dense_blocks=1)
        yield cls((1, 4, 4), 3, patch=2, channels=(5,), blocks=(1,), hidden=3, dense_width=8, dense_blocks=1, time=1.0)
