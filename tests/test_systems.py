"""Known physics: closed-form solutions, reference trajectories by scipy, and the laws that steps keep or lose."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import everything  # noqa: F401  fills the registries
from stablenets.core.properties import FirstIntegral, Lipschitz, Positive, Preserves, jacobian, spectral
from stablenets.core.regions import TangentTo, Within
from stablenets.fields import EnergyField, Field, MassAction, MassActionField
from stablenets.fields.base import ConservativeField
from stablenets.fields.constrained import ConstrainedField
from stablenets.fields.examples import large
from stablenets.fields.invariants import MASS, SQUARED_NORM
from stablenets.integrators import (
    RATTLE,
    RK4,
    DiscreteGradient,
    Euler,
    ImplicitMidpoint,
    Integrator,
    PositiveEuler,
    Projection,
)
from stablenets.systems import (
    SIR,
    DoublePendulum,
    DoublePendulumCartesian,
    HarmonicOscillator,
    HenonHeiles,
    Kepler,
    LinearAdvection,
    LinearSystem,
    NLinkPendulum,
    Pendulum,
    QuadraticSink,
    RigidBody,
)

SYSTEMS = [c for n, c in sorted(Field.registry.items()) if c.__module__.startswith("stablenets.systems")]
EXAMPLES = [pytest.param(f, id=f"{c.__name__}-{i}") for c in SYSTEMS for i, f in enumerate(c.examples())]
ENERGY = [p for p in EXAMPLES if isinstance(p.values[0], EnergyField)]


def states(f, count: int = 6, size: float = 0.4) -> torch.Tensor:
    return size * torch.randn(count, *f.state_shape, dtype=torch.float64)


def reference(f: Field, x: torch.Tensor, time: float) -> torch.Tensor:
    """By scipy's DOP853."""

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        return f(torch.tensor(y)[None], t)[0].numpy()

    ends = [solve_ivp(slope, (0, time), v.numpy(), "DOP853", rtol=1e-12, atol=1e-13).y[:, -1] for v in x]
    return torch.tensor(np.stack(ends))


def march(integrator: Integrator, f: Field, x: torch.Tensor, h: float, steps: int) -> torch.Tensor:
    for i in range(steps):
        x = integrator.step(f, x, h, i * h)
    return x


def test_all_of_them_are_here():
    assert len(SYSTEMS) == 12


# --- what a form of field promises to integrators -----------------------------------------------------------------


@pytest.mark.parametrize("f", ENERGY)
def test_energy_fields_are_what_they_say(f):
    """S linear with S + S^T <= 0, the gradient that of the energy, and S grad H the field."""
    x, v, w = states(f), states(f), states(f)
    difference = 1e-6 * v
    slope = (f.energy(x + difference) - f.energy(x - difference)) / 2e-6
    torch.testing.assert_close((f.energy_gradient(x) * v).sum(1), slope, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(f.structure(x, 2 * v - w), 2 * f.structure(x, v) - f.structure(x, w))
    torch.testing.assert_close(f.structure(x, f.energy_gradient(x)), f(x))
    assert float((v * f.structure(x, v)).sum(1).max()) <= 1e-12


@pytest.mark.parametrize("f", [p for p in EXAMPLES if isinstance(p.values[0], ConservativeField)])
def test_every_claimed_first_integral_is_handed_out(f):
    claimed = {c.invariant.function for c in f.claims() if isinstance(c, FirstIntegral)}
    assert claimed == set(f.invariants())


@pytest.mark.parametrize("f", [p for p in EXAMPLES if isinstance(p.values[0], MassActionField)])
def test_rates_of_mass_action_are_metzler_with_zero_columns(f):
    a = f.matrix(states(f).abs())
    off = a - torch.diag_embed(a.diagonal(dim1=1, dim2=2))
    assert float(off.min()) >= 0 and float(a.sum(1).abs().max()) <= 1e-14


# --- solutions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [HarmonicOscillator(1.7), LinearAdvection(7), LinearAdvection(8, speed=-0.4), *LinearSystem.examples()],
    ids=repr,
)
def test_closed_forms(f):
    x = states(f)
    torch.testing.assert_close(f.solution(x, 1.3), reference(f, x, 1.3), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(f.solution(f.solution(x, 0.4), 0.9), f.solution(x, 1.3))


def test_advection_approaches_the_shifted_wave():
    """Second order in the grid."""
    errors = []
    for n in (32, 64, 128):
        f = LinearAdvection(n)
        wave = lambda s: torch.sin(2 * math.pi * s)[None]  # noqa: E731
        errors.append(float((f.solution(wave(f.grid()), 0.3) - wave(f.grid() - 0.3)).abs().max()))
    rates = np.log2(np.divide(errors[:-1], errors[1:]))
    assert rates[-1] == pytest.approx(2, abs=0.05)


def test_kepler_orbits_close_after_a_period():
    f = Kepler(1.4)
    x = torch.tensor([[0.4, 0.0, 0.0, 2.3], [1.0, 0.2, -0.3, 1.0]], dtype=torch.float64)
    for v in x:
        time = float(f.period(v[None]))
        torch.testing.assert_close(reference(f, v[None], time), v[None], rtol=0, atol=1e-8)
    assert math.isnan(float(f.period(torch.tensor([[1.0, 0.0, 0.0, 3.0]]))))


def test_chains_of_one_and_two_links():
    x = torch.randn(8, 4, dtype=torch.float64)
    one, two, chain = Pendulum(1.3), DoublePendulum(gravity=1.7), NLinkPendulum(2, gravity=1.7)
    torch.testing.assert_close(two(x), chain(x))
    torch.testing.assert_close(two.energy(x), chain.energy(x))
    torch.testing.assert_close(one(x[:, :2]), NLinkPendulum(1, gravity=1.69)(x[:, :2]))


def test_the_double_pendulum_in_both_coordinates():
    """The same motion, from scipy, with unequal masses and rods."""
    parts = (1.0, 0.6), (0.8, 1.3)
    angles, cartesian = DoublePendulum(*parts, gravity=2.0), DoublePendulumCartesian(*parts, gravity=2.0)
    q, v = torch.tensor([[0.9, -0.4]], dtype=torch.float64), torch.tensor([[0.3, 0.5]], dtype=torch.float64)

    def momenta(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """p with dH/dp = v: H is quadratic in p."""
        zero = torch.zeros(1, 4, dtype=torch.float64)
        zero[:, :2] = q
        inverse = jacobian(angles.energy_gradient, zero)[0, 2:, 2:]
        return torch.linalg.solve(inverse, v.mT).mT

    start = cartesian.from_angles(q, v)
    assert float(cartesian.residual(start).abs().max()) < 1e-15
    end = reference(angles, torch.cat([q, momenta(q, v)], 1), 2.0)
    speeds = angles(end)[:, :2]
    torch.testing.assert_close(
        reference(cartesian, start, 2.0), cartesian.from_angles(end[:, :2], speeds), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("f", [HenonHeiles(), RigidBody((0.7, 2.0, 1.1)), SIR(3.0, 0.4), Pendulum(2.0)], ids=repr)
def test_trajectories_against_scipy(f):
    """Written afresh with other formulas."""
    formulas = {
        "HenonHeiles": lambda t, y: [y[2], y[3], -y[0] - 2 * y[0] * y[1], -y[1] - y[0] ** 2 + y[1] ** 2],
        "RigidBody": lambda t, y: [
            (1 / 1.1 - 1 / 2.0) * y[1] * y[2],
            (1 / 0.7 - 1 / 1.1) * y[0] * y[2],
            (1 / 2.0 - 1 / 0.7) * y[0] * y[1],
        ],
        "SIR": lambda t, y: [-3 * y[0] * y[1], 3 * y[0] * y[1] - 0.4 * y[1], 0.4 * y[1]],
        "Pendulum": lambda t, y: [y[1], -4 * math.sin(y[0])],
    }
    x = states(f, 1).abs()
    right = solve_ivp(formulas[type(f).__name__], (0, 2), x[0].numpy(), "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    np.testing.assert_allclose(march(RK4(), f, x, 0.01, 200)[0].numpy(), right, atol=1e-7)


@pytest.mark.parametrize("f", EXAMPLES)
def test_every_integrator_that_accepts_a_system_follows_it(f):
    """To one hundredth over a short time (a random selection of wrong signs would be far off)."""
    x = states(f, 2, 0.3).abs() + 0.3
    if isinstance(f, DoublePendulumCartesian):
        x = f.nearest(x)
    exact = reference(f, x, 0.2)
    for name in Integrator.accepting(f):
        integrator = next(iter(Integrator.registry[name].examples()))
        if not isinstance(integrator.needs, type) or name in ("LyapunovStep",):
            continue
        error = float((march(integrator, f, x, 0.2 / 8, 8) - exact).abs().max())
        assert error < (0.06 if integrator.order == 1 else 3e-3) * max(1, float(exact.abs().max())), name


# --- laws ---------------------------------------------------------------------------------------------------------


def test_the_three_phase_portraits():
    """Figure 5 and Exercise 10."""
    stable, saddle, centre = LinearSystem.examples()
    assert max(z.real for z in stable.eigenvalues()) < 0 < max(z.real for z in saddle.eigenvalues())
    assert max(abs(z.real) for z in centre.eigenvalues()) == 0
    x = states(stable)
    assert float(stable.solution(x, 40.0).norm()) < 1e-9 < 1e6 < float(saddle.solution(x, 40.0).norm())
    torch.testing.assert_close(centre.solution(x, 40.0).norm(dim=1), x.norm(dim=1))
    assert FirstIntegral(SQUARED_NORM) in centre.claims() and FirstIntegral(SQUARED_NORM) not in stable.claims()


def test_exercise_11_is_stable_near_the_origin_only():
    """The disc of radius 1/4 contracts; from (1, 1.3) on solutions leave."""
    f = QuadraticSink()
    (claim,) = f.claims()
    assert isinstance(claim, Within)
    x = claim.region.nearest(states(f, 50, 1.0))
    end = march(RK4(), f, x, 0.05, 400)
    assert float((end.square().sum(1) - math.exp(-10) * x.square().sum(1)).max()) <= 0
    assert float(f(torch.tensor([[1.0, 1.3]])).min()) > 0


def test_projection_keeps_all_invariants_where_the_method_alone_does_not():
    for f in (Kepler(), RigidBody(), HenonHeiles()):
        x = states(f, 4, 0.2) + torch.tensor([0.9, 0.2, 0.4, 1.1])[: f.state_shape[0]]
        for integrator, bound in ((Projection(RK4()), 1e-13), (RK4(), math.inf)):
            y = march(integrator, f, x, 0.05, 40)
            drift = max(float((i(y) - i(x)).abs().max()) for i in f.invariants())
            assert drift < bound and (bound < 1 or drift > 1e-9)


def test_constraints_are_kept_by_rattle_and_lost_by_runge_kutta():
    f = DoublePendulumCartesian()
    x = f.from_angles(
        torch.tensor([[1.2, 2.0], [0.3, -2.5]]).double(), torch.tensor([[0.5, -1.0], [0.0, 1.0]]).double()
    )
    y, worst = x, 0.0
    for _ in range(200):
        y = RATTLE().step(f, y, 0.05)
        worst = max(worst, float(f.residual(y).abs().max()))
    assert worst < 1e-13
    assert float(f.residual(march(RK4(), f, x, 0.05, 200)).abs().max()) > 1e-6
    assert float((f.energy(y) - f.energy(x)).abs().max()) < 0.05
    assert any(isinstance(c, TangentTo) for c in f.claims())


def test_rattle_is_symplectic_on_the_manifold_and_reversible():
    f = DoublePendulumCartesian((1.0, 0.6))
    x = f.nearest(torch.randn(5, 8, dtype=torch.float64))
    y = RATTLE().step(f, x, 0.1)
    torch.testing.assert_close(RATTLE().step(f, y, -0.1), x, rtol=1e-12, atol=1e-12)
    # tangent vectors of the manifold, by differentiating the projection
    basis = jacobian(f.nearest, x)
    moved = jacobian(lambda v: RATTLE().step(f, f.nearest(v), 0.1), x)
    j = torch.zeros(8, 8, dtype=torch.float64)
    j[:4, 4:], j[4:, :4] = torch.eye(4), -torch.eye(4)
    before, after = basis.mT @ j @ basis, moved.mT @ j @ moved
    assert float((after - before).abs().max() / before.abs().max()) < 1e-11
    assert float((spectral(moved - basis) / spectral(basis)).min()) > 0.1


@pytest.mark.parametrize("h", [0.1, 10.0, 1000.0])
def test_epidemics_keep_the_sum_and_the_signs(h: float):
    """Also where explicit Euler makes a part of the population negative."""
    f = SIR(3.0, 0.4)
    x = torch.rand(50, 3, dtype=torch.float64)
    x[:5, 1:] = 0
    x = x / x.sum(1, keepdim=True)
    y = march(PositiveEuler(), f, x, h, 100)
    assert float(y.min()) >= 0
    assert float((y.sum(1) - 1).abs().max()) < 1e-14
    claims = PositiveEuler().transfer(f.claims(), h)
    assert Positive() in claims and Preserves(MASS) in claims
    assert h < 1 or float(Euler().step(f, x, h).min()) < -1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("h", [1e-3, 1.0, 1e3, 1e10, 1e16, 1e30, 1e300])
def test_a_positive_step_of_any_length_keeps_mass_and_signs_to_rounding(h: float, dtype: torch.dtype):
    """With LU factors of I - h A the sum was wrong by 3 per cent and more from h = 1e10 on, and entries negative."""
    f = large(MassAction(5, 6), 3.0).to(dtype).requires_grad_(False)
    x = torch.rand(40, 5, dtype=dtype)
    x[:10, 2:] = 0
    y = PositiveEuler().step(f, x, h)
    assert float(y.min()) >= 0 and float((y.sum(1) - x.sum(1)).abs().max()) <= 16 * torch.finfo(dtype).eps
    exact = f.double().matrix(x.double())
    if h <= 1e3:  # beside it: numpy's solver
        dense = np.linalg.solve(np.eye(5) - h * exact.numpy(), x.double().numpy()[:, :, None])[:, :, 0]
        np.testing.assert_allclose(y.numpy(), dense, rtol=3e3 * torch.finfo(dtype).eps)
    else:  # all has flowed: nearly in the kernel of A
        missing = float((exact @ y.double().unsqueeze(2)).abs().max())
        assert missing <= 100 * torch.finfo(dtype).eps * float(exact.abs().max()) + 2 / h  # A y = (y - x) / h


def test_the_sum_does_not_drift_over_a_thousand_positive_steps():
    """Each step misses it by half a rounding of the largest entry: at most 5.6e-14 in all for entries below 1."""
    f = large(MassAction(3, 8)).double().requires_grad_(False)
    x = torch.rand(300, 3, dtype=torch.float64)
    x = x / x.sum(1, keepdim=True)
    for a, b in zip(x.tolist(), PositiveEuler().step(f, x, 1e-3).tolist(), strict=True):
        assert abs(math.fsum([*a, *(-v for v in b)])) <= 0.6e-16
    assert float((march(PositiveEuler(), f, x, 0.02, 1000).sum(1) - 1).abs().max()) <= 5.6e-14


def test_a_positive_step_has_the_derivatives_of_the_inverse():
    f = large(MassAction(3, 4)).double().requires_grad_(False)
    x = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    h = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, h: PositiveEuler().step(f, x, h), (x, h))
    assert torch.autograd.gradgradcheck(lambda x, h: PositiveEuler().step(f, x, h), (x, h))


@pytest.mark.parametrize("integrator", sorted(Integrator.registry))
def test_an_empty_batch_and_no_time_are_steps_too(integrator: str):
    method = next(Integrator.registry[integrator].examples())
    for cls in Field.registry.values():
        if cls.__module__.startswith("stablenets.") and issubclass(cls, method.needs):
            f = next(iter(cls.examples())).double().eval().requires_grad_(False)
            x = torch.rand(3, *(f.state_shape or (4,)), dtype=torch.float64)
            x = f.nearest(x) if isinstance(f, ConstrainedField) else x
            assert method.step(f, x[:0], 0.1).shape == x[:0].shape, cls.__name__
            torch.testing.assert_close(method.step(f, x, 0.0), x, rtol=1e-12, atol=1e-12)


def test_the_rigid_body_keeps_both_quadratics_under_the_midpoint_rule():
    f, x = RigidBody(), torch.randn(10, 3, dtype=torch.float64)
    y = march(ImplicitMidpoint(), f, x, 0.3, 200)
    for i in f.invariants():
        assert float((i(y) - i(x)).abs().max()) < 1e-12


def test_friction_only_takes_energy():
    f = NLinkPendulum(3, friction=0.3)
    x = torch.randn(10, 6, dtype=torch.float64)
    for _ in range(5):
        y = DiscreteGradient().step(f, x, 0.1)
        assert float((f.energy(y) - f.energy(x)).max()) <= 1e-13 * float(f.energy(x).max())
        x = y


def test_integrators_refuse_what_they_cannot_step():
    assert "BlanesMoan4" not in Integrator.accepting(DoublePendulum()), "not separable"
    assert {"ImplicitMidpoint", "DiscreteGradient", "Projection"} <= set(Integrator.accepting(DoublePendulum()))
    assert "RATTLE" in Integrator.accepting(DoublePendulumCartesian())
    assert "DiscreteGradient" not in Integrator.accepting(SIR())


def test_lipschitz_bounds_of_systems_are_attained():
    for f in (Pendulum(2.0), LinearAdvection(8), *LinearSystem.examples()):
        largest = float(spectral(jacobian(f, torch.zeros(1, *f.state_shape, dtype=torch.float64))).max())
        assert largest == pytest.approx(f.claims().get(Lipschitz).bound, rel=1e-9)
