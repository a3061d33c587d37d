"""From the configuration in a model file to a list of layers: the checker's own reading of every component type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .linear_maps import read_map
from .networks import NETWORKS, ode_net
from .read_flows import read_flow, without_gradient
from .strict import Rejected, entries, items, join, kind, natural, number

MAX_LAYERS = 10_000
ARGUMENTS = {
    "GroupSort": ("group_size",),
    "Abs": (),
    "Householder": ("channels",),
    "TruncatedHead": ("classes",),
    "Lift": ("in_channels", "out_channels"),
    "Normalise": ("mean", "std"),
    "NormalisedHead": ("in_features", "classes"),
    "torch.Linear": ("in_features", "out_features", "bias"),
    "torch.Identity": (),
    "torch.Flatten": ("start_dim", "end_dim"),
    "torch.PixelShuffle": ("upscale_factor",),
    "torch.PixelUnshuffle": ("downscale_factor",),
    "torch.AvgPool2d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "torch.ReLU": (),
    "torch.LeakyReLU": ("negative_slope",),
    "torch.Tanh": (),
}


@dataclass(frozen=True)
class Layer:
    """One layer of the list.

    Attributes:
        name: path of the module, e.g. "body.layers.3".
        kind: class name.
        given: its arguments, checked; "linear" is a `MapSpec`. Of a Flow: "linear", the class names "field" and
            "integrator", where the map and the biases lie ("at", "biases"), and, depending on the field, "activation"
            (a class name), "rate" and "outer" (a `MapSpec`), or "terms" (of a series, else None).
        tensors: shapes of its tensors by name.
    """

    name: str
    kind: str
    given: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]

    def path(self, name: str) -> str:
        """Full name of something inside the layer."""
        return join(self.name, name)


def layers(config: Any, name: str = "") -> list[Layer]:
    """The layers of a network in order, containers opened.

    Raises:
        Rejected: for a component that the checker does not know, by its name.
    """
    found: list[Layer] = []
    for layer in _walk(config, name):
        found.append(layer)
        if len(found) > MAX_LAYERS:
            raise Rejected(f"not covered by the checker: a network of over {MAX_LAYERS} layers")
    return found


def _walk(config: Any, name: str) -> Iterator[Layer]:
    what = name or "the network"
    type_ = kind(config, what)
    if type_ in ("Chain", "NeuralODE"):
        config = without_gradient(config, what)
    if type_ in ("Chain", "Sequential"):
        middle = "layers" if type_ == "Chain" else ""
        for i, part in enumerate(items(entries(config, ("type", "layers"), what)["layers"], what)):
            yield from _walk(part, join(name, middle, str(i)))
    elif type_ in COMPOSED:
        keys, parts = COMPOSED[type_]
        for i, part in enumerate(parts(entries(config, ("type", *keys), what))):
            yield from _walk(part, join(name, "body.layers", str(i)))
    elif type_ == "OdeNet":
        keys = ("type", "image_shape", "classes", "channels", "hidden", "time", "steps")
        for part in ode_net(entries(config, keys, what)):
            yield from _walk(part, join(name, "body"))
    elif type_ == "Flow":
        yield _flow(config, name, what)
    elif type_ == "Affine":
        yield _affine(config, name, what)
    elif type_ in ARGUMENTS:
        given = entries(config, ("type", *ARGUMENTS[type_]), what)
        yield _plain(type_.removeprefix("torch."), {k: v for k, v in given.items() if k != "type"}, name, what)
    else:
        raise Rejected(f"not covered by the checker: {what} is a {type_}")


def _flow(config: Any, name: str, what: str) -> Layer:
    spec, tensors = read_flow(config, what)
    return Layer(name, "Flow", spec, {join(name, key): shape for key, shape in tensors.items()})


def _affine(config: Any, name: str, what: str) -> Layer:
    linear = read_map(entries(config, ("type", "linear"), what)["linear"], f"{what}: linear")
    tensors = {join(name, "linear", key): shape for key, shape in linear.tensors.items()}
    return Layer(name, "Affine", {"linear": linear}, tensors | {join(name, "bias"): (linear.output_shape[0],)})


def _hybrid(given: dict[str, Any]) -> Iterator[Any]:
    """Steps of Euler's method along the gradient field, then of the given method along the skew field."""
    rest = {"time": given["time"], "h": None, "steps": None}
    yield {"type": "Flow", "field": given["gradient"], "integrator": {"type": "Euler"}, **rest}
    yield {"type": "Flow", "field": given["skew"], "integrator": given["integrator"], **rest}


def _neural_ode(given: dict[str, Any]) -> Iterator[Any]:
    """Lift, flow and head."""
    yield given["lift"]
    yield {"type": "Flow", "h": None, **{key: given[key] for key in ("field", "integrator", "time", "steps")}}
    yield given["head"]


COMPOSED: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], Iterator[Any]]]] = {
    **NETWORKS,
    "Hybrid": (("gradient", "skew", "integrator", "time"), _hybrid),
    "NeuralODE": (("lift", "field", "head", "time", "integrator", "steps", "input_shape"), _neural_ode),
}


def _plain(kind: str, given: dict[str, Any], name: str, what: str) -> Layer:
    """A layer that is not a Flow, with its arguments checked."""
    tensors: dict[str, tuple[int, ...]] = {}
    bias: Any = None
    if kind == "AvgPool2d":
        given = _pooling(given, what)
    elif kind == "Normalise":
        mean, std = items(given["mean"], f"{what}: mean"), items(given["std"], f"{what}: std")
        if len(mean) != len(std) or not std:
            raise Rejected(f"{what}: as many means as standard deviations are needed")
        signed = [m if not isinstance(m, bool) and isinstance(m, (int, float)) else None for m in mean]
        given = {
            "mean": [number(None if m is None else abs(m), f"{what}: mean") for m in signed],  # only norms matter
            "std": [number(s, f"{what}: std", positive=True) for s in std],
        }
    elif kind == "LeakyReLU":
        if number(given["negative_slope"], f"{what}: negative_slope") > 1:
            raise Rejected(f"{what}: negative_slope is above 1")
    elif kind == "Flatten":
        if (given["start_dim"], given["end_dim"]) != (1, -1):
            raise Rejected(f"not covered by the checker: {what} is a Flatten that mixes samples")
    else:
        bias = given.get("bias", True)
        if not (bias is None or isinstance(bias, bool)):
            raise Rejected(f"{what}: bias is not true, false or null")
        given = {key: natural(value, f"{what}: {key}") for key, value in given.items() if key != "bias"}
    if kind == "Lift" and given["out_channels"] < given["in_channels"]:
        raise Rejected(f"{what}: a Lift to fewer channels")
    if kind == "Householder":
        if given["channels"] % 2:
            raise Rejected(f"{what}: a Householder of an odd number of channels")
        tensors = {join(name, "angle"): (given["channels"] // 2,)}
    if kind in ("Linear", "NormalisedHead"):
        rows = given["out_features" if kind == "Linear" else "classes"]
        tensors = {join(name, "weight"): (rows, given["in_features"])}
        if bias:
            tensors[join(name, "bias")] = (rows,)
    return Layer(name, kind, given, tensors)


def _pooling(given: dict[str, Any], what: str) -> dict[str, Any]:
    """Window and divisor of an average pooling without overlap or padding."""

    def pair(key: str, least: int) -> list[int]:
        value = given[key] if isinstance(given[key], list) else [given[key]] * 2
        if len(value) != 2:
            raise Rejected(f"{what}: {key} is not a pair")
        return [natural(v, f"{what}: {key}", least=least) for v in value]

    window = pair("kernel_size", 1)
    plain = given["ceil_mode"] is False and isinstance(given["count_include_pad"], bool)
    if pair("stride", 1) != window or pair("padding", 0) != [0, 0] or not plain:
        raise Rejected(f"not covered by the checker: {what} is an AvgPool2d with overlapping or padded windows")
    divisor = window[0] * window[1] if given["divisor_override"] is None else given["divisor_override"]
    return {"window": window, "divisor": natural(divisor, f"{what}: divisor_override")}
