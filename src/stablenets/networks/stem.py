"""What the convolutional classifiers that are not 1-Lipschitz share: a strided beginning and a linear end."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from ..core.errors import InputError, message
from ..layers import Affine
from ..linear import Conv2d

State = tuple[int, int, int]  # channels, height, width


def convolution(shape: State, channels: int, kernel: int, *, stride: int = 1) -> Affine:
    """A convolution with He's initial weights, which keep the size of what a ReLU follows (He et al. 2015)."""
    conv = Conv2d(shape[0], channels, kernel, shape[1:], stride=stride)
    nn.init.kaiming_normal_(conv.weight)
    return Affine(conv)


def stem(image_shape: State, channels: Sequence[int]) -> tuple[list[nn.Module], State]:
    """5 x 5 convolutions of stride 2, each with a ReLU, of these widths; and the shape after them.

    Raises:
        InputError: no widths, or so many that less than 2 pixels are left.
    """
    shape, layers = image_shape, []
    for width in channels:
        if min(shape[1:]) < 2:
            given = f"channels={tuple(channels)} for images of {image_shape[1]}x{image_shape[2]}"
            raise InputError(message(given, "fewer halvings of the image"))
        conv = convolution(shape, width, 5, stride=2)
        layers += [conv, nn.ReLU()]
        c, height, width_ = conv.linear.output_shape
        shape = (c, height, width_)
    if not layers:
        raise InputError(message("channels=()", "the width of one convolution or more"))
    return layers, shape


def linear_head(shape: State, classes: int) -> list[nn.Module]:
    """A linear layer on all entries of the state."""
    return [nn.Flatten(), nn.Linear(math.prod(shape), classes)]
