"""Networks of several layers as potentials, with gradients in closed form."""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.errors import InputError, message
from ..linear import Dense
from ..linear.bounds import spectral_norm_bound
from .activations import Activation, LeakyReLU, Sigmoid, Tanh
from .base import Norm, upper_bound
from .examples import large
from .potential import Potential


class LayeredPotential(Potential, abc.ABC):
    """V(x) = c^T z_L with z_k = gamma(A_k y + U_k z_{k-1} + b_k), z_0 = 0, y = x - centre.

    The nonlinearity is gamma, the potential of an activation sigma: its slope is sigma itself, so the gradient of V is
    a loop over the layers, with no automatic differentiation inside a field.
    """

    def __init__(self, features: int, widths: tuple[int, ...], activation: Activation) -> None:
        super().__init__()
        if not widths:
            raise InputError(message("no widths", "the width of each hidden layer", "Give e.g. widths=(32, 32)."))
        self.features, self.widths, self.activation = features, tuple(widths), activation
        self.state_shape = (features,)
        self.skips = nn.ModuleList(Dense(features, w) for w in widths)
        self.inner = nn.ParameterList(torch.randn(w, v) / v for v, w in itertools.pairwise(widths))
        self.biases = nn.ParameterList(torch.randn(w) for w in widths)
        self.outer = nn.Parameter(torch.randn(widths[-1]))

    @abc.abstractmethod
    def weights(self) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """U_2, ..., U_L; b_1, ..., b_L; c."""

    def _layers(self, y: Tensor) -> tuple[list[Tensor], Tensor]:
        """The arguments of gamma in each layer, and z_L."""
        inner, biases, _ = self.weights()
        arguments = [self.skips[0](y) + biases[0]]
        for skip, u, b in zip(list(self.skips)[1:], inner, biases[1:], strict=True):
            arguments.append(skip(y) + self.activation.potential(arguments[-1]) @ u.mT + b)
        return arguments, self.activation.potential(arguments[-1])

    def _value(self, y: Tensor) -> Tensor:
        return (self._layers(y)[1] * self.weights()[2]).sum(1)

    def _gradient(self, y: Tensor) -> Tensor:
        inner, _, back = self.weights()
        arguments, _ = self._layers(y)
        total = torch.zeros_like(y)
        for k in reversed(range(len(arguments))):
            back = self.activation(arguments[k]) * back
            total = total + self.skips[k].adjoint(back)  # pyright: ignore[reportCallIssue]
            if k:
                back = back @ inner[k - 1]
        return total

    @torch.no_grad()
    def smoothness(self, norm: Norm = upper_bound) -> float:
        """A bound of the Hessian, sum_k J_k^T diag(sigma'(a_k) g_k) J_k; infinite when sigma is not bounded.

        a_k is the argument of gamma in layer k, J_k its Jacobian, g_k the derivative of V by z_k. With |sigma| <= s0,
        |g_{k-1}| <= s0 |U_k|^T |g_k| entrywise, and J_k = A_k + U_k diag(sigma(a_{k-1})) J_{k-1}. Always a proof,
        whatever `norm` is.
        """
        s0, s1 = self.activation.bound, self.activation.slope[1]
        if math.isinf(s0):
            return math.inf
        inner, _, outer = self.weights()
        inner = [u.double() for u in inner]
        back = [outer.double().abs()]
        for u in reversed(inner):
            back.insert(0, s0 * back[0] @ u.abs())
        total, jacobian = 0.0, 0.0
        for k, (skip, g) in enumerate(zip(self.skips, back, strict=True)):
            a, weight = skip.matrix(), g.sqrt()[:, None]  # pyright: ignore[reportCallIssue]
            weighted, size = spectral_norm_bound(weight * a), spectral_norm_bound(a)
            if k:
                weighted += s0 * spectral_norm_bound(weight * inner[k - 1]) * jacobian
                size += s0 * spectral_norm_bound(inner[k - 1]) * jacobian
            total, jacobian = total + s1 * weighted**2, size
        return total * (1 + 1e-12)


class DeepPotential(LayeredPotential):
    """A network with free signs, V(x) = c^T z_L, not convex: for learned energies.

    Args:
        features: the dimension of the state.
        widths: of the hidden layers.
        activation: sigma (default tanh, so that the nonlinearity of the layers is log cosh).

    >>> v = DeepPotential(4, (16, 16))
    >>> v(torch.zeros(2, 4)).shape, v.gradient(torch.zeros(2, 4)).shape
    (torch.Size([2]), torch.Size([2, 4]))
    """

    def __init__(self, features: int, widths: tuple[int, ...], activation: Activation | None = None) -> None:
        super().__init__(features, widths, activation or Tanh())

    def weights(self) -> tuple[list[Tensor], list[Tensor], Tensor]:
        return list(self.inner), list(self.biases), self.outer

    def forward(self, x: Tensor) -> Tensor:
        return self._value(x)

    def gradient(self, x: Tensor) -> Tensor:
        return self._gradient(x)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        # a seed for which the Hessian is, at some points, not far below its bound
        yield large(cls(4, (5, 3)), 1.5, seed=9)
        yield large(cls(4, (5, 4, 3), Sigmoid()))
        yield large(cls(4, (5, 3), LeakyReLU(0.3)))
