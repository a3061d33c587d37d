"""Shapes of the states between the layers, as far as the network determines them."""

from __future__ import annotations

import math

from .architecture import Layer
from .strict import Rejected

Shape = tuple[int, ...] | int | None  # of one sample; only its number of entries; unknown

KEEP = ("Identity", "ReLU", "LeakyReLU", "Tanh", "Normalise", "Abs", "GroupSort", "Householder")


def states(layers: list[Layer], given: tuple[int, ...] | None = None) -> list[Shape]:
    """Shapes before every layer and after the last one, for inputs of the shape `given`.

    Raises:
        Rejected: when two layers do not fit together.
    """
    shapes: list[Shape] = [given, *[None] * len(layers)]
    for _ in range(2):
        for i, layer in enumerate(layers):
            shapes[i] = _both(shapes[i], _needs(layer), layer)
            shapes[i + 1] = _both(shapes[i + 1], _after(layer, shapes[i]), layer)
        for i in reversed(range(len(layers))):
            shapes[i] = _both(shapes[i], _before(layers[i], shapes[i + 1]), layers[i])
    return shapes


def _both(one: Shape, other: Shape, layer: Layer) -> Shape:
    """What two pieces of knowledge say together."""
    if one is None or other is None:
        return other if one is None else one
    known, rest = (one, other) if isinstance(one, tuple) else (other, one)
    if known != rest and (isinstance(rest, tuple) or size(known) != rest):
        raise Rejected(f"{layer.name} ({layer.kind}) does not fit the layers around it: shape {one} or {other}")
    return known


def size(shape: tuple[int, ...] | int) -> int:
    """Number of entries."""
    return shape if isinstance(shape, int) else math.prod(shape)


def _needs(layer: Layer) -> Shape:
    """The input that the layer itself prescribes."""
    if layer.kind in ("Flow", "Affine"):
        return layer.given["linear"].input_shape
    return (layer.given["in_features"],) if layer.kind in ("Linear", "NormalisedHead") else None


def _after(layer: Layer, shape: Shape) -> Shape:
    """Shape after a layer."""
    given = layer.given
    if layer.kind in ("Linear", "NormalisedHead"):
        return (given["out_features" if layer.kind == "Linear" else "classes"],)
    if layer.kind == "Affine":
        return given["linear"].output_shape
    if layer.kind == "TruncatedHead":
        if shape is not None and (size(shape) < given["classes"] or (isinstance(shape, tuple) and len(shape) > 1)):
            raise Rejected(f"{layer.name} ({layer.kind}) does not fit states of shape {shape}")
        return (given["classes"],)
    if isinstance(shape, tuple) and layer.kind in ("GroupSort", "Householder"):
        channels = given["group_size" if layer.kind == "GroupSort" else "channels"]
        if shape[0] % channels or (layer.kind == "Householder" and shape[0] != channels):
            raise Rejected(f"{layer.name} ({layer.kind}) does not fit states of shape {shape}")
    if shape is None or layer.kind in KEEP or layer.kind == "Flow":
        return shape
    if layer.kind == "Flatten":
        return (size(shape),)
    if layer.kind == "Lift":
        return _lifted(shape, given["in_channels"], given["out_channels"], layer)
    if layer.kind == "PixelUnshuffle":
        return _shuffled(shape, given["downscale_factor"], layer, down=True)
    if layer.kind == "PixelShuffle":
        return _shuffled(shape, given["upscale_factor"], layer, down=False)
    assert layer.kind == "AvgPool2d"
    if isinstance(shape, int):
        return None
    if len(shape) != 3 or any(s < w for s, w in zip(shape[1:], given["window"], strict=True)):
        raise Rejected(f"{layer.name} ({layer.kind}) does not fit states of shape {shape}")
    return (shape[0], *(s // w for s, w in zip(shape[1:], given["window"], strict=True)))


def _before(layer: Layer, shape: Shape) -> Shape:
    """What the shape after a layer says about the one before it."""
    given = layer.given
    if shape is None or layer.kind in KEEP:
        return shape
    if layer.kind == "Flatten":
        return size(shape)
    if layer.kind == "Lift":
        return _lifted(shape, given["out_channels"], given["in_channels"], layer)
    if layer.kind == "PixelUnshuffle":
        return _shuffled(shape, given["downscale_factor"], layer, down=False)
    if layer.kind == "PixelShuffle":
        return _shuffled(shape, given["upscale_factor"], layer, down=True)
    return None  # a Flow and an affine layer prescribe it; a head drops features; a pooling may drop a border


def _lifted(shape: tuple[int, ...] | int, old: int, new: int, layer: Layer) -> Shape:
    first = shape if isinstance(shape, int) else shape[0]
    if first % old or (first != old and not isinstance(shape, int)):
        raise Rejected(f"{layer.name} ({layer.kind}) does not fit states of shape {shape}")
    return shape // old * new if isinstance(shape, int) else (new, *shape[1:])


def _shuffled(shape: tuple[int, ...] | int, k: int, layer: Layer, *, down: bool) -> Shape:
    if isinstance(shape, int):
        return shape
    if len(shape) != 3 or (any(s % k for s in shape[1:]) if down else shape[0] % (k * k)):
        raise Rejected(f"{layer.name} ({layer.kind}) does not fit states of shape {shape}")
    c, h, w = shape
    return (c * k * k, h // k, w // k) if down else (c // (k * k), h * k, w * k)
