"""Volume-preserving steps: blocks of the state moved in turn."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import DivergenceFree, Invertible, VolumePreserving
from ..fields.base import ShearField
from .base import Integrator, add_scaled


class ShearSplitting(Integrator[ShearField]):
    """Half a step of every block in turn, then the same in the opposite order, each with the others' newest values.

    Every move is a shear x_i += (h / 2) rate_i(the others): its Jacobian is triangular with ones on the diagonal. So
    the step preserves volume and is invertible, whatever h. Times are frozen at the middle of the step.

    >>> from stablenets.fields import BlockShears
    >>> f = BlockShears((1, 1, 1), 8)
    >>> ShearSplitting().step(f, torch.zeros(5, 3), 0.5).shape
    torch.Size([5, 3])
    """

    needs = ShearField
    exact_inverse = True
    order, reference = 2, "Strang 1968; Hairer, Lubich & Wanner, II.5 and VI.9"

    def step(self, f: ShearField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        parts = list(x.split(f.blocks, 1))
        n = len(parts)
        moves = [(i, 0.5) for i in range(n - 1)] + [(n - 1, 1.0)] + [(i, 0.5) for i in reversed(range(n - 1))]
        for i, fraction in moves:
            others = (*parts[:i], *parts[i + 1 :])
            parts[i] = add_scaled(parts[i], f.rate(i, others, t + h / 2), fraction * h)
        return torch.cat(parts, 1)

    def inverse(self, f: ShearField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        """The same moves backwards: the step is symmetric."""
        return self.step(f, x, -h, t + h)

    def step_limit(self, field: Claims) -> float | None:
        return math.inf if field.get(DivergenceFree) else None

    def transfer(self, field: Claims, h: float) -> Claims:
        return Claims([VolumePreserving(), Invertible()] if field.get(DivergenceFree) else [])

    @property
    def theorem(self) -> str:
        return "ShearSplitting composes shears, each with determinant 1, for every h"
