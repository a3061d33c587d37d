"""A norm proof in ball arithmetic, where python-flint is installed: every rounding is bounded by Arb, none by hand.

To prove ||A||_2 <= N, let numpy factorise t I - A^T A, with t a little below N^2, as about L L^T. With the remainder
R = t I - A^T A - L L^T, evaluated in balls, A^T A <= t + ||R||, whatever L is. Arb multiplies matrices in C: a side of
512 takes about two seconds.
"""

from __future__ import annotations

import math

import numpy as np

try:
    import flint
except ImportError:  # an optional dependency; without it `norms` proves in float64
    flint = None

LARGEST = 512  # smaller side of a matrix: the time grows with its square times the larger side
BITS = 64
U = 2.0**-53


def covers(rows: int, columns: int) -> bool:
    """Whether a matrix is to be proved here."""
    return flint is not None and min(rows, columns) <= LARGEST


def prove(a: np.ndarray, bound: float) -> bool:
    """Whether ||a||_2 <= bound is proved for a finite float64 matrix, rows >= columns, and 1e-150 < bound < inf.

    >>> a = np.array([[3.0, 0.0], [4.0, 5.0]])  # singular values sqrt(45), sqrt(5)
    >>> not covers(2, 2) or (prove(a, 45**0.5 * (1 + 1e-14)), prove(a, 45**0.5 * (1 - 1e-15)))
    (True, False)
    """
    assert flint is not None
    n, exponent = a.shape[1], math.frexp(bound)[1]
    scaled, unit = np.ldexp(a, -exponent), math.ldexp(bound, -exponent)
    t = unit * unit * (1 - 8 * sum(a.shape) * U)  # long columns: more rounding in the product below
    try:
        lower = np.linalg.cholesky(t * np.eye(n) - scaled.T @ scaled)
    except np.linalg.LinAlgError:
        return False
    if not np.isfinite(lower).all():
        return False
    with flint.ctx.workprec(BITS):
        matrix = flint.arb_mat(a.tolist()) * flint.arb(2) ** -exponent  # exact; `scaled` may have underflowed
        factor = flint.arb_mat(lower.tolist())
        entries = (matrix.transpose() * matrix + factor * factor.transpose()).entries()
        for i in range(0, n * n, n + 1):
            entries[i] -= t
        spare = flint.arb(unit) ** 2 - t
        squares = sum((x * x for x in entries), flint.arb(0))
        return bool(spare > 0 and squares <= spare**2)  # true only if it is so for all numbers in the balls
