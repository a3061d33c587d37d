"""Integrators: order against an independent solver, and the quantities computed from the tableau."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.integrate import solve_ivp

import everything  # noqa: F401  fills the registries
from stablenets.core.claims import Claims
from stablenets.core.properties import (
    Averaged,
    Cocoercive,
    DivergenceFree,
    Expansive,
    Hamiltonian,
    Invertible,
    Lipschitz,
    OneSidedLipschitz,
    Symplectic,
    VolumePreserving,
    jacobian,
)
from stablenets.fields import BlockShears, ConvexGradient, FreeField, SeparableHamiltonian
from stablenets.integrators import (
    RK4,
    SSPRK3,
    Euler,
    ExplicitRungeKutta,
    Heun,
    Integrator,
    Midpoint,
    ShearSplitting,
    Splitting,
    StormerVerlet,
    SymplecticEuler,
)
from stablenets.layers import Flow
from stablenets.systems import HarmonicOscillator
from stablenets.testing.problems import PROBLEMS, Problem, Top

ALL = [pytest.param(g, id=n) for n, c in sorted(Integrator.registry.items()) for g in c.examples()]
ON_THE_OSCILLATOR = [p for p in ALL if isinstance(HarmonicOscillator(), p.values[0].needs)]
RUNGE_KUTTA = [p for p in ALL if isinstance(p.values[0], ExplicitRungeKutta)]
ORDERS = [
    pytest.param(g, problem, id=f"{type(g).__name__}-{problem.__name__}")
    for g in (p.values[0] for p in ALL)
    for problem in [q for q in PROBLEMS if issubclass(q, g.needs)][:2]
]


@pytest.mark.parametrize("driven", [False, True], ids=["autonomous", "time-dependent"])
@pytest.mark.parametrize("integrator, problem", ORDERS)
def test_order(integrator: Integrator, problem: type[Problem], driven: bool):
    """Against DOP853, on fields nonlinear in everything; every part has its own time dependence where driven."""
    f = problem(driven)
    high = integrator.order > 4
    start = f.start() if high else f.start()[:1]

    def right(t: float, y: np.ndarray) -> np.ndarray:
        return f(torch.tensor(y)[None], t)[0].numpy()

    ends = [solve_ivp(right, (0.3, 1.3), x.numpy(), "DOP853", rtol=1e-13, atol=1e-13).y[:, -1] for x in start]
    errors = []
    numbers = (16, 32, 64) if integrator.order == 4 and problem is not Top else (64, 128, 256)
    for n in (8, 16, 32) if high else numbers:
        x = start
        for i in range(n):
            x = integrator.step(f, x, 1 / n, 0.3 + i / n)
        errors.append(float(np.linalg.norm(x.numpy() - np.stack(ends))))
    rates = np.log2(np.divide(errors[:-1], errors[1:]))
    # above order 4 rounding comes before the leading term of the error alone
    assert integrator.order - 0.1 <= rates[-1] <= integrator.order + (1 if high else 0.1), f"{integrator}: {errors}"


def test_every_order_is_measured():
    """On a problem of the form that the integrator needs; `LyapunovStep` has its own test."""
    measured = {type(p.values[0]).__name__ for p in ORDERS}
    assert set(Integrator.registry) - measured <= {"LyapunovStep", "Cayley", "Exponential"}


@pytest.mark.parametrize("integrator", RUNGE_KUTTA)
def test_tableau(integrator):
    """Explicit, consistent, and of the declared order on quadratures."""
    a, b = integrator.a, integrator.b
    assert len(a) == len(b) and all(len(row) == i for i, row in enumerate(a))
    c = [sum(row) for row in a]
    assert sum(b) == pytest.approx(1)
    for k in range(1, integrator.order):
        assert sum(bi * ci**k for bi, ci in zip(b, c, strict=True)) == pytest.approx(1 / (k + 1))


@pytest.mark.parametrize("integrator", RUNGE_KUTTA)
def test_contractivity_radius_from_its_definition(integrator):
    """Independently: the largest r with M + diag(b) / r >= 0, by bisection on Cholesky's success."""
    s, b = len(integrator.b), np.array(integrator.b)
    a = np.zeros((s, s))
    for i, row in enumerate(integrator.a):
        a[i, :i] = row
    m = np.diag(b) @ a + a.T @ np.diag(b) - np.outer(b, b)

    def semidefinite(r: float) -> bool:
        return scipy.linalg.eigvalsh(m + np.diag(b) / r)[0] >= -1e-10

    r = integrator.contractivity_radius()
    if r == 0:
        assert (b <= 0).any() and not semidefinite(1e-3)
    else:
        assert semidefinite(r) and not semidefinite(1.001 * r)


def test_known_contractivity_radii():
    """Dahlquist & Jeltsch 1979."""
    radii = {c: c.contractivity_radius() for c in (Euler, Midpoint, Heun, SSPRK3, RK4)}
    assert radii == {Euler: 1, Midpoint: 0, Heun: 1, SSPRK3: 1, RK4: 1}


def test_step_limits():
    cocoercive = Claims([Cocoercive(0.25)])
    assert [g.step_limit(cocoercive) for g in (Euler(), Heun(), SSPRK3(), RK4())] == [0.5] * 4
    assert Midpoint().step_limit(cocoercive) is None
    assert Euler().step_limit(Claims([Lipschitz(1.0)])) is None
    assert StormerVerlet().step_limit(Claims([Hamiltonian()])) == math.inf
    assert StormerVerlet().step_limit(cocoercive) is None


def test_what_an_euler_step_is_claimed_to_be():
    field = Claims([Cocoercive(0.5)])  # so 2-Lipschitz; limit 1
    assert Euler().transfer(field, 0.25).get(Averaged).alpha == pytest.approx(0.25)
    assert Euler().transfer(field, 0.25).get(Lipschitz) == Lipschitz(1.0)
    assert Euler().transfer(field, 0.25).get(Expansive).bound == pytest.approx(0.5)
    assert Euler().transfer(field, 0.25).get(Invertible) is not None
    assert Euler().transfer(field, 0.5).get(Expansive) is None, "half of the limit may collapse"
    assert Euler().transfer(field, 2.0).get(Lipschitz).bound == pytest.approx(math.sqrt(17))
    assert Euler().transfer(field, -0.1).get(Lipschitz).bound == pytest.approx(1.2), "backwards: no contraction"
    dissipative = Claims([OneSidedLipschitz(-1.0), Lipschitz(2.0)])
    assert Euler().transfer(dissipative, 0.25).get(Lipschitz).bound == pytest.approx(math.sqrt(0.75))


def test_other_runge_kutta_steps_are_not_claimed_averaged():
    for integrator in (Heun(), SSPRK3(), RK4()):
        claims = integrator.transfer(Claims([Cocoercive(0.5)]), 0.5)
        assert claims.get(Averaged) is None and claims.get(Lipschitz) == Lipschitz(1.0)


@pytest.mark.parametrize("integrator", [SymplecticEuler(), StormerVerlet()], ids=repr)
def test_what_a_splitting_step_is_claimed_to_be(integrator):
    assert Symplectic() in integrator.transfer(Claims([Hamiltonian()]), 7.0)
    volume = integrator.transfer(Claims([DivergenceFree()]), 7.0)
    assert VolumePreserving() in volume and Symplectic() not in volume
    assert integrator.transfer(Claims([Hamiltonian()]), 7.0).get(Lipschitz) is None


@pytest.mark.parametrize("integrator", ON_THE_OSCILLATOR)
def test_a_step_of_zero_is_the_identity(integrator: Integrator):
    f = HarmonicOscillator()
    x = torch.randn(3, 2)
    assert torch.equal(integrator.step(f, x, 0.0), x)
    bound = integrator.transfer(f.claims(), 0.0).get(Lipschitz)
    assert bound is None or bound.bound == pytest.approx(1.0)


def test_stormer_verlet_is_reversible_and_keeps_the_energy_near():
    f = next(SeparableHamiltonian.examples()).double().requires_grad_(False)
    h = 0.3 / f.claims().get(Lipschitz).bound
    x = torch.randn(5, 4, dtype=torch.float64)
    y = x
    start, worst = f.energy(x), 0.0
    for _ in range(500):
        y = StormerVerlet().step(f, y, h)
        worst = max(worst, float((f.energy(y) - start).abs().max()))
    assert 0 < worst < 0.05 * float(start.max())
    for _ in range(500):
        y = StormerVerlet().step(f, y, -h)
    torch.testing.assert_close(y, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("integrator", ON_THE_OSCILLATOR)
def test_the_step_size_may_be_a_tensor_with_a_gradient(integrator: Integrator):
    f = HarmonicOscillator(1.3)
    x = torch.randn(2, 2, dtype=torch.float64)
    h = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    out = integrator.step(f, x, h)
    torch.testing.assert_close(out, integrator.step(f, x, 0.4))
    (slope,) = torch.autograd.grad(out.sum(), h)
    difference = (integrator.step(f, x, 0.4 + 1e-6) - integrator.step(f, x, 0.4 - 1e-6)).sum() / 2e-6
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.parametrize("integrator", ON_THE_OSCILLATOR)
def test_states_of_any_shape_and_dtype(integrator: Integrator):
    x = torch.randn(3, 2, 4, 4)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        y = integrator.step(HarmonicOscillator(), x.to(dtype), 0.1)
        assert y.shape == x.shape and y.dtype == dtype


def test_an_integrator_refuses_a_field_that_it_cannot_step():
    with pytest.raises(TypeError) as error:
        Flow(next(ConvexGradient.examples()), StormerVerlet(), h=0.1)
    assert str(error.value).startswith(
        "StormerVerlet integrates a SplitField, but got ConvexGradient. Integrators that accept it: Bosh3, "
    )
    assert Integrator.accepting(next(FreeField.examples())) == Integrator.accepting(next(ConvexGradient.examples()))
    assert "StormerVerlet" in Integrator.accepting(HarmonicOscillator())


@pytest.mark.parametrize("integrator", ALL)
def test_every_integrator_states_its_source_and_theorem(integrator: Integrator):
    assert integrator.order >= 1 and len(integrator.reference) > 5
    limit = [integrator.step_limit(Claims([claim])) for claim in (Cocoercive(1.0), Hamiltonian())]
    assert all(v is None for v in limit) or type(integrator).__name__ in integrator.theorem


# --- splitting ----------------------------------------------------------------------------------------------------

SPLITTING = [p for p in ALL if isinstance(p.values[0], Splitting)]


@pytest.mark.parametrize("integrator", SPLITTING)
def test_coefficients_of_splitting_methods(integrator: Splitting):
    assert sum(integrator.kicks) == pytest.approx(1) and sum(integrator.drifts) == pytest.approx(1)
    if integrator.order > 1:
        assert integrator.kicks == integrator.kicks[::-1] and integrator.drifts[:-1] == integrator.drifts[-2::-1]
        assert integrator.drifts[-1] == 0, "symmetric: a kick at both ends"


@pytest.mark.parametrize("integrator", SPLITTING)
def test_the_bounds_of_splitting_steps_are_attained(integrator: Splitting):
    """By q' = p, p' = q, exactly where no coefficient is negative; the others bound what they cannot attain."""
    h = 0.7
    claims = integrator.transfer(Claims([Lipschitz(1.0)]), h)
    m = jacobian(lambda x: integrator.step(Saddle(), x, h), torch.zeros(1, 2, dtype=torch.float64))  # pyright: ignore
    values = torch.linalg.svdvals(m)[0]
    upper, lower = claims.get(Lipschitz), claims.get(Expansive)
    assert upper is not None and lower is not None
    assert float(values[0]) <= upper.bound and float(values[1]) >= lower.bound
    if min(*integrator.kicks, *integrator.drifts) >= 0:
        assert float(values[0]) == pytest.approx(upper.bound, rel=1e-11)
        assert float(values[1]) == pytest.approx(lower.bound, rel=1e-11)


class Saddle:
    velocity = staticmethod(lambda p, t: p)
    force = staticmethod(lambda q, t: q)


@pytest.mark.parametrize("integrator", [p for p in RUNGE_KUTTA if min(p.values[0].b + sum(p.values[0].a, ())) >= 0])
def test_the_expansion_of_explicit_steps_is_attained_to_first_order(integrator):
    """x' = -x shrinks by 1 - h + h^2 / 2 - ..., the claim is 1 - h - O(h^2). (`Midpoint` and `Euler` attain it.)

    With a negative weight the bound is weaker, for a Lipschitz constant says nothing about differences of slopes.
    """
    x = torch.ones(1, 2, dtype=torch.float64)
    for h in (0.1, 0.05, 0.025):
        bound = integrator.transfer(Claims([Lipschitz(1.0)]), h).get(Expansive).bound
        shrunk = float(integrator.step(lambda x, t: -x, x, h)[0, 0])
        assert bound <= shrunk <= bound + 1.1 * h * h


def test_the_expansion_of_a_midpoint_step_is_attained():
    """By a field that turns round between the stages: x at the start, -x in the middle of the step."""
    h, x = 0.4, torch.ones(1, 2, dtype=torch.float64)
    bound = Midpoint().transfer(Claims([Lipschitz(1.0)]), h).get(Expansive).bound
    shrunk = Midpoint().step(lambda x, t: x if t == 0 else -x, x, h)  # pyright: ignore
    assert float(shrunk[0, 0]) == pytest.approx(bound, rel=1e-11)


@pytest.mark.parametrize("f", list(BlockShears.examples()), ids=["1-1-1", "2-1-2"])
def test_shear_splitting_keeps_the_volume_where_runge_kutta_does_not(f: BlockShears):
    f = f.double().requires_grad_(False)
    x = torch.randn(20, sum(f.blocks), dtype=torch.float64)
    h = 1 / f.claims().get(Lipschitz).bound
    logs = [
        torch.linalg.slogdet(jacobian(lambda v, g=g: g.step(f, v, h), x))[1].abs() for g in (ShearSplitting(), RK4())
    ]
    assert float(logs[0].max()) < 1e-13 and float(logs[1].max()) > 1e-6
    y = x
    for _ in range(20):
        y = ShearSplitting().step(f, y, h)
    for _ in range(20):
        y = ShearSplitting().step(f, y, -h)
    torch.testing.assert_close(y, x, rtol=1e-9, atol=1e-9)
