"""A bound on the rounding error of the evaluated network, layer by layer (docs/certificates.md).

Exact layers are 1-Lipschitz, so the error of one layer passes the next ones without growing: errors add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ClaimError, message
from ..fields import Activation, LeakyReLU, ReLU, Softplus, Tanh
from ..integrators import ExplicitRungeKutta
from ..layers import Abs, Affine, Flow, GroupSort, Householder, Lift, Normalise, NormalisedHead, TruncatedHead
from ..linear import LinearMap
from .two_layer import TwoLayer

U = 2.0**-53  # unit roundoff of float64
LOST = 2.0**-210  # times 1 plus sizes: far more than sums of products lose below the normal numbers
UP = 1 + 1e-9  # these are error bounds of size 1e-12: a generous outward rounding of them costs nothing


@dataclass(frozen=True)
class Extent:
    """Bounds after a layer: `norm` of the exact state, `error` of the computed one."""

    norm: float
    error: float

    @property
    def computed(self) -> float:
        return self.norm + self.error

    def lost(self, before: Extent) -> Extent:
        """The same, with what a layer, and the bound of its norm, lose to underflow."""
        return Extent(self.norm + LOST, self.error + LOST * (1 + before.computed))


def gamma(m: int) -> float:
    """Relative error of a dot product of length m, in any order of summation (Higham 2002, section 3.1)."""
    return m * U / (1 - m * U)


ACTIVATION_ERROR: dict[type[Activation], float] = {
    ReLU: 0,
    LeakyReLU: 1,
    Tanh: 8,
    Softplus: 8,
}  # in units of u


def spread(bias: Tensor, linear: LinearMap) -> float:
    """Norm of a bias with one entry per output feature or channel, spread over all outputs."""
    outputs = math.prod(linear.output_shape)
    return float(bias.detach().double().norm()) * math.sqrt(outputs / linear.output_shape[0])


def field_error(f: TwoLayer, inner: float, outer: float, time: float) -> Callable[[float], tuple[float, float]]:
    """R -> (error, size) of an evaluation of f at a computed state of norm at most R, at times up to `time`.

    `inner` >= ||A||_2 and `outer` >= ||B||_2.
    """
    if type(f.activation) not in ACTIVATION_ERROR:
        raise ClaimError(message(f"no rounding analysis for {type(f.activation).__name__}", "ReLU, Tanh, ..."))
    outputs = math.prod(f.inner.output_shape)
    beta = spread(f.bias, f.inner) + (0.0 if f.drift is None else time * spread(f.drift, f.inner))
    absolute, m, m_adjoint = f.inner.absolute_bound(), f.inner.dot_lengths[0] + f.roundings, f.outer.dot_lengths[1]
    absolute_outer = absolute if f.outer is f.inner else f.outer.absolute_bound()
    slope, c = f.activation.slope[1], ACTIVATION_ERROR[type(f.activation)]
    at_zero = float(f.activation(torch.zeros(1, dtype=torch.float64)).abs()) * math.sqrt(outputs)

    def at(radius: float) -> tuple[float, float]:
        dz = gamma(m + 1) * (absolute * radius + beta) + LOST * (1 + radius)
        z = inner * radius + beta + dz
        ds = slope * dz + c * U * (slope * z + at_zero)
        s = slope * z + at_zero + ds
        error = outer * ds + gamma(m_adjoint) * absolute_outer * s + LOST * (1 + s)
        size = outer * s + error
        if f.rate:  # the product with the rate, and the difference
            decay = 3 * U * (f.rate * radius + size) + LOST * (1 + radius)
            error, size = error + decay, size + f.rate * radius + decay
        return error, size

    return at


def flow_extent(flow: Flow, f: TwoLayer, inner: float, outer: float, lipschitz_step: float, x: Extent) -> Extent:
    """Bounds after all steps of an explicit Runge-Kutta flow of the field f, `inner` >= ||A||_2, `outer` >= ||B||_2."""
    method, h = flow.integrator, flow.step_size
    if not isinstance(method, ExplicitRungeKutta):
        given = f"no rounding analysis for {type(method).__name__} on {type(flow.field).__name__}"
        raise ClaimError(message(given, "explicit Runge-Kutta methods"))
    at, g = field_error(f, inner, outer, h * flow.step_count * UP), f.lipschitz(inner, outer)

    def stages(radius: float) -> tuple[list[float], list[float]]:
        errors: list[float] = []
        sizes: list[float] = []
        for i, row in enumerate(method.a):
            r = radius + h * sum(abs(c) * k for c, k in zip(row, sizes, strict=True))
            d = h * sum(abs(c) * e for c, e in zip(row, errors, strict=True)) + 3 * U * i * r
            error, size = at(r)
            errors.append(g * d + error)
            sizes.append(size)
        return errors, sizes

    weigh = lambda values: h * sum(abs(b) * v for b, v in zip(method.b, values, strict=True))  # noqa: E731
    at_zero = weigh(stages(0.0)[1])
    for _ in range(flow.step_count):
        errors, sizes = stages(x.computed)
        local = weigh(errors) + 3 * U * len(method.b) * (x.computed + weigh(sizes))
        x = Extent((lipschitz_step * x.norm + at_zero) * UP, (lipschitz_step * x.error + local) * UP)
    return x


def affine_extent(weight: Tensor, bias: Tensor | None, norm: float, x: Extent) -> Extent:
    """Bounds after W x + b."""
    w = weight.detach().double().abs()
    absolute = math.sqrt(float(w.sum(0).max()) * float(w.sum(1).max()))
    b = 0.0 if bias is None else float(bias.detach().double().norm())
    local = gamma(weight.shape[1] + 1) * (absolute * x.computed + b)
    return Extent((norm * x.norm + b) * UP, (norm * x.error + local) * UP)


def map_extent(linear: LinearMap, bias: Tensor, norm: float, x: Extent) -> Extent:
    """Bounds after A x + b with ||A|| <= norm."""
    b = spread(bias, linear)
    local = gamma(linear.dot_lengths[0] + 1) * (linear.absolute_bound() * x.computed + b)
    return Extent((norm * x.norm + b) * UP, (norm * x.error + local) * UP)


def extent(layer: nn.Module, lipschitz: float, x: Extent, pixels: int) -> Extent:
    """Bounds after a layer other than a flow; `pixels` is H * W of an image input."""
    match layer:
        case nn.Identity() | nn.Flatten() | nn.PixelShuffle() | nn.PixelUnshuffle() | nn.ReLU():
            return x
        case Lift() | GroupSort() | Abs() | TruncatedHead():
            return x
        case Householder():
            return Extent(x.norm, (x.error + 64 * U * x.computed) * UP)
        case Affine():
            return map_extent(layer.linear, layer.bias, lipschitz, x)
        case nn.LeakyReLU() | nn.Tanh():
            return Extent(x.norm, (x.error + (8 if isinstance(layer, nn.Tanh) else 1) * U * x.computed) * UP)
        case nn.AvgPool2d():
            size: Any = layer.kernel_size
            window = size**2 if isinstance(size, int) else size[0] * size[1]
            return Extent(lipschitz * x.norm * UP, lipschitz * (x.error + gamma(window + 1) * x.computed) * UP)
        case Normalise():
            mean = math.sqrt(pixels * sum(m * m for m in layer.mean))
            error = lipschitz * (x.error + 4 * U * (x.computed + mean))
            return Extent(lipschitz * (x.norm + mean) * UP, error * UP)
        case NormalisedHead():
            return affine_extent(layer.effective_weight(), layer.bias, lipschitz, x)
        case nn.Linear():
            return affine_extent(layer.weight, layer.bias, lipschitz, x)
        case _:
            raise ClaimError(message(f"no rounding analysis for {type(layer).__name__}", "a layer that has one"))
