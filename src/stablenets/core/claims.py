"""Claims: what a map or a vector field is proved to satisfy, how claims compose, and what gets lost on the way."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

Map = Callable[[Tensor], Tensor]
P = TypeVar("P", bound="Property")


class Property(abc.ABC):
    """A statement about a map (or a vector field) on R^d. Concrete properties are frozen dataclasses with values."""

    @abc.abstractmethod
    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        """How badly the sample points `x`, `y` (batch, ...) contradict the statement about `f`.

        Returns a tensor (batch,), relative and dimensionless: positive where contradicted, at most a few rounding
        errors of the working precision where the statement is true.
        """

    def domain(self, x: Tensor) -> Tensor:
        """States about which the statement speaks, for any states `x`; by default all."""
        return x

    def after(self, first: Property) -> Property | None:
        """The statement about `self's map o first's map`. The default is that nothing follows."""
        return None

    def implies(self) -> tuple[Property, ...]:
        """Weaker statements that follow about the same map."""
        return ()

    def stronger(self, other: Property) -> bool:
        """Whether this statement, of the same kind as `other`, says more."""
        return False

    def kind(self) -> object:
        """Statements of one kind compete: only the strongest is kept."""
        return type(self)


@dataclass(frozen=True)
class Lost:
    """A property that a composition could not keep, and the layer that lost it."""

    claim: Property
    layer: str

    def __str__(self) -> str:
        return f"{self.claim} is lost at {self.layer}"


class Claims(tuple[Property, ...]):
    """The properties one object is proved to have, closed under implication; `lost` says what a composition dropped.

    >>> from stablenets.core.properties import Averaged, Lipschitz
    >>> Claims([Averaged(0.5)])
    Claims(Averaged(alpha=0.5), Lipschitz(bound=1.0))
    >>> Claims([Lipschitz(2.0)]).after(Claims([Lipschitz(3.0)])).get(Lipschitz)
    Lipschitz(bound=6.0)
    """

    lost: tuple[Lost, ...]

    def __new__(cls, properties: Iterable[Property] = (), lost: Iterable[Lost] = ()) -> Claims:
        kept: dict[object, Property] = {}
        queue = list(properties)
        while queue:
            claim = queue.pop(0)
            if claim.kind() not in kept or claim.stronger(kept[claim.kind()]):
                kept[claim.kind()] = claim
                queue += claim.implies()
        self = super().__new__(cls, kept.values())
        self.lost = tuple(lost)
        return self

    def get(self, kind: type[P]) -> P | None:
        """The claim of the given kind, or None."""
        return next((c for c in self if isinstance(c, kind)), None)

    def after(self, first: Claims, layer: str = "the last layer") -> Claims:
        """Claims of `this map o first's map`; what `first` had and this map loses is recorded as lost at `layer`."""
        kept = [c for a in self for b in first if (c := a.after(b)) is not None]
        kinds = {c.kind() for c in Claims(kept)}
        lost = [Lost(b, layer) for b in first if b.kind() not in kinds]
        return Claims(kept, lost=(*first.lost, *lost))

    def __repr__(self) -> str:
        return f"Claims({', '.join(map(repr, self))})"
