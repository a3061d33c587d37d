"""The unconstrained baseline: the same skeleton with free residual branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from torch import nn

from ..core.claims import Claims
from ..fields import FreeField
from ..integrators import Euler
from ..layers import Chain, Flow
from .base import Network
from .stages import shape_of, stages


class ResNet(Network):
    """Euler steps x + h (B relu(A x + b) + c) of free fields and a linear head (chapter 6, snippet 2).

    The blocks together integrate over a time of 1, and B starts at zero (Goyal et al. 2017): without either, training
    with the study's learning rate of 1e-2 diverges. The arguments are those of `NonExpansiveNet`, and one more; nothing
    is proved about it.

    Args:
        plain: take h = 1 and PyTorch's initial weights instead: the plain residual network, which cannot be deep.

    >>> import torch
    >>> ResNet((1, 8, 8), 10, patch=2, blocks=(1, 1))(torch.rand(2, 1, 8, 8)).shape
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
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.image_shape, self.classes = shape_of(image_shape, classes), classes
        self.patch, self.blocks, self.hidden = patch, tuple(blocks), hidden
        self.channels = None if channels is None else tuple(channels)
        self.dense_width, self.dense_blocks, self.plain = dense_width, dense_blocks, plain

        h = 1.0 if plain else 1 / max(1, sum(blocks) + dense_blocks)

        def flow(first: nn.Module, second: nn.Conv2d | nn.Linear) -> Flow:
            if not plain:
                nn.init.zeros_(second.weight)
            return Flow(FreeField(nn.Sequential(first, nn.ReLU(), second)), Euler(), h=h)

        def convolutional(c: int, size: tuple[int, int]) -> Flow:
            return flow(nn.Conv2d(c, hidden, 3, padding=1), nn.Conv2d(hidden, c, 3, padding=1))

        layers, features = stages(self.image_shape, patch, channels, blocks, convolutional)
        layers.append(nn.Flatten())
        layers += [
            flow(nn.Linear(features, dense_width), nn.Linear(dense_width, features)) for _ in range(dense_blocks)
        ]
        self.body = Chain(*layers, nn.Linear(features, classes))

    def claims(self) -> Claims:
        return Claims()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls((1, 4, 4), 3, patch=2, blocks=(2,), hidden=5, dense_width=8, dense_blocks=1)
