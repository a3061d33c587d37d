"""What a step should keep of its field's flow: every claim about a field, turned into a statement about the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..core.claims import Claims, Property
from ..core.properties import (
    Decreases,
    Dissipates,
    DivergenceFree,
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
from ..core.regions import StaysIn, TangentTo, Within


@dataclass(frozen=True)
class Aim:
    """A property of the flow that a step may keep.

    Attributes:
        name: of the property, as in the table.
        statement: about a step; the exact flow satisfies it.
        equality: whether it says that something is *equal*. A method of order p then misses it by O(h^(p + 1)); an
            inequality may be violated by any amount, or not at all.
    """

    name: str
    statement: Property
    equality: bool

    @property
    def says(self) -> str:
        """The first line of what the statement says."""
        if isinstance(self.statement, Lipschitz):
            return f"|f(x) - f(y)| {'<' if self.name == 'contracting' else '<='} |x - y| in the Euclidean norm."
        claim = self.statement.claim if isinstance(self.statement, Within) else self.statement
        return (type(claim).__doc__ or "").splitlines()[0]

    def kept(self, step: Claims) -> bool:
        """Whether the claims of a step say so."""
        if self.name == "contracting":
            return any(isinstance(c, Lipschitz) and c.bound < 1 for c in step)
        if isinstance(self.statement, Lipschitz):
            return any(isinstance(c, Lipschitz) and c.bound <= self.statement.bound for c in step)
        if isinstance(self.statement, Decreases):
            kept = {c.invariant for c in step if isinstance(c, Preserves)}
            return self.statement.function in kept | {c.function for c in step if isinstance(c, Decreases)}
        return self.statement in step


def aims(field: Claims) -> Iterator[Aim]:
    """What the flow of a field with these claims has, and a step may keep."""
    for claim in field:
        match claim:
            case FirstIntegral(invariant):
                yield Aim(invariant.name, Preserves(invariant), True)
            case Within(region, FirstIntegral(invariant)):
                yield Aim(invariant.name, Within(region, Preserves(invariant)), True)
            case Dissipates(function):
                yield Aim(f"{function.name} falls", Decreases(function), False)
            case Hamiltonian():
                yield Aim("symplectic", Symplectic(), True)
            case DivergenceFree():
                yield Aim("volume", VolumePreserving(), True)
            case TangentTo(region):
                yield Aim(region.name, StaysIn(region), True)
            case QuasiPositive():
                yield Aim("positive", Positive(), False)
            case OneSidedLipschitz(nu) if nu <= 0:
                yield Aim("non-expansive", Lipschitz(1.0), False)
                if nu < 0:
                    yield Aim("contracting", Lipschitz(1.0), False)
            case Lipschitz():
                yield Aim("invertible", Invertible(), False)
