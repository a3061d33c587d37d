"""Square roots of exact numbers, rounded the safe way."""

from __future__ import annotations

import math
from fractions import Fraction


def root(square: Fraction, towards: float) -> float:
    """sqrt(square) as a float: itself where it is one, else rounded towards `towards` (`math.inf` or 0).

    >>> root(Fraction(9, 16), math.inf), root(Fraction(2), 0.0) < root(Fraction(2), math.inf)
    (0.75, True)
    >>> Fraction(root(Fraction(2), 0.0)) ** 2 < 2 < Fraction(root(Fraction(2), math.inf)) ** 2
    True
    """
    if square == 0:
        return 0.0
    half = (square.numerator.bit_length() - square.denominator.bit_length()) // 2
    if half > 1022:  # the root is above 2^1022
        return math.inf if towards > 0 else 2.0**1022
    r = math.ldexp(math.sqrt(square / Fraction(4) ** half), half)  # the square root of a number near 1
    if towards > 0:
        while Fraction(r) ** 2 < square:
            r = math.nextafter(r, math.inf)
    else:
        while Fraction(r) ** 2 > square:
            r = math.nextafter(r, 0.0)
    return r
