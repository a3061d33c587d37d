"""How far the partial sums p(z) = sum_(k <= terms) z^k / k! of exp z leave the unit circle on the imaginary axis.

In exact rational arithmetic: |p(i t)|^2 is a polynomial in t^2 with rational coefficients.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction


@functools.cache
def excess(terms: int) -> tuple[Fraction, ...]:
    """Coefficients, by powers of t^2, of |p(i t)|^2 - 1 with p(z) = sum_(k <= terms) z^k / k!.

    The product of the terms (i t)^k / k! and (-i t)^l / l! has the power k + l = 2j and the sign (-1)^(j + l).
    Coefficients with 0 < 2j <= terms vanish: all of (1 - 1)^2j / (2j)! is there.
    """
    f = math.factorial
    coefficients = [Fraction(0)]
    for j in range(1, terms + 1):
        parts = range(max(0, 2 * j - terms), min(terms, 2 * j) + 1)
        coefficients.append(sum((Fraction((-1) ** (j + l), f(l) * f(2 * j - l)) for l in parts), Fraction(0)))
    return tuple(coefficients)


def squared_range(terms: int, reach: Fraction) -> tuple[Fraction, Fraction]:
    """Bounds below and above of |p(i t)|^2 over |t| <= `reach`: the better of two.

    With c_j the first coefficient that is not 0, |p|^2 - 1 = t^2j (c_j + c_(j+1) t^2 + ...), and the sum is at most c_j
    and the positive coefficients that follow, taken at the largest t, and at least c_j and the negative ones.

    And p is within |t|^n / n!, n = terms + 1, of exp(i t), on the unit circle (Taylor, all derivatives of size one).
    """
    square, first = reach * reach, _first(terms)
    start, *rest = excess(terms)[first:]
    tail = [c * square**i for i, c in enumerate(rest, 1)]
    below = start + sum((c for c in tail if c < 0), Fraction(0))
    above = start + sum((c for c in tail if c > 0), Fraction(0))
    remainder = abs(reach) ** (terms + 1) / math.factorial(terms + 1)
    low = max(1 + square**first * min(below, Fraction(0)), max(1 - remainder, Fraction(0)) ** 2)
    return low, min(1 + square**first * max(above, Fraction(0)), (1 + remainder) ** 2)


def _first(terms: int) -> int:
    return next(j for j, c in enumerate(excess(terms)) if c)


@functools.cache
def non_expansive_radius(terms: int) -> float | None:
    """An h ||S|| up to which |p(i t)| <= 1 is proved; None where |p(i t)| > 1 for all small t > 0."""
    if excess(terms)[_first(terms)] > 0:
        return None
    low, high = 0.0, 3.0  # the radius is below 2.83 for every number of terms
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if squared_range(terms, Fraction(middle))[1] == 1 else (low, middle)
    return low * (1 - 1e-12)  # h ||S|| is a rounded product of rounded numbers
