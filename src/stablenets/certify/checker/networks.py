"""The checker's own reading of the named architectures: from a network's arguments to the layers of its body."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .strict import Rejected, items, natural


def non_expansive_net(given: dict[str, Any]) -> Iterator[Any]:
    """The descriptions of the layers of a `NonExpansiveNet`: patches to channels, blocks, dense blocks, head."""
    what = "NonExpansiveNet"
    c, *size = (natural(n, f"{what}: image_shape") for n in items(given["image_shape"], f"{what}: image_shape"))
    patch = natural(given["patch"], f"{what}: patch")
    blocks = [natural(n, f"{what}: blocks", least=0) for n in items(given["blocks"], f"{what}: blocks")]
    widths = given["channels"]
    widths = [None] * len(blocks) if widths is None else items(widths, f"{what}: channels")
    if len(size) != 2 or len(widths) != len(blocks):
        raise Rejected(f"{what}: image_shape, channels and blocks do not fit together")

    def flow(linear: dict[str, Any]) -> dict[str, Any]:
        field = {"type": "ConvexGradient", "linear": linear, "activation": {"type": "ReLU"}}
        rest = {"time": given["time"], "h": None, "steps": 1 if given["time"] is None else None}
        return {"type": "Flow", "field": field, "integrator": {"type": "Euler"}, **rest}

    for count, width in zip(blocks, widths, strict=True):
        if any(s % patch for s in size):
            raise Rejected(f"{what}: an image of {size} cannot be cut into patches of {patch}")
        c, size = c * patch * patch, [s // patch for s in size]
        yield {"type": "torch.PixelUnshuffle", "downscale_factor": patch}
        if width is not None and natural(width, f"{what}: channels", least=c) > c:
            yield {"type": "Lift", "in_channels": c, "out_channels": width}
            c = width
        for _ in range(count):
            shape = {"in_channels": c, "out_channels": given["hidden"], "kernel_size": 3}
            yield flow({"type": "Conv2d", **shape, "image_size": list(size), "padding": "zero"})
    features = c * size[0] * size[1]
    yield {"type": "torch.Flatten", "start_dim": 1, "end_dim": -1}
    for _ in range(natural(given["dense_blocks"], f"{what}: dense_blocks", least=0)):
        yield flow({"type": "Dense", "in_features": features, "out_features": given["dense_width"]})
    yield {"type": "NormalisedHead", "in_features": features, "classes": given["classes"]}


# by type: the arguments that a network is described with, and the descriptions of its layers
NETWORKS: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], Iterator[Any]]]] = {
    "NonExpansiveNet": (
        (
            *("image_shape", "classes", "patch", "channels", "blocks", "hidden", "dense_width", "dense_blocks"),
            "time",
        ),
        non_expansive_net,
    ),
}
