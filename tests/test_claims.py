"""Every claim of every registered field, and of every step that a registered integrator takes along it, is attacked.

Then the other two directions: where the theory says that a property is lost, it really is (counter-tests), and where a
claim holds, hardly more could be claimed (sharpness). A claim that is too strong fails the first kind of test, one
that is too weak the last.
"""

from __future__ import annotations

import copy
import math
from abc import ABC

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import everything  # noqa: F401  fills the registries
from stablenets.core.claims import Claims
from stablenets.core.errors import ConvergenceError
from stablenets.core.properties import (
    Averaged,
    Cocoercive,
    Expansive,
    FirstIntegral,
    Invariant,
    Isometry,
    Lipschitz,
    OneSidedLipschitz,
    Preserves,
    Symplectic,
    VolumePreserving,
    jacobian,
    spectral,
)
from stablenets.fields import (
    Activation,
    ConstrainedField,
    ConvexGradient,
    Field,
    LeakyReLU,
    SeparableHamiltonian,
    Softplus,
    Tanh,
)
from stablenets.integrators import RK4, SSPRK3, Euler, Heun, Integrator, Midpoint, StormerVerlet, SymplecticEuler
from stablenets.layers import Chain, Flow, Lift
from stablenets.linear import Conv2d, Dense
from stablenets.systems import HarmonicOscillator
from stablenets.testing import falsify
from stablenets.testing.falsify import pairs
from stablenets.testing.steps import MULTIPLES, must_solve, one_step, step_sizes

# --- what is registered -------------------------------------------------------------------------------------------


def _examples() -> list[tuple[str, Field]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return [(f"{n}-{i}", f) for n, c in sorted(Field.registry.items()) for i, f in enumerate(c.examples())]


FIELDS = _examples()
INTEGRATORS = [(n, g) for n, c in sorted(Integrator.registry.items()) for g in c.examples()]
PAIRS = [
    pytest.param(f, g, id=f"{fn}-{gn}")
    for fn, f in FIELDS
    for gn, g in INTEGRATORS
    if isinstance(f, g.needs) and (fn.endswith("-0") or not g.solves)  # equations take long
]
SYMPLECTIC = ("GeneralHamiltonian", "SeparableHamiltonian", "HarmonicOscillator")
RUNGE_KUTTA = [Euler(), Midpoint(), Heun(), SSPRK3(), RK4()]


def exact(f: Field) -> Field:
    return copy.deepcopy(f).double().eval().requires_grad_(False)


def shape(f: Field) -> tuple[int, ...]:
    return f.state_shape or (4,)


def survives(f, claims: Claims, shape: tuple[int, ...], **how) -> None:
    for attempt in falsify(f, claims, shape, **how):
        assert not attempt.refuted, str(attempt)


def test_the_registries_are_not_empty():
    assert {"ConvexGradient", "SeparableHamiltonian", "FreeField", "HarmonicOscillator"} <= set(Field.registry)
    assert {"Euler", "Midpoint", "Heun", "SSPRK3", "RK4", "SymplecticEuler", "StormerVerlet"} <= set(
        Integrator.registry
    )
    assert len(PAIRS) > 50


# --- every claim --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [pytest.param(f, id=n) for n, f in FIELDS])
def test_fields(f: Field):
    f = exact(f)
    survives(f, f.claims(), shape(f), seed=1)


@pytest.mark.parametrize("f", [pytest.param(f, id=n) for n, f in FIELDS if "-5" not in n])
def test_fields_in_float32(f: Field):
    """Without the saturated example, whose biases of 1e4 leave no digits of a difference."""
    f = copy.deepcopy(f).float().requires_grad_(False)
    survives(f, f.claims(), shape(f), seed=2, steps=0, dtype=torch.float32)


@pytest.mark.parametrize("f", [pytest.param(f, id=n) for n, f in FIELDS if f.linear_maps()])
@pytest.mark.parametrize("seed", [3, 4])
def test_fields_with_other_large_weights(f: Field, seed: int):
    g = torch.Generator().manual_seed(seed)
    f = exact(f)
    for p in f.parameters():
        p.copy_(torch.randn(p.shape, generator=g, dtype=p.dtype) * (2.0 if seed == 3 else 0.1))
    survives(f, f.claims(), shape(f), seed=seed, steps=2)


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("f, integrator", PAIRS)
def test_steps(f: Field, integrator: Integrator, multiple: float):
    f = exact(f)
    h = step_sizes(integrator, f)[MULTIPLES.index(multiple)]
    claims = integrator.transfer(f.claims(), h)
    try:
        survives(one_step(integrator, f, h, t=0.4), claims, shape(f), seed=5, count=6, steps=0)
    except ConvergenceError:  # claims are about the states at which a step returns
        assert not must_solve(integrator, f.claims(), h)


@pytest.mark.parametrize("f, integrator", [p for p in PAIRS if "-5" not in str(p.id)])
def test_steps_in_float32(f: Field, integrator: Integrator):
    f = copy.deepcopy(f).float().requires_grad_(False)
    h = step_sizes(integrator, f)[1]
    claims = integrator.transfer(f.claims(), h)
    survives(one_step(integrator, f, h), claims, shape(f), seed=6, count=6, steps=0, dtype=torch.float32)


@pytest.mark.parametrize("f, integrator", [p for p in PAIRS if "FreeField" not in str(p.id)])
def test_the_examples_are_far_from_the_identity(f: Field, integrator: Integrator):
    """Near the identity every claim is nearly true: the examples must not be there."""
    f = exact(f)
    step = one_step(integrator, f, step_sizes(integrator, f)[1])
    x, _ = pairs(shape(f), seed=0, count=4)
    m = jacobian(step, f.nearest(x) if isinstance(f, ConstrainedField) else x)
    assert float(spectral(m - torch.eye(m.shape[1], dtype=m.dtype)).max()) > 0.1


# --- compositions -------------------------------------------------------------------------------------------------


def _gradient_flows(*sizes: int) -> list[Flow]:
    flows = []
    for i, (width, sigma) in enumerate(zip(sizes, (Tanh(), Softplus(), Tanh()), strict=False)):
        f = ConvexGradient(Dense(4, width), sigma)
        nn.init.normal_(f.linear.weight)
        flows.append(Flow(f, Euler(), h=(0.3 + 0.5 * i) / f.claims().get(Cocoercive).beta ** -1, steps=i + 1))
    return flows


@pytest.mark.parametrize("f, integrator", [p for p in PAIRS if str(p.id).split("-")[1] == "0"])
def test_several_steps(f: Field, integrator: Integrator):
    f = exact(f)
    flow = Flow(f, integrator, h=step_sizes(integrator, f)[1], steps=3).double().eval()
    survives(flow, flow.claims(), shape(f), seed=8, count=6, steps=2)


def test_chains_of_gradient_flows_are_averaged():
    chain = Chain(*_gradient_flows(5, 3, 8)).double().eval()
    assert chain.claims().get(Averaged) is not None
    survives(chain, chain.claims(), (4,), seed=9)


def test_chains_of_hamiltonian_flows_are_symplectic():
    chain = (
        Chain(
            *(
                Flow(f, g, h=0.4, steps=2)
                for f in SeparableHamiltonian.examples()
                if f.state_shape == (4,)
                for g in (StormerVerlet(), SymplecticEuler())
            )
        )
        .double()
        .eval()
    )
    assert chain.claims().get(Symplectic) == Symplectic()
    survives(chain, chain.claims(), (4,), seed=10, count=6, steps=1)


def test_a_lift_before_flows():
    chain = Chain(Lift(2, 4), *_gradient_flows(5, 3)).double().eval()
    claims = chain.claims()
    assert claims.get(Lipschitz) == Lipschitz(1.0)
    assert any(isinstance(lost.claim, Isometry) and "Flow" in lost.layer for lost in claims.lost)
    survives(chain, claims, (2,), seed=11)


def test_mixed_chains_keep_what_all_layers_have():
    gradient = Flow(next(ConvexGradient.examples()), Euler(), time=1.0)
    hamiltonian = Flow(next(SeparableHamiltonian.examples()), StormerVerlet(), h=0.3)
    chain = Chain(gradient, hamiltonian).double().eval()
    claims = chain.claims()
    assert claims.get(Symplectic) is None and claims.get(Averaged) is None
    assert claims.get(Lipschitz) is not None
    survives(chain, claims, (4,), seed=12)


# --- counter-tests: what is lost really is lost -------------------------------------------------------------------


def linear_field(width: int = 4) -> ConvexGradient:
    """f(x) = -A^T A x: all units active."""
    f = ConvexGradient(Dense(4, width), LeakyReLU(1.0)).double().requires_grad_(False)
    f.linear.weight.copy_(torch.randn(width, 4, dtype=torch.float64))
    return f


def top(f: ConvexGradient) -> tuple[Tensor, Tensor]:
    """Two states that differ along the leading right singular vector."""
    v = torch.linalg.svd(f.linear.matrix()).Vh[0]
    return torch.zeros(1, 4, dtype=torch.float64), v[None]


def stretch(step, x: Tensor, y: Tensor) -> float:
    return float((step(x) - step(y)).norm() / (x - y).norm())


@pytest.mark.parametrize("integrator", [Euler(), Heun()], ids=repr)
def test_steps_beyond_the_limit_expand(integrator):
    f = linear_field()
    limit = integrator.step_limit(f.claims())
    inside, outside = (one_step(integrator, f, c * limit) for c in (0.999, 1.01))
    assert stretch(inside, *top(f)) <= 1
    assert stretch(outside, *top(f)) == pytest.approx(1.02, abs=1e-3)
    assert integrator.transfer(f.claims(), 1.01 * limit).get(Lipschitz).bound >= 1.02


@pytest.mark.parametrize("integrator", [SSPRK3(), RK4()], ids=repr)
def test_steps_far_beyond_the_limit_expand(integrator):
    f = linear_field()
    limit = integrator.step_limit(f.claims())
    assert stretch(one_step(integrator, f, 1.5 * limit), *top(f)) > 1.3


@pytest.mark.parametrize("f", [pytest.param(f, id=n) for n, f in FIELDS if n.startswith(SYMPLECTIC)])
@pytest.mark.parametrize("integrator", RUNGE_KUTTA, ids=repr)
def test_explicit_runge_kutta_is_not_symplectic(f: Field, integrator):
    f = exact(f)
    x = torch.randn(20, *shape(f), dtype=torch.float64)
    step = one_step(integrator, f, step_sizes(integrator, f)[1])
    claims = integrator.transfer(f.claims(), 0.5)
    assert claims.get(Symplectic) is None and claims.get(VolumePreserving) is None
    # where the Lipschitz constant is loose, the step is short: still a thousand million times what rounding leaves
    assert float(Symplectic().violation(step, x, x).max()) > 1e-7


def rotating(*eigenvalues: complex):
    """A time-dependent linear field on the complex plane: x' = lambda(t) x, one eigenvalue per stage time."""
    times = dict(eigenvalues)  # type: ignore[arg-type]

    def f(x: Tensor, t: float) -> Tensor:
        z = times[t]
        return x @ torch.tensor([[z.real, z.imag], [-z.imag, z.real]], dtype=x.dtype)

    return f


def check_cocoercive(f, times, beta: float) -> None:
    x, y = torch.randn(2, 16, 2, dtype=torch.float64)
    for t in times:
        assert float(Cocoercive(beta).violation(lambda z, t=t: f(z, t), x, y).max()) <= 1e-12


@pytest.mark.parametrize("fraction, factor", [(1.0, math.sqrt(2)), (0.3, 1.005)])
def test_midpoint_may_expand_on_a_cocoercive_field(fraction: float, factor: float):
    """However short the step: the midpoint rule has no circle of contractivity, and claims none."""
    beta = 0.5
    h = fraction * 2 * beta
    circle = lambda angle: -1 + complex(math.cos(angle), math.sin(angle))  # noqa: E731
    angles = np.linspace(0, 2 * np.pi, 721)
    worst = max(
        (abs(1 + fraction * circle(b) * (1 + fraction * circle(a) / 2)), a, b) for a in angles[::8] for b in angles
    )
    f = rotating((0.0, circle(worst[1])), (h / 2, circle(worst[2])))  # circle(...) has modulus <= 2 = 1 / beta
    check_cocoercive(f, (0.0, h / 2), beta)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert stretch(one_step(Midpoint(), f, h), x, 0 * x) >= factor - 1e-3
    claims = Midpoint().transfer(Claims([Cocoercive(beta)]), h)
    assert claims.get(Lipschitz).bound > 1 and Midpoint().step_limit(Claims([Cocoercive(beta)])) is None


def test_euler_on_the_oscillator_gains_energy_exactly():
    """Chapter, Example 3: E_n = E_0 (1 + h^2)^n."""
    f, x, h = HarmonicOscillator(), torch.tensor([[0.6, -0.8]], dtype=torch.float64), 0.1
    start = float(f.energy(x))
    for n in range(1, 201):
        x = Euler().step(f, x, h)
        assert float(f.energy(x)) == pytest.approx(start * (1 + h * h) ** n, rel=1e-12)


@pytest.mark.parametrize("name, integrator", INTEGRATORS, ids=[n for n, _ in INTEGRATORS])
def test_the_energy_is_claimed_only_where_it_is_kept(name: str, integrator: Integrator):
    """Explicit methods without a projection lose it; one that keeps it must claim it."""
    f = HarmonicOscillator(1.7)
    if not isinstance(f, integrator.needs):
        pytest.skip(f"{name} needs a {integrator.needs.__name__}")
    claim = Preserves(f.claims().get(FirstIntegral).invariant)
    x = torch.randn(10, 2, dtype=torch.float64)
    kept = float(claim.violation(one_step(integrator, f, 0.5), x, x).max()) < 1e-12
    assert kept == (claim in integrator.transfer(f.claims(), 0.5))
    assert not kept or name not in ("Euler", "Midpoint", "Heun", "SSPRK3", "RK4", "SymplecticEuler", "StormerVerlet")


def test_averagedness_is_lost_at_the_limit():
    f = linear_field()
    limit = Euler().step_limit(f.claims())
    assert Euler().transfer(f.claims(), 0.999 * limit).get(Averaged).alpha == pytest.approx(0.999)
    assert Euler().transfer(f.claims(), limit).get(Averaged) is None
    step = one_step(Euler(), f, limit)  # the factor along the leading vector is -1
    assert float(Averaged(0.999).violation(step, *top(f))) > 1e-3
    assert float(Lipschitz(1.0).violation(step, *top(f))) <= 1e-12


def test_cocoercivity_and_monotonicity_do_not_compose():
    a = torch.tensor([[2.0, 1.9], [1.9, 2.0]], dtype=torch.float64)
    b = torch.tensor([[3.0, 0.0], [0.0, 0.01]], dtype=torch.float64)
    f, g = (lambda x, m=m: -x @ m for m in (a, b))
    x, y = torch.randn(2, 200, 2, dtype=torch.float64)
    for one, size in ((f, 3.9), (g, 3.0)):
        assert float(Cocoercive(1 / size).violation(one, x, y).max()) <= 1e-12
    after = lambda x: -f(g(x))  # noqa: E731  the sign of a field
    assert float(OneSidedLipschitz(0.0).violation(after, x, y).max()) > 1e-2
    assert Cocoercive(1.0).after(Cocoercive(1.0)) is None
    assert OneSidedLipschitz(0.0).after(OneSidedLipschitz(0.0)) is None


def test_energies_of_different_systems_are_both_lost():
    one, two = HarmonicOscillator(1.0), HarmonicOscillator(1.7)
    kept = [Preserves(f.claims().get(FirstIntegral).invariant) for f in (one, two)]
    flows = [lambda x, f=f: f.solution(x, 1.0) for f in (one, two)]
    x = torch.randn(10, 2, dtype=torch.float64)
    for claim, flow in zip(kept, flows, strict=True):
        assert float(claim.violation(flow, x, x).max()) <= 1e-12
        assert float(claim.violation(lambda x: flows[1](flows[0](x)), x, x).max()) > 1e-2
    assert kept[1].after(kept[0]) is None, "both invariants are called energy, but they are not the same"
    assert kept[0].after(kept[0]) == kept[0]


def test_linear_invariants_are_kept_and_quadratic_ones_are_not():
    """x' = M x with M skew and with zero column sums keeps the mass and the norm."""
    m = torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=torch.float64)
    mass, size = Invariant("mass", lambda x: x.sum(1), 1), Invariant("size", lambda x: x.square().sum(1), 2)
    field = Claims([FirstIntegral(mass), FirstIntegral(size)])
    x = torch.randn(10, 3, dtype=torch.float64)
    for claim in field:
        assert float(claim.violation(lambda x: x @ m.T, x, x).max()) <= 1e-12
    for integrator in RUNGE_KUTTA:
        step = one_step(integrator, lambda x, t: x @ m.T, 0.7)  # type: ignore[arg-type]
        claims = integrator.transfer(field, 0.7)
        assert Preserves(mass) in claims and Preserves(size) not in claims
        assert float(Preserves(mass).violation(step, x, x).max()) <= 1e-12
        assert float(Preserves(size).violation(step, x, x).max()) > 1e-4


def test_nothing_follows_for_a_field_about_which_nothing_is_known():
    for _, integrator in INTEGRATORS:
        assert not integrator.transfer(Claims(), 0.1)
        assert integrator.step_limit(Claims()) is None


# --- sharpness: hardly more could be claimed ----------------------------------------------------------------------


@pytest.mark.parametrize("linear", [Dense(4, 6), Conv2d(2, 3, 3, 4), Conv2d(2, 2, 3, 4, "circular")], ids=repr)
def test_the_bounds_of_a_gradient_field_are_attained(linear):
    f = ConvexGradient(linear).double().requires_grad_(False)
    f.linear.weight.normal_()
    f.bias += 100
    v = torch.linalg.svd(f.linear.matrix()).Vh[0].reshape(1, *linear.input_shape)
    for claim, weaker in (
        (Lipschitz, lambda c: Lipschitz(0.999 * c.bound)),
        (Cocoercive, lambda c: Cocoercive(1.001 * c.beta)),
    ):
        stated = f.claims().get(claim)
        assert float(stated.violation(f, v, 0 * v)) <= 1e-9
        assert float(weaker(stated).violation(f, v, 0 * v)) > 1e-4, "a stronger claim would be true as well"


@pytest.mark.parametrize("slope", [0.3, 2.5])
def test_the_slope_of_the_activation_enters(slope: float):
    """All activations of the library have slopes of at most 1; a user's need not."""

    class Scaled(Activation, ABC):
        """slope * tanh z; ABC: not registered."""

        def __init__(self) -> None:
            super().__init__()
            self.slope = (0.0, slope)

        def forward(self, z: Tensor) -> Tensor:
            return slope * torch.tanh(z)

        def potential(self, z: Tensor) -> Tensor:
            return slope * Tanh().potential(z)

    f = ConvexGradient(Dense(4, 6), Scaled()).double().requires_grad_(False)
    f.linear.weight.normal_()
    survives(f, f.claims(), (4,), seed=13)
    x, v = top(f)
    assert float(Lipschitz(0.999 * f.claims().get(Lipschitz).bound).violation(f, x, 1e-3 * v)) > 1e-4
    step = one_step(Euler(), f, Euler().step_limit(f.claims()))
    survives(step, Euler().transfer(f.claims(), Euler().step_limit(f.claims())), (4,), seed=14)


def test_the_lipschitz_bound_of_hamiltonian_fields_is_attained():
    for f in (HarmonicOscillator(1.7), HarmonicOscillator(0.3)):
        x = torch.randn(4, 2, dtype=torch.float64)
        assert float(spectral(jacobian(f, x)).max()) == pytest.approx(f.claims().get(Lipschitz).bound)
    f = SeparableHamiltonian(linear_field(), ConvexGradient(Dense(4, 3)).double()).requires_grad_(False)
    x = torch.randn(4, 8, dtype=torch.float64)
    assert float(spectral(jacobian(f, x)).max()) == pytest.approx(f.claims().get(Lipschitz).bound)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_averagedness_of_an_euler_step_is_attained(fraction: float):
    f = linear_field()
    h = fraction * Euler().step_limit(f.claims())
    alpha = Euler().transfer(f.claims(), h).get(Averaged).alpha
    step = one_step(Euler(), f, h)
    assert float(Averaged(alpha).violation(step, *top(f))) <= 1e-9
    assert float(Averaged(0.99 * alpha).violation(step, *top(f))) > 1e-4


def test_the_expansion_of_an_euler_step_is_attained():
    f = linear_field()
    h = 0.3 * Euler().step_limit(f.claims())
    claim = Euler().transfer(f.claims(), h).get(Expansive)
    assert stretch(one_step(Euler(), f, h), *top(f)) == pytest.approx(claim.bound, rel=1e-9)


@pytest.mark.parametrize("integrator", RUNGE_KUTTA, ids=repr)
def test_the_general_lipschitz_bound_is_attained(integrator):
    """By x' = x, for every method with non-negative coefficients."""
    h = 0.7
    bound = integrator.transfer(Claims([Lipschitz(1.0)]), h).get(Lipschitz).bound
    x = torch.ones(1, 2, dtype=torch.float64)
    assert stretch(one_step(integrator, lambda x, t: x, h), x, 0 * x) == pytest.approx(bound, rel=1e-11)


def test_the_monotone_bound_of_euler_is_attained():
    """By a rotation: x' = J x is monotone and 1-Lipschitz, and a step stretches by sqrt(1 + h^2)."""
    h = 0.7
    bound = Euler().transfer(Claims([Lipschitz(1.0), OneSidedLipschitz(0.0)]), h).get(Lipschitz).bound
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert stretch(one_step(Euler(), HarmonicOscillator(), h), x, 0 * x) == pytest.approx(bound, rel=1e-11)


def test_the_bounds_of_symplectic_euler_are_attained():
    """By the saddle q' = p, p' = q, for which the two shears are transposes of each other."""

    class Saddle:
        velocity = staticmethod(lambda p, t: p)
        force = staticmethod(lambda q, t: q)

    claims = SymplecticEuler().transfer(Claims([Lipschitz(1.0)]), 0.7)
    values = torch.linalg.svdvals(jacobian(one_step(SymplecticEuler(), Saddle(), 0.7), torch.zeros(1, 2).double()))[0]
    assert float(values[0]) == pytest.approx(claims.get(Lipschitz).bound, rel=1e-11)
    assert float(values[1]) == pytest.approx(claims.get(Expansive).bound, rel=1e-11)


@pytest.mark.parametrize("a, b", [(0.5, 0.5), (0.2, 0.7), (0.9, 0.9)])
def test_the_composition_of_averaged_maps_is_attained(a: float, b: float):
    """By two rotations (1 - a) + a e^{i s}: a multiplication by c is alpha-averaged when |c - 1 + alpha| <= alpha."""
    stated = Averaged(a).after(Averaged(b)).alpha
    s = np.linspace(-np.pi, np.pi, 1441)
    c = ((1 - a) + a * np.exp(1j * s))[:, None] * ((1 - b) + b * np.exp(1j * s))[None]
    needed = np.abs(1 - c) ** 2 / (2 * (1 - c).real + 1e-30)
    needed = needed[(1 - c).real > 1e-9].max()
    assert 0.995 * stated <= needed <= stated * (1 + 1e-9)


def _run(integrator, values: list[complex]) -> complex:
    """One step from 1 when the field multiplies by values[i] (times h) at stage i."""
    k: list[complex] = []
    for row, value in zip(integrator.a, values, strict=True):
        k.append(value * (1 + sum(c * kj for c, kj in zip(row, k, strict=True))))
    return 1 + sum(c * kj for c, kj in zip(integrator.b, k, strict=True))


@pytest.mark.parametrize(
    "integrator, eigenvalues, factor",
    [(Euler(), (-2,), 1.02), (Heun(), (-2, -2), 1.02), (SSPRK3(), (-2, -2, 0), 1.0067)],
    ids=["Euler", "Heun", "SSPRK3"],
)
def test_the_contractivity_radius_is_attained(integrator, eigenvalues, factor):
    """One per cent beyond the limit, a time-dependent gradient field (beta = 1/2) makes the step expand."""
    h = 1.01 * integrator.step_limit(Claims([Cocoercive(0.5)]))
    field = rotating(*((h * sum(row), complex(z)) for row, z in zip(integrator.a, eigenvalues, strict=True)))
    check_cocoercive(field, [h * sum(row) for row in integrator.a], 0.5)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert stretch(one_step(integrator, field, h), x, 0 * x) == pytest.approx(factor, abs=2e-4)


def test_the_contractivity_radius_of_rk4_is_attained():
    """Ten per cent beyond the limit. The second and third stage of RK4 fall on the same time, so that their values
    must come from one cocoercive field: they satisfy its inequality pairwise, and by the Kirszbraun-Valentine theorem
    (Bauschke & Combettes, Thm 20.21 and Prop. 23.8) such values extend to a field on the whole space.
    """
    rho, angles = 1.1, (1.76276562, 0.24857176, 1.75142837, 0.23723413)
    values = [rho * (-1 + np.exp(1j * np.pi * a)) for a in angles]  # h times the eigenvalues; h = rho * limit
    assert abs(_run(RK4(), values)) == pytest.approx(1.0153765, abs=1e-6)
    beta, k, states = 1 / (2 * rho), [], []
    for row, value in zip(RK4().a, values, strict=True):
        states.append(1 + sum(c * kj for c, kj in zip(row, k, strict=True)))
        k.append(value * states[-1])
    pairs = [(x, f, 0, 0) for x, f in zip(states, k, strict=True)] + [(states[1], k[1], states[2], k[2])]
    for x, fx, y, fy in pairs:
        assert (np.conj(fx - fy) * (x - y)).real + beta * abs(fx - fy) ** 2 <= 1e-8
    inside = [z / 1.1 for z in values]
    assert abs(_run(RK4(), inside)) <= 1


def test_rk4_on_autonomous_linear_fields_is_better_than_its_radius():
    """Honest about what is not attained: on x' = -A x, A symmetric, RK4 contracts up to h = 2.785 / ||A||."""
    for z in np.linspace(-2.78, 0, 200):
        assert abs(_run(RK4(), [z] * 4)) <= 1
