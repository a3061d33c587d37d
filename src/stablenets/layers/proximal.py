"""Proximal maps of convex functions: the classical denoisers, all of them firmly non-expansive."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Averaged
from ..core.regions import Bounded
from .base import Layer


class Proximal(Layer, abc.ABC):
    """x -> argmin over z of |x - z|^2 / 2 + g(z), for a convex, lower semicontinuous g.

    Firmly non-expansive, that is 1/2-averaged (Moreau 1965; Bauschke & Combettes, Prop. 12.28), and the only one of
    its claims that `inverse.FISTA` can use is that it *is* a proximal map.

    Attributes:
        coercive: whether g(z) grows beyond all bounds with |z|: then f + g has a minimiser for every convex f >= 0.
        roundings: what rounding adds to the distance of the computed value from the exact one is at most this many
            machine epsilons times |x|.
    """

    coercive: ClassVar[bool] = False
    roundings: ClassVar[float]

    @abc.abstractmethod
    def penalty(self, x: Tensor) -> Tensor:
        """g(x), shape (batch,)."""

    def error(self, x: Tensor) -> Tensor:
        """Bounds (batch,), float64, of the Euclidean distance of the computed value at `x` from the exact one."""
        return self.roundings * torch.finfo(x.dtype).eps * x.flatten(1).norm(dim=1).double()

    def claims(self) -> Claims:
        return Claims([Averaged(0.5)])


class SoftThreshold(Proximal):
    """x - clamp(x, -threshold, threshold), entry by entry: the proximal map of g(x) = threshold |x|_1 (lecture, ISTA).

    >>> SoftThreshold(1.0)(torch.tensor([[-3.0, 0.5, 2.0]]))
    tensor([[-2.,  0.,  1.]])
    """

    coercive, roundings = True, 1.0

    def __init__(self, threshold: float) -> None:
        super().__init__()
        if not 0 < threshold < math.inf:
            raise InputError(message(f"threshold={threshold}", "a positive, finite number"))
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return F.softshrink(x, self.threshold)

    def penalty(self, x: Tensor) -> Tensor:
        return self.threshold * x.abs().flatten(1).sum(1)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.7)


class Box(Proximal):
    """The projection onto [low, high], entry by entry: images have no other values.

    As the last layer of a denoiser it makes sure that the iteration has a fixed point (Brouwer).

    >>> Box(0.0, 1.0)(torch.tensor([[-3.0, 0.5, 2.0]]))
    tensor([[0.0000, 0.5000, 1.0000]])
    """

    coercive, roundings = True, 0.0

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(message(f"Box({low}, {high})", "finite limits, the lower one first"))
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    def penalty(self, x: Tensor) -> Tensor:
        outside = ((x < self.low) | (x > self.high)).flatten(1).any(1)
        return torch.zeros_like(x.flatten(1)[:, 0]).masked_fill(outside, math.inf)

    def claims(self) -> Claims:
        return Claims([Averaged(0.5), Bounded(self.low, self.high)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(-0.5, 0.75)
