"""The certificate of one layer: its Lipschitz constant, the theorem behind it, and its rounding error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..core.claims import Claims
from ..core.errors import ClaimError, message
from ..core.properties import Expansive, Lipschitz
from ..fields import Contracting, SkewLinear, TimedTwoLayer
from ..integrators import Exponential
from ..layers import Affine, Flow, Householder
from ..layers.chain import layer_claims
from ..linear import LinearMap
from .rounding import Extent, extent, flow_extent
from .skew_rounding import skew_extent
from .two_layer import two_layer

UP = 1 + 1e-12  # constants are rounded up
LEAST = 1e-300  # no constant of a flow is smaller, so that none vanishes


@dataclass(frozen=True)
class LayerCertificate:
    """What is proved about one layer. `rounding` and `output_norm` accumulate from the input to after this layer."""

    name: str
    kind: str
    theorem: str
    method: str
    lipschitz: float
    rounding: float
    output_norm: float


@dataclass(frozen=True)
class FlowCertificate(LayerCertificate):
    """What is proved about a `Flow`, with the numbers that the theorem needs."""

    field: str
    integrator: str
    linear: str
    norm_bound: float
    norm_theorem: str
    h: float
    steps: int
    step_limit: float | None


@dataclass(frozen=True)
class GradientFlowCertificate(FlowCertificate):
    """A flow along -A^T sigma(A x + b)."""

    activation: str


@dataclass(frozen=True)
class ContractingFlowCertificate(GradientFlowCertificate):
    """A flow along -rate x - A^T sigma(A x + b)."""

    rate: float


@dataclass(frozen=True)
class TimedFlowCertificate(FlowCertificate):
    """A flow along B^T sigma(A x + b + t v); B is the outer map, and A that of `linear` and `norm_bound`."""

    activation: str
    outer: str
    outer_norm_bound: float
    outer_norm_theorem: str


@dataclass(frozen=True)
class SkewFlowCertificate(FlowCertificate):
    """A flow along S x, S skew-symmetric.

    `terms` are those of the exponential series (None for a method that has none); every singular value of one step is
    within `deviation` of 1.
    """

    terms: int | None
    deviation: float


def certify_layer(name: str, layer: nn.Module, x: Extent, pixels: int) -> tuple[LayerCertificate, Extent]:
    """The certificate of one layer, and the bounds on the state after it; `pixels` is H * W of an image input."""
    if isinstance(layer, Flow):
        return _certify_flow(name, layer, x)
    kind, constant = type(layer).__name__, layer_claims(layer).get(Lipschitz)
    if constant is None:
        raise ClaimError(message(f"no Lipschitz constant follows for {name} ({kind})", "a layer that claims one"))
    after = extent(layer, constant.bound, x, pixels)
    after = x if after is x else after.lost(x)  # the same object: nothing is computed
    theorem, how = THEOREMS.get(kind, ""), method(layer)
    return LayerCertificate(name, kind, theorem, how, constant.bound, after.error, after.norm), after


def method(layer: nn.Module) -> str:
    """How the constant of a layer other than a flow was obtained."""
    if isinstance(layer, Householder) or not any(True for _ in layer.parameters()):
        return "closed form, rounded up"
    if isinstance(layer, Affine):
        return layer.linear.norm_theorem
    return "largest singular value in float64 with LAPACK's backward error"


def _certify_flow(name: str, flow: Flow, x: Extent) -> tuple[FlowCertificate, Extent]:
    field, method = flow.field, flow.integrator
    linear: LinearMap
    if isinstance(field, SkewLinear):
        parts, linear, outer = None, field.linear, field.linear
    else:
        parts = two_layer(field, name)
        linear, outer = parts.inner, parts.outer
    bound = linear.norm_bound()
    outer_bound = bound if outer is linear else outer.norm_bound()
    claims = field.claims(lambda a: bound if a is linear else outer_bound)
    limit = method.step_limit(claims)
    if flow.follows and (limit is None or not flow.step_size <= limit):
        raise ClaimError(
            message(
                f"the step {flow.step_size!r} of {name} is longer than its limit {limit!r}",
                "a step frozen from the present weights",
                "Call net.train().eval(), which takes new steps.",
            )
        )
    step = method.transfer(claims, flow.step_size)
    one = step.get(Lipschitz)
    if one is None:
        raise ClaimError(message(f"no Lipschitz constant follows for {name}", "an integrator that has a theorem"))
    inside = one.bound <= 1
    if parts is None:
        after = skew_extent(flow, bound, one.bound, x).lost(x)
    else:
        after = flow_extent(flow, parts, bound, outer_bound, one.bound, x).lost(x)
    common: dict[str, Any] = {
        "name": name,
        "kind": "Flow",
        "theorem": _theorem(flow, one.bound),
        "method": "norm bound in float64" + ("; h is within its limit" if inside else "; one step, compounded"),
        "lipschitz": _constant(flow, one.bound),
        "rounding": after.error,
        "output_norm": after.norm,
        "field": type(field).__name__,
        "integrator": type(method).__name__,
        "linear": type(linear).__name__,
        "norm_bound": bound,
        "norm_theorem": linear.norm_theorem,
        "h": flow.step_size,
        "steps": flow.step_count,
        "step_limit": None if limit is None or math.isinf(limit) else limit,
    }
    if parts is None:
        terms = method.terms if isinstance(method, Exponential) else None
        return SkewFlowCertificate(**common, terms=terms, deviation=_deviation(step)), after
    common["activation"] = type(parts.activation).__name__
    if isinstance(field, TimedTwoLayer):
        rest = {"outer": type(outer).__name__, "outer_norm_bound": outer_bound}
        return TimedFlowCertificate(**common, **rest, outer_norm_theorem=outer.norm_theorem), after
    if isinstance(field, Contracting):
        return ContractingFlowCertificate(**common, rate=field.rate), after
    return GradientFlowCertificate(**common), after


def _theorem(flow: Flow, one: float) -> str:
    """Why a step has the constant `one`."""
    if isinstance(flow.field, Contracting) and one < 1:
        return "a gradient step on a strongly convex, smooth function contracts (Nesterov 2004, Thm 2.1.15)"
    if isinstance(flow.field, SkewLinear) or one <= 1:
        return flow.integrator.theorem
    if isinstance(flow.field, TimedTwoLayer):
        return "Lipschitz bound of a step along a Lipschitz field"
    return "Lipschitz bound of a step beyond the limit"


def _constant(flow: Flow, one: float) -> float:
    """That of all steps, rounded up; 1 for steps that are non-expansive and not known to contract."""
    if one == 1 or (one < 1 and isinstance(flow.field, SkewLinear)):
        return 1.0
    return max(_power(one, flow.step_count) * UP, LEAST)


def _power(constant: float, n: int) -> float:
    try:
        return constant**n
    except OverflowError:
        return math.inf


def _deviation(step: Claims) -> float:
    """How far the singular values of a linear step may be from 1, rounded up."""
    largest, least = step.get(Lipschitz), step.get(Expansive)
    assert largest is not None
    far = max(largest.bound - 1, 1 - (least.bound if least else 0.0))
    return far * UP + 2.0**-50 if far else 0.0


THEOREMS = {
    "Identity": "isometry",
    "Flatten": "permutation: isometry",
    "PixelUnshuffle": "permutation: isometry",
    "PixelShuffle": "permutation: isometry",
    "Lift": "appends zeros: isometry",
    "ReLU": "non-decreasing with slopes in [0, 1]",
    "LeakyReLU": "non-decreasing with slopes in [0, 1]",
    "Tanh": "non-decreasing with slopes in [0, 1]",
    "GroupSort": "sorting keeps norms and never lowers an inner product",
    "Abs": "slopes of -1 and 1",
    "Householder": "the gradient step z - 2 v min(v.z, 0), |v| = 1, of a convex function",
    "Affine": "norm of the linear map",
    "AvgPool2d": "sums over disjoint windows of k pixels have norm sqrt(k)",
    "Normalise": "division by the standard deviation",
    "Linear": "largest singular value; margins use ||w_i - w_j|| per pair of classes",
    "NormalisedHead": "rows of norm 1; margins use ||w_i - w_j|| per pair of classes",
    "TruncatedHead": "the first features; margins use sqrt(2) for every pair of classes",
}
