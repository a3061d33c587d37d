"""The checker's own reading of linear maps: from a description to shapes, and to a map with its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .convolutions import PADDINGS, Conv, Side
from .derived import almost_orthogonal, skew
from .maps import Dense, Map
from .model_file import ModelFile
from .strict import Rejected, entries, items, kind, natural


@dataclass(frozen=True)
class MapSpec:
    """A linear map as the model file describes it.

    Attributes:
        kind: class name.
        given: its arguments, checked; of a convolution also "sides" and "groups", of an `AlmostOrthogonal` the
            "linear" map inside as a `MapSpec`.
        tensors: shapes of its tensors, by their names within the map.
        input_shape, output_shape: of one sample.
    """

    kind: str
    given: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def read_map(config: Any, what: str) -> MapSpec:
    """The map that a description gives.

    Raises:
        Rejected: for a map that the checker does not know, by its name.
    """
    type_ = kind(config, what)
    if type_ not in READERS:
        raise Rejected(f"not covered by the checker: {what} is a {type_}")
    return READERS[type_](config, what)


def _dense(config: Any, what: str) -> MapSpec:
    given = entries(config, ("type", "in_features", "out_features"), what)
    n, m = natural(given["in_features"], what), natural(given["out_features"], what)
    return MapSpec("Dense", given, {"weight": (m, n), "singular_vector": (1, n)}, (n,), (m,))


def _skew_dense(config: Any, what: str) -> MapSpec:
    given = entries(config, ("type", "features"), what)
    n = natural(given["features"], what)
    return MapSpec("SkewDense", given, {"raw": (n, n), "singular_vector": (1, n)}, (n,), (n,))


def _conv2d(config: Any, what: str) -> MapSpec:
    keys = ("in_channels", "out_channels", "kernel_size", "image_size", "padding", "stride", "dilation", "groups")
    given = entries(config, ("type", *keys), what)
    return _convolution(given, given["image_size"], what)


def _conv1d(config: Any, what: str) -> MapSpec:
    keys = ("in_channels", "out_channels", "kernel_size", "length", "padding", "stride", "dilation", "groups")
    given = entries(config, ("type", *keys), what)
    return _convolution(given, given["length"], what, flat=True)


def _skew_conv2d(config: Any, what: str) -> MapSpec:
    given = entries(config, ("type", "channels", "kernel_size", "image_size", "padding"), what)
    if given["padding"] == "reflect" or any(k % 2 == 0 for k in _numbers(given["kernel_size"], 2, what)):
        raise Rejected(f"{what} would not be skew-symmetric")
    rest = {
        "in_channels": given["channels"],
        "out_channels": given["channels"],
        "stride": 1,
        "dilation": 1,
        "groups": 1,
    }
    return _convolution(given | rest, given["image_size"], what, weight="raw")


def _numbers(value: Any, count: int, what: str) -> list[int]:
    """One number, or as many as there are dimensions."""
    values = items(value, what) if isinstance(value, list) else [value] * count
    if len(values) != count:
        raise Rejected(f"{what}: {len(values)} numbers for {count} dimensions")
    return [natural(v, what) for v in values]


def _convolution(given: dict[str, Any], size: Any, what: str, *, flat: bool = False, weight: str = "weight") -> MapSpec:
    """A convolution whose kernel is the tensor `weight`; with one dimension when `flat`."""
    c, o, groups = (natural(given[key], f"{what}: {key}") for key in ("in_channels", "out_channels", "groups"))
    dimensions, padding = 1 if flat else 2, given["padding"]
    if padding not in PADDINGS or c % groups or o % groups:
        raise Rejected(
            f"not covered by the checker: {what} with padding={padding!r}, {c} to {o} channels, {groups} groups"
        )
    sides: list[Side] = []
    columns = [size, given["kernel_size"], given["stride"], given["dilation"]]
    for n, k, s, d in zip(*(_numbers(column, dimensions, what) for column in columns), strict=True):
        side = Side(n, k, s, d, padding)
        if side.reach > 10**6:
            raise Rejected(f"not covered by the checker: {what} has a kernel that spans {side.reach + 1} points")
        if padding == "circular" and (n <= side.reach or n % s):
            raise Rejected(f"not covered by the checker: {what} has a circular kernel that does not fit its image")
        if padding == "reflect" and n <= side.reach - side.reach // 2:
            raise Rejected(f"{what} mirrors more points than there are")
        sides.append(side)
    tensors = {weight: (o, c // groups, *(s.kernel for s in sides)), "singular_vector": (1, c, *(s.n for s in sides))}
    shapes = (c, *(s.n for s in sides)), (o, *(s.outputs for s in sides))
    return MapSpec(given["type"], given | {"sides": sides, "groups": groups}, tensors, *shapes)


def _almost_orthogonal(config: Any, what: str) -> MapSpec:
    given = entries(config, ("type", "linear"), what)
    inner = read_map(given["linear"], f"{what}: linear")
    plain = inner.kind == "Dense" or all(s.stride == 1 and s.padding != "reflect" for s in inner.given.get("sides", ()))
    if inner.kind not in ("Dense", "Conv1d", "Conv2d") or not plain:
        raise Rejected(
            f"not covered by the checker: {what} rescales a {inner.kind} of a kind for which there is no theorem"
        )
    tensors = {f"linear.{name}": shape for name, shape in inner.tensors.items()}
    tensors["log_q"] = (inner.output_shape[0],)
    shapes = inner.input_shape, inner.output_shape
    return MapSpec("AlmostOrthogonal", inner.given | {"linear": inner}, tensors, *shapes)


READERS: dict[str, Callable[[Any, str], MapSpec]] = {
    "Dense": _dense,
    "Conv1d": _conv1d,
    "Conv2d": _conv2d,
    "SkewDense": _skew_dense,
    "SkewConv2d": _skew_conv2d,
    "AlmostOrthogonal": _almost_orthogonal,
}


def build_map(spec: MapSpec, model: ModelFile, prefix: str) -> Map:
    """The map with its weights, which are in the model file under `prefix`.

    Raises:
        Rejected: when a weight that is computed from others is not determined well enough.
    """
    if spec.kind.startswith("Skew"):
        return _with_weight(spec, skew(model.tensor(f"{prefix}.raw")))
    if spec.kind == "AlmostOrthogonal":
        inner: MapSpec = spec.given["linear"]
        tensors = model.tensor(f"{prefix}.linear.weight"), model.tensor(f"{prefix}.log_q")
        weight, deviation = almost_orthogonal(*tensors, inner.given.get("groups", 1), prefix)
        return _with_weight(inner, weight, deviation)
    return _with_weight(spec, model.tensor(f"{prefix}.weight"))


def _with_weight(spec: MapSpec, weight: np.ndarray, deviation: float = 0.0) -> Map:
    if weight.ndim == 2:
        return Dense(weight, deviation)
    sides, groups = spec.given["sides"], spec.given["groups"]
    if len(sides) == 1:
        sides, weight = [*sides, Side(1, 1, 1, 1, sides[0].padding)], weight[..., None]
    return Conv(weight, (sides[0], sides[1]), groups, deviation=deviation, flat=spec.input_shape[1:] == (sides[0].n,))
