"""Linear fields with a skew-symmetric matrix: their flows are rotations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

from torch import Tensor

from ..core.claims import Claims
from ..core.errors import ClaimError, message
from ..core.properties import DivergenceFree, FirstIntegral, Lipschitz, OneSidedLipschitz
from ..linear import SkewConv2d, SkewDense
from .base import Field, Norm, upper_bound
from .invariants import SQUARED_NORM


class SkewLinear(Field):
    """x' = S x with S^T = -S: since <S x, x> = 0, the flow exp(t S) is orthogonal (CPL, "hybrid schemes").

    Args:
        linear: S, a skew-symmetric matrix or convolution.

    Raises:
        TypeError: for a map that is not skew-symmetric by construction.

    >>> import torch
    >>> f, x = SkewLinear(SkewDense(4)), torch.randn(2, 4)
    >>> bool(((f(x) * x).sum(1).abs() < 1e-5).all())
    True
    """

    def __init__(self, linear: SkewDense | SkewConv2d) -> None:
        super().__init__()
        if not isinstance(linear, (SkewDense, SkewConv2d)):
            raise TypeError(message(f"SkewLinear of a {type(linear).__name__}", "a SkewDense or SkewConv2d"))
        self.linear = linear
        self.state_shape = linear.input_shape

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return self.linear(x)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        size = norm(self.linear)
        if not size < math.inf:  # also NaN; a comparison, since an estimate is a tensor
            raise ClaimError(
                message(f"||S|| = {size:g}", "finite weights", "Training has diverged: lower the learning rate.")
            )
        size = max(size, 1e-30)  # any larger constant is true as well: this one keeps the steps of zero weights finite
        return Claims([Lipschitz(size), OneSidedLipschitz(0.0), DivergenceFree(), FirstIntegral(SQUARED_NORM)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for linear in (SkewDense(4), SkewConv2d(2, 3, (2, 3)), SkewConv2d(1, 3, (3, 4), "circular")):
            linear.raw.data *= 3
            yield cls(linear)
