"""A learned factor that cannot exceed a limit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Lipschitz
from .base import Layer


class Gain(Layer):
    """c x with one learned c, clamped to [-limit, limit]: |c|-Lipschitz, and never more than `limit`.

    Args:
        limit: the largest |c|; c starts as 1, or as the limit if that is smaller (chapter 6.1.2).

    >>> Gain(0.5)(torch.ones(1, 2)).detach()
    tensor([[0.5000, 0.5000]])
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        if not 0 < limit < math.inf:
            raise InputError(message(f"limit={limit}", "a positive, finite number"))
        self.limit = limit
        self.factor = nn.Parameter(torch.tensor(min(1.0, limit)))

    def clamped(self) -> Tensor:
        """The factor that is used, rounded towards zero where the limit is no number of its type."""
        top = torch.tensor(self.limit, dtype=torch.float64).to(self.factor.dtype)
        if float(top) > self.limit:
            top = torch.nextafter(top, torch.zeros_like(top))
        return self.factor.clamp(-float(top), float(top))

    def forward(self, x: Tensor) -> Tensor:
        return self.clamped() * x

    def claims(self) -> Claims:
        return Claims([Lipschitz(min(abs(float(self.factor.detach())), self.limit))])  # in float64 as well

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for limit, factor in ((0.7, 5.0), (3.0, -2.0)):
            layer = cls(limit)
            layer.factor.data.fill_(factor)
            yield layer
