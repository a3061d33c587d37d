"""The checker's own reading of flows: from a description to the parts that a proof needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .linear_maps import read_map
from .runge_kutta import METHODS
from .strict import Rejected, entries, kind, natural, number

MAX_TERMS = 100
ACTIVATIONS: dict[str, tuple[str, ...]] = {"ReLU": (), "LeakyReLU": ("negative_slope",), "Tanh": (), "Softplus": ()}
# ways to differentiate steps: none of them changes the map
GRADIENTS: dict[str, tuple[str, ...]] = {
    "Backpropagation": (),
    "Checkpointed": ("pieces",),
    "DiscreteAdjoint": ("together",),
    "Reversible": ("anchors", "tolerance"),
    "ContinuousAdjoint": (),
}


def without_gradient(config: Any, what: str) -> Any:
    """A description without the way to differentiate, which only describes how the network was trained."""
    if not isinstance(config, dict) or "gradient" not in config:
        return config
    type_ = kind(config["gradient"], f"{what}: gradient")
    if type_ not in GRADIENTS:
        raise Rejected(f"not covered by the checker: {what} is differentiated by {type_}")
    entries(config["gradient"], ("type", *GRADIENTS[type_]), f"{what}: gradient")
    return {key: value for key, value in config.items() if key != "gradient"}


def read_flow(config: Any, what: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """What a flow consists of (see `architecture.Layer.given`), and the shapes of its tensors by name.

    Raises:
        Rejected: for a field or a method that the checker does not know, by its name.
    """
    keys = ("type", "field", "integrator", "time", "h", "steps")
    given = entries(without_gradient(config, what), keys, what)
    for key in ("time", "h"):
        if given[key] is not None:
            number(given[key], f"{what}: {key}", positive=True)
    if given["steps"] is not None:
        natural(given["steps"], f"{what}: steps")
    absent = [given[key] is None for key in ("time", "h", "steps")]
    if all(absent) or not any(absent[:2]):
        raise Rejected(f"{what} has no step, or two")
    field = kind(given["field"], f"{what}: field")
    if field not in READERS:
        raise Rejected(f"not covered by the checker: {what} is a Flow of a {field}")
    spec: dict[str, Any] = {"field": field, **READERS[field](given, what)}
    tensors = {f"{spec['at']}.{key}": shape for key, shape in spec["linear"].tensors.items()}
    if "outer" in spec:
        tensors |= {f"field.outer.{key}": shape for key, shape in spec["outer"].tensors.items()}
    for name in spec["biases"]:
        tensors[name] = (spec["linear"].output_shape[0],)
    return spec, tensors


def _gradient(flow: dict[str, Any], what: str) -> dict[str, Any]:
    """-A^T sigma(A x + b)."""
    field = entries(flow["field"], ("type", "linear", "activation"), f"{what}: field")
    linear = read_map(field["linear"], f"{what}: linear")
    parts = {"linear": linear, "at": "field.linear", "biases": ("field.bias",), "rate": 0.0}
    return parts | _method(flow, field, what)


def _contracting(flow: dict[str, Any], what: str) -> dict[str, Any]:
    """-rate x - A^T sigma(A x + b)."""
    field = entries(flow["field"], ("type", "gradient", "rotation", "rate"), f"{what}: field")
    if field["rotation"] is not None:
        raise Rejected(f"not covered by the checker: {what} is a Flow of a Contracting field with a rotation")
    if kind(field["gradient"], f"{what}: gradient") != "ConvexGradient":
        raise Rejected(f"{what}: a Contracting field of something else than a ConvexGradient")
    inner = _gradient(flow | {"field": field["gradient"]}, what)
    rate = number(field["rate"], f"{what}: rate", positive=True)
    return inner | {"at": "field.gradient.linear", "biases": ("field.gradient.bias",), "rate": rate}


def _timed(flow: dict[str, Any], what: str) -> dict[str, Any]:
    """B^T sigma(A x + b + t v)."""
    field = entries(flow["field"], ("type", "inner", "outer", "activation"), f"{what}: field")
    inner, outer = (read_map(field[key], f"{what}: {key}") for key in ("inner", "outer"))
    if (inner.input_shape, inner.output_shape) != (outer.input_shape, outer.output_shape):
        raise Rejected(f"{what}: the shapes of its two linear maps differ")
    parts = {"linear": inner, "outer": outer, "at": "field.inner", "biases": ("field.bias", "field.drift"), "rate": 0.0}
    return parts | _method(flow, field, what)


def _method(flow: dict[str, Any], field: dict[str, Any], what: str) -> dict[str, Any]:
    """The names of an explicit Runge-Kutta method and of an activation with slopes in [0, 1]."""
    integrator = kind(flow["integrator"], f"{what}: integrator")
    if integrator not in METHODS:
        raise Rejected(f"not covered by the checker: {what} is a Flow with {integrator}")
    entries(flow["integrator"], ("type",), f"{what}: integrator")
    activation = kind(field["activation"], f"{what}: activation")
    if activation not in ACTIVATIONS:
        raise Rejected(f"not covered by the checker: {what} is a Flow with the activation {activation}")
    slope = entries(field["activation"], ("type", *ACTIVATIONS[activation]), f"{what}: activation")
    if "negative_slope" in slope and number(slope["negative_slope"], f"{what}: negative_slope") > 1:
        raise Rejected(f"{what}: negative_slope is above 1")
    return {"activation": activation, "integrator": integrator}


def _skew(flow: dict[str, Any], what: str) -> dict[str, Any]:
    field = entries(flow["field"], ("type", "linear"), f"{what}: field")
    linear = read_map(field["linear"], f"{what}: linear")
    if linear.kind not in ("SkewDense", "SkewConv2d"):
        raise Rejected(f"{what}: SkewLinear of a {linear.kind}")
    integrator, terms = kind(flow["integrator"], f"{what}: integrator"), None
    if integrator == "Exponential":
        terms = natural(entries(flow["integrator"], ("type", "terms"), f"{what}: integrator")["terms"], what)
        if terms > MAX_TERMS:
            raise Rejected(f"not covered by the checker: {what} with over {MAX_TERMS} terms")
    elif integrator == "Cayley":
        entries(flow["integrator"], ("type",), f"{what}: integrator")
        if linear.given.get("padding") == "circular":
            raise Rejected(f"not covered by the checker: {what} solves systems by Fourier transforms")
    else:
        raise Rejected(f"not covered by the checker: {what} is a Flow of SkewLinear with {integrator}")
    return {"linear": linear, "integrator": integrator, "terms": terms, "at": "field.linear", "biases": ()}


READERS: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
    "ConvexGradient": _gradient,
    "Contracting": _contracting,
    "TimedTwoLayer": _timed,
    "SkewLinear": _skew,
}
