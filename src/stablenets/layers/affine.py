"""A linear map and a bias as a layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Lipschitz
from ..linear import Conv2d, Dense, LinearMap
from .base import Layer


class Affine(Layer):
    """A x + b, which is ||A||-Lipschitz.

    With a map that keeps ||A|| <= 1 by construction, such as `AlmostOrthogonal`, and `MaxMin` between the layers it
    makes the classical 1-Lipschitz perceptron.

    Args:
        linear: A; the bias b has one entry per output feature or channel.

    Raises:
        InputError: for states of another shape.

    >>> Affine(Dense(3, 8))(torch.zeros(2, 3)).shape
    torch.Size([2, 8])
    """

    def __init__(self, linear: LinearMap) -> None:
        super().__init__()
        self.linear = linear
        self.bias = nn.Parameter(torch.zeros(linear.output_shape[0]))
        self.input_shape = linear.input_shape

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.input_shape:  # a matrix would be applied to every row of an image, without a sound
            needed = f"(batch, {', '.join(map(str, self.linear.input_shape))})"
            raise InputError(message(f"a batch of shape {tuple(x.shape)}", needed))
        return self.linear(x) + self.bias.view(-1, *[1] * (len(self.linear.output_shape) - 1))

    def claims(self) -> Claims:
        return Claims([Lipschitz(self.linear.norm_bound())])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for linear in (*Dense.examples(), *Conv2d.examples()):
            layer = cls(linear)
            layer.bias.data.normal_()
            yield layer
