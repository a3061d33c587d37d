"""The hybrid layer: a gradient step, then a rotation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from ..core.claims import Claims
from ..fields import ConvexGradient, SkewLinear
from ..integrators import Cayley, Euler, Exponential, Integrator
from ..linear import Conv2d, Dense
from .base import Composed, Layer
from .chain import Chain, claims
from .flow import Flow


class Hybrid(Composed, Layer):
    """STEP1 along -grad V, then STEP2 along S x: the Lie-Trotter splitting of x' = -grad V(x) + S x.

    The flow of the sum is non-expansive (CPL, "hybrid schemes"), but Euler's method along it is not, for any step. Each
    part has a method that is: as many Euler steps as the gradient's limit asks for, and a rotation.

    Args:
        gradient: -grad V with V convex.
        skew: S x with S skew-symmetric, on states of the same shape.
        integrator: of STEP2 (default `Exponential()`): `Cayley()` is the "midpoint Euler method" of the source.
        time: how long each part is followed.

    >>> from stablenets.linear import Dense, SkewDense
    >>> layer = Hybrid(ConvexGradient(Dense(4, 8)), SkewLinear(SkewDense(4)), Cayley(), time=0.5)
    >>> from stablenets.core.properties import Lipschitz
    >>> layer.claims().get(Lipschitz)
    Lipschitz(bound=1.0)
    """

    def __init__(
        self,
        gradient: ConvexGradient,
        skew: SkewLinear,
        integrator: Integrator[SkewLinear] | None = None,
        *,
        time: float = 1.0,
    ) -> None:
        super().__init__()
        self.time = time
        self.body = Chain(Flow(gradient, Euler(), time=time), Flow(skew, integrator or Exponential(), time=time))
        self.input_shape = gradient.state_shape

    # the arguments, as `config` reads them back; they live in the body, once

    @property
    def gradient(self) -> Any:
        return self._part(0).field

    @property
    def skew(self) -> Any:
        return self._part(1).field

    @property
    def integrator(self) -> Any:
        return self._part(1).integrator

    def _part(self, i: int) -> Any:
        body: Any = self.body
        return body.layers[i]

    def claims(self) -> Claims:
        return claims(self)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        fields = list(SkewLinear.examples())
        dense, conv = (next(f for f in fields if len(f.linear.input_shape) == d) for d in (1, 3))
        channels, *size = conv.linear.input_shape
        linear = Dense(dense.linear.input_shape[0], 6), Conv2d(channels, 3, 3, (size[0], size[1]))
        for skew, integrator, a in ((dense, Cayley(), linear[0]), (conv, Exponential(4), linear[1])):
            a.weight.data *= 3
            yield cls(ConvexGradient(a), skew, integrator, time=0.7)
