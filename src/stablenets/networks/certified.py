"""Our own architecture for large certified radii."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import nn

from ..fields import ConvexGradient
from ..integrators import Euler
from ..layers import Chain, Flow, NormalisedHead
from ..linear import Conv2d, Dense
from .base import Provable
from .stages import centring, shape_of, stages


class CertifiedNet(Provable):
    """Wide gradient steps between down-samplings that lose nothing, then a normalised head.

    Where the published Convex Potential Layer networks have five hidden channels at full resolution and average
    patches of pixels, every convolutional step here has as many hidden channels as its state has channels, and an image
    is made smaller by turning its patches into channels (an isometry). Every step is the largest that keeps it
    non-expansive. The defaults suit images of 28 x 28 and 32 x 32 pixels on a CPU; with a GPU, widen them.

    Args:
        image_shape: (channels, height, width).
        classes: number of scores.
        patch: each stage turns patches of `patch` x `patch` pixels into channels.
        channels: width of each stage, by appending channels of zeros; None appends none.
        blocks: number of convolutional steps (3 x 3) of each stage.
        dense_width, dense_blocks: hidden width and number of the dense steps.
        mean: subtracted from the images, one number per channel; None subtracts nothing. On CIFAR-10 training is much
            faster with it.

    Raises:
        InputError: the image cannot be cut into patches, or channels would be dropped.

    >>> CertifiedNet((1, 8, 8), 10, patch=2, channels=(8, 32), blocks=(1, 1))(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        patch: int = 4,
        channels: tuple[int, ...] | None = (64,),
        blocks: tuple[int, ...] = (4,),
        dense_width: int = 512,
        dense_blocks: int = 2,
        mean: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.image_shape, self.classes = shape_of(image_shape, classes), classes
        self.patch, self.blocks = patch, tuple(blocks)
        self.channels = None if channels is None else tuple(channels)
        self.dense_width, self.dense_blocks = dense_width, dense_blocks
        self.mean = None if mean is None else tuple(mean)

        def convolutional(c: int, size: tuple[int, int]) -> Flow:
            return Flow(ConvexGradient(Conv2d(c, c, 3, size)), Euler(), steps=1)

        layers, features = stages(self.image_shape, patch, channels, blocks, convolutional)
        layers = [*centring(self.mean, self.image_shape[0]), *layers, nn.Flatten()]
        layers += [Flow(ConvexGradient(Dense(features, dense_width)), Euler(), steps=1) for _ in range(dense_blocks)]
        self.body = Chain(*layers, NormalisedHead(features, classes))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        sizes = {"patch": 2, "channels": (6, 24), "blocks": (1, 1), "dense_width": 7, "dense_blocks": 1}
        net = cls((1, 4, 4), 3, **sizes, mean=(0.4,))
        for p in net.parameters():
            p.data += torch.randn_like(p) / 2
        yield net
