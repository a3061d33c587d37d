"""RATTLE: Stormer-Verlet on the manifold of the constraints."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.linalg import divide
from ..core.regions import StaysIn, TangentTo
from ..fields.constrained import ConstrainedField
from .base import Integrator
from .solve import solve


class RATTLE(Integrator[ConstrainedField]):
    """Half a kick with the reaction that puts q+ on c(q+) = 0, a drift, half a kick with the one that makes p+ tangent.

    States that start on the manifold stay there, to rounding; where the force is conservative the step is symplectic on
    the manifold and the energy nearly constant over long times. A sample whose constraints have no solution near the
    free step raises a ConvergenceError.

    >>> from stablenets.systems import DoublePendulumCartesian
    >>> f = DoublePendulumCartesian()
    >>> x = f.nearest(torch.tensor([[1.0, 0.0, 2.0, 0.0, 0.0, 0.3, 0.0, 0.0]], dtype=torch.float64))
    >>> bool(f.residual(RATTLE().step(f, x, 0.1)).abs().max() < 1e-14)
    True
    """

    needs = ConstrainedField
    solves = True
    order, reference = 2, "Andersen 1983; Hairer, Lubich & Wanner, VII.1.4, (1.26)"

    def step(self, f: ConstrainedField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        if not isinstance(h, Tensor) and h == 0:  # the equation divides by it
            return x
        q, p = x.chunk(2, 1)
        masses = f.masses(p)

        def impulse(w: Tensor, x: Tensor, h: Any) -> Tensor:
            """w + K^-1 c(q+) / h: Newton's method with the matrix K = G M^-1 G^T of the start."""
            q, free = x.chunk(2, 1)
            g = f.constraint_jacobian(q)
            missing = f.constraint(q + h * (free - f.react(g, w)) / masses) / h
            return w + divide(f.stiffness(g), missing)

        g = f.constraint_jacobian(q)
        free = p + h / 2 * f.force(q, t)
        zero = (g @ p.unsqueeze(2)).squeeze(2) * 0
        half = free - f.react(g, solve(impulse, zero, torch.cat([q, free], 1), h, name="RATTLE"))
        q = q + h * half / masses
        p = half + h / 2 * f.force(q, t + h)
        g = f.constraint_jacobian(q)
        moving = (g @ (p / masses).unsqueeze(2)).squeeze(2)
        return torch.cat([q, p - f.react(g, divide(f.stiffness(g), moving))], 1)

    def step_limit(self, field: Claims) -> float | None:
        return math.inf if field.get(TangentTo) else None

    def transfer(self, field: Claims, h: float) -> Claims:
        return Claims(StaysIn(c.region) for c in field if isinstance(c, TangentTo))

    @property
    def theorem(self) -> str:
        return "RATTLE solves the constraints on positions and momenta at the end of every step"
