"""Sets of states, and what maps and fields do on them."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from .claims import Map, Property
from .properties import flat, jacobian, norm, positive, spectral


@dataclass(frozen=True)
class Region:
    """The states with residual(x) = 0, (batch, ...) -> (batch, m); `nearest` takes any state to one of them."""

    name: str
    residual: Map = field(repr=False)
    nearest: Map = field(repr=False)


@dataclass(frozen=True)
class StaysIn(Property):
    """The map takes states of the region to states of the region."""

    region: Region

    def domain(self, x: Tensor) -> Tensor:
        return self.region.nearest(x)

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        fx = f(self.region.nearest(x))
        scale = spectral(jacobian(self.region.residual, fx)) * norm(fx)
        return norm(self.region.residual(fx)) / positive(scale)

    def after(self, first: Property) -> Property | None:
        return self if first == self else None

    def kind(self) -> object:
        return self


@dataclass(frozen=True)
class TangentTo(Property):
    """Dc . f = 0 where the residual c = 0: the flow stays on this manifold."""

    region: Region

    def domain(self, x: Tensor) -> Tensor:
        return self.region.nearest(x)

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        at = self.region.nearest(x)
        m, fx = jacobian(self.region.residual, at), f(at)
        return norm(m @ flat(fx).unsqueeze(2)) / positive(spectral(m) * norm(fx))

    def kind(self) -> object:
        return self


@dataclass(frozen=True)
class Within(Property):
    """A statement about a field that holds in the region, and need not hold elsewhere."""

    region: Region
    claim: Property

    def domain(self, x: Tensor) -> Tensor:
        return self.region.nearest(x)

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        return self.claim.violation(f, self.region.nearest(x), self.region.nearest(y))

    def kind(self) -> object:
        return self


@dataclass(frozen=True)
class Bounded(Property):
    """Every entry of f(x) lies in [low, high], for every x: by Brouwer's theorem, f has a fixed point if continuous."""

    low: float
    high: float

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        fx = flat(f(x))
        outside = (self.low - fx).maximum(fx - self.high).amax(1)
        return outside / max(abs(self.low), abs(self.high), 1e-300)

    def after(self, first: Property) -> Property | None:
        return self  # whatever came first

    def stronger(self, other: Property) -> bool:
        return isinstance(other, Bounded) and self.high - self.low < other.high - other.low
