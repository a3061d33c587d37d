"""The classical 1-Lipschitz perceptron."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import nn

from ..layers import Affine, Chain, MaxMin, NormalisedHead
from ..linear import AlmostOrthogonal, Dense
from .base import Provable
from .stages import shape_of


class LipschitzMLP(Provable):
    """Dense layers with matrices of norm at most 1, MaxMin between them, and a normalised head.

    No step size and no power iteration: the matrices are rescaled so that their norm cannot exceed 1 (almost orthogonal
    layers). They start orthogonal, where the rescaling takes nothing away.

    Args:
        image_shape: (channels, height, width).
        classes: number of scores.
        dense_width, dense_blocks: width (even) and number of the layers before the head.

    Raises:
        InputError: `dense_width` is odd: MaxMin takes pairs.

    Reference: Anil, Lucas & Grosse (2019), Sorting out Lipschitz function approximation; Prach & Lampert (2022).

    >>> LipschitzMLP((1, 8, 8), 10, dense_width=32)(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, image_shape: tuple[int, int, int], classes: int, *, dense_width: int = 512, dense_blocks: int = 3
    ) -> None:
        super().__init__()
        self.image_shape, self.classes = shape_of(image_shape, classes), classes
        self.dense_width, self.dense_blocks = dense_width, dense_blocks
        layers: list[nn.Module] = [nn.Flatten()]
        features = math.prod(self.image_shape)
        for _ in range(dense_blocks):
            dense = Dense(features, dense_width)
            nn.init.orthogonal_(dense.weight)
            layers += [Affine(AlmostOrthogonal(dense)), MaxMin()]
            features = dense_width
        self.body = Chain(*layers, NormalisedHead(features, classes))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        net = cls((1, 4, 4), 3, dense_width=6, dense_blocks=2)
        for p in net.parameters():
            p.data += torch.randn_like(p) / 2
        yield net
