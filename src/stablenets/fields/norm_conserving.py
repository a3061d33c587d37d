"""Fields that keep the norm of the state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims, Map
from ..core.errors import InputError, message
from ..core.properties import EnergyForm
from ..linear import Conv2d, Dense, LinearMap
from .activations import Activation, Tanh
from .base import ConservativeField, EnergyField, Norm, upper_bound
from .examples import large
from .invariants import SQUARED_NORM, squared_norm


class NormConserving(EnergyField, ConservativeField):
    """x' = S(x) x with S(x) = U^T D(x) V - V^T D(x) U = sum_k d_k(x) (u_k v_k^T - v_k u_k^T), skew: |x| is constant.

    D(x) = diag(sigma(G x + b)) holds gates. With d (d - 1) / 2 units the planes (u_k, v_k) span all skew matrices. As
    an `EnergyField`: H = |x|^2, so that grad H = 2 x.

    Args:
        left: U, dense or convolutional.
        right: V, of the same shapes.
        gate: G, of the same shapes.
        activation: sigma (default tanh).

    >>> f = NormConserving(Dense(3, 8), Dense(3, 8), gate=Dense(3, 8))
    >>> x = torch.randn(5, 3)
    >>> bool((f(x) * x).sum(1).abs().max() < 1e-5)
    True
    """

    def __init__(
        self, left: LinearMap, right: LinearMap, *, gate: LinearMap, activation: Activation | None = None
    ) -> None:
        super().__init__()
        if len({(a.input_shape, a.output_shape) for a in (left, right, gate)}) > 1:
            raise InputError(message("linear maps of different shapes", "one shape for left, right and gate"))
        self.left, self.right, self.gate, self.activation = left, right, gate, activation or Tanh()
        self.bias = nn.Parameter(torch.zeros(gate.output_shape[0]))
        self.state_shape = left.input_shape

    def energy(self, x: Tensor) -> Tensor:
        """|x|^2, shape (batch,)."""
        return squared_norm(x)

    def invariants(self) -> tuple[Map, ...]:
        return (squared_norm,)

    def energy_gradient(self, x: Tensor) -> Tensor:
        return 2 * x

    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        return self.skew(x, v) / 2

    def skew(self, x: Tensor, v: Tensor) -> Tensor:
        """S(x) v, of the shape of `v`."""
        d = self.activation(self.gate(x) + self.bias.view(-1, *[1] * (x.dim() - 2)))
        return self.left.adjoint(d * self.right(v)) - self.right.adjoint(d * self.left(v))

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims([EnergyForm(SQUARED_NORM, conserved=True)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(Dense(4, 6), Dense(4, 6), gate=Dense(4, 6)))
        yield large(cls(Conv2d(1, 2, 3, 3), Conv2d(1, 2, 3, 3), gate=Conv2d(1, 2, 3, 3)))
