"""The checker's own reading of the named architectures: from a network's arguments to the layers of its body."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from .strict import Rejected, items, natural, number

Given = dict[str, Any]
MOST_WIDTHS = 53  # halvings of an image whose sides are integers that the checker reads


def non_expansive_net(given: Given) -> Iterator[Any]:
    """The descriptions of the layers of a `NonExpansiveNet`: patches to channels, blocks, dense blocks, head."""
    c, size = yield from _patches(given, lambda c, size: _step(_conv(c, given["hidden"], size), given["time"]))
    yield from _dense_part(c * size[0] * size[1], given, given["time"])
    yield _normalised_head(c * size[0] * size[1], given)


def certified_net(given: Given) -> Iterator[Any]:
    """Those of a `CertifiedNet`: a mean subtracted, patches to channels, steps as wide as the state, dense steps."""
    yield from _mean(given)
    c, size = yield from _patches(given, lambda c, size: _step(_conv(c, c, size)))
    yield from _dense_part(c * size[0] * size[1], given)
    yield _normalised_head(c * size[0] * size[1], given)


def convex_potential_net(given: Given) -> Iterator[Any]:
    """Those of a `ConvexPotentialNet`: lifts, steps and poolings, dense steps, either head."""
    yield from _mean(given)
    patch = natural(given["patch"], "patch")
    c, size = _image(given)
    for count, width in _stages(given):
        if any(s % patch for s in size):
            raise Rejected(f"an image of {size} cannot be cut into patches of {patch}")
        before, c = c, natural(width, "channels", least=c)
        yield {"type": "Lift", "in_channels": before, "out_channels": c}
        for _ in range(count):
            yield _step(_conv(c, given["hidden"], size))
        window = {"kernel_size": patch, "stride": patch, "padding": 0, "divisor_override": patch}
        yield {"type": "torch.AvgPool2d", **window, "ceil_mode": False, "count_include_pad": True}
        size = [s // patch for s in size]
    yield from _dense_part(c * size[0] * size[1], given)
    if not isinstance(given["truncated_head"], bool):
        raise Rejected("truncated_head is not true or false")
    if given["truncated_head"]:
        yield {"type": "TruncatedHead", "classes": given["classes"]}
    else:
        yield _normalised_head(c * size[0] * size[1], given)


def lipschitz_mlp(given: Given) -> Iterator[Any]:
    """Those of a `LipschitzMLP`: rescaled matrices with MaxMin after each, head."""
    c, size = _image(given)
    features = c * size[0] * size[1]
    yield {"type": "torch.Flatten", "start_dim": 1, "end_dim": -1}
    for _ in range(natural(given["dense_blocks"], "dense_blocks", least=0)):
        dense = {"type": "Dense", "in_features": features, "out_features": given["dense_width"]}
        yield {"type": "Affine", "linear": {"type": "AlmostOrthogonal", "linear": dense}}
        yield {"type": "GroupSort", "group_size": 2}
        features = natural(given["dense_width"], "dense_width")
    yield _normalised_head(features, given)


def conv_net(given: Given) -> Iterator[Any]:
    """Those of a `ConvNet`: strided 5 x 5 convolutions, then 3 x 3 convolutions, a ReLU after each, a linear head."""
    depth = natural(given["depth"], "depth", least=0)
    c, size = yield from _convolutions(given, itertools.repeat((given["hidden"], 3, 1), depth))
    yield from _linear(c * size[0] * size[1], given["classes"])


def contracting_net(given: Given) -> Iterator[Any]:
    """Those of a `ContractingNet`: strided convolutions, linear features, a contracting flow, a linear head."""
    c, size = yield from _convolutions(given)
    width = natural(given["dense_width"], "dense_width")
    yield from _linear(c * size[0] * size[1], width)
    time, rate = (number(given[key], key, positive=True) for key in ("time", "rate"))
    linear = {"type": "AlmostOrthogonal", "linear": {"type": "Dense", "in_features": width, "out_features": width}}
    gradient = {"type": "ConvexGradient", "linear": linear, "activation": {"type": "ReLU"}}
    field = {"type": "Contracting", "gradient": gradient, "rotation": None, "rate": rate}
    steps = math.ceil(min((1 + rate) * time, 1e9))
    yield {"type": "Flow", "field": field, "integrator": {"type": "Euler"}, "time": time, "h": None, "steps": steps}
    yield _head(width, given["classes"])


def ode_net(given: Given) -> Iterator[Any]:
    """The one part of an `OdeNet`, a `NeuralODE`: strided convolutions, the flow of a residual branch, linear head."""
    if not 0 < len(items(given["channels"], "channels")) <= MOST_WIDTHS:
        raise Rejected(f"channels has {len(given['channels'])} widths; an image is halved at most {MOST_WIDTHS} times")
    lift = list(_convolutions(given))
    last = lift[-2]["linear"]
    c, size = last["out_channels"], [-(-s // 2) for s in last["image_size"]]
    maps = {name: _conv(c, given["hidden"], size) for name in ("inner", "outer")}
    yield {
        "type": "NeuralODE",
        "lift": {"type": "Sequential", "layers": lift},
        "field": {"type": "TimedTwoLayer", **maps, "activation": {"type": "ReLU"}},
        "head": {"type": "Sequential", "layers": list(_linear(c * size[0] * size[1], given["classes"]))},
        "integrator": {"type": "RK4"},
        "time": given["time"],
        "steps": given["steps"],
        "input_shape": given["image_shape"],
    }


def _convolutions(
    given: Given, more: Iterable[tuple[Any, int, int]] = ()
) -> Generator[Any, None, tuple[int, list[int]]]:
    """Strided 5 x 5 convolutions and `more` (width, kernel, stride), a ReLU after each; the channels and size after."""
    c, size = _image(given)
    strided = ((width, 5, 2) for width in items(given["channels"], "channels"))
    for width, kernel, stride in itertools.chain(strided, more):
        yield {"type": "Affine", "linear": _conv(c, width, size, kernel=kernel, stride=stride)}
        yield {"type": "torch.ReLU"}
        c, size = natural(width, "width"), [-(-s // stride) for s in size]
    return c, size


def _linear(features: int, outputs: Any) -> Iterator[Any]:
    """All entries in a row, and a linear layer."""
    yield {"type": "torch.Flatten", "start_dim": 1, "end_dim": -1}
    yield _head(features, outputs)


def _head(features: int, outputs: Any) -> Given:
    return {"type": "torch.Linear", "in_features": features, "out_features": outputs, "bias": True}


def _image(given: Given) -> tuple[int, list[int]]:
    """Channels, and height and width."""
    shape = [natural(n, "image_shape") for n in items(given["image_shape"], "image_shape")]
    if len(shape) != 3:
        raise Rejected(f"image_shape {shape} is not channels, height and width")
    return shape[0], shape[1:]


def _stages(given: Given) -> list[tuple[int, Any]]:
    """Number of blocks and width (None: as it comes) of each stage."""
    blocks = [natural(n, "blocks", least=0) for n in items(given["blocks"], "blocks")]
    widths = given["channels"]
    widths = [None] * len(blocks) if widths is None else items(widths, "channels")
    if len(widths) != len(blocks):
        raise Rejected("channels and blocks do not fit together")
    return list(zip(blocks, widths, strict=True))


def _patches(given: Given, block: Callable[[int, list[int]], Given]) -> Iterator[Any]:
    """The layers of the convolutional part whose stages turn patches into channels; the channels and size after it."""
    patch = natural(given["patch"], "patch")
    c, size = _image(given)
    for count, width in _stages(given):
        if any(s % patch for s in size):
            raise Rejected(f"an image of {size} cannot be cut into patches of {patch}")
        c, size = c * patch * patch, [s // patch for s in size]
        yield {"type": "torch.PixelUnshuffle", "downscale_factor": patch}
        if width is not None and natural(width, "channels", least=c) > c:
            yield {"type": "Lift", "in_channels": c, "out_channels": width}
            c = width
        for _ in range(count):
            yield block(c, size)
    return c, size


def _dense_part(features: int, given: Given, time: Any = None) -> Iterator[Any]:
    yield {"type": "torch.Flatten", "start_dim": 1, "end_dim": -1}
    for _ in range(natural(given["dense_blocks"], "dense_blocks", least=0)):
        yield _step({"type": "Dense", "in_features": features, "out_features": given["dense_width"]}, time)


def _step(linear: Given, time: Any = None) -> Given:
    """A gradient step of the largest size, or as many as the given time needs."""
    field = {"type": "ConvexGradient", "linear": linear, "activation": {"type": "ReLU"}}
    rest = {"time": time, "h": None, "steps": 1 if time is None else None}
    return {"type": "Flow", "field": field, "integrator": {"type": "Euler"}, **rest}


def _conv(channels: int, hidden: Any, size: list[int], *, kernel: int = 3, stride: int = 1) -> Given:
    shape = {"in_channels": channels, "out_channels": hidden, "kernel_size": [kernel] * 2, "image_size": list(size)}
    return {"type": "Conv2d", **shape, "padding": "zero", "stride": [stride] * 2, "dilation": [1, 1], "groups": 1}


def _mean(given: Given) -> Iterator[Any]:
    if given["mean"] is not None:
        mean = items(given["mean"], "mean")
        yield {"type": "Normalise", "mean": mean, "std": [1.0] * len(mean)}


def _normalised_head(features: int, given: Given) -> Given:
    return {"type": "NormalisedHead", "in_features": features, "classes": given["classes"]}


# by type: the arguments that a network is described with, and the descriptions of its layers
SIZES = ("image_shape", "classes", "patch", "channels", "blocks", "dense_width", "dense_blocks")
NETWORKS: dict[str, tuple[tuple[str, ...], Callable[[Given], Iterator[Any]]]] = {
    "NonExpansiveNet": ((*SIZES, "hidden", "time"), non_expansive_net),
    "CertifiedNet": ((*SIZES, "mean"), certified_net),
    "ConvexPotentialNet": ((*SIZES, "hidden", "truncated_head", "mean"), convex_potential_net),
    "ConvNet": (("image_shape", "classes", "channels", "hidden", "depth"), conv_net),
    "ContractingNet": (("image_shape", "classes", "channels", "dense_width", "time", "rate"), contracting_net),
    "LipschitzMLP": (("image_shape", "classes", "dense_width", "dense_blocks"), lipschitz_mlp),
}
