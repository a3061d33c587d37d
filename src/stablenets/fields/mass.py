"""Fields that keep the sum of the state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from torch import Tensor

from ..core.claims import Claims, Property
from ..core.properties import FirstIntegral, Lipschitz
from ..linear import Conv2d, Dense
from .base import Field, Norm, upper_bound
from .examples import large
from .free import FreeField
from .invariants import MASS
from .two_layer import TwoLayerField


class MassConserving(Field):
    """x' = g(x) - mean(g(x)) for any field g: the sum of all entries is constant (lecture, SIR).

    The projection onto the fields of sum zero. It covers x' = B r(x) with 1^T B = 0, and (M(x) - M(x)^T) 1.
    Entries may become negative: `MassAction` keeps them positive as well.

    >>> import torch
    >>> f = MassConserving(TwoLayerField(Dense(3, 8), Dense(3, 8)))
    >>> bool(f(torch.randn(5, 3)).sum(1).abs().max() < 1e-5)
    True
    """

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field
        self.state_shape = field.state_shape

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        g = self.field(x, t)
        return g - g.mean(tuple(range(1, g.dim())), keepdim=True)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        claims: list[Property] = [FirstIntegral(MASS)]
        if lipschitz := self.field.claims(norm).get(Lipschitz):  # an orthogonal projection does not increase it
            claims.append(lipschitz)
        return Claims(claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(large(TwoLayerField(Dense(4, 6), Dense(4, 6))))
        yield cls(large(TwoLayerField(Conv2d(2, 3, 3, 3), Conv2d(2, 3, 3, 3))))
        yield cls(next(FreeField.examples()))
