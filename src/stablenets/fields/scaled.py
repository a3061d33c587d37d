"""Activations with a learned width for every channel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.errors import InputError, message
from .activations import Activation, HardTanh, SoftShrink, Tanh


class Scaled(Activation):
    """sigma(z) = w phi(z / w) with a learned width w > 0 per channel, where phi is another activation, the `profile`.

    sigma'(z) = phi'(z / w): the slopes are those of phi, whatever the widths, and sigma is odd where phi is. With
    `SoftShrink` it is the soft threshold w, with `HardTanh` it cuts off at w.

    With several `levels` (of noise, for instance), a width is interpolated between those learned for two neighbouring
    levels, geometrically.

    Args:
        profile: phi.
        channels: in dimension 1 of z; a single width serves for all channels.
        levels: how many widths each channel has.
        width: the initial one.

    >>> Scaled(SoftShrink(), width=2.0)(torch.tensor([[5.0, -1.0]])).detach()
    tensor([[3., -0.]])
    """

    def __init__(self, profile: Activation, channels: int = 1, *, levels: int = 1, width: float = 1.0) -> None:
        super().__init__()
        if channels < 1 or levels < 1 or not 0 < width < math.inf:
            given = f"channels={channels}, levels={levels}, width={width}"
            raise InputError(message(given, "positive numbers"))
        self.profile, self.channels, self.levels, self.width = profile, channels, levels, width
        self.log_width = nn.Parameter(torch.full((levels, channels), math.log(width)))

    @property
    def slope(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.profile.slope

    @property
    def bound(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.profile.bound * float(self.log_width.detach().max().exp()) * (1 + 1e-6)

    def widths(self, place: float = 0.0) -> Tensor:
        """The widths (channels,) at a place between the levels 0 ... levels - 1."""
        return interpolate(self.log_width, place).exp()

    def forward(self, z: Tensor, place: float = 0.0) -> Tensor:
        w = self.widths(place)
        w = w.view(-1, *[1] * (z.dim() - 2)) if self.channels > 1 else w
        return w * self.profile(z / w)

    def potential(self, z: Tensor) -> Tensor:
        w = self.widths()
        w = w.view(-1, *[1] * (z.dim() - 2)) if self.channels > 1 else w
        return w.square() * self.profile.potential(z / w)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for profile, width in ((SoftShrink(), 0.7), (HardTanh(), 2.5), (Tanh(), 0.2)):
            yield cls(profile, width=width)


def interpolate(values: Tensor, place: float) -> Tensor:
    """The row of `values` (levels, ...) at a place in 0 ... levels - 1, linearly between two rows.

    >>> interpolate(torch.tensor([0.0, 1.0, 5.0]), 1.5)
    tensor(3.)
    """
    low = min(int(place), len(values) - 1)
    share = place - low
    return values[low] if share == 0 else (1 - share) * values[low] + share * values[low + 1]
