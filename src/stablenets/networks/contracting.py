"""A classifier that ends in a contracting flow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

from torch import nn

from ..fields import Contracting, ConvexGradient
from ..integrators import Euler
from ..layers import Chain, Flow
from ..linear import AlmostOrthogonal, Dense
from .base import Provable
from .stages import shape_of
from .stem import linear_head, stem


class ContractingNet(Provable):
    """A strided stem, linear features, a flow in which all solutions approach each other, a linear head (chapter 5.2).

    The flow x' = -rate x - A^T relu(A x + b) with ||A|| <= 1 is taken in n = ceil((1 + rate) time) Euler steps of
    length h = time / n, so that h (1 + rate) <= 1. *Proved*: the flow brings any two states closer by the factor
    (1 - rate h)^n <= exp(-rate time) or more.

    Not proved is that the classifier is robust: the stem before the flow and the head after it are free, and may
    stretch by more than the flow contracts. What holds for the whole is `claims()`, the product of all constants.

    Args:
        image_shape: (channels, height, width).
        classes: number of scores.
        channels: widths of the strided 5 x 5 convolutions.
        dense_width: number of features, and of rows of A.
        time: length of the flow.
        rate: of the contraction.

    Reference: Kang, Song, Ding & Tay (2021), Stable neural ODE with Lyapunov-stable equilibrium points for defending
    against adversarial attacks: the same place for a stable flow, but with locally stable equilibria.

    >>> import torch
    >>> from stablenets.core.properties import Lipschitz
    >>> net = ContractingNet((1, 8, 8), 10, channels=(4, 8), dense_width=6)
    >>> net(torch.rand(2, 1, 8, 8)).shape, net.flow.claims().get(Lipschitz).bound < math.exp(-2)
    (torch.Size([2, 10]), True)
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        channels: tuple[int, ...] = (16, 32),
        dense_width: int = 64,
        time: float = 2.0,
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.image_shape, self.classes = shape_of(image_shape, classes), classes
        self.channels, self.dense_width, self.time, self.rate = tuple(channels), dense_width, time, rate
        layers, shape = stem(self.image_shape, channels)
        dense = Dense(dense_width, dense_width)
        nn.init.orthogonal_(dense.weight)
        field = Contracting(ConvexGradient(AlmostOrthogonal(dense)), rate=rate)
        flow = Flow(field, Euler(), time=time, steps=math.ceil((1 + rate) * time))
        self.body = Chain(*layers, *linear_head(shape, dense_width), flow, nn.Linear(dense_width, classes))

    @property
    def flow(self) -> Flow:
        """The contracting flow."""
        return next(m for m in self.modules() if isinstance(m, Flow))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls((1, 4, 4), 3, channels=(3,), dense_width=5)
