"""Scalar functions of the state with their gradients: energies, potentials, Lyapunov functions."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..core.component import Component
from ..core.errors import InputError, message
from ..core.properties import gradient
from ..linear import Conv2d, Dense, LinearMap
from .activations import Activation, LeakyReLU, Ramp, Tanh
from .base import Norm, upper_bound
from .examples import large


def point(entries: Sequence[float] | None, shape: tuple[int, ...]) -> Tensor:
    """The state of the given shape with these entries; None for the origin.

    Raises:
        InputError: when their number is not that of the state's entries.
    """
    if entries is None:
        return torch.zeros(shape)
    if len(entries) != math.prod(shape):
        raise InputError(message(f"a point of {len(entries)} entries", f"{math.prod(shape)} of them, for {shape}"))
    return torch.tensor(entries, dtype=torch.get_default_dtype()).reshape(shape)


class Potential(Component, root=True):
    """A differentiable scalar function V of the state: x (batch, ...) -> V(x) (batch,).

    Attributes:
        state_shape: the shape of one sample, where the function fixes it.
        convexity: some m >= 0 for which V - m |x|^2 / 2 is convex; None when V is not known to be convex.
    """

    state_shape: tuple[int, ...] | None = None
    convexity: float | None = None

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """V(x), shape (batch,)."""

    def gradient(self, x: Tensor) -> Tensor:
        """grad V, of the shape of `x`; by automatic differentiation unless a subclass has a formula."""
        return gradient(self, x)

    def smoothness(self, norm: Norm = upper_bound) -> Any:
        """A Lipschitz constant of grad V, with the norms of linear maps as `Field.claims` gets them; or infinity."""
        return math.inf


class RidgePotential(Potential):
    """V(x) = u^T gamma(A x + b), with gradient A^T diag(u) sigma(A x + b) where sigma = gamma' (lecture, HNNs).

    The signs of u are free, so V need not be convex.

    Args:
        linear: A, dense or convolutional.
        activation: sigma (default tanh, for which gamma = log cosh).

    Parameters: u and b, one entry per output feature or channel.

    >>> v = RidgePotential(Dense(3, 8))
    >>> v(torch.zeros(2, 3)), v.gradient(torch.zeros(2, 3)).shape
    (tensor([0., 0.], grad_fn=<SumBackward1>), torch.Size([2, 3]))
    """

    def __init__(self, linear: LinearMap, activation: Activation | None = None) -> None:
        super().__init__()
        self.linear, self.activation = linear, activation or Tanh()
        self.bias = nn.Parameter(torch.zeros(linear.output_shape[0]))
        self.outer = nn.Parameter(torch.randn(linear.output_shape[0]))
        self.state_shape = linear.input_shape

    def _per_channel(self, values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (len(self.linear.output_shape) - 1))

    def _preactivation(self, x: Tensor) -> Tensor:
        return self.linear(x) + self._per_channel(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return (self._per_channel(self.outer) * self.activation.potential(self._preactivation(x))).flatten(1).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        return self.linear.adjoint(self._per_channel(self.outer) * self.activation(self._preactivation(x)))

    def smoothness(self, norm: Norm = upper_bound) -> Any:
        size = norm(self.linear)
        return self.activation.slope[1] * self.outer.detach().double().abs().max().item() * size * size * (1 + 1e-15)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for linear, activation in ((Dense(4, 9), Tanh()), (Conv2d(2, 3, 3, 3), Ramp(0.5))):
            yield large(cls(linear, activation))


class PairedPotential(Potential):
    """V(x) = <x, N(x)>, whose gradient is N(x) + (dN)^T x, for any map N of the state space.

    The lecture prints N(x) - (dN)^T x as a gradient network. That is not one: for N(x) = M x it is (M - M^T) x, whose
    Jacobian is skew. With the plus sign it is the gradient of <x, N(x)>; the tests show both.

    Args:
        module: N, a smooth module that maps states (batch, ...) to states of the same shape.

    >>> v = PairedPotential(nn.Linear(3, 3))
    >>> v.gradient(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.module(x)).flatten(1).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        return self.module(x) + gradient(lambda y: (x * self.module(y)).flatten(1).sum(1), x)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))))


class PotentialSum(Potential):
    """V(x) = V_1(x) + V_2(x) + ..., such as a learned energy with a quadratic part.

    Gradients, their Lipschitz constants and, where all parts are convex, the constants of convexity add up.

    Args:
        parts: potentials on states of one shape.

    Raises:
        InputError: no part, or parts on states of different shapes.

    >>> from stablenets.fields import LeakyReLU
    >>> quadratic = RidgePotential(Dense(3, 3), LeakyReLU(1.0))  # a linear gradient
    >>> v = PotentialSum(quadratic, RidgePotential(Dense(3, 8)))
    >>> v(torch.zeros(2, 3)).shape, v.gradient(torch.zeros(2, 3)).shape
    (torch.Size([2]), torch.Size([2, 3]))
    """

    def __init__(self, *parts: Potential) -> None:
        super().__init__()
        shapes = {v.state_shape for v in parts if v.state_shape is not None}
        if not parts or len(shapes) > 1:
            given = ", ".join(f"{type(v).__name__} on {v.state_shape}" for v in parts) or "no potential"
            raise InputError(message(given, "potentials on states of one shape"))
        self.parts = nn.ModuleList(parts)
        self.state_shape = next(iter(shapes), None)
        known = [v.convexity for v in parts if v.convexity is not None]
        self.convexity = sum(known) * (1 - 1e-15 * len(known)) if len(known) == len(parts) else None  # the sum rounds

    def _parts(self) -> list[Potential]:
        parts: Any = self.parts
        return list(parts)

    def forward(self, x: Tensor) -> Tensor:
        return sum((v(x) for v in self._parts()), x.new_zeros(()))

    def gradient(self, x: Tensor) -> Tensor:
        return sum((v.gradient(x) for v in self._parts()), x.new_zeros(()))

    def smoothness(self, norm: Norm = upper_bound) -> Any:
        return sum(v.smoothness(norm) for v in self._parts()) * (1 + 1e-15 * len(self.parts))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        linear = RidgePotential(Dense(4, 3), LeakyReLU(1.0))
        yield large(cls(linear, RidgePotential(Dense(4, 5))))
