"""A proof, not an estimate, that a matrix has at most a given spectral norm.

To prove ||A||_2 <= N, factorise B = t I - A^T A, with t a little below N^2, as L L^T. Whatever L the library returns,
A^T A <= t + ||B - L L^T||, so the proof trusts no factorisation (compare Rump 2006, who bounds that residual in
advance): it only needs that a sum of k products of float64 numbers, in any order, is off by at most
gamma_k = k u / (1 - k u) times the sum of their absolute values, u = 2^-53. Long sums are cut into short ones that are
added pairwise, which lowers the constant from k to a few dozen. Where python-flint is installed, single matrices with a
side of at most 512 are proved in ball arithmetic instead (`balls`).
"""

from __future__ import annotations

import math
from collections import Counter
from contextvars import ContextVar

import numpy as np

from . import balls

U = 2.0**-53
OUT = 1 + 1e-7  # sums of positive bounds are themselves rounded; no more than 1e8 terms each
WORK_LIMIT = 4e12  # floating-point operations, about ten minutes
CHUNK = 2**22  # entries per batch
LEAF = 32  # terms of a sum before it is cut
TINY = 1e-200  # covers what underflows
BALLS, CHOLESKY = "in ball arithmetic", "by Cholesky factorisation with its rounding bounded"
TALLY: ContextVar[Counter[str]] = ContextVar("which kind of proof was used how often")  # set by whom it interests


def gamma(k: int) -> float:
    """gamma_k = k u / (1 - k u), the relative error of a dot product of length k in any order (Higham, 3.1)."""
    return k * U / (1 - k * U)


def work(count: int, rows: int, columns: int) -> float:
    """Floating-point operations that `prove` takes for `count` matrices."""
    small, large = sorted((rows, columns))
    return 2.0 * count * small * small * (large + 2 * small)


def prove(matrices: np.ndarray, bound: float, error: float = 0.0) -> bool:
    """Whether every real matrix within `error` (in the spectral norm) of those given has norm at most `bound`.

    True is a proof. False means that the bound is wrong or exceeds the true norm by less than the rounding errors,
    a relative 1e-11 or less for sides up to some thousands.

    Args:
        matrices: float64 (count, rows, columns).
        bound: the claimed norm.
        error: how far each true matrix may be from the given one.

    >>> a = np.array([[[3.0, 0.0], [4.0, 5.0]]])  # singular values sqrt(45), sqrt(5)
    >>> prove(a, 45**0.5 * (1 + 1e-13)), prove(a, 45**0.5 * (1 - 1e-13))
    (True, False)
    """
    bound = math.nextafter(bound - error, 0.0) if error else bound
    if not math.isfinite(bound) or bound < 0:
        return False
    if not matrices.any():
        return True
    if bound < 1e-150:
        return False  # squares would underflow
    if not np.isfinite(matrices).all() or np.abs(matrices).max() > bound:
        return False  # an entry exceeds the bound
    if matrices.shape[1] < matrices.shape[2]:
        matrices = matrices.swapaxes(1, 2)
    single = len(matrices) == 1 and balls.covers(*matrices.shape[1:])
    TALLY.get(Counter())[BALLS if single else CHOLESKY] += 1
    if single:
        return balls.prove(matrices[0], bound)
    exponent = math.frexp(bound)[1]
    a = np.ldexp(matrices, -exponent)  # exact but for underflow, which `TINY` covers
    step = max(1, CHUNK // (a.shape[1] * a.shape[2]))
    return all(_prove(a[i : i + step], math.ldexp(bound, -exponent)) for i in range(0, len(a), step))


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left @ right, off by at most `_factor(k)` |left| @ |right| for sums of k products."""
    k = left.shape[-1]
    if k <= LEAF:
        return left @ right
    half = k // 2
    return _product(left[..., :half], right[..., :half, :]) + _product(left[..., half:], right[..., half:, :])


def _factor(k: int) -> float:
    """The sums of `_product` have leaves of at most `LEAF` terms below a binary tree."""
    return gamma(min(k, LEAF) + (max(k, LEAF) - 1).bit_length() - (LEAF - 1).bit_length())


def _squares(a: np.ndarray) -> float:
    """An upper bound of the largest squared Frobenius norm of a batch: at least || |A| ||_2^2."""
    return float(np.square(a).sum((1, 2)).max()) * OUT + TINY


def _prove(a: np.ndarray, bound: float) -> bool:
    """`prove` for a batch with rows >= columns, scaled so that 1/2 <= bound < 1."""
    n = a.shape[2]
    gram = _product(a.swapaxes(1, 2), a)  # only its lower triangle is used
    formed = _factor(a.shape[1]) * _squares(a) * OUT + TINY
    diagonal = np.arange(n)
    trace = float((n * bound * bound - gram[:, diagonal, diagonal].sum(1)).max())
    # the budget: error of A^T A, of the diagonal of B, of L L^T, and a guess of the residual, checked below
    reserve = formed + 4 * U + _factor(n) * max(trace, 0.0) * OUT + (n + 4) * U
    t = bound * bound - 1.25 * reserve
    b = np.tril(-gram)
    b[:, diagonal, diagonal] += t
    try:
        lower = np.linalg.cholesky(b + np.tril(b, -1).swapaxes(1, 2))
    except np.linalg.LinAlgError:
        return False
    if not np.isfinite(lower).all():
        return False
    residual = np.tril(b - _product(lower, lower.swapaxes(1, 2)))
    residual_norm = math.sqrt(2 * float(np.square(residual).sum((1, 2)).max())) * OUT
    subtraction = U * (float(np.abs(b[:, diagonal, diagonal]).max()) + residual_norm) * OUT
    spent = (formed + subtraction + residual_norm + _factor(n) * _squares(lower)) * OUT + TINY
    return spent <= (bound * bound * (1 - 2 * U) - t) * (1 - 2 * U)
