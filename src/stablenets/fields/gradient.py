"""Gradient flows of convex potentials: the field behind every non-expansive layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import ClaimError, message
from ..core.properties import Cocoercive, Lipschitz, OneSidedLipschitz
from ..linear import Conv2d, Dense, LinearMap
from .activations import Activation, LeakyReLU, ReLU, Softplus, Tanh
from .base import Field, Norm, upper_bound


class ConvexGradient(Field):
    """x' = -A^T sigma(A x + b) = -grad V with V(x) = sum gamma(A x + b), gamma' = sigma non-decreasing.

    V is convex and s ||A||^2-smooth, where s is the largest slope of sigma, so f is cocoercive with
    beta = 1 / (s ||A||^2) (Baillon-Haddad): the flow is non-expansive, and Euler steps are for h <= 2 beta
    (chapter (17)-(19)).

    Args:
        linear: A, dense or convolutional.
        activation: sigma (default ReLU).

    The bias b has one entry per output feature or channel.

    >>> f = ConvexGradient(Dense(3, 8))
    >>> f(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    >>> f.claims().get(OneSidedLipschitz)
    OneSidedLipschitz(nu=0.0)
    """

    def __init__(self, linear: LinearMap, activation: Activation | None = None) -> None:
        super().__init__()
        self.linear, self.activation = linear, activation or ReLU()
        self.bias = nn.Parameter(torch.zeros(linear.output_shape[0]))
        self.state_shape = linear.input_shape

    def preactivation(self, x: Tensor) -> Tensor:
        """A x + b."""
        return self._preactivation(x, self.linear.weight)

    def _preactivation(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.linear._forward(x, weight) + self.bias.view(-1, *[1] * (x.dim() - 2))

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        weight = self.linear.weight  # once: it may be computed from other parameters
        return -self.linear._adjoint(self.activation(self._preactivation(x, weight)), weight)

    def scaled(self, x: Tensor, h: Tensor, t: float = 0.0) -> Tensor:
        """h f(x), with -h multiplied into the weights of A^T: they are mostly far fewer numbers than the states."""
        weight = self.linear.weight
        if weight.numel() > x.numel():
            return super().scaled(x, h, t)
        return self.linear._adjoint(self.activation(self._preactivation(x, weight)), -h * weight)

    def potential(self, x: Tensor) -> Tensor:
        """V(x), shape (batch,)."""
        return self.activation.potential(self.preactivation(x)).flatten(1).sum(1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        size = norm(self.linear)
        smoothness = self.activation.slope[1] * size * size * (1 + 1e-15)  # the product rounds
        if not smoothness < math.inf:  # also NaN; a comparison, since an estimate is a tensor
            raise ClaimError(
                message(f"||A|| = {size:g}", "finite weights", "Training has diverged: lower the learning rate.")
            )
        # any larger constant is true as well: this one keeps the steps of zero weights finite, in float32 too
        smoothness = max(smoothness, 1e-30)
        return Claims([Cocoercive(1 / smoothness), Lipschitz(smoothness), OneSidedLipschitz(0.0)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for dense, activation in zip(Dense.examples(), (ReLU(), Tanh(), LeakyReLU(0.2)), strict=True):
            yield cls(dense, activation)
        for conv, activation in zip(Conv2d.examples(), (ReLU(), Softplus()), strict=False):
            yield cls(conv, activation)
        saturated = cls(next(Dense.examples()))  # every unit active: a linear field, on which each bound is attained
        saturated.bias.data += 1e4
        yield saturated
