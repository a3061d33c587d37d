"""Splitting steps along the oscillator, whose flow is a rotation, lengthen some state: proved in rational arithmetic.

A step is linear, M = ((a, b), (c, d)), of determinant 1, and a = d where the method is symmetric. With the singular
values s and 1 / s, (s - 1 / s)^2 = |M|_F^2 - 2 det M = (a - d)^2 + (b + c)^2: so s > 1 unless b + c = 0.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from stablenets.core.properties import OneSidedLipschitz, jacobian
from stablenets.integrators import BlanesMoan4, StormerVerlet, Suzuki4, Yoshida4
from stablenets.integrators.symplectic import Splitting
from stablenets.systems import HarmonicOscillator

LEAST, LONGEST = Fraction(1, 64), Fraction(1, 4)  # the step sizes by which the table says *lost*, and shorter ones
METHODS = [StormerVerlet(), Yoshida4(), Suzuki4(), BlanesMoan4()]
Polynomial = list[Fraction]  # in h


def sheared(row: Polynomial, other: Polynomial, slope: float) -> Polynomial:
    """row + slope * h * other."""
    moved = [Fraction(0), *(Fraction(slope) * v for v in other)]
    size = max(len(row), len(moved))
    return [u + v for u, v in zip(*(p + [Fraction(0)] * (size - len(p)) for p in (row, moved)), strict=True)]


def step_matrix(method: Splitting) -> tuple[tuple[Polynomial, Polynomial], tuple[Polynomial, Polynomial]]:
    """M, with the method's coefficients as the floats that they are: each entry as a polynomial in h."""
    q, p = [[Fraction(1)], [Fraction(0)]], [[Fraction(0)], [Fraction(1)]]
    for kick, drift in zip(method.kicks, method.drifts, strict=True):
        p = [sheared(u, v, -kick) for u, v in zip(p, q, strict=True)]
        q = [sheared(u, v, drift) for u, v in zip(q, p, strict=True)]
    return (q[0], q[1]), (p[0], p[1])


def trimmed(p: Polynomial) -> Polynomial:
    return p[: max((k for k, v in enumerate(p) if v), default=-1) + 1]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_no_short_step_is_a_rotation(method: Splitting) -> None:
    """b + c has one coefficient that outweighs all others for every h between LEAST and LONGEST."""
    (a, b), (c, d) = step_matrix(method)
    assert trimmed(a) == trimmed(d), "symmetric"
    size = max(len(b), len(c))
    b, c = (p + [Fraction(0)] * (size - len(p)) for p in (b, c))
    lost = [u + v for u, v in zip(b, c, strict=True)]
    k = method.order + 1
    assert max(map(abs, lost[:k])) < 1e-15, "up to the rounding of the coefficients the order is what is said"
    shorter = sum(abs(lost[i]) / LEAST ** (k - i) for i in range(k))
    longer = sum(abs(v) * LONGEST ** (i - k) for i, v in enumerate(lost) if i > k)
    assert abs(lost[k]) > shorter + longer, [float(v) for v in lost]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("h", [1 / 4, 1 / 16])
def test_the_longest_state_is_as_long_as_proved(method: Splitting, h: float) -> None:
    """Beside the polynomials: the step of the library, its singular values, and a pair that it moves apart."""
    f, exact = HarmonicOscillator(), step_matrix(method)
    value = [[sum(v * Fraction(h) ** i for i, v in enumerate(p)) for p in row] for row in exact]
    gap = abs(float(value[0][1] + value[1][0]))
    m = jacobian(lambda x: method.step(f, x, h), torch.zeros(1, 2, dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(m, np.array(value, dtype=float), rtol=0, atol=1e-15)
    _, sizes, directions = np.linalg.svd(m)
    growth = gap / 2 + np.sqrt(1 + gap**2 / 4)
    assert growth - 1 > 1e-13 and abs(sizes[0] - growth) < 4e-16 and abs(sizes[1] - 1 / growth) < 4e-16
    assert sizes[0] - 1 > 0.9 * (growth - 1)
    x = torch.from_numpy(directions[:1].copy())
    apart = [Fraction(v) for v in method.step(f, x, h)[0].tolist()]
    assert sum(v * v for v in apart) > sum(Fraction(v) ** 2 for v in x[0].tolist()) * (1 + Fraction(gap) / 2)
    assert OneSidedLipschitz(0.0) in f.claims(), "of the flow it is claimed"
