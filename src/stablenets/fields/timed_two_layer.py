"""The residual branch with a bias that moves in time: the field of an image-classifying Neural ODE."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Lipschitz
from ..linear import Conv2d, Dense, LinearMap
from .activations import Activation, ReLU, Tanh
from .base import Field, Norm, upper_bound
from .examples import large


class TimedTwoLayer(Field):
    """x' = B^T sigma(A x + b + t v), Lipschitz in x with s ||A|| ||B|| at every time t.

    What follows is that solutions are unique and do not cross (Picard-Lindelof). That makes the flow invertible; it
    bounds no distance by less than exp(s ||A|| ||B|| t), so it is no guarantee of robustness.

    The time enters as a bias v per feature or channel, which is what a channel filled with t adds to a convolution
    (Chen et al. 2018), but for its border.

    Args:
        inner: A, dense or convolutional.
        outer: B, of the same shapes.
        activation: sigma, with largest slope s (default ReLU).

    >>> f = TimedTwoLayer(Dense(3, 8), Dense(3, 8))
    >>> f.drift.data += 1
    >>> x = torch.zeros(2, 3)
    >>> f(x, 0.0).equal(f(x, 1.0))
    False
    """

    def __init__(self, inner: LinearMap, outer: LinearMap, activation: Activation | None = None) -> None:
        super().__init__()
        if (inner.input_shape, inner.output_shape) != (outer.input_shape, outer.output_shape):
            given = f"inner maps {inner.input_shape} to {inner.output_shape}, outer {outer.input_shape} to"
            raise InputError(message(f"{given} {outer.output_shape}", "the same shapes"))
        self.inner, self.outer, self.activation = inner, outer, activation or ReLU()
        self.bias = nn.Parameter(torch.zeros(inner.output_shape[0]))
        self.drift = nn.Parameter(torch.zeros(inner.output_shape[0]))
        self.state_shape = inner.input_shape

    def forward(self, x: Tensor, t: Any = 0.0) -> Tensor:
        """The field; `t` is a number, a 0-dim tensor, or (batch, 1, ..., 1)."""
        shape = (-1, *[1] * (x.dim() - 2))
        return self.outer.adjoint(self.activation(self.inner(x) + self.bias.view(shape) + t * self.drift.view(shape)))

    def claims(self, norm: Norm = upper_bound) -> Claims:
        bound = self.activation.slope[1] * norm(self.inner) * norm(self.outer) * (1 + 1e-15)
        return Claims([Lipschitz(bound)] if bound < math.inf else [])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(Dense(4, 6), Dense(4, 6), Tanh()))
        yield large(cls(Conv2d(1, 2, 3, 3), Conv2d(1, 2, 3, 3)))
