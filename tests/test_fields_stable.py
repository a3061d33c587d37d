"""Stable equilibria: in continuous time by the field, in discrete time by the step; and contraction, of which kind."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from stablenets.core.errors import InputError
from stablenets.core.properties import Decreases, Dissipates, Lipschitz, OneSidedLipschitz, jacobian
from stablenets.fields import (
    Contracting,
    ConvexGradient,
    ConvexPotential,
    EquilibriumContracting,
    FreeField,
    LyapunovStable,
    Ramp,
    Tanh,
    TwoLayerField,
)
from stablenets.fields.base import StableField
from stablenets.fields.examples import large
from stablenets.integrators import RK4, Euler, Integrator, LyapunovStep, StormerVerlet
from stablenets.layers import Flow
from stablenets.linear import Dense

CENTRE = (0.7, -1.3, 2.1)


def lyapunov_stable(seed: int, rate: float = 0.1) -> LyapunovStable:
    """A field in three dimensions with weights as after training."""
    potential = ConvexPotential(3, (12, 8), activation=Ramp(0.5), convexity=0.05, equilibrium=CENTRE)
    free = TwoLayerField(Dense(3, 16), Dense(3, 16))
    return large(LyapunovStable(free, potential, rate=rate), 2.0, seed=seed).double().requires_grad_(False)


def equilibrium_contracting(seed: int, scale: float = 3.0) -> EquilibriumContracting:
    maps = [Dense(3, 8) for _ in range(3)]
    f = EquilibriumContracting(maps[0], maps[1], gate=maps[2], rate=0.05, equilibrium=CENTRE)
    return large(f, scale, seed=seed).double().requires_grad_(False)


FIELDS = [lyapunov_stable(0), lyapunov_stable(1), equilibrium_contracting(0)]


def increases(f: StableField, method: Integrator, h: float, steps: int = 200) -> float:
    """The share of steps on which V rises at all, over 500 trajectories."""
    generator = torch.Generator().manual_seed(0)
    x = f.centre + 3 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    value, count = f.lyapunov(x), 0
    for _ in range(steps):
        x = method.step(f, x, h)
        after = f.lyapunov(x)
        count += int((~(after <= value)).sum())
        value = after
    return count / (500 * steps)


# --- discrete time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", FIELDS, ids=["lyapunov-0", "lyapunov-1", "equilibrium"])
def test_v_never_increases_in_discrete_time(f: StableField):
    """100,000 steps at h = 0.2, down to the rounding of x*; with other methods V does rise."""
    assert increases(f, LyapunovStep(Euler()), 0.2) == 0
    assert increases(f, LyapunovStep(), 0.2, 100) == 0
    assert increases(f, LyapunovStep(Euler()), 20.0, 50) == 0, "nor at any other step size"
    assert increases(f, Euler(), 0.2) > 0.05


@pytest.mark.parametrize("h", [0.01, 0.2, 3.0, 100.0])
@pytest.mark.parametrize("f", FIELDS, ids=["lyapunov-0", "lyapunov-1", "equilibrium"])
def test_v_falls_by_the_factor_of_the_flow(f: StableField, h: float):
    x = f.centre + torch.randn(200, 3, dtype=torch.float64) * torch.logspace(-3, 2, 200, dtype=torch.float64)[:, None]
    ratio = f.lyapunov(LyapunovStep().step(f, x, h)) / f.lyapunov(x)
    assert float(ratio.max()) <= math.exp(-f.decay * h) * (1 + 1e-9)
    if isinstance(f, LyapunovStable) and h == 0.01:
        assert float(ratio.max()) >= math.exp(-f.decay * h) * (1 - 1e-5), "no smaller factor holds"
    (claim,) = LyapunovStep().transfer(f.claims(), h)
    assert isinstance(claim, Decreases) and claim.factor == pytest.approx(math.exp(-f.decay * h))


def test_a_flow_of_many_steps_claims_the_product():
    f = FIELDS[0]
    flow = Flow(f, LyapunovStep(Euler()), h=0.5, steps=4).double().eval()
    claim = flow.claims().get(Decreases)
    assert claim is not None and claim.factor == pytest.approx(math.exp(-f.decay * 2.0))
    x = f.centre + torch.randn(50, 3, dtype=torch.float64)
    assert float(claim.violation(flow, x, x).max()) <= 1e-12


@pytest.mark.parametrize("method", [Euler(), RK4()], ids=["Euler", "RK4"])
def test_the_step_keeps_the_order_of_its_method(method: Integrator):
    f = equilibrium_contracting(2, scale=1.5)
    x = f.centre + torch.randn(20, 3, dtype=torch.float64)

    def after_one(integrator: Integrator, n: int) -> Tensor:
        z = x
        for _ in range(n):
            z = integrator.step(f, z, 1.0 / n)
        return z

    exact = after_one(RK4(), 2000)
    errors = [float((after_one(LyapunovStep(method), n) - exact).norm()) for n in (20, 40, 80)]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert LyapunovStep(method).order == method.order
    assert slopes[-1] == pytest.approx(method.order, abs=0.1)


def test_the_step_acts_where_v_would_rise():
    """Otherwise the guarantee would be that of the other method."""
    f = FIELDS[0]
    x = f.centre + 3 * torch.randn(500, 3, dtype=torch.float64)
    moved = (LyapunovStep(Euler()).step(f, x, 0.2) - Euler().step(f, x, 0.2)).norm(dim=1)
    assert 0.02 < float((moved > 1e-9).double().mean()) < 1


class Cube(nn.Module):
    """No Lipschitz constant: far out, a step of RK4 overflows."""

    def forward(self, x: Tensor) -> Tensor:
        return x**3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_v_falls_by_its_factor_where_the_proposal_overflows(dtype: torch.dtype):
    f = LyapunovStable(FreeField(Cube()), ConvexPotential(2, (4, 4), equilibrium=(0.5, -1.0)), rate=0.5).to(dtype)
    f.requires_grad_(False)
    x = torch.tensor([[1.0, 2.0], [10.0, -3.0], [1e5, 0.0], [1e15, -1e15]], dtype=dtype)
    assert not RK4().step(f, x, 2.0).isfinite().all(), "the case is not that of the test"
    for h in (0.1, 2.0, 50.0):
        ratio = f.lyapunov(LyapunovStep().step(f, x, h)) / f.lyapunov(x)
        assert float(ratio.max()) <= math.exp(-f.decay * h) * (1 + 20 * torch.finfo(dtype).eps)
    f = FIELDS[2]
    x = f.centre + 1e200 * torch.ones(2, 3, dtype=torch.float64)
    torch.testing.assert_close(LyapunovStep(RK4()).step(f, x, 1e200), f.centre.expand(2, 3))


def test_the_step_needs_a_method_for_any_field():
    with pytest.raises(InputError, match="StormerVerlet"):
        LyapunovStep(StormerVerlet())
    with pytest.raises(TypeError, match="StableField"):
        Flow(ConvexGradient(Dense(3, 4)), LyapunovStep(), h=0.1)


# --- at the equilibrium -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("f", FIELDS, ids=["lyapunov-0", "lyapunov-1", "equilibrium"])
def test_values_and_gradients_are_finite_at_the_equilibrium(f: StableField, dtype: torch.dtype):
    """The published formula is 0 / 0 there."""
    f = f.to(dtype).requires_grad_(True)
    x = f.centre.detach()[None].clone().requires_grad_()
    for value in (f(x), LyapunovStep().step(f, x, 0.3)):
        gradients = torch.autograd.grad(value.sum(), [x, *f.parameters()], allow_unused=True)
        assert all(g is None or bool(g.isfinite().all()) for g in gradients)
    assert bool((f(x) == 0).all())
    torch.testing.assert_close(LyapunovStep().step(f, x, 0.3), x)
    f.double().requires_grad_(False)


@pytest.mark.parametrize("distance", [1.0, 1e-3, 1e-8, 1e-100, 1e-200])
def test_the_field_is_lipschitz_at_the_equilibrium(distance: float):
    """|f(x)| <= L |x - x*|, up to the rounding of the free field: it does not jump, and there is no 0 / 0 nearby."""
    potential = ConvexPotential(3, (12, 8), convexity=0.05)
    f = large(LyapunovStable(TwoLayerField(Dense(3, 16), Dense(3, 16)), potential), seed=0).double()
    y = distance * torch.randn(50, 3, dtype=torch.float64)
    assert float(f(y).norm(dim=1).detach().max()) < 100 * distance + 1e-14


# --- continuous time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_rate_of_decay_is_attained_and_no_larger_one_holds(seed: int):
    f = lyapunov_stable(seed, rate=0.7)
    claim = f.claims().get(Dissipates)
    x = f.centre + torch.randn(500, 3, dtype=torch.float64)
    assert float(claim.violation(f, x, x).max()) <= 1e-12
    assert float(Dissipates(claim.function, 0.71).violation(f, x, x).max()) > 1e-4
    assert float(claim.violation(f.free, x, x).max()) > 0.1, "the field inside has no such property"


def test_trajectories_reach_the_equilibrium():
    f = lyapunov_stable(0, rate=0.5)
    x = f.centre + 3 * torch.randn(100, 3, dtype=torch.float64)
    for _ in range(250):
        x = LyapunovStep(Euler()).step(f, x, 0.2)
    assert float((x - f.centre).norm(dim=1).max()) < 1e-3


# --- contraction --------------------------------------------------------------------------------------------------


def test_contraction_towards_the_equilibrium_is_not_contraction_between_pairs():
    """Sym A <= -rate everywhere, but Sym Df has positive eigenvalues: what the name of (30) might suggest is false."""
    f = equilibrium_contracting(0)
    x = f.centre + 2 * torch.randn(300, 3, dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    a = torch.stack([f.structure(x, e.expand_as(x)) for e in eye], 2)
    assert float(torch.linalg.eigvalsh((a + a.mT) / 2).max()) <= -f.rate + 1e-12
    d = jacobian(f, x)
    assert float(torch.linalg.eigvalsh((d + d.mT) / 2).max()) > 1
    y = f.centre + 2 * torch.randn(300, 3, dtype=torch.float64)
    assert f.claims().get(OneSidedLipschitz) is None
    assert float(OneSidedLipschitz(0.0).violation(f, x, x + 1e-2 * y).max()) > 1e-3
    claim = f.claims().get(Dissipates)
    assert claim is not None and claim.rate == 2 * f.rate
    assert float(claim.violation(f, x, x).max()) <= 1e-12


def test_distances_to_the_equilibrium_fall_as_claimed_and_distances_of_pairs_may_grow():
    f, method = equilibrium_contracting(0), RK4()
    x = f.centre + 2 * torch.randn(500, 3, dtype=torch.float64)
    y, start, apart = x + 1e-3 * torch.randn_like(x), (x - f.centre).norm(dim=1), 0.0
    between = (x - y).norm(dim=1)
    for i in range(200):
        x, y = method.step(f, x, 0.005), method.step(f, y, 0.005)
        bound = math.exp(-f.rate * 0.005 * (i + 1))
        assert bool(((x - f.centre).norm(dim=1) <= start * bound * (1 + 1e-9)).all())
        apart = max(apart, float(((x - y).norm(dim=1) / between).max()))
    assert apart > 1.05


def contracting(rotation: bool) -> Contracting:
    f = Contracting(ConvexGradient(Dense(4, 9), Tanh()), Dense(4, 4) if rotation else None, rate=0.3)
    return large(f, 3.0).double().requires_grad_(False)


@pytest.mark.parametrize("rotation", [True, False])
def test_all_pairs_contract_at_the_worst_case_rate(rotation: bool):
    """1e5 pairs, near and far; the rate is attained where tanh is flat."""
    f = contracting(rotation)
    x = 3 * torch.randn(100_000, 4, dtype=torch.float64)
    y = x + torch.randn_like(x) * torch.logspace(-3, 1, 100_000, dtype=torch.float64)[:, None]
    assert float(OneSidedLipschitz(-0.3).violation(f, x, y).max()) <= 1e-12
    far = 1e3 * torch.randn(500, 4, dtype=torch.float64)
    assert float(OneSidedLipschitz(-0.301).violation(f, far, far + 0.1).max()) > 0
    d = jacobian(f, far)
    assert float(torch.linalg.eigvalsh((d + d.mT) / 2).max()) == pytest.approx(-0.3, abs=1e-9)


@pytest.mark.parametrize("rotation", [True, False])
def test_the_distance_of_two_trajectories_falls_at_the_rate(rotation: bool):
    f = contracting(rotation)
    h = 0.2 / f.claims().get(Lipschitz).bound
    x, y = 3 * torch.randn(2, 200, 4, dtype=torch.float64)
    start = (x - y).norm(dim=1)
    for i in range(300):
        x, y = RK4().step(f, x, h), RK4().step(f, y, h)
        assert bool(((x - y).norm(dim=1) <= start * math.exp(-0.3 * h * (i + 1)) * (1 + 1e-6)).all())


@pytest.mark.parametrize("make", [
    lambda: Contracting(ConvexGradient(Dense(3, 4)), Dense(3, 4)),
    lambda: Contracting(ConvexGradient(Dense(3, 4)), rate=0.0),
    lambda: EquilibriumContracting(Dense(3, 4), Dense(3, 5), gate=Dense(3, 4)),
    lambda: EquilibriumContracting(Dense(3, 4), Dense(3, 4), gate=Dense(3, 4), equilibrium=(1.0,)),
    lambda: EquilibriumContracting(Dense(3, 4), Dense(3, 4), gate=Dense(3, 4), rate=-1.0),
    lambda: LyapunovStable(TwoLayerField(Dense(2, 4), Dense(2, 4)), ConvexPotential(3, (4,))),
    lambda: LyapunovStable(TwoLayerField(Dense(2, 4), Dense(2, 4)), ConvexPotential(2, (4,)), rate=0.0),
    lambda: ConvexPotential(2, (4,), activation=Tanh()),
    lambda: ConvexPotential(2, (4,), convexity=0.0),
    lambda: ConvexPotential(2, (4,), equilibrium=(1.0, 2.0, 3.0)),
])  # fmt: skip
def test_what_cannot_hold_is_refused(make):
    with pytest.raises(InputError, match="needed"):
        make()
