"""The common skeleton of the image classifiers: patches become channels, blocks follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ..core.errors import InputError, message
from ..layers import Lift, Normalise

Block = Callable[[int, tuple[int, int]], nn.Module]


def shape_of(image_shape: Sequence[int], classes: int) -> tuple[int, int, int]:
    """`image_shape` as (channels, height, width).

    Raises:
        InputError: it is not three positive whole numbers, or there are fewer than two classes.
    """
    if len(image_shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in image_shape):
        todo = "A grey image of 28x28 pixels has the shape (1, 28, 28)."
        raise InputError(message(f"image_shape={tuple(image_shape)}", "(channels, height, width)", todo))
    if classes < 2:
        raise InputError(message(f"classes={classes}", "at least 2 classes to choose from"))
    channels, height, width = image_shape
    return channels, height, width


def centring(mean: Sequence[float] | None, channels: int) -> list[nn.Module]:
    """The layer that subtracts a mean from every channel, if one is given.

    Raises:
        InputError: not one number per channel.
    """
    if mean is None:
        return []
    if len(mean) != channels:
        raise InputError(message(f"mean={tuple(mean)}", f"one number for each of the {channels} channels"))
    return [Normalise(tuple(mean), (1.0,) * channels)]


def stages(
    image_shape: tuple[int, int, int],
    patch: int,
    channels: Sequence[int] | None,
    blocks: Sequence[int],
    block: Block,
) -> tuple[list[nn.Module], int]:
    """Layers of the convolutional part and the number of features they end with.

    Stage i turns patches of `patch` x `patch` pixels into channels (`PixelUnshuffle`, an isometry), lifts the image to
    `channels[i]` channels (None: no lift) and applies `blocks[i]` blocks made by `block(channels, image_size)`.

    Raises:
        InputError: when the image cannot be cut into patches, or channels would be dropped.
    """
    c, *size = image_shape
    if channels is not None and len(channels) != len(blocks):
        raise InputError(message(f"channels={tuple(channels)}, blocks={tuple(blocks)}", "one entry per stage in both"))
    layers: list[nn.Module] = []
    for i, count in enumerate(blocks):
        if any(s % patch for s in size):
            raise InputError(
                message(
                    f"stage {i + 1} would cut images of {size[0]}x{size[1]} into patches of {patch}x{patch}",
                    f"a height and width divisible by {patch ** len(blocks)}",
                    "Use fewer stages, smaller patches, or pad the images.",
                )
            )
        c, size = patch * patch * c, [s // patch for s in size]
        layers.append(nn.PixelUnshuffle(patch))
        width = c if channels is None else channels[i]
        if width < c:
            raise InputError(message(f"channels[{i}]={width}", f"at least {c}, since nothing may be dropped"))
        if width > c:
            layers.append(Lift(c, width))
        c = width
        layers += [block(c, (size[0], size[1])) for _ in range(count)]
    return layers, c * size[0] * size[1]
