"""Any explicit step, projected onto the level set of the invariants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.linalg import divide
from ..core.properties import FirstIntegral, Invariant, Preserves, gradient, inner, norm, positive
from ..fields.base import ConservativeField
from .base import Integrator
from .energy import DIGITS
from .runge_kutta import RK4, ExplicitRungeKutta, Heun
from .solve import solve


class Projection(Integrator[ConservativeField]):
    """x+ = y + sum_i mu_i grad I_i(y) / |grad I_i(y)| with I_i(x+) = I_i(x), where y is a step of `method` from x.

    Keeps all invariants of the field to rounding, and the order of the method; nothing else (a projected step is
    neither symplectic nor reversible). A sample that cannot be projected, since the gradients are dependent or the
    level set is too far from y, raises a ConvergenceError.

    Args:
        method: an explicit Runge-Kutta method.

    >>> from stablenets.systems import Kepler
    >>> f, x = Kepler(), torch.tensor([[1.0, 0.0, 0.0, 1.2]], dtype=torch.float64)
    >>> drift = f.energy(Projection(RK4()).step(f, x, 0.2)) - f.energy(x)
    >>> bool(drift.abs() < 1e-15)
    True
    """

    needs = ConservativeField
    solves = True
    reference = "Hairer, Lubich & Wanner, Algorithm IV.4.2"

    def __init__(self, method: ExplicitRungeKutta) -> None:
        super().__init__()
        self.method = method
        self.order = method.order  # pyright: ignore[reportAttributeAccessIssue]

    def step(self, f: ConservativeField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        invariants = f.invariants()

        def newton(mu: Tensor, given: Tensor, h: Any) -> Tensor:
            x, y, *slopes = given.unbind(1)
            at = _moved(y, slopes, mu)
            missing = torch.stack([i(at) - i(x) for i in invariants], 1)
            return mu - divide(_gram(slopes), missing)

        def missed(mu: Tensor, given: Tensor, h: Any) -> Tensor:
            """The error of the invariants, in the roundings to which they are known at both ends of the step."""
            x, y, *slopes = given.unbind(1)
            at = _moved(y, slopes, mu)
            parts = [Preserves(Invariant("", i)).violation(lambda _: at, x, x) for i in invariants]
            return torch.stack(parts).amax(0) / torch.finfo(x.dtype).eps

        y = self.method.step(f, x, h, t)
        slopes = [gradient(i, y) for i in invariants]
        mu = solve(
            newton,
            x.new_zeros(len(x), len(slopes)),
            torch.stack([x, y, *slopes], 1),
            h,
            name=f"Projection({type(self.method).__name__}())",
            rounding=DIGITS,
            missed=missed,
        )
        return _moved(y, slopes, mu)

    def transfer(self, field: Claims, h: float) -> Claims:
        return Claims(Preserves(c.invariant) for c in field if isinstance(c, FirstIntegral))

    @property
    def theorem(self) -> str:
        return "Projection ends every step on the level set of the field's invariants on which it began"

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(RK4())
        yield cls(Heun())


def _unit(slope: Tensor) -> Tensor:
    return slope / positive(norm(slope)).view(-1, *[1] * (slope.dim() - 1))


def _moved(y: Tensor, slopes: list[Tensor], mu: Tensor) -> Tensor:
    for i, slope in enumerate(slopes):
        y = y + mu[:, i].view(-1, *[1] * (y.dim() - 1)) * _unit(slope)
    return y


def _gram(slopes: list[Tensor]) -> Tensor:
    """The derivatives (batch, m, m) of the invariants (rows) along the unit directions."""
    return torch.stack([torch.stack([inner(a, _unit(b)) for b in slopes], 1) for a in slopes], 1)
