"""Implicit steps: the equation is solved to rounding, its derivatives are exact, and what fails is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn

from stablenets.core.claims import Claims
from stablenets.core.errors import ConvergenceError
from stablenets.core.properties import (
    Averaged,
    Cocoercive,
    Decreases,
    Dissipates,
    Expansive,
    FirstIntegral,
    Invariant,
    Lipschitz,
    OneSidedLipschitz,
    Preserves,
    Symplectic,
    jacobian,
    spectral,
    symplectic_matrix,
)
from stablenets.fields import ConvexGradient, FreeField, ReLU
from stablenets.fields.invariants import SQUARED_NORM
from stablenets.integrators import (
    RK4,
    AverageVectorField,
    DiscreteGradient,
    Euler,
    GaussLegendre4,
    ImplicitEuler,
    ImplicitMidpoint,
    Integrator,
    Projection,
)
from stablenets.integrators.solve import solve
from stablenets.linear import Dense
from stablenets.systems import HenonHeiles, LinearSystem, Pendulum, RigidBody
from stablenets.testing.steps import one_step

RUNGE_KUTTA = [ImplicitEuler(), ImplicitMidpoint(), GaussLegendre4()]
EPS = torch.finfo(torch.float64).eps


def network(width: int = 16, size: float = 0.6) -> FreeField:
    net = FreeField(nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))).double()
    for p in net.parameters():
        nn.init.normal_(p, std=size)
    return net


@pytest.mark.parametrize("integrator, theta", [(ImplicitEuler(), 1.0), (ImplicitMidpoint(), 0.5)], ids=["1", "1/2"])
@pytest.mark.parametrize("h", [0.01, 0.2])
def test_the_equation_is_solved_to_four_rounding_errors(integrator, theta: float, h: float):
    """x+ = x + h f(x + theta (x+ - x)), measured afresh, for 500 samples of a trained-looking network."""
    f = network().requires_grad_(False)
    x = torch.randn(500, 2, dtype=torch.float64)
    y = integrator.step(f, x, h)
    residual = (y - x - h * f(x + theta * (y - x))).norm(dim=1)
    slope = spectral(jacobian(f, x)).clamp(min=1)
    assert float((residual / (x.norm(dim=1) + y.norm(dim=1) * (1 + h * slope))).max()) <= 4 * EPS


@pytest.mark.parametrize("gradients", [False, True])
def test_a_step_of_which_no_derivative_is_asked_needs_no_jacobian(gradients: bool, monkeypatch: pytest.MonkeyPatch):
    """The pendulum at h = 0.1: a start, 12 iterations, and one look whether the result has a gradient."""
    f, x, asked = Pendulum(), torch.randn(500, 2, dtype=torch.float64), []
    monkeypatch.setattr("stablenets.integrators.solve.jacobians", lambda *_: pytest.fail("nothing is differentiated"))
    f.register_forward_hook(lambda *_: asked.append(1))
    with torch.set_grad_enabled(gradients):
        y = ImplicitMidpoint().step(f, x, 0.1)
    assert len(asked) <= 14 + gradients
    assert float(((y - x - 0.1 * f((x + y) / 2)).norm(dim=1) / (x.norm(dim=1) + y.norm(dim=1))).max()) <= 4 * EPS


@pytest.mark.parametrize("h", [0.3, 3.0])
def test_steps_agree_with_scipy(h: float):
    """The implicit Euler step of a convex potential is its proximal point, whatever h."""
    f = ConvexGradient(Dense(3, 5), ReLU()).double().requires_grad_(False)
    f.linear.weight.normal_()
    f.bias.normal_()
    x = torch.randn(4, 3, dtype=torch.float64)
    y = ImplicitEuler().step(f, x, h)
    for start, end in zip(x, y, strict=True):

        def objective(z: np.ndarray, start=start) -> float:
            z = torch.tensor(z)
            return float(h * f.potential(z[None])[0] + (z - start).square().sum() / 2)

        how = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000}
        best = scipy.optimize.minimize(objective, start.numpy(), method="Nelder-Mead", options=how)
        np.testing.assert_allclose(end.numpy(), best.x, atol=1e-6)


def test_gauss_against_its_definition():
    """Both stages solved by scipy, with the tableau written afresh."""
    root = math.sqrt(3) / 6
    a = np.array([[0.25, 0.25 - root], [0.25 + root, 0.25]])
    f, x, h = Pendulum(1.3), np.array([1.1, -0.4]), 0.7

    def slope(y: np.ndarray) -> np.ndarray:
        return f(torch.tensor(y)[None])[0].numpy()

    def equations(k: np.ndarray) -> np.ndarray:
        k = k.reshape(2, 2)
        return (k - np.stack([slope(x + h * row @ k) for row in a])).ravel()

    k = scipy.optimize.fsolve(equations, np.tile(slope(x), 2), xtol=1e-15).reshape(2, 2)
    step = GaussLegendre4().step(f, torch.tensor(x)[None], h)[0]
    np.testing.assert_allclose(step.numpy(), x + h * k.mean(0), atol=1e-13)


@pytest.mark.parametrize("integrator", [*RUNGE_KUTTA, DiscreteGradient(), AverageVectorField()], ids=repr)
def test_first_and_second_derivatives(integrator: Integrator):
    f = Pendulum(1.3)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    h = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)

    def step(x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return integrator.step(f, x, h, 0.2)

    assert torch.autograd.gradcheck(step, (x, h), atol=1e-7)
    assert torch.autograd.gradgradcheck(step, (x, h), atol=1e-6)


@pytest.mark.parametrize("h", [0.2, 3.0])
def test_derivatives_in_the_weights(h: float):
    """h = 3 is far beyond what a fixed-point iteration could solve, or its derivative be exact for."""
    f = network(5, 0.8)
    x = torch.randn(6, 2, dtype=torch.float64)
    weight = next(f.parameters())
    loss = lambda: ImplicitMidpoint().step(f, x, h).pow(3).sum()  # noqa: E731
    (slope,) = torch.autograd.grad(loss(), weight)
    direction = torch.randn_like(weight)
    with torch.no_grad():
        weight += 1e-6 * direction
        above = loss()
        weight -= 2e-6 * direction
        below = loss()
    assert float((slope * direction).sum()) == pytest.approx(float(above - below) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("gradients", [True, False])
def test_every_transform_sees_the_same_jacobian(gradients: bool):
    f = network().requires_grad_(False)
    x = torch.randn(5, 2, dtype=torch.float64)
    one = lambda v: GaussLegendre4().step(f, v[None], 0.8)[0]  # noqa: E731
    e = 1e-6 * torch.eye(2, dtype=torch.float64)
    numeric = torch.stack([(torch.stack([one(v + d) - one(v - d) for v in x])) / 2e-6 for d in e], 2)
    with torch.set_grad_enabled(gradients):
        for jac in (torch.func.jacrev, torch.func.jacfwd):
            torch.testing.assert_close(torch.func.vmap(jac(one))(x), numeric, rtol=1e-7, atol=1e-7)
        whole = torch.func.jacrev(torch.func.vmap(one))(x)
    torch.testing.assert_close(whole[range(5), :, range(5)], numeric, rtol=1e-7, atol=1e-7)
    sizes = torch.tensor([0.1, 0.8], dtype=torch.float64)
    steps = torch.func.vmap(lambda h: GaussLegendre4().step(f, x, h))(sizes)
    torch.testing.assert_close(steps[1], GaussLegendre4().step(f, x, 0.8))


def test_a_sample_without_a_solution_is_named_and_the_others_are_not():
    """z = z^2 + 1 + x has no real solution for x > -3/4."""
    x = torch.tensor([[-2.0], [0.0], [-1.0], [5.0]], dtype=torch.float64)
    with pytest.raises(ConvergenceError, match=r"Test with h = 0.1 .* 2 of 4 samples \(1, 3; .*shorter") as raised:
        solve(lambda z, x, h: z * z + 1 + x, 0 * x, x, 0.1, name="Test")
    assert raised.value.samples == (1, 3)
    z = solve(lambda z, x, h: z * z + 1 + x, 0 * x[::2], x[::2], 0.1, name="Test")
    torch.testing.assert_close(z * z + 1 + x[::2], z, rtol=0, atol=1e-14)


def test_not_a_number_is_an_error():
    with pytest.raises(ConvergenceError, match="1 of 2 samples"):
        ImplicitMidpoint().step(Pendulum(), torch.tensor([[0.1, 0.2], [math.nan, 0.0]], dtype=torch.float64), 0.1)


def test_samples_are_solved_by_themselves():
    """A stiff sample beside an easy one changes nothing."""
    f = HenonHeiles()
    x = torch.tensor([[0.1, 0.2, 0.0, 0.1], [8.0, -9.0, 3.0, 1.0]], dtype=torch.float64)
    both = ImplicitMidpoint().step(f, x, 0.05)
    torch.testing.assert_close(both[:1], ImplicitMidpoint().step(f, x[:1], 0.05), rtol=0, atol=1e-15)


# --- what is claimed ----------------------------------------------------------------------------------------------


def test_solvable_is_the_constant_of_the_theorem():
    """With D = diag(b) (C^-1 - I) for Gauss methods (Hairer & Wanner, Thm IV.14.5), D = 1 for one stage."""
    for g in RUNGE_KUTTA:
        a, b = np.array(g.a), np.array(g.b)
        d = np.diag(b / a.sum(1) - b) if isinstance(g, GaussLegendre4) else np.eye(len(b))
        m = d @ np.linalg.inv(a)
        root = np.diag(np.diag(d) ** -0.5)
        assert np.linalg.eigvalsh(root @ (m + m.T) @ root / 2)[0] == pytest.approx(g.solvable)


def test_step_limits():
    for g in RUNGE_KUTTA:
        assert g.step_limit(Claims([OneSidedLipschitz(0.0)])) == math.inf
        assert g.step_limit(Claims([Cocoercive(0.1)])) == math.inf
        assert g.step_limit(Claims([Lipschitz(2.0)])) == pytest.approx(0.99 * g.solvable / 2)
        assert g.step_limit(Claims([OneSidedLipschitz(0.5), Lipschitz(9.0)])) == pytest.approx(0.99 * g.solvable / 0.5)
        assert g.step_limit(Claims()) is None


def test_what_is_claimed_of_a_monotone_field():
    monotone = Claims([OneSidedLipschitz(0.0)])
    assert ImplicitEuler().transfer(monotone, 50.0).get(Averaged).alpha == pytest.approx(0.5)
    assert ImplicitMidpoint().transfer(monotone, 50.0).get(Averaged) is None, "a rotation is not averaged"
    for g in RUNGE_KUTTA:
        assert g.transfer(monotone, 50.0).get(Lipschitz) == Lipschitz(1.0)
        assert g.transfer(monotone, -0.1).get(Lipschitz) is None, "backwards: no contraction"
    contracting = Claims([OneSidedLipschitz(-0.5)])
    assert ImplicitEuler().transfer(contracting, 4.0).get(Lipschitz).bound == pytest.approx(1 / 3)


def test_which_invariants_are_claimed():
    cubic = Invariant("cubic", lambda x: x.pow(3).sum(1), 3)
    linear = Invariant("linear", lambda x: x.sum(1), 1)
    field = Claims([FirstIntegral(i) for i in (SQUARED_NORM, cubic, linear)])
    for g in RUNGE_KUTTA:
        claims = g.transfer(field, 0.3)
        assert Preserves(linear) in claims and Preserves(cubic) not in claims
        assert (Preserves(SQUARED_NORM) in claims) == (g is not RUNGE_KUTTA[0])
    convex = Invariant("energy", lambda x: x.pow(4).sum(1), convex=True)
    fading = Claims([Dissipates(convex, rate=2.0)])
    assert ImplicitEuler().transfer(fading, 0.5).get(Decreases).factor == pytest.approx(0.5)
    assert ImplicitMidpoint().transfer(fading, 0.5).get(Decreases) is None
    assert GaussLegendre4().transfer(Claims([Dissipates(SQUARED_NORM)]), 0.5).get(Decreases) is not None


@pytest.mark.parametrize("g", [ImplicitEuler(), ImplicitMidpoint()], ids=repr)
@pytest.mark.parametrize("nu, size", [(-0.5, 2.0), (-0.5, 0.5), (0.0, 2.0), (0.4, 1.0)])
def test_the_stretch_of_one_stage_is_attained(g, nu: float, size: float):
    """By x' = (nu + i w) x with |nu + i w| = size or |nu|; the smallest by x' = -size x."""
    h = 0.7
    claims = g.transfer(Claims([OneSidedLipschitz(nu), Lipschitz(size)]), h)
    factors = []
    for r in (abs(nu), size):
        w = math.sqrt(max(r * r - nu * nu, 0))
        m = jacobian(one_step(g, LinearSystem([[nu, -w], [w, nu]]), h), torch.zeros(1, 2, dtype=torch.float64))
        factors.append(float(spectral(m)[0]))
    assert claims.get(Lipschitz).bound == pytest.approx(max(factors), rel=1e-9)
    m = jacobian(one_step(g, LinearSystem([[-size, 0.0], [0.0, -size]]), h), torch.zeros(1, 2, dtype=torch.float64))
    assert claims.get(Expansive).bound == pytest.approx(float(torch.linalg.svdvals(m)[0, -1]), rel=1e-9)


@pytest.mark.parametrize("g", RUNGE_KUTTA, ids=repr)
@pytest.mark.parametrize("h", [0.2, 2.0])
def test_the_averagedness_on_cocoercive_fields_is_attained(g, h: float):
    """On x' = lambda(t) x with 2 lambda on the circle |1 + z| = 1, near 0 and at -2 (beta = 1/2)."""
    alpha = g.transfer(Claims([Cocoercive(0.5)]), h).get(Averaged).alpha
    worst = 0.0
    for angle in (1e-3, 0.5, 1.0, 2.0, math.pi):
        z = complex(math.cos(angle), math.sin(angle)) - 1
        f = LinearSystem([[z.real, -z.imag], [z.imag, z.real]])
        m = jacobian(one_step(g, f, h), torch.zeros(1, 2, dtype=torch.float64))[0]
        c = complex(float(m[0, 0]), float(m[1, 0]))
        worst = max(worst, abs(1 - c) ** 2 / (2 * (1 - c).real))
        assert abs(c - 1 + alpha) <= alpha * (1 + 1e-9)
    assert worst >= (0.99 if g is not RUNGE_KUTTA[2] else 0.9) * alpha


@pytest.mark.parametrize("g", [ImplicitMidpoint(), GaussLegendre4()], ids=repr)
def test_the_symplectic_defect_is_rounding(g):
    """On a pendulum far from the identity: at most 50 eps |M|^2."""
    x = 2 * torch.randn(50, 2, dtype=torch.float64)
    m, j = jacobian(one_step(g, Pendulum(2.0), 0.4), x), symplectic_matrix(x)
    assert float(spectral(m - torch.eye(2)).min()) > 0.1
    assert float(((m.mT @ j @ m - j).abs().amax((1, 2)) / spectral(m).square()).max()) <= 50 * EPS


def test_implicit_euler_is_not_symplectic_and_loses_quadratic_invariants():
    x = torch.randn(20, 3, dtype=torch.float64)
    step = one_step(ImplicitEuler(), RigidBody(), 0.3)
    assert float(Preserves(SQUARED_NORM).violation(step, x, x).max()) > 1e-4
    assert float(Symplectic().violation(one_step(ImplicitEuler(), Pendulum(), 0.3), x[:, :2], x[:, :2]).max()) > 1e-3


def test_monotone_fields_are_not_expanded_however_long_the_step():
    """Against explicit Euler, which expands beyond its limit."""
    f = ConvexGradient(Dense(4, 6)).double().requires_grad_(False)
    f.linear.weight.normal_()
    f.bias += 100
    x, y = torch.randn(2, 30, 4, dtype=torch.float64)
    h = 100 * Euler().step_limit(f.claims())
    for g in RUNGE_KUTTA:
        stretch = (g.step(f, x, h) - g.step(f, y, h)).norm(dim=1) / (x - y).norm(dim=1)
        assert float(stretch.max()) <= 1 + 1e-9
    assert float((Euler().step(f, x, h) - Euler().step(f, y, h)).norm() / (x - y).norm()) > 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype):
    x = torch.randn(20, 2)
    y = ImplicitMidpoint().step(Pendulum(3.0), x.to(dtype), 0.9)  # h L / 2 > 1: Newton's method
    assert y.dtype == dtype
    exact = ImplicitMidpoint().step(Pendulum(3.0), x.to(dtype).double(), 0.9)
    assert float((y.double() - exact).abs().median()) < 100 * torch.finfo(dtype).eps


# --- energy -------------------------------------------------------------------------------------------------------


def test_the_average_vector_field_is_exact_only_for_polynomials_of_its_degree():
    """Henon-Heiles is cubic: two nodes suffice, one does not; the pendulum is no polynomial."""
    x = 0.5 * torch.randn(20, 4, dtype=torch.float64)
    f = HenonHeiles()
    for nodes, kept in ((1, False), (2, True), (3, True)):
        g = AverageVectorField(nodes)
        energy = Preserves(Invariant("energy", f.energy, degree=3))
        assert (energy in g.transfer(f.claims(), 0.5)) == kept
        assert (float(energy.violation(one_step(g, f, 0.5), x, x).max()) < 1e-13) == kept
    g, f = AverageVectorField(2), Pendulum()
    assert not g.transfer(f.claims(), 0.5)
    assert float((f.energy(g.step(f, x[:, :2], 0.5)) - f.energy(x[:, :2])).abs().max()) > 1e-8
    assert DiscreteGradient().transfer(f.claims(), 0.5)


def test_the_discrete_gradient_at_rest():
    """|d| = 0 and |d| near rounding: no 0 / 0, and finite derivatives."""
    f = Pendulum()
    for x in (torch.zeros(1, 2), torch.tensor([[1e-9, 0.0]]), torch.tensor([[math.pi, 1e-12]])):
        x = x.double()
        y = DiscreteGradient().step(f, x, 0.3)
        assert bool(torch.isfinite(jacobian(one_step(DiscreteGradient(), f, 0.3), x)).all())
        assert float((f.energy(y) - f.energy(x)).abs()) <= 4 * EPS * float(f.energy(x)) + 1e-30


# --- projection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, h", [(1.0, 0.3), (3.0, 3.0), (10.0, 30.0)])
def test_a_projected_step_keeps_the_invariants_or_is_an_error(size: float, h: float):
    """Also where the explicit step blows up, to 1e14: its gradients are no measure of what the solution may miss."""
    f, returned = HenonHeiles(), 0
    generator = torch.Generator().manual_seed(0)
    energy = Preserves(Invariant("energy", f.energy))
    for x in size * torch.randn(12, 1, 4, generator=generator, dtype=torch.float64):
        try:
            y = Projection(RK4()).step(f, x, h)
        except ConvergenceError:
            continue
        returned += 1
        assert float(energy.violation(lambda _, y=y: y, x, x)) <= 40 * EPS
    assert returned or h > 1
