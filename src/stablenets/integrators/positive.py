"""A step that keeps the sum of the state and its signs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.linalg import divide
from ..core.properties import FirstIntegral, Positive, Preserves, QuasiPositive
from ..fields.base import MassActionField
from ..fields.invariants import MASS
from .base import Integrator


class PositiveEuler(Integrator[MassActionField]):
    """x+ = (I - h A(x, t))^-1 x for x' = A(x, t) x with off-diagonal entries >= 0 and columns that sum to zero.

    I - h A has columns that sum to 1 and no positive entry off its diagonal: its inverse has no negative entry, and
    columns that sum to 1. So for every h >= 0 the sum is constant and non-negative states stay so, exactly in floating
    point too: elimination needs no pivoting here, and never subtracts numbers of the same sign off the diagonal.

    >>> from stablenets.systems import SIR
    >>> x = PositiveEuler().step(SIR(), torch.tensor([[0.9, 0.1, 0.0]]), 100.0)
    >>> bool((x >= 0).all()), round(float(x.sum()), 5)
    (True, 1.0)
    """

    needs = MassActionField
    order, reference = 1, "Bolley & Crouzeix 1978; Burchard, Deleersnijder & Meister 2003"

    def step(self, f: MassActionField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        return divide(torch.eye(x.shape[1], dtype=x.dtype, device=x.device) - h * f.matrix(x, t), x)

    def step_limit(self, field: Claims) -> float | None:
        return math.inf if field.get(QuasiPositive) else None

    def transfer(self, field: Claims, h: float) -> Claims:
        claims: list[Property] = []
        if h >= 0 and FirstIntegral(MASS) in field:
            claims.append(Preserves(MASS))
        if h >= 0 and field.get(QuasiPositive):
            claims.append(Positive())
        return Claims(claims)

    @property
    def theorem(self) -> str:
        return (
            "PositiveEuler applies (I - h A)^-1, which has no negative entry and columns that sum to 1: the sum is "
            "constant and non-negative states stay non-negative, for every h"
        )
