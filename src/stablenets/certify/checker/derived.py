"""Weights that a map computes from its parameters, computed again, with bounds of how far others' may be off."""

from __future__ import annotations

import itertools
import math

import numpy as np

from .norms import OUT, U, gamma
from .strict import Rejected

SHRINK, TINY, EXTREME = 2.0**-16, 1e-12, 8.0  # as in the definition of the map
UNEVEN = 1e-3


def skew(raw: np.ndarray) -> np.ndarray:
    """R - R' with the kernel R' of the adjoint. One subtraction per entry: every IEEE machine finds the same."""
    return raw - np.flip(raw, tuple(range(2, raw.ndim))).swapaxes(0, 1)


def almost_orthogonal(weight: np.ndarray, log_q: np.ndarray, groups: int, what: str) -> tuple[np.ndarray, float]:
    """D^(1/2) A with 1 / D_i = (1 + 2^-16) sum_j |A A^T|_ij q_j / q_i + 1e-12, and a bound of its relative error.

    |A A^T|_ij is the sum over all offsets t of |sum_s,c K_ic(s) K_jc(s + t)|. The logarithms of q count from their
    mean, and to +-8 at most.

    Returns:
        The weight, and the relative amount by which any float64 evaluation of a row may be larger.

    Raises:
        Rejected: when q is so uneven that the evaluation is not determined well.
    """
    parts = np.split(weight.reshape(*weight.shape[:2], -1), groups)
    kernel = weight.shape[2:]
    centred = np.split(np.clip(log_q - math.fsum(log_q) / len(log_q), -EXTREME, EXTREME), groups)
    sums, errors = zip(*(_sums(w, q, kernel) for w, q in zip(parts, centred, strict=True)), strict=True)
    total = np.concatenate(sums) * (1 + SHRINK) + TINY
    # the exponents: the mean and two subtractions, of numbers up to max |log q|; then exp, the sums and the root
    exponent = 2 * (len(log_q) + 4) * U * (float(np.abs(log_q).max()) + EXTREME)
    relative = np.concatenate(errors) / total * OUT + exponent + (len(log_q) + 24) * U
    deviation = 2 * float(relative.max()) * OUT  # this evaluation and the other one; the root halves it
    if not deviation < UNEVEN:
        raise Rejected(f"not covered by the checker: the scaling of {what} is too uneven to be determined")
    scale = 1 / np.sqrt(total)
    return scale.reshape(-1, *[1] * (weight.ndim - 1)) * weight, deviation


def _sums(w: np.ndarray, q: np.ndarray, kernel: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """sum_j |A A^T|_ij q_j / q_i within a group with weight w (out, in, taps), and what rounding A A^T adds at most."""
    places = list(itertools.product(*(range(k) for k in kernel)))
    overlaps: dict[tuple[int, ...], np.ndarray] = {}
    for (s, here), (t, there) in itertools.product(enumerate(places), repeat=2):
        offset = tuple(a - b for a, b in zip(here, there, strict=True))
        overlaps[offset] = overlaps.get(offset, 0.0) + w[:, :, s] @ w[:, :, t].T
    quotients = np.exp(q[None, :] - q[:, None])
    sizes = np.abs(w).sum(2)
    terms = w.shape[1] * w.shape[2] + len(overlaps) + 4
    least = sum(np.abs(o) for o in overlaps.values())
    return (least * quotients).sum(1), gamma(terms) * ((sizes @ sizes.T) * quotients).sum(1) * OUT
