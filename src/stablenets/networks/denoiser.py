"""What a denoiser is: noisy images and the level of the noise in, clean images out."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from typing import Self

from torch import Tensor

from ..core.claims import Claims
from ..core.component import Component
from ..core.errors import InputError, message
from ..layers.base import Layer


class Denoiser(Component, root=True):
    """A map on images (batch, channels, height, width) of any size, for every noise level.

    Attributes:
        channels: 1 for grey images, 3 for colour.
    """

    channels: int

    @abc.abstractmethod
    def forward(self, y: Tensor, sigma: float) -> Tensor:
        """The clean images that are guessed behind `y` = clean + sigma * white noise.

        `sigma` has the unit of the images: 25/255 for images in [0, 1] with the customary "noise level 25".
        """

    @abc.abstractmethod
    def claims(self, sigma: float | None = None) -> Claims:
        """What the map y -> denoiser(y, sigma) is proved to satisfy; None: for every sigma."""

    def at(self, sigma: float) -> DenoiserAt:
        """The map at a fixed noise level, as a layer with claims: what plug-and-play methods take."""
        return DenoiserAt(self, sigma)


class ChannelWise(Denoiser):
    """A denoiser of grey images at work on every channel of an image by itself, with the same claims.

    The map is block diagonal with equal blocks, and the inequality of averaged maps adds up over the channels. A
    denoiser trained on colour images does better, since it sees edges in all channels at once.

    Args:
        body: a denoiser of grey images.
        channels: of the images.

    Raises:
        InputError: `body` is not for grey images.
    """

    def __init__(self, body: Denoiser, channels: int = 3) -> None:
        super().__init__()
        if body.channels != 1:
            given = f"{type(body).__name__} for {body.channels} channels"
            raise InputError(message(given, "a denoiser of grey images"))
        self.body, self.channels = body, channels

    def forward(self, y: Tensor, sigma: float) -> Tensor:
        check_images(y, self.channels)
        return self.body(y.flatten(0, 1).unsqueeze(1), sigma).view_as(y)

    def claims(self, sigma: float | None = None) -> Claims:
        return self.body.claims(sigma)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for other in Denoiser.registry.values():
            if other is not cls:
                yield cls(next(d for d in other.examples() if d.channels == 1), 2)


class DenoiserAt(Layer):
    """x -> denoiser(x, sigma) at a fixed noise level.

    Raises:
        InputError: a noise level that is not a positive number.

    >>> import torch
    >>> from stablenets.networks import EulerDenoiser
    >>> EulerDenoiser(1, steps=2, filters=8).eval().at(0.1)(torch.rand(1, 1, 9, 11)).shape
    torch.Size([1, 1, 9, 11])
    """

    def __init__(self, denoiser: Denoiser, sigma: float) -> None:
        super().__init__()
        self.denoiser, self.sigma = denoiser, level(sigma)
        self.input_shape = (denoiser.channels, 7, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.denoiser(x, self.sigma)

    def claims(self) -> Claims:
        return self.denoiser.claims(self.sigma)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for kind in Denoiser.registry.values():
            for denoiser in kind.examples():
                yield cls(denoiser, 0.3)


def level(sigma: float) -> float:
    """`sigma`, checked.

    Raises:
        InputError: it is not a positive number.
    """
    if not 0 < sigma < math.inf:
        raise InputError(message(f"noise level {sigma}", "a positive number, in units of the image"))
    return sigma


def check_images(y: Tensor, channels: int) -> None:
    """Refuse what is no batch of images with so many channels.

    Raises:
        InputError: naming both shapes.
    """
    if y.dim() != 4 or y.shape[1] != channels:
        given = f"a batch of shape {tuple(y.shape)}"
        raise InputError(message(given, f"(batch, {channels}, height, width)"))
