"""A linear map as float32 evaluates it: sums of products with |A| in place of A say how wrong they may be."""

from __future__ import annotations

import math

from torch import Tensor

from ..core.errors import ClaimError, message
from ..linear import AlmostOrthogonal, Conv1d, Conv2d, Dense, LinearMap, SkewConv2d, SkewDense
from .running_bounds import norms, product

# roundings that float32 weights carry already: the difference R - R^T of the stored R, or float64's weights rounded
ROUNDED: dict[type[LinearMap], int] = {Dense: 0, Conv1d: 0, Conv2d: 0, SkewDense: 1, SkewConv2d: 1, AlmostOrthogonal: 1}


class EvaluatedMap:
    """The errors of A x + b and of A^T y at points near given ones.

    Args:
        linear: A, in float64.
        name: of the layer, for messages.

    Raises:
        ClaimError: for a map without a float32 analysis.
    """

    def __init__(self, linear: LinearMap, name: str) -> None:
        if type(linear) not in ROUNDED:
            needed = " or ".join(cls.__name__ for cls in ROUNDED)
            raise ClaimError(message(f"no float32 analysis for {type(linear).__name__} ({name})", needed))
        self.linear, self.weight, self.absolute = linear, linear._weight64().abs(), linear.absolute_bound()
        self.lengths = [m + ROUNDED[type(linear)] for m in linear.dot_lengths]

    def error(self, x: Tensor, spread: Tensor, bias: Tensor | None = None, more: int = 0) -> Tensor:
        """Of A y + b at every y within `spread` (batch, 2) of x; b has one entry per output feature or channel.

        `more` roundings are those of b itself.
        """
        terms, m = self.linear._forward(x.abs(), self.weight), self.lengths[0] + more
        if bias is not None:
            terms, m = terms + bias.abs().view(-1, *[1] * (terms.dim() - 2)), m + 1
        return product(m, norms(terms), self.absolute, norms(x), spread, math.prod(self.linear.output_shape))

    def adjoint_error(self, y: Tensor, spread: Tensor) -> Tensor:
        """Of A^T v at every v within `spread` of y."""
        terms = self.linear._adjoint(y.abs(), self.weight)
        return product(
            self.lengths[1], norms(terms), self.absolute, norms(y), spread, math.prod(self.linear.input_shape)
        )
