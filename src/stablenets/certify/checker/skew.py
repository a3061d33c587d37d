"""Steps along x' = S x, S skew-symmetric: how far from orthogonal they are, and what their evaluation loses."""

from __future__ import annotations

from fractions import Fraction as Q

from .norms import gamma
from .runge_kutta import root

UP = 1 + 1e-12  # the formulas below are sums of positive terms of a few roundings each


def values(terms: int, reach: Q) -> tuple[Q, Q]:
    """The largest singular value of p(h S), p(z) = 1 + z + ... + z^n / n!, and how far one may be from 1.

    S is normal and its eigenvalues are i t with |t| <= ||S||: the singular values are |p(i t)| with |t| <= `reach`, at
    least h ||S||. The even powers of i t sum to C(s), the odd ones to i t D(s), where s = t^2, hence
    |p(i t)|^2 = C(s)^2 + s D(s)^2. Besides, |p(i t) - exp(i t)| <= |t|^(n+1) / (n+1)! by Taylor's theorem.

    >>> values(1, Q(3, 4)), values(4, Q(1))[0]
    ((Fraction(5, 4), Fraction(1, 4)), Fraction(1, 1))
    """
    even, odd, factorial = [Q(0)] * (terms + 1), [Q(0)] * (terms + 1), 1
    for k in range(terms + 1):
        factorial *= max(k, 1)
        (odd if k % 2 else even)[k // 2] = Q((-1) ** (k // 2), factorial)
    squares = [a + b for a, b in zip([*_square(even), Q(0)], [Q(0), *_square(odd)], strict=True)]
    least, largest = _range(squares, reach * reach)
    rest = reach ** (terms + 1) / (factorial * (terms + 1))
    high = min(root(largest), 1 + rest)
    low = max(least / root(least) if least > 0 else Q(0), 1 - rest)  # a / b <= sqrt(a) for b >= sqrt(a)
    return high, max(high - 1, 1 - low)


def _square(c: list[Q]) -> list[Q]:
    """The coefficients of a polynomial's square."""
    result = [Q(0)] * (2 * len(c) - 1)
    for i, a in enumerate(c):
        for j, b in enumerate(c):
            result[i + j] += a * b
    return result


def _range(c: list[Q], end: Q) -> tuple[Q, Q]:
    """Bounds of c_0 + c_1 s + ... over 0 <= s <= `end`.

    Without the constant it is s^k (c_k + c_(k+1) s + ...), where c_k is the first coefficient that is not 0. In the
    brackets, terms of one sign are largest at the end, and those of the other sign at 0, where they vanish.
    """
    k = next(i for i, a in enumerate(c) if i and a)
    tail = [a * end**i for i, a in enumerate(c[k + 1 :], 1)]
    above, below = (c[k] + sum((a for a in tail if (a > 0) == up), Q(0)) for up in (True, False))
    return c[0] + end**k * min(below, Q(0)), c[0] + end**k * max(above, Q(0))


def series_error(terms: int, h: float, norm: float, absolute: float, length: int) -> float:
    """Relative error of y <- x + (h / k) S y for k = terms, ..., 1, starting from y = x.

    Args:
        norm, absolute: bounds of ||S|| and of || |S| ||.
        length: of the dot products of S.
    """
    exact, error = 1.0, 0.0  # bounds of y in exact arithmetic and of its error, for |x| = 1
    for k in range(terms, 0, -1):
        multiplied = gamma(length) * absolute * (exact + error)  # error of S y
        moved = norm * (exact + error) + multiplied  # |S y|
        # h / k, the product and the sum round
        error = h / k * (norm * error + multiplied) + gamma(3) * (1 + h / k * moved)
        exact = 1 + h / k * norm * exact
    return error * UP


def cayley_error(n: int, h: float, norm: float, absolute: float) -> float | None:
    """Relative error of 2 (z + H z) - x, where (I + H^T H) z = x is solved by Cholesky factorisation and H = h S / 2.

    The matrix is rounded when it is formed, and the factorisation and two substitutions solve a system off by
    gamma_(4n+8) |R^T| |R|, where ||R||_F^2 is the trace of the matrix (Higham, Thm 10.4, with room for reciprocals).
    All eigenvalues of the exact matrix are at least 1. None when too little of that is left.

    Args:
        n: side of S.
        norm, absolute: bounds of ||S|| and of || |S| ||.
    """
    u, norm, absolute = gamma(1), h / 2 * norm, h / 2 * absolute
    off = gamma(n + 1) * (1 + absolute * absolute) + gamma(4 * n + 8) * n * (1 + norm * norm) * (1 + 1e-9)
    if not off < 0.5:
        return None
    wrong = off / (1 - off)  # error of z, which is no longer than x
    z = 1 + wrong
    product = gamma(n) * absolute * z
    total = product + u * ((1 + norm) * z + product)  # error of z + H z
    final = u * (2 * ((1 + norm) * z + total) + 1)  # of the subtraction; 2 is a power of two
    return (2 * (1 + norm) * wrong + 2 * total + final + 2 * u * absolute) * UP  # the last: of H itself
