"""Fields of two layers, in the one form whose rounding errors are bounded: x' = s B^T sigma(A x + b + t v) - rate x."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..core.errors import ClaimError, message
from ..fields import Activation, Contracting, ConvexGradient, Field, TimedTwoLayer
from ..linear import LinearMap

TIMED = 10  # more roundings than for A x + b: t v, its addition, and at most seven of the time t of a stage


@dataclass(frozen=True)
class TwoLayer:
    """The parts of a field s B^T sigma(A x + b + t v) - rate x.

    Attributes:
        inner, outer: A and B; the same map in gradients.
        bias, drift: b and v, one entry per feature or channel of A x; no drift: None.
        sign: s, 1 or -1.
        rate: not negative.
    """

    inner: LinearMap
    outer: LinearMap
    activation: Activation
    bias: Tensor
    drift: Tensor | None
    sign: float
    rate: float

    @property
    def roundings(self) -> int:
        """How many more roundings A x + b + t v takes than A x + b."""
        return 0 if self.drift is None else TIMED

    def lipschitz(self, inner: float, outer: float) -> float:
        """The field's constant, given bounds of ||A|| and ||B||."""
        return self.activation.slope[1] * inner * outer + self.rate


def two_layer(field: Field, name: str) -> TwoLayer:
    """The parts of a field.

    Raises:
        ClaimError: for a field of another form; it is named, with the layer `name`.
    """
    match field:
        case ConvexGradient(linear=a):
            return TwoLayer(a, a, field.activation, field.bias, None, -1.0, 0.0)
        case Contracting(gradient=f, rotation=None):
            return TwoLayer(f.linear, f.linear, f.activation, f.bias, None, -1.0, field.rate)
        case TimedTwoLayer():
            return TwoLayer(field.inner, field.outer, field.activation, field.bias, field.drift, 1.0, 0.0)
        case _:
            given = f"{name} is a flow of {type(field).__name__}"
            if isinstance(field, Contracting):
                given += " with a rotation"
            known = "ConvexGradient, Contracting without a rotation, TimedTwoLayer or SkewLinear"
            raise ClaimError(message(given, f"flows of {known} in a certified network"))
