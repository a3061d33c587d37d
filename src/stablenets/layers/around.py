"""Denoisers made from denoisers: averaged with the identity, and moved to another noise level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Self

from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import ClaimError, InputError, message
from ..core.properties import Averaged, Lipschitz, Property, rounded
from ..core.regions import Bounded
from .base import Layer
from .chain import claims
from .flow import Flow
from .proximal import SoftThreshold


class Relaxed(Layer):
    """(1 - t) x + t D(x): t-averaged for a 1-Lipschitz D, and (t alpha)-averaged for an alpha-averaged one.

    Any non-expansive denoiser is made averaged so, at a price in quality.

    Args:
        body: D, made of layers with claims.
        t: in (0, 1).

    Raises:
        InputError: a t outside (0, 1).

    >>> Relaxed(SoftThreshold(1.0), t=0.5).claims().get(Averaged)
    Averaged(alpha=0.25)
    """

    def __init__(self, body: nn.Module, t: float = 0.5) -> None:
        super().__init__()
        if not 0 < t < 1:
            raise InputError(message(f"t={t}", "a number between 0 and 1"))
        self.body, self.t = body, t
        self.input_shape = getattr(body, "input_shape", None)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.t * (self.body(x) - x)

    def claims(self) -> Claims:
        inner, t, found = claims(self.body), Fraction(self.t), list[Property]()
        averaged, lipschitz = inner.get(Averaged), inner.get(Lipschitz)
        if averaged:
            found.append(averaged.relaxed(self.t))
        elif lipschitz and lipschitz.bound <= 1:
            found.append(Averaged(self.t))
        if lipschitz and math.isfinite(lipschitz.bound):
            found.append(Lipschitz(rounded(1 - t + t * Fraction(lipschitz.bound), math.inf)))
        return Claims(found)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(SoftThreshold(0.5), 0.7)
        for flow in Flow.examples():
            yield cls(flow, 0.3)


def firm(body: nn.Module) -> nn.Module:
    """`body`, relaxed as little as makes it firmly non-expansive (1/2-averaged): what `inverse.ADMM` needs.

    A map that is firmly non-expansive is returned as it is.

    Raises:
        ClaimError: `body` is not proved to be 1-Lipschitz.

    >>> firm(Relaxed(SoftThreshold(1.0), t=0.5))
    Relaxed(
      (body): SoftThreshold()
    )
    """
    found = claims(body)
    averaged, lipschitz = found.get(Averaged), found.get(Lipschitz)
    if averaged is None:
        if lipschitz is None or lipschitz.bound > 1:
            given = f"{type(body).__name__} with {', '.join(map(str, found)) or 'nothing proved'}"
            raise ClaimError(message(given, "a 1-Lipschitz map"))
        return Relaxed(body, 0.5)
    if averaged.alpha <= 0.5:
        return body
    t = 0.5 / averaged.alpha
    while averaged.relaxed(t).alpha > 0.5:
        t = math.nextafter(t, 0.0)
    return Relaxed(body, t)


class Rescaled(Layer):
    """D_s(x) = s D(x / s): a denoiser for one noise level at work on another, with the same constants.

    Args:
        body: D, made of layers with claims.
        scale: s, one number, or one for each sample of the batch.

    Raises:
        InputError: a scale that is not positive; a batch of another size than there are scales.

    >>> import torch
    >>> Rescaled(SoftThreshold(1.0), (1.0, 0.5))(torch.full((2, 1), 3.0))
    tensor([[2.0000],
            [2.5000]])
    """

    def __init__(self, body: nn.Module, scale: float | Sequence[float]) -> None:
        super().__init__()
        scales = (scale,) if isinstance(scale, (int, float)) else tuple(scale)
        if not scales or not all(0 < s < math.inf for s in scales):
            raise InputError(message(f"scale={scale}", "positive, finite numbers"))
        self.body, self.scale = body, scale if isinstance(scale, (int, float)) else scales
        self.input_shape = getattr(body, "input_shape", None)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.scale, (int, float)):
            return self.scale * self.body(x / self.scale)
        if len(self.scale) != len(x):
            raise InputError(message(f"{len(self.scale)} scales for a batch of {len(x)}", "one for each sample"))
        s = x.new_tensor(self.scale).view(-1, *[1] * (x.dim() - 1))
        return s * self.body(x / s)

    def claims(self) -> Claims:
        kept = [c for c in claims(self.body) if isinstance(c, (Averaged, Lipschitz))]
        bounded = claims(self.body).get(Bounded)
        if bounded:
            s = self.scale if isinstance(self.scale, tuple) else (self.scale,)
            low, high = (min(k * bounded.low for k in s), max(k * bounded.high for k in s))
            kept.append(Bounded(low, high))  # pyright: ignore[reportArgumentType]
        return Claims(kept)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(SoftThreshold(0.5), 3.0)
        for flow in Flow.examples():
            yield cls(flow, 0.3)
