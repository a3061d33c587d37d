"""The checker's own reading of linear maps: from a description to shapes, and to a map with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .maps import Conv, Dense, Map
from .model_file import ModelFile
from .strict import Rejected, entries, items, kind, natural


@dataclass(frozen=True)
class MapSpec:
    """A linear map as the model file describes it.

    Attributes:
        kind: class name.
        given: its arguments, checked.
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
    if type_ == "Dense":
        return _dense(config, what)
    if type_ == "Conv2d":
        return _conv2d(config, what)
    raise Rejected(f"not covered by the checker: {what} is a {type_}")


def _dense(config: Any, what: str) -> MapSpec:
    given = entries(config, ("type", "in_features", "out_features"), what)
    n, m = natural(given["in_features"], what), natural(given["out_features"], what)
    return MapSpec("Dense", given, {"weight": (m, n), "singular_vector": (1, n)}, (n,), (m,))


def _conv2d(config: Any, what: str) -> MapSpec:
    keys = ("type", "in_channels", "out_channels", "kernel_size", "image_size", "padding")
    given = entries(config, keys, what)
    c, o, k = (natural(given[key], f"{what}: {key}") for key in keys[1:4])
    size = [natural(n, f"{what}: image_size") for n in items(given["image_size"], f"{what}: image_size")]
    if len(size) != 2 or k % 2 == 0 or given["padding"] not in ("zero", "circular"):
        raise Rejected(f"not covered by the checker: {what} with image_size={size}, kernel_size={k}, padding")
    if given["padding"] == "circular" and min(size) < k:
        raise Rejected(f"not covered by the checker: {what} has a circular kernel larger than its image")
    tensors = {"weight": (o, c, k, k), "singular_vector": (1, c, *size)}
    return MapSpec("Conv2d", given, tensors, (c, *size), (o, *size))


def build_map(spec: MapSpec, model: ModelFile, prefix: str) -> Map:
    """The map with its weights, which are in the model file under `prefix`."""
    weight = model.tensor(f"{prefix}.weight")
    if spec.kind == "Dense":
        return Dense(weight)
    return Conv(weight, (spec.input_shape[1], spec.input_shape[2]), spec.given["padding"] == "circular")
