"""What rounding leaves of exact properties: a thousand layers, or one far from the identity, with large weights."""

from __future__ import annotations

import pytest
import torch

from stablenets.core.properties import jacobian, spectral, symplectic_matrix
from stablenets.fields import (
    ConvexGradient,
    Coupling,
    MassConserving,
    SeparableHamiltonian,
    SkewLinear,
    Tanh,
    TwoLayerField,
)
from stablenets.fields.examples import large
from stablenets.integrators import BlanesMoan4, Cayley, Euler, Integrator, StormerVerlet, SymplecticEuler, Yoshida4
from stablenets.linear import Dense, SkewDense

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SPLITTINGS = [SymplecticEuler(), StormerVerlet(), Yoshida4(), BlanesMoan4()]


def floor(dtype: torch.dtype, single: float, double: float) -> float:
    return single if dtype == torch.float32 else double


@DTYPES
def test_the_norm_over_a_thousand_cayley_layers(dtype: torch.dtype):
    """Ten different layers of large weights, a hundred times."""
    fields = [SkewLinear(SkewDense(8)).to(dtype).requires_grad_(False) for _ in range(10)]
    for i, f in enumerate(fields):
        f.linear.raw.copy_(3 * torch.randn(f.linear.raw.shape, generator=torch.Generator().manual_seed(i)))
    x = torch.randn(20, 8, dtype=dtype)
    y = x
    for k in range(1000):
        y = Cayley().step(fields[k % 10], y, 0.5)
    drift = (y.double().norm(dim=1) / x.double().norm(dim=1) - 1).abs().max()
    assert float(drift) <= floor(dtype, 1e-4, 1e-13) and float((y - x).norm(dim=1).min()) > 0.1


@DTYPES
def test_the_mass_over_a_thousand_layers(dtype: torch.dtype):
    """Of a population of 1, moved by fields whose rates are of size 1."""
    fields = [MassConserving(large(TwoLayerField(Dense(4, 8), Dense(4, 8)), seed=i)) for i in range(10)]
    fields = [f.to(dtype).requires_grad_(False) for f in fields]
    x = torch.rand(20, 4, dtype=dtype)
    x = x / x.sum(1, keepdim=True)
    before, moved = x.double().sum(1), 0.0
    for k in range(1000):
        y = Euler().step(fields[k % 10], x, 0.01)
        moved, x = max(moved, float((y - x).norm(dim=1).max())), y
    assert float((x.double().sum(1) - before).abs().max()) <= floor(dtype, 1e-5, 1e-13) and moved > 0.01


@DTYPES
@pytest.mark.parametrize("integrator", SPLITTINGS, ids=repr)
def test_the_symplectic_defect_is_fifty_roundings(integrator: Integrator, dtype: torch.dtype):
    """|M^T J M - J| <= 50 eps |M|^2 with |M - I| > 0.1."""
    for seed in range(3):
        parts = [ConvexGradient(Dense(4, 8), Tanh()) for _ in range(2)]
        f = large(SeparableHamiltonian(*parts), 2.0, seed=seed).to(dtype).requires_grad_(False)
        x = 0.5 * torch.randn(20, 8, dtype=dtype)
        m, j = jacobian(lambda v, f=f: integrator.step(f, v, 0.3), x), symplectic_matrix(x)
        assert float(spectral(m - torch.eye(8)).min()) > 0.1
        defect = (m.mT @ j @ m - j).abs().amax((1, 2)) / spectral(m).square()
        assert float(defect.max()) <= 50 * torch.finfo(dtype).eps


@DTYPES
@pytest.mark.parametrize("integrator", SPLITTINGS[:2], ids=repr)
def test_the_volume_of_a_coupling_step(integrator: Integrator, dtype: torch.dtype):
    """|log |det M|| with |M - I| > 0.1."""
    f = (
        large(Coupling(*(TwoLayerField(Dense(4, 8), Dense(4, 8)) for _ in range(2))), 2.0)
        .to(dtype)
        .requires_grad_(False)
    )
    x = torch.randn(20, 8, dtype=dtype)
    m = jacobian(lambda v: integrator.step(f, v, 0.1), x)
    assert float(spectral(m - torch.eye(8)).min()) > 0.1
    assert float(torch.linalg.slogdet(m).logabsdet.abs().max()) <= floor(dtype, 1e-5, 1e-13)
