"""The checker's own reading of flows: from a description to the numbers that a proof needs."""

from __future__ import annotations

from typing import Any

from .linear_maps import read_map
from .runge_kutta import METHODS
from .strict import Rejected, entries, kind, natural, number

MAX_TERMS = 100


def read_flow(config: Any, what: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """What a flow consists of (see `architecture.Layer.given`), and the shapes of its tensors by name.

    Raises:
        Rejected: for a field or a method that the checker does not know, by its name.
    """
    given = entries(config, ("type", "field", "integrator", "time", "h", "steps"), what)
    for key in ("time", "h"):
        if given[key] is not None:
            number(given[key], f"{what}: {key}", positive=True)
    if given["steps"] is not None:
        natural(given["steps"], f"{what}: steps")
    absent = [given[key] is None for key in ("time", "h", "steps")]
    if all(absent) or not any(absent[:2]):
        raise Rejected(f"{what} has no step, or two")
    field = kind(given["field"], f"{what}: field")
    if field not in ("ConvexGradient", "SkewLinear"):
        raise Rejected(f"not covered by the checker: {what} is a Flow of a {field}")
    spec = (_gradient if field == "ConvexGradient" else _skew)(given, what)
    linear = spec["linear"]
    tensors = {f"field.linear.{key}": shape for key, shape in linear.tensors.items()}
    if field == "ConvexGradient":
        tensors["field.bias"] = (linear.output_shape[0],)
    return {"field": field} | spec, tensors


def _gradient(flow: dict[str, Any], what: str) -> dict[str, Any]:
    field = entries(flow["field"], ("type", "linear", "activation"), f"{what}: field")
    integrator = kind(flow["integrator"], f"{what}: integrator")
    if integrator not in METHODS:
        raise Rejected(f"not covered by the checker: {what} is a Flow with {integrator}")
    entries(flow["integrator"], ("type",), f"{what}: integrator")
    activation = kind(field["activation"], f"{what}: activation")
    if activation not in ("ReLU", "LeakyReLU", "Tanh", "Softplus"):
        raise Rejected(f"not covered by the checker: {what} is a Flow with the activation {activation}")
    leaky = ("negative_slope",) if activation == "LeakyReLU" else ()
    slope = entries(field["activation"], ("type", *leaky), f"{what}: activation")
    if leaky and number(slope["negative_slope"], f"{what}: negative_slope") > 1:
        raise Rejected(f"{what}: negative_slope is above 1")
    linear = read_map(field["linear"], f"{what}: linear")
    return {"linear": linear, "activation": activation, "integrator": integrator}


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
    return {"linear": linear, "integrator": integrator, "terms": terms}
