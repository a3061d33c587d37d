"""Exercises of the chapter that the library answers."""

from __future__ import annotations

import pytest
import torch

from stablenets.core.properties import Lipschitz, OneSidedLipschitz
from stablenets.linear import Dense

X, Y = (torch.randn(200, 3, generator=torch.Generator().manual_seed(s), dtype=torch.float64) * 5 for s in (0, 1))


def test_exercise_4_lipschitz_fields_are_one_sided_lipschitz_but_not_conversely():
    a = torch.tensor([[1.0, 4, 0], [-2, 0.5, 1], [0, 3, -1]], dtype=torch.float64)
    bound = float(torch.linalg.matrix_norm(a, 2))
    for nu in (bound, 2 * bound):
        assert OneSidedLipschitz(nu).violation(lambda x: x @ a.mT, X, Y).max() <= 1e-12

    def cubic(x):
        return -x.pow(3)

    assert OneSidedLipschitz(0.0).violation(cubic, X, Y).max() <= 1e-12
    assert all(Lipschitz(bound).violation(cubic, s * X, s * Y).max() > 0 for s, bound in ((1, 10.0), (1e3, 1e6)))


@pytest.mark.parametrize("name", ["I", "5 I", "exp(B - B^T)"])
def test_exercise_14_the_power_method(name):
    """The chapter prints exp(B B^T), which is not orthogonal; the exponential of a skew matrix is."""
    b = torch.randn(10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = {"I": torch.eye(10), "5 I": 5 * torch.eye(10), "exp(B - B^T)": torch.matrix_exp(b - b.mT)}[name]
    a = Dense(10, 10)
    a.weight.data = matrix.double()
    a.singular_vector = a.singular_vector.double()
    true = float(torch.linalg.matrix_norm(matrix.double(), 2))
    assert a.norm_estimate(50) == pytest.approx(true, rel=1e-10)
    assert a.norm_bound() >= true
