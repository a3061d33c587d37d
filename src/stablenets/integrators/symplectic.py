"""Symplectic splitting methods for separable fields: compositions of shears."""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.properties import (
    DivergenceFree,
    Expansive,
    Hamiltonian,
    Invertible,
    Lipschitz,
    Symplectic,
    VolumePreserving,
)
from ..fields.base import SplitField
from .base import Integrator, add_scaled


class Splitting(Integrator[SplitField], abc.ABC):
    """Alternate kicks p += h b_i force(q) and drifts q += h a_i velocity(p), as listed in `kicks` and `drifts`.

    Each is a shear: symplectic when the field is Hamiltonian, volume preserving and invertible always. The energy is
    *not* kept, only its near-conservation over long times is known.
    """

    needs = SplitField
    kicks: ClassVar[tuple[float, ...]]
    drifts: ClassVar[tuple[float, ...]]

    def step(self, f: SplitField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        q, p = x.chunk(2, 1)
        kicked = drifted = 0.0  # each part of the field advances its own time
        for b, a in zip(self.kicks, self.drifts, strict=True):
            if b:
                p = add_scaled(p, f.force(q, t + drifted * h), b * h)
                kicked += b
            if a:
                q = add_scaled(q, f.velocity(p, t + kicked * h), a * h)
                drifted += a
        return torch.cat([q, p], 1)

    def step_limit(self, field: Claims) -> float | None:
        return math.inf if field.get(Hamiltonian) else None

    def transfer(self, field: Claims, h: float) -> Claims:
        claims: list[Property] = []
        if field.get(Hamiltonian):
            claims.append(Symplectic())
        if field.get(DivergenceFree):
            claims += [VolumePreserving(), Invertible()]
        if (lipschitz := field.get(Lipschitz)) is not None:
            size = math.prod(_shear(abs(c * h) * lipschitz.bound) for c in (*self.kicks, *self.drifts))
            claims += [Lipschitz(size), Expansive(1 / size)]
        return Claims(claims)

    @property
    def theorem(self) -> str:
        return f"{type(self).__name__} composes shears, each symplectic on a separable Hamiltonian field, for every h"


def _shear(a: float) -> float:
    """The norm of [[1, a], [0, 1]], which bounds a shear with an a-Lipschitz function; its inverse is one too."""
    return (a + math.sqrt(a * a + 4)) / 2 * (1 + 1e-14)


class SymplecticEuler(Splitting):
    """p+ = p + h force(q), q+ = q + h velocity(p+).

    >>> from stablenets.systems import HarmonicOscillator
    >>> SymplecticEuler().step(HarmonicOscillator(), torch.tensor([[1.0, 0.0]]), 0.5)
    tensor([[ 0.7500, -0.5000]])
    """

    order, reference = 1, "de Vogelaere 1956; chapter 4"
    kicks, drifts = (1.0,), (1.0,)


class StormerVerlet(Splitting):
    """Half a kick, a drift, half a kick."""

    order, reference = 2, "Verlet 1967; Hairer, Lubich & Wanner, VI.3"
    kicks, drifts = (0.5, 0.5), (1.0, 0.0)
