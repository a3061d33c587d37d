"""Steps along x' = S grad H whose energy is exact: discrete gradients."""

from __future__ import annotations

import abc
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.properties import Decreases, EnergyForm, Invariant, Preserves, inner
from ..fields.base import EnergyField
from .base import Integrator
from .solve import solve

DIGITS = 32  # rounding errors of the equation: the difference of two energies cancels


class EnergyMethod(Integrator[EnergyField], abc.ABC):
    """x+ = x + h S((x + x+) / 2, t + h / 2) g(x, x+), where g approximates the mean of grad H between x and x+.

    Where g . (x+ - x) = H(x+) - H(x), the energy obeys H(x+) - H(x) = h g . S g exactly, for every h: it is constant
    when S is skew and falls when S + S^T <= 0. Claims are about the states at which the step returns.
    """

    needs = EnergyField
    solves = True

    @abc.abstractmethod
    def mean_gradient(self, f: EnergyField, x: Tensor, d: Tensor) -> Tensor:
        """g(x, x + d)."""

    @abc.abstractmethod
    def exact_for(self, energy: Invariant) -> bool:
        """Whether g . (x+ - x) = H(x+) - H(x) for this energy."""

    def step(self, f: EnergyField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        def increment(d: Tensor, x: Tensor, h: Any) -> Tensor:
            return h * f.structure(x + d / 2, self.mean_gradient(f, x, d), t + h / 2)

        return x + solve(increment, h * f(x, t), x, h, name=type(self).__name__, rounding=DIGITS)

    def step_limit(self, field: Claims) -> float | None:
        return math.inf if field.get(EnergyForm) else None

    def transfer(self, field: Claims, h: float) -> Claims:
        form = field.get(EnergyForm)
        claims: list[Property] = []
        if form is not None and self.exact_for(form.energy) and (form.conserved or h >= 0):
            claims.append(Preserves(form.energy) if form.conserved else Decreases(form.energy))
        return Claims(claims)

    @property
    def theorem(self) -> str:
        return (
            f"{type(self).__name__} replaces grad H by a discrete gradient: along x' = S grad H the energy H is "
            "constant for skew S, and never increases for S + S^T <= 0, whatever the step"
        )


class DiscreteGradient(EnergyMethod):
    """Gonzalez' discrete gradient: grad H(m) + (H(x+) - H(x) - grad H(m) . d) d / |d|^2, m the midpoint, d = x+ - x.

    The energy is exact up to rounding. The correction, of size |d|^2, is dropped where rounding errors of H exceed it.

    >>> from stablenets.systems import Pendulum
    >>> f, x = Pendulum(), torch.tensor([[1.5, 0.0]], dtype=torch.float64)
    >>> drift = f.energy(DiscreteGradient().step(f, x, 0.5)) - f.energy(x)
    >>> bool(drift.abs() < 1e-15)
    True
    """

    order, reference = 2, "Gonzalez 1996; McLachlan, Quispel & Robidoux 1999"

    def mean_gradient(self, f: EnergyField, x: Tensor, d: Tensor) -> Tensor:
        middle = f.energy_gradient(x + d / 2)
        before, after = f.energy(x), f.energy(x + d)
        missing, square = after - before - inner(middle, d), inner(d, d)
        rounding = 8 * torch.finfo(x.dtype).eps * (before.abs() + after.abs())
        matters = (missing.abs() > rounding) & (square > 0)
        factor = torch.where(matters, missing, 0.0) / torch.where(matters, square, 1.0)
        return middle + factor.view(-1, *[1] * (d.dim() - 1)) * d

    def exact_for(self, energy: Invariant) -> bool:
        return True


class AverageVectorField(EnergyMethod):
    """The mean of grad H on the segment from x to x+, by Gauss' quadrature with `nodes` points.

    The quadrature is exact for polynomials H of degree up to 2 nodes: only then is the energy claimed to be. For other
    energies, a network's for instance, its error is an error of the energy.

    >>> AverageVectorField(nodes=2).exact_for(Invariant("energy", lambda x: x.sum(1), degree=4))
    True
    """

    order, reference = 2, "Quispel & McLaren 2008, (1.3)"

    def __init__(self, nodes: int = 3) -> None:
        super().__init__()
        if nodes < 1:
            raise ValueError(f"nodes = {nodes}; needed: at least 1")
        self.nodes = nodes

    def mean_gradient(self, f: EnergyField, x: Tensor, d: Tensor) -> Tensor:
        places, weights = np.polynomial.legendre.leggauss(self.nodes)
        parts = [w / 2 * f.energy_gradient(x + (1 + s) / 2 * d) for s, w in zip(places, weights, strict=True)]
        return torch.stack(parts).sum(0)

    def exact_for(self, energy: Invariant) -> bool:
        return energy.degree is not None and energy.degree <= 2 * self.nodes

    @property
    def theorem(self) -> str:
        return (
            f"AverageVectorField with {self.nodes} nodes is a discrete gradient method for polynomial energies of "
            f"degree up to {2 * self.nodes}: along x' = S grad H they are constant for skew S, and never increase for "
            "S + S^T <= 0"
        )
