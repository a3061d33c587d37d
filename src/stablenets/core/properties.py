"""The properties of maps and of vector fields, each with its falsifier.

States are tensors (batch, ...); everything but the batch is one vector, with the Euclidean inner product. Phase-space
states hold positions q and momenta p as the two halves of dimension 1. Conventions: a field is x' = f(x), so a
gradient flow is f = -grad V.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from .calculus import flat as flat
from .calculus import gradient as gradient
from .calculus import inner as inner
from .calculus import jacobian as jacobian
from .calculus import norm as norm
from .calculus import positive as positive
from .calculus import spectral as spectral
from .calculus import symplectic_matrix as symplectic_matrix
from .claims import Map, Property


def outwards(a: float, b: float, towards: float) -> float:
    """a * b, rounded towards `towards` unless the product is exact."""
    product = a * b
    exact = math.isfinite(product) and Fraction(a) * Fraction(b) == Fraction(product)
    return product if exact else math.nextafter(product, towards)


def rounded(exact: Fraction, towards: float) -> float:
    """`exact` as a float, rounded towards `towards`."""
    value = float(exact)
    wrong = Fraction(value) < exact if towards > value else Fraction(value) > exact
    return math.nextafter(value, towards) if wrong else value


# --- properties of maps -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lipschitz(Property):
    """|f(x) - f(y)| <= bound |x - y| in the Euclidean norm. Holds of maps and of fields."""

    bound: float

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        far = norm(f(x) - f(y)) / norm(x - y)
        return torch.maximum(far, spectral(jacobian(f, x))) / max(self.bound, 1e-300) - 1

    def after(self, first: Property) -> Property | None:
        return Lipschitz(outwards(self.bound, first.bound, math.inf)) if isinstance(first, Lipschitz) else None

    def stronger(self, other: Property) -> bool:
        return isinstance(other, Lipschitz) and self.bound < other.bound


@dataclass(frozen=True)
class Averaged(Property):
    """f = (1 - alpha) I + alpha N with N non-expansive, 0 < alpha < 1 (lecture, "averaged maps")."""

    alpha: float

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha = {self.alpha}; an averaged map has 0 < alpha < 1")

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        """|fx - fy|^2 + (1 - alpha)/alpha |(x - fx) - (y - fy)|^2 <= |x - y|^2 (Bauschke & Combettes, Prop. 4.35)."""
        dx, df = x - y, f(x) - f(y)
        left = norm(df).square() + (1 - self.alpha) / self.alpha * norm(dx - df).square()
        return left / norm(dx).square() - 1

    def after(self, first: Property) -> Property | None:
        if not isinstance(first, Averaged):
            return None
        a, b = Fraction(self.alpha), Fraction(first.alpha)  # in floats, all digits cancel near 1
        alpha = rounded((a + b - 2 * a * b) / (1 - a * b), math.inf)  # Ogura & Yamada 2002; sharp
        return Averaged(alpha) if alpha < 1 else Lipschitz(1.0)

    def relaxed(self, share: float) -> Averaged:
        """The statement about (1 - share) I + share f with this f, 0 < share <= 1: alpha falls by the factor `share`.

        The same holds of (1 - share) g + share f for a g that is the identity (as a function of the common input).
        """
        return Averaged(outwards(self.alpha, share, math.inf)) if share < 1 else self

    def implies(self) -> tuple[Property, ...]:
        return (Lipschitz(1.0),)

    def stronger(self, other: Property) -> bool:
        return isinstance(other, Averaged) and self.alpha < other.alpha


@dataclass(frozen=True)
class Expansive(Property):
    """|f(x) - f(y)| >= bound |x - y| with bound > 0: the map never collapses, its gradients never vanish."""

    bound: float

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        far = norm(f(x) - f(y)) / norm(x - y)
        m = jacobian(f, x)
        if m.shape[1] < m.shape[2]:  # into a smaller space: a direction is collapsed
            return torch.ones_like(far)
        return 1 - torch.minimum(far, torch.linalg.svdvals(m)[:, -1]) / self.bound

    def after(self, first: Property) -> Property | None:
        if not isinstance(first, Expansive):
            return None
        bound = outwards(self.bound, first.bound, 0.0)
        return Expansive(bound) if bound > 0 else None

    def stronger(self, other: Property) -> bool:
        return isinstance(other, Expansive) and self.bound > other.bound


@dataclass(frozen=True)
class Isometry(Property):
    """|f(x) - f(y)| = |x - y|. Lifts by zeros and permutations are isometries, also between different dimensions."""

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        return (norm(f(x) - f(y)) / norm(x - y) - 1).abs()

    def after(self, first: Property) -> Property | None:
        return self if isinstance(first, Isometry) else None

    def implies(self) -> tuple[Property, ...]:
        return (Lipschitz(1.0), Expansive(1.0))


@dataclass(frozen=True)
class Symplectic(Property):
    """Df^T J Df = J."""

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        m, j = jacobian(f, x), symplectic_matrix(x)
        return spectral(m.mT @ j @ m - j) / spectral(m).square().clamp(min=1)  # rounding grows with |Df|^2

    def after(self, first: Property) -> Property | None:
        return self if isinstance(first, Symplectic) else None

    def implies(self) -> tuple[Property, ...]:
        return (VolumePreserving(),)


@dataclass(frozen=True)
class VolumePreserving(Property):
    """|det Df| = 1."""

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        m = jacobian(f, x)
        # log|det| = sum of log singular values; each is known up to eps * condition number
        return torch.linalg.slogdet(m).logabsdet.abs() / torch.linalg.cond(m).clamp(min=1)

    def after(self, first: Property) -> Property | None:
        return self if isinstance(first, VolumePreserving) else None


@dataclass(frozen=True)
class Invertible(Property):
    """The map is a bijection with an invertible derivative."""

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        """1 where two points collide or the sign of the determinant differs between them, else how far from singular.

        The latter is the negative of the smallest over the largest singular value, on which an attack can climb.
        """
        at_x, at_y = jacobian(f, x), jacobian(f, y)
        signs = torch.linalg.slogdet(at_x).sign * torch.linalg.slogdet(at_y).sign
        sizes = torch.linalg.svdvals(at_x)
        collapsed = sizes[:, -1] <= 1e-15 * sizes[:, 0]  # also where the derivative is singular
        collision = collapsed | (norm(f(x) - f(y)) < 1e-12 * norm(x - y)) | ~(signs > 0)
        return torch.where(collision, 1.0, -sizes[:, -1] / positive(sizes[:, 0]))

    def after(self, first: Property) -> Property | None:
        return self if isinstance(first, Invertible) else None


@dataclass(frozen=True)
class Invariant:
    """A function of the state, `function(x) -> (batch,)`; the `degree` of a polynomial, else None; whether `convex`.

    Two invariants are the same when their functions are: the energies of two fields have one name and differ. Give a
    method of the field (equal whenever the field is the same object), not a new lambda at each call.
    """

    name: str
    function: Map = field(repr=False)
    degree: int | None = None
    convex: bool = False


@dataclass(frozen=True)
class Preserves(Property):
    """I(f(x)) = I(x) for the invariant I."""

    invariant: Invariant

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        i, fx = self.invariant.function, f(x)
        return (i(fx) - i(x)).abs() / _resolution(i, x, fx)

    def after(self, first: Property) -> Property | None:
        return self if first == self else None

    def kind(self) -> object:
        return self


def _resolution(function: Map, x: Tensor, fx: Tensor) -> Tensor:
    """The size (batch,) relative to which values of `function` at `x` and `fx` are known to rounding."""
    scale = norm(gradient(function, x)) * norm(x) + norm(gradient(function, fx)) * norm(fx) + function(x).abs()
    return positive(scale)


@dataclass(frozen=True)
class Decreases(Property):
    """V(f(x)) <= factor V(x), 0 <= factor <= 1: the map never increases V."""

    function: Invariant
    factor: float = 1.0

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        v, fx = self.function.function, f(x)
        return (v(fx) - self.factor * v(x)) / _resolution(v, x, fx)

    def after(self, first: Property) -> Property | None:
        if not isinstance(first, Decreases) or first.function != self.function:
            return None
        return Decreases(self.function, outwards(self.factor, first.factor, math.inf))

    def stronger(self, other: Property) -> bool:
        return isinstance(other, Decreases) and self.factor < other.factor

    def kind(self) -> object:
        return type(self), self.function


@dataclass(frozen=True)
class Positive(Property):
    """The map takes states without negative entries to states without negative entries."""

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        fx = f(x.abs())
        return (-flat(fx)).amax(1) / positive(norm(fx) + norm(x))

    def after(self, first: Property) -> Property | None:
        return self if isinstance(first, Positive) else None


# --- properties of vector fields ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneSidedLipschitz(Property):
    """<f(x) - f(y), x - y> <= nu |x - y|^2; nu <= 0 is a monotone, nu < 0 a contractive field (chapter Def. 1)."""

    nu: float

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        dx, df = x - y, f(x) - f(y)
        # relative to the size of f, not of df: where f is saturated, df is nothing but rounding
        scale = positive(((norm(f(x)) + norm(f(y))) / norm(dx)).clamp(min=abs(self.nu)))
        return (inner(df, dx) / norm(dx).square() - self.nu) / scale

    def stronger(self, other: Property) -> bool:
        return isinstance(other, OneSidedLipschitz) and self.nu < other.nu


@dataclass(frozen=True)
class Cocoercive(Property):
    """-<f(x) - f(y), x - y> >= beta |f(x) - f(y)|^2: f = -grad V with V convex and 1/beta-smooth (chapter (16))."""

    beta: float

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        dx, df = x - y, f(x) - f(y)
        # relative to |dx|^2 / beta, the largest value that <df, dx> may take
        return (self.beta * norm(df).square() + inner(df, dx)) * self.beta / norm(dx).square()

    def implies(self) -> tuple[Property, ...]:
        return (Lipschitz(1 / self.beta), OneSidedLipschitz(0.0))

    def stronger(self, other: Property) -> bool:
        return isinstance(other, Cocoercive) and self.beta > other.beta


@dataclass(frozen=True)
class Hamiltonian(Property):
    """f = J grad H: J^-1 Df is symmetric."""

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        s = symplectic_matrix(x).mT @ jacobian(f, x)
        return spectral(s - s.mT) / positive(spectral(s))

    def implies(self) -> tuple[Property, ...]:
        return (DivergenceFree(),)


@dataclass(frozen=True)
class DivergenceFree(Property):
    """trace Df = 0."""

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        m = jacobian(f, x)
        return m.diagonal(dim1=1, dim2=2).sum(1).abs() / positive(spectral(m))


@dataclass(frozen=True)
class FirstIntegral(Property):
    """grad I . f = 0: the flow keeps the invariant I."""

    invariant: Invariant

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        g, fx = gradient(self.invariant.function, x), f(x)
        return inner(g, fx).abs() / positive(norm(g) * norm(fx))

    def kind(self) -> object:
        return self


@dataclass(frozen=True)
class Dissipates(Property):
    """grad V . f <= -rate V, rate >= 0: V never increases along the flow, and falls at least as exp(-rate t)."""

    function: Invariant
    rate: float = 0.0

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        v = self.function.function
        g, fx = gradient(v, x), f(x)
        needed = self.rate * v(x)
        return (inner(g, fx) + needed) / positive(norm(g) * norm(fx) + needed.abs())

    def stronger(self, other: Property) -> bool:
        return isinstance(other, Dissipates) and self.rate > other.rate

    def kind(self) -> object:
        return type(self), self.function


@dataclass(frozen=True)
class EnergyForm(Property):
    """f = S grad H with S + S^T <= 0, skew if `conserved`, as the field's own `energy` and `structure` state it."""

    energy: Invariant
    conserved: bool

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        return self.implies()[0].violation(f, x, y)

    def implies(self) -> tuple[Property, ...]:
        return (FirstIntegral(self.energy) if self.conserved else Dissipates(self.energy),)

    def stronger(self, other: Property) -> bool:
        return isinstance(other, EnergyForm) and self.conserved and not other.conserved

    def kind(self) -> object:
        return type(self), self.energy


@dataclass(frozen=True)
class SymmetricJacobian(Property):
    """Df = Df^T: f is the gradient of a function, the line integral of f."""

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        m = jacobian(f, x)
        return spectral(m - m.mT) / positive(spectral(m))


@dataclass(frozen=True)
class QuasiPositive(Property):
    """f_i(x) >= 0 wherever x >= 0 and x_i = 0: the flow keeps states without negative entries so (Nagumo 1942)."""

    def violation(self, f: Map, x: Tensor, y: Tensor) -> Tensor:
        """On faces of the orthant: the entries of |x| at which `y` is negative are set to zero."""
        face = flat(y) < 0
        at = torch.where(face, 0.0, flat(x).abs()).reshape(x.shape)
        fx = flat(f(at))
        inwards = fx / positive(fx.norm(dim=1, keepdim=True))
        return torch.where(face, -inwards, -1.0).amax(1)
