"""Flows: what the certificate says of their steps, proved again from the weights."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from fractions import Fraction as Q
from typing import Any

from . import rounding, skew
from .architecture import Layer
from .linear_maps import MapSpec, build_map
from .maps import Map
from .model_file import ModelFile
from .rounding import Bound
from .runge_kutta import METHODS, Method, power
from .strict import Rejected, natural, number

MAX_STEPS, MOST_STEPS = 100_000, 1_000_000  # of a flow, and of all flows together: about a minute
LARGEST = Q(sys.float_info.max)
TIME = 10  # roundings of t v, of its addition to A x + b, and of t = (i + c) h itself: five, doubled


@dataclass(frozen=True)
class Steps:
    """What is known of every flow: its linear map, a proved bound of the norm, step size and number of steps."""

    linear: Map
    norm: float
    h: float
    count: int


def prove_flow(layer: Layer, claim: dict[str, Any], model: ModelFile, before: Bound, what: str) -> tuple[Q, Bound]:
    """Prove the claims on a flow, as `proofs.prove_layer` does for other layers.

    The norm bound, steps and names are checked here; what follows for the step depends on the field.
    """
    for key in ("field", "integrator", "terms", "activation", "rate"):
        if key in claim and (claim[key] != layer.given[key] or isinstance(claim[key], bool)):
            raise Rejected(f"{what}: the certificate says {key} {claim[key]!r}, the network has {layer.given[key]}")
    for key in ("linear", "outer"):
        if key in claim and claim[key] != (known := layer.given[key].kind):
            raise Rejected(f"{what}: the certificate says {key} {claim[key]!r}, the network has {known}")
    h, steps = frozen(layer, model)
    if number(claim["h"], f"{what}: h", positive=True) != h or natural(claim["steps"], f"{what}: steps") != steps:
        raise Rejected(f"{what}: h, steps are {claim['h']!r}, {claim['steps']} but the model's are {h!r}, {steps}")
    if steps > MAX_STEPS:
        raise Rejected(f"not covered by the checker: {what} with over {MAX_STEPS} steps")
    norm, linear = _norm(layer.given["linear"], claim["norm_bound"], model, layer.path(layer.given["at"]), what)
    known = Steps(linear, norm, h, steps)
    if layer.given["field"] == "SkewLinear":
        return _skew(layer.given["terms"], claim, known, before, what)
    return _two_layer(layer, claim, model, known, before, what)


def _norm(spec: MapSpec, claimed: Any, model: ModelFile, name: str, what: str) -> tuple[float, Map]:
    """A claimed bound of a map's norm, proved; and the map."""
    norm, linear = number(claimed, f"{what}: norm_bound"), build_map(spec, model, name)
    if not linear.proves(norm):
        raise Rejected(f"{what}: the norm bound {norm!r} cannot be proved")
    return norm, linear


def _two_layer(
    layer: Layer, claim: dict[str, Any], model: ModelFile, known: Steps, before: Bound, what: str
) -> tuple[Q, Bound]:
    """Steps of a Runge-Kutta method along a field of two layers; the slopes of activations are at most 1."""
    given, method = layer.given, METHODS[layer.given["integrator"]]
    biases = [model.tensor(layer.path(name)) for name in given["biases"]]
    inner, outer, outer_norm, lengths = known.linear, known.linear, known.norm, known.linear.lengths
    bias = inner.spread(biases[0])
    if given["field"] == "TimedTwoLayer":
        outer_norm, outer = _norm(
            given["outer"], claim["outer_norm_bound"], model, layer.path("field.outer"), f"{what}: outer"
        )
        bias += known.h * known.count * inner.spread(biases[1]) * (1 + 2.0**-40)
        lengths = lengths[0] + TIME, outer.lengths[1]
    rate = Q(given["rate"])
    smoothness = Q(known.norm) * Q(outer_norm) + rate
    if given["field"] == "TimedTwoLayer":  # no gradient, nor a monotone field
        if claim["step_limit"] is not None:
            raise Rejected(f"{what}: the step limit is {claim['step_limit']!r}, but the method has none on this field")
        one = 1 + method.increment(Q(known.h) * smoothness)
    else:
        _prove_limit(claim["step_limit"], method, smoothness, what)
        one = method.lipschitz(Q(known.h) * smoothness, Q(known.h) * rate)
    field = rounding.Field(
        norm=known.norm,
        outer_norm=outer_norm,
        absolute=inner.absolute(),
        outer_absolute=outer.absolute(),
        bias=bias,
        lengths=lengths,
        at_zero=rounding.AT_ZERO[given["activation"]] * math.sqrt(math.prod(inner.output_shape)),
        relative=rounding.ERRORS[given["activation"]],
        rate=given["rate"],
    )
    r, e = before
    for _ in range(known.count):
        r, e = rounding.step(method, field, known.h, _up(one), r, e)
    return power(one, known.count), (r, e)


def _skew(terms: int | None, claim: dict[str, Any], known: Steps, before: Bound, what: str) -> tuple[Q, Bound]:
    """Steps along S x, S skew-symmetric: partial sums of the exponential series, or Cayley transforms (no `terms`)."""
    limit, h, norm, absolute = claim["step_limit"], known.h, known.norm, known.linear.absolute()
    if terms is None:
        one, far = Q(1), Q(0)
        relative = skew.cayley_error(math.prod(known.linear.input_shape), h, norm, absolute)
        if limit is not None:
            raise Rejected(f"{what}: the step limit is {limit!r}, but the method has none")
    else:
        one, far = skew.values(terms, Q(h) * Q(norm))
        relative = skew.series_error(terms, h, norm, absolute, known.linear.lengths[0])
        if limit is None:
            if skew.values(terms, Q(1))[0] <= 1:
                raise Rejected(f"{what}: step_limit is null, but the method has one")
        else:
            longest = Q(number(limit, f"{what}: step_limit", positive=True))
            if skew.values(terms, longest * Q(norm))[0] > 1:
                raise Rejected(f"{what}: steps up to the step limit {limit!r} are not proved non-expansive")
    if Q(number(claim["deviation"], f"{what}: deviation")) < far:
        raise Rejected(f"{what}: the deviation {claim['deviation']!r} is below the proved {float(far)!r}")
    if relative is None:
        raise Rejected(f"not covered by the checker: {what} with ||h S / 2|| as large as {h / 2 * norm:.3g}")
    r, e = before
    for _ in range(known.count):
        r, e = rounding.linear_step(_up(one), relative, r, e)
    return power(one, known.count), (r, e)


def _up(constant: Q) -> float:
    """A float of at least a Lipschitz constant; infinity for one that is too large."""
    if constant > LARGEST:
        return math.inf
    return float(constant) if constant == 1 else math.nextafter(float(constant), math.inf)


def _prove_limit(limit: Any, method: Method, smoothness: Q, what: str) -> None:
    """The claimed step limit must be one that the contractivity of the method proves; null where it proves none."""
    largest = 2 * method.radius()
    if limit is None:
        if largest and float(smoothness) > 0:
            raise Rejected(f"{what}: step_limit is null, but the method has one")
    elif not Q(number(limit, f"{what}: step_limit", positive=True)) * smoothness <= largest:
        raise Rejected(f"{what}: the step limit {limit!r} is above the proved {float(largest / smoothness)!r}")


def affordable_steps(network: list[Layer], model: ModelFile) -> None:
    """Raise Rejected when all flows together take so many steps that a proof, step by step, would not end."""
    if sum(frozen(layer, model)[1] for layer in network if layer.kind == "Flow") > MOST_STEPS:
        raise Rejected(f"not covered by the checker: flows with over {MOST_STEPS} steps together")


def frozen(layer: Layer, model: ModelFile) -> tuple[float, int]:
    """Frozen step size and number of steps of a Flow."""
    what = f"the frozen steps of {layer.name}"
    state = model.extra[layer.path("_extra_state")]
    if not isinstance(state, dict) or sorted(state) != ["step_count", "step_size"]:
        raise Rejected(f"{what} are not a step_size and a step_count")
    return number(state["step_size"], what, positive=True), natural(state["step_count"], what)
