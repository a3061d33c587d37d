"""What the exact solution of x' = f(x, t) is proved to satisfy, whatever method approximates it."""

from __future__ import annotations

import math

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.properties import (
    Decreases,
    Dissipates,
    DivergenceFree,
    Expansive,
    FirstIntegral,
    Hamiltonian,
    Invertible,
    Lipschitz,
    OneSidedLipschitz,
    Positive,
    Preserves,
    QuasiPositive,
    Symplectic,
    VolumePreserving,
)
from ..core.regions import StaysIn, TangentTo

UP = 1 + 1e-14  # exp and the product in its argument round


def exact_flow(field: Claims, time: float) -> Claims:
    """Claims of x(t) -> x(t + time), the exact solution of a field with the claims `field`, for time >= 0.

    Gronwall's lemma: a one-sided Lipschitz constant nu gives |x(t) - y(t)| <= exp(nu t) |x(0) - y(0)|, so nu <= 0 is
    non-expansive for *any* time; a Lipschitz constant L also gives the same for the flow backwards, so that distances
    shrink at most by exp(-L t) (chapter (11)-(14)). Liouville: a field without divergence keeps volumes; Poincare: a
    Hamiltonian one is symplectic. First integrals, dissipated functions (by Gronwall again), manifolds and the positive
    orthant (Nagumo) are kept by definition.

    A numerical solution has these properties only as far as its integrator's own theorem says (`Flow.claims`).

    Raises:
        InputError: for a negative or infinite time.

    >>> exact_flow(Claims([OneSidedLipschitz(0.0)]), 100.0)
    Claims(Lipschitz(bound=1.0))
    """
    if not 0 <= time < math.inf:
        raise InputError(message(f"time={time}", "a finite time >= 0"))
    found: list[Property] = []
    for claim in field:
        match claim:
            case OneSidedLipschitz(nu):
                found += _bound(nu * time)
            case Lipschitz(bound):
                found += _bound(bound * time)
                if (least := math.exp(-bound * time * UP) / UP) > 0:
                    found.append(Expansive(least))
                found.append(Invertible())
            case DivergenceFree():
                found.append(VolumePreserving())
            case Hamiltonian():
                found.append(Symplectic())
            case FirstIntegral(invariant):
                found.append(Preserves(invariant))
            case Dissipates(function, rate):
                found.append(Decreases(function, min(1.0, math.exp(-rate * time / UP) * UP)))
            case QuasiPositive():
                found.append(Positive())
            case TangentTo(region):
                found.append(StaysIn(region))
            case _:
                pass
    return Claims(found)


def _bound(exponent: float) -> list[Property]:
    """exp(exponent), rounded up unless it is exact."""
    if exponent == 0:
        return [Lipschitz(1.0)]
    if exponent > 700:  # no float64
        return []
    return [Lipschitz(math.exp(exponent * UP if exponent > 0 else exponent / UP) * UP)]
