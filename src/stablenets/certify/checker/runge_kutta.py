"""Explicit Runge-Kutta methods in exact rational arithmetic: tableaux, circle contractivity, Lipschitz constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction as Q


@dataclass(frozen=True)
class Method:
    """k_i = f(x + h sum_j a_ij k_j), x+ = x + h sum_i b_i k_i, with the rows of a below the diagonal."""

    a: tuple[tuple[Q, ...], ...]
    b: tuple[Q, ...]

    def radius(self) -> Q:
        """1 when the method is proved circle contractive with radius 1, the radius of all methods here; 0 otherwise.

        Circle contractive with radius r: b > 0 and diag(b) a + a^T diag(b) - b b^T + diag(b) / r positive
        semidefinite (Dahlquist & Jeltsch 1979). On -grad V with V convex and G-smooth a step h <= 2 r / G is then
        non-expansive.
        """
        return Q(1) if self.contractive(Q(1)) else Q(0)

    def contractive(self, r: Q) -> bool:
        """Whether the method is circle contractive with radius r > 0, by exact elimination."""
        b, n = self.b, len(self.b)
        a = [list(row) + [Q(0)] * (n - len(row)) for row in self.a]
        m = [[b[i] * a[i][j] + b[j] * a[j][i] - b[i] * b[j] for j in range(n)] for i in range(n)]
        for i in range(n):
            m[i][i] += b[i] / r
        return all(w > 0 for w in b) and _positive_semidefinite(m)

    def increment(self, hg: Q) -> Q:
        """A Lipschitz constant of step - identity when h f is `hg`-Lipschitz."""
        k: list[Q] = []
        for row in self.a:
            k.append(hg * (1 + sum((abs(c) * kj for c, kj in zip(row, k, strict=True)), Q(0))))
        return sum((abs(c) * kj for c, kj in zip(self.b, k, strict=True)), Q(0))

    def lipschitz(self, hg: Q, hc: Q = Q(0)) -> Q:
        """A Lipschitz constant of one step of size h on -grad V, V convex and G-smooth, with `hg` = h G.

        Where V is c-strongly convex, with `hc` = h c: the eigenvalues of a gradient step's Jacobian are in
        [1 - h G, 1 - h c].
        """
        if hc > 0 and len(self.b) == 1:
            return max(abs(1 - hc), abs(1 - hg))
        if hg <= 2 * self.radius():
            return Q(1)
        if len(self.b) == 1:
            return min(root(1 + hg * hg), 1 + hg)  # |d + h df|^2 = |d|^2 + 2 h <df, d> + h^2 |df|^2, <df, d> <= 0
        return 1 + self.increment(hg)


def _positive_semidefinite(m: list[list[Q]]) -> bool:
    n = len(m)
    for k in range(n):
        pivot = m[k][k]
        if pivot < 0 or (pivot == 0 and any(m[i][k] != 0 for i in range(k + 1, n))):
            return False
        if pivot == 0:
            continue
        for i in range(k + 1, n):
            for j in range(k + 1, n):
                m[i][j] -= m[i][k] * m[k][j] / pivot
    return True


def root(x: Q) -> Q:
    """A rational at least sqrt(x), by a relative 2^-60 or less; exact for squares of integers.

    >>> root(Q(9)), 0 <= root(Q(2)) ** 2 - 2 < Q(1, 2**50)
    (Fraction(3, 1), True)
    """
    shift = max(0, 64 + (x.denominator.bit_length() - x.numerator.bit_length()) // 2)
    scaled = -((-x.numerator << 2 * shift) // x.denominator)  # ceiling of x 4^shift
    r = math.isqrt(scaled)
    return Q(r + (r * r < scaled), 1 << shift)


def power(x: Q, n: int) -> Q:
    """A rational at least x^n for x >= 0, by a relative n 2^-120 or less.

    Above 2^2000 it is just `LARGE`, and where a power is positive but below 2^-2000, at least 1 / `LARGE`.

    >>> power(Q(3, 2), 5), power(Q(1, 2), 300) == Q(1, 2**300)
    (Fraction(243, 32), True)
    """
    result, square = Q(1), x
    while n:
        if n & 1:
            result = _short(result * square)
        n >>= 1
        square = _short(square * square) if n else square
        if max(result, square) > LARGE:
            return LARGE
    return result


def _short(x: Q) -> Q:
    """x >= 0 rounded up to 128 binary places, to more below 1; but for 0, to no less than 1 / `LARGE`."""
    if 0 < x * LARGE < 1:
        return 1 / LARGE  # the places of powers of small numbers would grow with their exponent
    places = 128 + max(0, x.denominator.bit_length() - x.numerator.bit_length())
    return Q(-((-x.numerator << places) // x.denominator), 1 << places)


LARGE = Q(2) ** 2000  # above every float
METHODS = {
    "Euler": Method(((),), (Q(1),)),
    "Midpoint": Method(((), (Q(1, 2),)), (Q(0), Q(1))),
    "Heun": Method(((), (Q(1),)), (Q(1, 2), Q(1, 2))),
    "SSPRK3": Method(((), (Q(1),), (Q(1, 4), Q(1, 4))), (Q(1, 6), Q(1, 6), Q(2, 3))),
    "RK4": Method(((), (Q(1, 2),), (Q(0), Q(1, 2)), (Q(0), Q(0), Q(1))), (Q(1, 6), Q(1, 3), Q(1, 3), Q(1, 6))),
}
