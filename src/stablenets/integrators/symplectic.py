"""Symplectic splitting methods for separable fields: compositions of shears."""

from __future__ import annotations

import abc
import functools
import itertools
import math
from typing import Any, ClassVar

import numpy as np
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

UP = 1 + 1e-13  # claims are rounded outwards by far more than the few roundings of their formulas


class Splitting(Integrator[SplitField], abc.ABC):
    """Alternate kicks p += h b_i force(q) and drifts q += h a_i velocity(p), as listed in `kicks` and `drifts`.

    Each is a shear: symplectic when the field is Hamiltonian, volume preserving and invertible always. The energy is
    *not* kept, only its near-conservation over long times is known.
    """

    needs = SplitField
    exact_inverse = True
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

    def inverse(self, f: SplitField, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        """The shears undone, last to first, each at its own time."""
        q, p = x.chunk(2, 1)
        kicked, drifted = sum(self.kicks), sum(self.drifts)
        for b, a in zip(reversed(self.kicks), reversed(self.drifts), strict=True):
            if a:
                drifted -= a
                q = add_scaled(q, f.velocity(p, t + kicked * h), -a * h)
            if b:
                kicked -= b
                p = add_scaled(p, f.force(q, t + drifted * h), -b * h)
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
            forth, back = self._sizes(abs(h) * lipschitz.bound)
            claims += [Lipschitz(forth * UP), Expansive(1 / (back * UP))]
        return Claims(claims)

    def _sizes(self, hl: float) -> tuple[float, float]:
        """Lipschitz bounds of the step and of its inverse when h times each part of the field is `hl`-Lipschitz.

        (|dq|, |dp|) grows at most by a product of non-negative shears, one for each kick and drift; the norm of this
        product is attained by q' = p, p' = q where no coefficient is negative.
        """
        shears = []
        for b, a in zip(self.kicks, self.drifts, strict=True):
            shears += [np.array([[1.0, 0.0], [abs(b) * hl, 1.0]]), np.array([[1.0, abs(a) * hl], [0.0, 1.0]])]
        forth = functools.reduce(lambda product, shear: shear @ product, shears)
        back = functools.reduce(np.matmul, shears)
        return float(np.linalg.norm(forth, 2)), float(np.linalg.norm(back, 2))

    @property
    def theorem(self) -> str:
        return f"{type(self).__name__} composes shears, each symplectic on a separable Hamiltonian field, for every h"


def _composed(*weights: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Kicks and drifts of Stormer-Verlet steps of the given lengths, one after the other."""
    ends = (0.0, *weights, 0.0)
    return tuple((u + v) / 2 for u, v in itertools.pairwise(ends)), (*weights, 0.0)


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


_YOSHIDA = 1 / (2 - 2 ** (1 / 3))


class Yoshida4(Splitting):
    """Three Stormer-Verlet steps, the middle one backwards (the triple jump)."""

    order, reference = 4, "Forest & Ruth 1990, Yoshida 1990; Hairer, Lubich & Wanner, II.4.4"
    kicks, drifts = _composed(_YOSHIDA, 1 - 2 * _YOSHIDA, _YOSHIDA)


_SUZUKI = 1 / (4 - 4 ** (1 / 3))


class Suzuki4(Splitting):
    """Five Stormer-Verlet steps, the middle one backwards: errors about 14 times smaller than `Yoshida4`'s."""

    order, reference = 4, "Suzuki 1990; Hairer, Lubich & Wanner, II.4.5"
    kicks, drifts = _composed(_SUZUKI, _SUZUKI, 1 - 4 * _SUZUKI, _SUZUKI, _SUZUKI)


_B = (0.0829844064174052, 0.396309801498368, -0.0390563049223486)
_A = (0.245298957184271, 0.604872665711080)


class BlanesMoan4(Splitting):
    """Seven kicks and six drifts, tuned for quadratic kinetic energies (q'' = force(q), a Nystrom method).

    There errors are over 1,000 times smaller than `Yoshida4`'s; on other separable fields the order is 4 as well.
    """

    order, reference = 4, "Blanes & Moan 2002, Table 3 (RKN method of order 4 with 6 stages)"
    kicks = (*_B, 1 - 2 * sum(_B), *_B[::-1])
    drifts = (*_A, 0.5 - sum(_A), 0.5 - sum(_A), *_A[::-1], 0.0)
