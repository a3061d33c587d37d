"""Norm proofs for matrices of blocks whose Gram matrix is banded: convolutions on small images, row by row."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np

from .norms import CHOLESKY, OUT, TALLY, TINY, WORK_LIMIT, U, gamma
from .strict import Rejected

RESERVE = 1e-7  # of the squared bound, for rounding: a bound closer to the norm than that is not proved here

Blocks = dict[tuple[int, int], np.ndarray]


def prove_banded(taps: list[np.ndarray], places: np.ndarray, bound: float, sums: tuple[float, float]) -> bool:
    """Whether a matrix A of blocks, A_ij the sum of taps[t] over all t with places[t, i] = j, has norm at most `bound`.

    As in `norms`, t I - A^T A = L L^T + R is factorised, by columns of blocks, and R is computed: then
    A^T A <= t + ||R||, whatever L. Every entry of R is one long sum of products, of t, A and L, so that it is off by
    at most gamma_k times the same sum of absolute values, k being the number of terms: together
    gamma_k (t + || |A| ||^2 + ||L||_F^2).

    Args:
        sums: the largest sums of |A| over a row and over a column.

    Raises:
        Rejected: when the proof would take too long.
    """
    if not 1e-100 < bound < 1e100:
        return False
    TALLY.get(Counter())[CHOLESKY] += 1
    blocks = _blocks(taps, places)
    rows, columns = max(i for i, _ in blocks) + 1, max(j for _, j in blocks) + 1
    height, width = taps[0].shape
    if rows * height < columns * width:
        blocks = {(j, i): a.T for (i, j), a in blocks.items()}
        columns, height, width = rows, width, height
    return _factorised(blocks, columns, height, width, bound, sums[0] * sums[1] * OUT)


def _blocks(taps: list[np.ndarray], places: np.ndarray) -> Blocks:
    """The blocks that are not zero; most are a tap itself, not a copy."""
    seen: dict[tuple[int, int], list[int]] = defaultdict(list)
    for t, i in np.argwhere(places >= 0).tolist():
        seen[i, int(places[t, i])].append(t)
    return {at: taps[ts[0]] if len(ts) == 1 else sum(taps[t] for t in ts) for at, ts in seen.items()}  # type: ignore[misc]


def _factorised(blocks: Blocks, columns: int, height: int, width: int, bound: float, absolute: float) -> bool:
    """`absolute` is at least || |A| ||^2."""
    at: dict[int, list[int]] = defaultdict(list)  # the rows of blocks that meet a column
    meets: dict[int, set[int]] = defaultdict(set)  # the columns that meet one of those rows
    for i, j in blocks:
        at[j].append(i)
    for i, j in blocks:
        meets[i].add(j)
    reach = {j: max((c for i in at[j] for c in meets[i]), default=j) for j in range(columns)}
    band = max(reach[j] - j for j in range(columns))
    if columns * (band + 2) ** 2 * 4.0 * width * width * max(width, height) > WORK_LIMIT:
        raise Rejected(f"not covered by the checker: a norm proof for {columns} rows of {width} numbers")
    terms = max(len(rows) for rows in at.values()) * height + (band + 1) * width + 16  # 16: sums of taps, subtractions
    t = bound * bound * (1 - RESERVE)
    lower: Blocks = {}
    residual, size = 0.0, 0.0  # squared Frobenius norms
    for j in range(columns):
        below = range(j, min(j + band, columns - 1) + 1)
        panel = []
        for i in below:
            entry = np.zeros((width, width)) if i > j else t * np.eye(width)
            for r in at[j]:
                if (r, i) in blocks:
                    entry -= blocks[r, i].T @ blocks[r, j]
            for k in range(max(0, i - band), j):
                entry -= lower[i, k] @ lower[j, k].T
            panel.append(entry)
        try:
            corner = np.linalg.cholesky(panel[0])
        except np.linalg.LinAlgError:
            return False
        column = [corner, *(np.linalg.solve(corner, p.T).T for p in panel[1:])]
        for i, entry, factor in zip(below, panel, column, strict=True):
            lower[i, j] = factor
            residual += float(np.square(entry - factor @ corner.T).sum())
            size += float(np.square(factor).sum())
        lower = {(i, k): block for (i, k), block in lower.items() if i > j}
    # R holds each of its entries below the diagonal once, hence the factor 2
    spent = math.sqrt(2 * residual) + gamma(terms) * (t + absolute + size) + TINY
    return math.isfinite(spent) and t + spent * OUT <= bound * bound * (1 - 4 * U)
