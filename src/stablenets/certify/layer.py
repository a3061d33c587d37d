"""The certificate of one layer: its Lipschitz constant, the theorem behind it, and its rounding error."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..core.errors import ClaimError, message
from ..core.properties import Lipschitz
from ..fields import ConvexGradient
from ..layers import Flow
from ..layers.chain import layer_claims
from ..linear import LinearMap
from .rounding import Extent, extent, flow_extent

UP = 1 + 1e-12  # constants are rounded up


@dataclass(frozen=True)
class LayerCertificate:
    """What is proved about one layer. `rounding` and `output_norm` accumulate from the input to after this layer."""

    name: str
    kind: str
    theorem: str
    lipschitz: float
    rounding: float
    output_norm: float


@dataclass(frozen=True)
class FlowCertificate(LayerCertificate):
    """What is proved about a `Flow`, with the numbers that the theorem needs."""

    field: str
    integrator: str
    linear: str
    activation: str
    norm_bound: float
    norm_theorem: str
    h: float
    steps: int
    step_limit: float | None


def certify_layer(name: str, layer: nn.Module, x: Extent, pixels: int) -> tuple[LayerCertificate, Extent]:
    """The certificate of one layer, and the bounds on the state after it."""
    if isinstance(layer, Flow):
        return _certify_flow(name, layer, x)
    kind, constant = type(layer).__name__, layer_claims(layer).get(Lipschitz)
    if constant is None:
        raise ClaimError(message(f"no Lipschitz constant follows for {name} ({kind})", "a layer that claims one"))
    after = extent(layer, constant.bound, x, pixels)
    return LayerCertificate(name, kind, THEOREMS.get(kind, ""), constant.bound, after.error, after.norm), after


def _certify_flow(name: str, flow: Flow, x: Extent) -> tuple[FlowCertificate, Extent]:
    if not isinstance(flow.field, ConvexGradient):
        raise ClaimError(
            message(
                f"{name} is a flow of {type(flow.field).__name__}", "flows of ConvexGradient in a certified network"
            )
        )
    linear: LinearMap = flow.field.linear
    bound = linear.norm_bound()
    field_claims = flow.field.claims(lambda _: bound)
    limit = flow.integrator.step_limit(field_claims)
    if flow.follows and (limit is None or not flow.step_size <= limit):
        raise ClaimError(
            message(
                f"the step {flow.step_size!r} of {name} is longer than its limit {limit!r}",
                "a step frozen from the present weights",
                "Call net.train().eval(), which takes new steps.",
            )
        )
    step = flow.integrator.transfer(field_claims, flow.step_size).get(Lipschitz)
    if step is None:
        raise ClaimError(message(f"no Lipschitz constant follows for {name}", "an integrator that has a theorem"))
    after = flow_extent(flow, bound, step.bound, x)
    certificate = FlowCertificate(
        name=name,
        kind="Flow",
        theorem=flow.integrator.theorem if step.bound <= 1 else "Lipschitz bound of a step beyond the limit",
        lipschitz=1.0 if step.bound <= 1 else step.bound**flow.step_count * UP,
        rounding=after.error,
        output_norm=after.norm,
        field=type(flow.field).__name__,
        integrator=type(flow.integrator).__name__,
        linear=type(linear).__name__,
        activation=type(flow.field.activation).__name__,
        norm_bound=bound,
        norm_theorem=linear.norm_theorem,
        h=flow.step_size,
        steps=flow.step_count,
        step_limit=limit,
    )
    return certificate, after


THEOREMS = {
    "Identity": "isometry",
    "Flatten": "permutation: isometry",
    "PixelUnshuffle": "permutation: isometry",
    "PixelShuffle": "permutation: isometry",
    "Lift": "appends zeros: isometry",
    "ReLU": "non-decreasing with slopes in [0, 1]",
    "LeakyReLU": "non-decreasing with slopes in [0, 1]",
    "Tanh": "non-decreasing with slopes in [0, 1]",
    "AvgPool2d": "sums over disjoint windows of k pixels have norm sqrt(k)",
    "Normalise": "division by the standard deviation",
    "Linear": "largest singular value; margins use ||w_i - w_j|| per pair of classes",
    "NormalisedHead": "rows of norm 1; margins use ||w_i - w_j|| per pair of classes",
}
