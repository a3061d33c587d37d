"""The unconstrained baseline of denoising."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from .denoiser import Denoiser, check_images, level


class DnCNN(Denoiser):
    """y - R(y), where R is a stack of 3 x 3 convolutions, batch normalisations and ReLUs: the noise is learned.

    Nothing is proved of it. It sees the noise level only in the image ("blind" DnCNN). The published network has
    depth 17 (20 in the blind version) and 64 channels; a CPU trains depth 8 with 32 channels in the time that an
    `EulerDenoiser` takes.

    Args:
        channels: of the images.
        depth: number of convolutions, at least 2.
        width: channels between them.
        normalised: with batch normalisation after every convolution but the first and the last one.

    Reference: Zhang, Zuo, Chen, Meng & Zhang (2017), Beyond a Gaussian denoiser.

    >>> import torch
    >>> DnCNN(1, depth=3, width=4).eval()(torch.rand(1, 1, 9, 12), 0.1).shape
    torch.Size([1, 1, 9, 12])
    """

    def __init__(self, channels: int = 1, *, depth: int = 17, width: int = 64, normalised: bool = True) -> None:
        super().__init__()
        if depth < 2 or width < 1 or channels < 1:
            given = f"channels={channels}, depth={depth}, width={width}"
            raise InputError(message(given, "positive numbers, and a depth of at least 2"))
        self.channels, self.depth, self.width, self.normalised = channels, depth, width, normalised
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=not normalised))
            if normalised:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
        last = nn.Conv2d(width, channels, 3, padding=1)
        layers.append(last)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        with torch.no_grad():  # a small first guess of the noise: from one as large as the image, no training recovers
            for p in last.parameters():
                p.mul_(0.01)
        self.noise = nn.Sequential(*layers)

    def forward(self, y: Tensor, sigma: float) -> Tensor:
        check_images(y, self.channels)
        level(sigma)
        return y - self.noise(y)

    def claims(self, sigma: float | None = None) -> Claims:
        """None."""
        return Claims()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for normalised in (True, False):
            yield cls(1, depth=3, width=4, normalised=normalised).eval()
