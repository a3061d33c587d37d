"""A bound on the rounding error of steps along a skew-symmetric field (docs/certificates.md)."""

from __future__ import annotations

import math

from ..core.errors import ClaimError, message
from ..fields import SkewLinear
from ..integrators import Cayley, Exponential
from ..layers import Flow
from ..linear import SkewConv2d
from .rounding import UP, Extent, gamma


def skew_extent(flow: Flow, bound: float, lipschitz_step: float, x: Extent) -> Extent:
    """Bounds after all steps of a flow of `SkewLinear`: linear maps, so the error of a step is relative to its state.

    Raises:
        ClaimError: for a step that no analysis covers.
    """
    field, method = flow.field, flow.integrator
    assert isinstance(field, SkewLinear)
    if isinstance(method, Exponential):
        relative = exponential_error(field, method.terms, flow.step_size, bound)
    elif isinstance(method, Cayley):
        relative = cayley_error(field, flow.step_size, bound)
    else:
        raise ClaimError(
            message(f"no rounding analysis for {type(method).__name__} on SkewLinear", "Cayley or Exponential")
        )
    for _ in range(flow.step_count):
        after = Extent(lipschitz_step * x.norm * UP, (lipschitz_step * x.error + relative * x.computed) * UP)
        x = after.lost(x)
    return x


def exponential_error(field: SkewLinear, terms: int, h: float, bound: float) -> float:
    """Relative error of Horner's scheme y <- x + (h / k) S y, k = terms, ..., 1, with ||S|| <= `bound`."""
    product = gamma(field.linear.dot_lengths[0]) * field.linear.absolute_bound()
    size, error = 1.0, 0.0
    for k in range(terms, 0, -1):
        slope = (bound + product) * (size + error)
        error = h / k * (bound * error + product * (size + error)) + gamma(3) * (1 + h / k * slope)
        size = 1 + h / k * bound * size
    return error * UP


def cayley_error(field: SkewLinear, h: float, bound: float) -> float:
    """Relative error of 2 (z + H z) - x, (I + H^T H) z = x by Cholesky factorisation, with H = h S / 2."""
    linear = field.linear
    if isinstance(linear, SkewConv2d) and linear.padding == "circular":
        raise ClaimError(
            message(
                "no rounding analysis for Cayley on a circular convolution, which takes Fourier transforms",
                "Exponential, or a SkewDense",
            )
        )
    n, norm, absolute = math.prod(linear.input_shape), h / 2 * bound, h / 2 * linear.absolute_bound()
    matrix = gamma(n + 1) * (1 + absolute**2) + gamma(4 * n + 8) * n * (1 + norm**2) * UP
    if not matrix < 0.5:
        raise ClaimError(message(f"||h S / 2|| <= {norm:.3g} is too large for a rounding analysis", "smaller steps"))
    solved = matrix / (1 - matrix)
    size = 1 + solved
    summed = gamma(n) * absolute * size + gamma(1) * (1 + norm + gamma(n) * absolute) * size
    last = gamma(1) * (2 * ((1 + norm) * size + summed) + 1)
    return (2 * (1 + norm) * solved + 2 * summed + last + 2 * gamma(1) * absolute) * UP
