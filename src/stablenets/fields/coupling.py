"""Volume-preserving couplings of two halves of the state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.properties import DivergenceFree, Lipschitz
from ..linear import Conv2d, Dense
from .base import Field, Norm, SplitField, upper_bound
from .examples import large
from .free import FreeField
from .two_layer import TwoLayerField


class Coupling(SplitField):
    """q' = f(p), p' = g(q) with any fields f and g: divergence-free, not Hamiltonian (lecture, "structured networks").

    Args:
        push: f, of the half p.
        kick: g, of the half q.

    >>> f = Coupling(TwoLayerField(Dense(2, 5), Dense(2, 5)), TwoLayerField(Dense(2, 5), Dense(2, 5)))
    >>> f(torch.zeros(3, 4)).shape
    torch.Size([3, 4])
    """

    def __init__(self, push: Field, kick: Field) -> None:
        super().__init__()
        if push.state_shape != kick.state_shape:
            given = f"push acts on {push.state_shape}, kick on {kick.state_shape}"
            raise InputError(message(given, "the same shape for both halves"))
        self.push, self.kick = push, kick
        if push.state_shape is not None:
            channels, *rest = push.state_shape
            self.state_shape = (2 * channels, *rest)

    def velocity(self, p: Tensor, t: float = 0.0) -> Tensor:
        return self.push(p, t)

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return self.kick(q, t)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([self.velocity(p, t), self.force(q, t)], 1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        claims: list[Property] = [DivergenceFree()]
        parts = [part.claims(norm).get(Lipschitz) for part in (self.push, self.kick)]
        if parts[0] and parts[1]:
            claims.append(Lipschitz(max(parts[0].bound, parts[1].bound)))
        return Claims(claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(*(TwoLayerField(Dense(2, width), Dense(2, width)) for width in (5, 3))))
        yield large(cls(*(TwoLayerField(Conv2d(1, 2, 3, 2), Conv2d(1, 2, 3, 2)) for _ in range(2))))
        yield cls(*(FreeField(nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2))) for _ in range(2)))
