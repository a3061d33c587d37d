"""Running error analysis of flows: Runge-Kutta steps along fields of two layers, truncated series along S x."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..core.errors import ClaimError, message
from ..core.properties import Lipschitz
from ..fields import Activation, LeakyReLU, ReLU, SkewLinear, Softplus, Tanh
from ..integrators import ExplicitRungeKutta, Exponential
from ..layers import Flow
from .layer import FlowCertificate, TimedFlowCertificate
from .running_bounds import TINY, UP, Balls, norms, relative
from .running_map import EvaluatedMap
from .two_layer import TwoLayer, two_layer

# roundings of an activation relative to its value; LeakyReLU also rounds its slope
ROUNDINGS: dict[type[Activation], int] = {ReLU: 0, LeakyReLU: 2, Tanh: 8, Softplus: 8}
STEPS = (1e-30, 1e32)  # step sizes in this range are normal numbers in float32, also times the weights of a method


@dataclass(frozen=True)
class Slope:
    """The field at one stage.

    Attributes:
        center: its float64 value at the centre's stage.
        error: (batch, 2), of the float32 slope against the exact one at the exact stage, started from the same state.
        size: (batch, 2), of the norm of the float32 slope.
        reach: Lipschitz constant of the exact slope as a function of the state that the step starts from.
    """

    center: Tensor
    error: Tensor
    size: Tensor
    reach: float


def flow(layer: Flow, proved: FlowCertificate, x: Balls) -> Balls:
    """The bounds after all steps of a flow.

    Raises:
        ClaimError: for a flow without a float32 analysis; it is named.
    """
    f, method, h, name = layer.field, layer.integrator, layer.step_size, proved.name
    inner = outer = proved.norm_bound
    if isinstance(proved, TimedFlowCertificate):
        outer = proved.outer_norm_bound
    parts = None if isinstance(f, SkewLinear) else two_layer(f, name)
    claims = f.claims(lambda a: inner if parts is None or a is parts.inner else outer)
    one = method.transfer(claims, h).get(Lipschitz)
    if one is None or not STEPS[0] < h < STEPS[1]:
        raise ClaimError(message(f"a step of {h} ({name})", "a step whose size is a normal float32 number"))
    if parts is not None and not parts.rate < STEPS[1]:
        raise ClaimError(message(f"a rate of {parts.rate} ({name})", f"one below {STEPS[1]:g}, a float32 number"))
    if parts is not None and isinstance(method, ExplicitRungeKutta):
        if type(parts.activation) not in ROUNDINGS:
            given = f"no float32 analysis for {type(parts.activation).__name__} ({name})"
            raise ClaimError(message(given, " or ".join(cls.__name__ for cls in ROUNDINGS)))
        step = functools.partial(runge_kutta, EvaluatedField(parts, inner, outer, name), method)
    elif isinstance(f, SkewLinear) and isinstance(method, Exponential):
        step = functools.partial(series, f, method.terms, EvaluatedMap(f.linear, name), inner)
    else:
        given = f"no float32 analysis for {type(method).__name__} on {type(f).__name__} ({name})"
        raise ClaimError(message(given, "explicit Runge-Kutta methods, or Exponential on SkewLinear"))
    for i in range(layer.step_count):
        after = step(h, x, i * h)
        x = Balls(after.center, (one.bound * x.error + after.error) * UP, x.reach * one.bound * UP)
    return x


def runge_kutta(f: EvaluatedField, method: ExplicitRungeKutta, h: float, x: Balls, t: float) -> Balls:
    """One step of an explicit Runge-Kutta method, for one and the same x."""
    slopes: list[Slope] = []
    for row in method.a:
        at = combined(x, h, row, slopes)
        slopes.append(f.at(at, (at.reach * x.spread + at.error) * UP, t + h * sum(row)))
    return combined(x, h, method.b, slopes)


def series(f: SkewLinear, terms: int, linear: EvaluatedMap, bound: float, h: float, x: Balls, t: float) -> Balls:
    """y <- x + (h / k) S y for k = terms, ..., 1, from y = x, for one and the same x."""
    y = Balls(x.center, 0 * x.error, 1.0)
    for k in range(terms, 0, -1):
        spread = (y.reach * x.spread + y.error) * UP
        own, moved = linear.error(y.center, spread), f.linear(y.center)
        size = (norms(moved) + bound * spread + own) * UP
        y = combined(x, h, (1 / k,), [Slope(moved, bound * y.error + own, size, bound * y.reach)])
    return y


def combined(x: Balls, h: float, weights: Sequence[float], slopes: list[Slope]) -> Balls:
    """x + h sum_j w_j k_j: its centre, its error for one and the same x, and its Lipschitz constant in x.

    A term is rounded four times at most: w_j, h w_j in float64, that in float32, and the product.
    """
    terms = [(h * w, k) for w, k in zip(weights, slopes, strict=True) if w != 0]
    center, error, reach = x.center, 0 * x.error, 1.0
    if terms:
        size = x.size + sum(abs(c) * k.size for c, k in terms)
        error = relative(len(terms) + 4, size) + TINY * len(terms) * x.center[0].numel()
    for c, k in terms:
        center = center + c * k.center
        error = error + abs(c) * k.error
        reach = (reach + abs(c) * k.reach) * UP
    return Balls(center, error, reach)


class EvaluatedField:
    """The slopes of s B^T sigma(A y + b + t v) - rate y near given states.

    Args:
        f: the field, in float64.
        inner, outer: bounds of ||A|| and ||B||.
        name: of the layer, for messages.
    """

    def __init__(self, f: TwoLayer, inner: float, outer: float, name: str) -> None:
        self.f, self.inner, self.outer = f, inner, outer
        self.first = EvaluatedMap(f.inner, name)
        self.second = self.first if f.outer is f.inner else EvaluatedMap(f.outer, name)

    def at(self, at: Balls, spread: Tensor, t: float) -> Slope:
        """At stages y within `spread` of the centre's, and `at.error` off the exact ones, at time t."""
        f, outputs = self.f, math.prod(self.f.inner.output_shape)
        slope, shape = f.activation.slope[1], (-1, *[1] * (len(f.inner.output_shape) - 1))
        bias, size = f.bias, f.bias.abs()
        if f.drift is not None:
            bias, size = bias + t * f.drift, size + t * f.drift.abs()
        dz = self.first.error(at.center, spread, size, f.roundings)
        if f.drift is not None:
            dz = dz + TINY * outputs * t  # v may be flushed to zero before it is multiplied by t
        z = f.inner(at.center) + bias.view(shape)
        s = f.activation(z)
        moved = slope * (self.inner * spread + dz)  # how far sigma(z) may be from the centre's, for the float32 z
        lost = TINY * (outputs + norms(z) + self.inner * spread + dz)
        own = relative(ROUNDINGS[type(f.activation)], norms(s) + moved) + lost
        error = (self.outer * (slope * dz + own) + self.second.adjoint_error(s, moved + own)) * UP
        k, smoothness = f.sign * f.outer.adjoint(s), slope * self.inner * self.outer * UP
        change = (norms(k) + smoothness * spread + error) * UP
        if f.rate:  # the rate in float32, its product, and the difference
            state = norms(at.center) + spread
            decay = f.rate * state
            own = relative(3, decay + change) + TINY * (at.center[0].numel() * (1 + f.rate) + state + decay + change)
            k, error, change = k - f.rate * at.center, (error + own) * UP, (change + decay + own) * UP
            smoothness = (smoothness + f.rate) * UP
        return Slope(k, smoothness * at.error + error, change, smoothness * at.reach)
