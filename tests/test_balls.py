"""Norm proofs in ball arithmetic: sharp, sound, and replaced by others where they do not apply."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from stablenets.certify.checker import balls, norms

needs_flint = pytest.mark.skipif(balls.flint is None, reason="python-flint is not installed")


def matrices(kind: str, rows: int, columns: int) -> np.ndarray:
    w = np.random.default_rng(rows * 1000 + columns).standard_normal((rows, columns)).astype(np.float32)
    if kind == "orthogonal":
        u, _, v = np.linalg.svd(w.astype(np.float64), full_matrices=False)
        return u @ v * 0.3
    scale = {"gaussian": 1.0, "tiny": 1e-140, "huge": 1e140, "rank one": 1.0}[kind]
    return (np.outer(w[:, 0], w[0]) if kind == "rank one" else w).astype(np.float64) * scale


@needs_flint
@pytest.mark.parametrize("kind", ["gaussian", "orthogonal", "rank one", "tiny", "huge"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (4, 3), (64, 33), (65, 40), (300, 200)])
def test_sharp_from_both_sides(kind, shape):
    a = matrices(kind, *shape)
    true = np.linalg.svd(a, compute_uv=False)[0]
    assert balls.prove(a, true * (1 + 8e-13)) and not balls.prove(a, true * (1 - 1e-14))


@needs_flint
def test_integers_whose_norm_is_known_exactly():
    """All ones, n x n, has norm n: the very next number below it must not be proved."""
    for n in (1, 2, 7, 64):
        assert not balls.prove(np.ones((n, n)), math.nextafter(n, 0))
        assert balls.prove(np.ones((n, n)), n * (1 + 1e-12))


@needs_flint
def test_small_matrices_against_exact_fractions():
    """For 2 x 2 matrices, N^2 I - A^T A >= 0 is decided exactly; nothing false is ever proved."""
    draw, proved = np.random.default_rng(0), 0
    for _ in range(300):
        a = draw.standard_normal((2, 2))
        bound = np.linalg.svd(a, compute_uv=False)[0] * (1 + draw.choice([-1, 1]) * 10 ** draw.uniform(-17, -14))
        (p, q), (r, s) = [[Fraction(v) for v in row] for row in a]
        x, y, z = Fraction(bound) ** 2 - p * p - r * r, Fraction(bound) ** 2 - q * q - s * s, -(p * q + r * s)
        true = x >= 0 and y >= 0 and x * y - z * z >= 0
        found = balls.prove(a, bound)
        assert true or not found
        proved += found
    assert proved > 20


@needs_flint
def test_any_factor_gives_a_true_answer(monkeypatch):
    """Whatever numpy returns as the factor: nothing false is proved."""
    a = matrices("gaussian", 6, 4)
    true = np.linalg.svd(a, compute_uv=False)[0]
    draw = np.random.default_rng(1)
    for spoil in (lambda x: x, lambda x: 0 * x, lambda x: x + 1e-3, lambda x: draw.standard_normal(x.shape)):
        monkeypatch.setattr(np.linalg, "cholesky", lambda b, spoil=spoil: spoil(np.tril(b)))
        assert not balls.prove(a, true * (1 - 1e-9))


@needs_flint
def test_which_proof_is_used_how_often():
    tally: Counter[str] = Counter()
    before = norms.TALLY.set(tally)
    try:
        for shape in ((1, 3, 4), (1, 4, 3), (5, 3, 4)):
            assert norms.prove(np.full(shape, 0.1), 1.0)
        assert tally == {norms.BALLS: 2, norms.CHOLESKY: 1}
    finally:
        norms.TALLY.reset(before)


def test_what_is_covered(monkeypatch):
    assert balls.covers(512, 10**5) == (balls.flint is not None) and not balls.covers(513, 513)
    monkeypatch.setattr(balls, "flint", None)
    assert not balls.covers(2, 2)


def test_without_flint_the_other_proof_takes_over(monkeypatch):
    monkeypatch.setattr(balls, "flint", None)
    tally: Counter[str] = Counter()
    before = norms.TALLY.set(tally)
    try:
        a = matrices("gaussian", 20, 30)
        true = np.linalg.svd(a, compute_uv=False)[0]
        assert norms.prove(a[None], true * (1 + 1e-11)) and not norms.prove(a[None], true * (1 - 1e-12))
        assert set(tally) == {norms.CHOLESKY}
    finally:
        norms.TALLY.reset(before)


def test_both_kinds_of_proof_agree(monkeypatch):
    a = matrices("gaussian", 30, 20)
    true = np.linalg.svd(a, compute_uv=False)[0]
    for factor in (1 + 1e-10, 1 + 1e-11, 1 - 1e-11, 1 - 1e-6):
        answers = []
        for flint in (balls.flint, None):
            monkeypatch.setattr(balls, "flint", flint)
            answers.append(norms.prove(a[None], true * factor))
        monkeypatch.undo()
        assert answers[0] == answers[1] == (factor > 1)
