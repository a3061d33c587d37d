"""The published Convex Potential Layer networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import nn

from ..core.errors import InputError, message
from ..fields import ConvexGradient
from ..integrators import Euler
from ..layers import Chain, Flow, Lift, NormalisedHead, TruncatedHead
from ..linear import Conv2d, Dense, LinearMap
from .base import Provable
from .stages import centring, shape_of


class ConvexPotentialNet(Provable):
    """Gradient steps at full resolution, pooling, wide dense gradient steps, and a head without weights.

    Each stage appends channels of zeros, takes gradient steps of the largest non-expansive size (3 x 3 convolutions
    with few hidden channels) and adds up patches of pixels, divided by the patch's side, which is 1-Lipschitz. The
    published networks have one stage. Nearly all of their parameters are in the dense steps.

    Two things differ from the published code, for the better: steps are frozen from upper bounds of the norms, not from
    power iteration, and initial weights are normal with zero biases, not uniform (of the same size).

    Args:
        image_shape: (channels, height, width).
        classes: number of scores.
        channels: width of each stage.
        blocks: number of convolutional steps of each stage.
        hidden: hidden channels of the convolutional steps.
        patch: side of the patches that each stage ends by adding up.
        dense_width, dense_blocks: hidden width and number of the dense steps.
        truncated_head: whether the scores are the first features, as published; else the head is a `NormalisedHead`.
        mean: subtracted from the images, one number per channel; None subtracts nothing. (Published: the mean of the
            training images, and no division by a standard deviation.)

    Raises:
        InputError: channels would be dropped, or the image cannot be cut into patches.

    Reference: Meunier, Delattre, Araujo & Allauzen (2022), A dynamical system perspective for Lipschitz neural
    networks; the sizes are those of `small`, `medium`, `large` and `extra_large`.

    >>> net = ConvexPotentialNet((3, 8, 8), 10, channels=(6,), blocks=(2,), dense_width=8, dense_blocks=1)
    >>> net(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        channels: tuple[int, ...] = (45,),
        blocks: tuple[int, ...] = (20,),
        hidden: int = 5,
        patch: int = 4,
        dense_width: int = 2048,
        dense_blocks: int = 7,
        truncated_head: bool = True,
        mean: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.image_shape, self.classes = shape_of(image_shape, classes), classes
        self.channels, self.blocks, self.hidden, self.patch = tuple(channels), tuple(blocks), hidden, patch
        self.dense_width, self.dense_blocks = dense_width, dense_blocks
        self.truncated_head, self.mean = truncated_head, None if mean is None else tuple(mean)
        if len(self.channels) != len(self.blocks):
            raise InputError(message(f"channels={self.channels}, blocks={self.blocks}", "one entry per stage in both"))

        def step(linear: LinearMap) -> Flow:
            return Flow(ConvexGradient(linear), Euler(), steps=1)

        c, *size = self.image_shape
        layers = centring(self.mean, c)
        for width, count in zip(self.channels, self.blocks, strict=True):
            if any(s % patch for s in size):
                needed = f"a height and width divisible by {patch ** len(self.blocks)}"
                raise InputError(message(f"images of {size[0]}x{size[1]} in patches of {patch}x{patch}", needed))
            layers.append(Lift(c, width))
            layers += [step(Conv2d(width, hidden, 3, (size[0], size[1]))) for _ in range(count)]
            layers.append(nn.AvgPool2d(patch, divisor_override=patch))
            c, size = width, [s // patch for s in size]
        features = c * size[0] * size[1]
        layers += [nn.Flatten(), *(step(Dense(features, dense_width)) for _ in range(dense_blocks))]
        self.body = Chain(*layers, TruncatedHead(classes) if truncated_head else NormalisedHead(features, classes))

    @classmethod
    def small(cls, image_shape: tuple[int, int, int], classes: int, *, mean: tuple[float, ...] | None = None) -> Self:
        """CPL-S: 20 convolutional steps of 45 channels, 7 dense ones (41 million parameters on CIFAR-10)."""
        return cls(image_shape, classes, blocks=(20,), channels=(45,), dense_blocks=7, mean=mean)

    @classmethod
    def medium(cls, image_shape: tuple[int, int, int], classes: int, *, mean: tuple[float, ...] | None = None) -> Self:
        """CPL-M: 30 convolutional steps of 60 channels, 10 dense ones (79 million parameters on CIFAR-10)."""
        return cls(image_shape, classes, blocks=(30,), channels=(60,), dense_blocks=10, mean=mean)

    @classmethod
    def large(cls, image_shape: tuple[int, int, int], classes: int, *, mean: tuple[float, ...] | None = None) -> Self:
        """CPL-L: 50 convolutional steps of 90 channels, 10 dense ones (118 million parameters on CIFAR-10)."""
        return cls(image_shape, classes, blocks=(50,), channels=(90,), dense_blocks=10, mean=mean)

    @classmethod
    def extra_large(
        cls, image_shape: tuple[int, int, int], classes: int, *, mean: tuple[float, ...] | None = None
    ) -> Self:
        """CPL-XL: 70 convolutional steps of 120 channels, 15 dense ones (236 million parameters on CIFAR-10)."""
        return cls(image_shape, classes, blocks=(70,), channels=(120,), dense_blocks=15, mean=mean)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        sizes = {"channels": (5,), "blocks": (2,), "hidden": 4, "patch": 2, "dense_width": 8, "dense_blocks": 1}
        for net in (cls((3, 4, 4), 3, **sizes), cls((1, 4, 4), 3, **sizes, truncated_head=False, mean=(0.4,))):
            for p in net.parameters():
                p.data += torch.randn_like(p) / 2
            yield net
