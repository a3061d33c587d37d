"""A step that keeps the sum of the state and its signs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.properties import FirstIntegral, Positive, Preserves, QuasiPositive
from ..fields.base import MassActionField
from ..fields.invariants import MASS
from .base import Integrator

LEAST = 1e-30  # longer steps than its inverse are taken as that: all has flowed, to rounding, and float32 holds it


class PositiveEuler(Integrator[MassActionField]):
    """x+ = (I - h A(x, t))^-1 x for x' = A(x, t) x with off-diagonal entries >= 0 and columns that sum to zero.

    I - h A has columns that sum to 1 and no positive entry off its diagonal: its inverse has no negative entry, and
    columns that sum to 1. So for every h >= 0 the sum is constant and non-negative states stay so, in floating point
    too: the elimination is that of Grassmann, Taksar & Heyman, which takes the diagonal from the other entries and adds
    numbers >= 0 only, so that no digit cancels however large h is. What rounding leaves of the sum, a few roundings of
    the change, is given to the largest entry: sums do not drift over thousands of steps.

    >>> from stablenets.systems import SIR
    >>> x = PositiveEuler().step(SIR(), torch.tensor([[0.9, 0.1, 0.0]]), 100.0)
    >>> bool((x >= 0).all()), round(float(x.sum()), 5)
    (True, 1.0)
    """

    needs = MassActionField
    order = 1
    reference = "Bolley & Crouzeix 1978; Burchard, Deleersnijder & Meister 2003; Grassmann, Taksar & Heyman 1985"

    def step(self, f: MassActionField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        weight = 1 / (1 + abs(h))  # of the equation, so that h A does not overflow
        weight = weight.clamp(min=LEAST) if isinstance(weight, Tensor) else max(weight, LEAST)
        y = _eliminate(f.matrix(x, t) * (h / (1 + abs(h))), torch.full_like(x, 1.0) * weight, x * weight)
        missing = (x - y).detach().sum(1, keepdim=True)
        return y.scatter_add(1, y.detach().abs().argmax(1, keepdim=True), missing)

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


def _eliminate(flows: Tensor, sums: Tensor, x: Tensor) -> Tensor:
    """M^-1 x, where M has the entries -`flows` (batch, d, d) off its diagonal, and columns with the sums `sums`.

    With m = sums_0 + (flows_10 + ... + flows_d0) on the diagonal, elimination of the first entry leaves the same form:
    flows_ij + flows_i0 flows_0j / m, sums_j + flows_0j sums_0 / m and x_i + flows_i0 x_0 / m.
    """
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    while x.shape[1]:
        out, into = flows[:, 1:, 0], flows[:, 0, 1:]
        pivot = sums[:, :1] + out.sum(1, keepdim=True)
        steps.append((pivot, into, x[:, :1]))
        share = into / pivot
        flows = flows[:, 1:, 1:] + out.unsqueeze(2) * share.unsqueeze(1)
        sums, x = sums[:, 1:] + share * sums[:, :1], x[:, 1:] + out * (x[:, :1] / pivot)
    for pivot, into, first in reversed(steps):
        x = torch.cat([(first + (into * x).sum(1, keepdim=True)) / pivot, x], 1)
    return x
