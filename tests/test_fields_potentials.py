"""Potentials: their gradients, their convexity, their smoothness; and which gradient networks are gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablenets.core.errors import InputError
from stablenets.core.properties import (
    Cocoercive,
    Dissipates,
    FirstIntegral,
    Hamiltonian,
    Invariant,
    Lipschitz,
    OneSidedLipschitz,
    SymmetricJacobian,
    gradient,
    jacobian,
    spectral,
)
from stablenets.fields import (
    ConvexPotential,
    DeepPotential,
    GeneralHamiltonian,
    GradientField,
    LeakyReLU,
    PairedPotential,
    PortHamiltonian,
    Potential,
    PotentialSum,
    Ramp,
    ReLU,
    RidgePotential,
    SeparableHamiltonian,
    Sigmoid,
    Tanh,
)
from stablenets.fields.base import estimate
from stablenets.fields.examples import large
from stablenets.integrators import StormerVerlet
from stablenets.layers import Flow
from stablenets.linear import Conv2d, Dense
from stablenets.testing import falsify


def states(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64)


EXAMPLES = [
    pytest.param(v.double().requires_grad_(False), id=f"{name}-{i}")
    for name, kind in sorted(Potential.registry.items())
    for i, v in enumerate(kind.examples())
]


@pytest.mark.parametrize("v", EXAMPLES)
def test_gradients_against_finite_differences(v: Potential):
    x = states(6, *(v.state_shape or (4,)))
    d, h = torch.randn_like(x), 1e-6
    slope = (v(x + h * d) - v(x - h * d)) / (2 * h)
    torch.testing.assert_close((v.gradient(x) * d).flatten(1).sum(1), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("v", EXAMPLES)
def test_gradients_pass_transforms_and_train(v: Potential):
    """jacrev and vmap through the gradient, and its derivatives in the parameters."""
    x = states(3, *(v.state_shape or (4,)))
    hessian = jacobian(v.gradient, x)
    assert float((hessian - hessian.mT).abs().max()) <= 1e-12 * float(hessian.abs().max())
    v.requires_grad_(True)
    v.gradient(x).square().sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in v.parameters())
    assert sum(float(p.grad.abs().sum()) for p in v.parameters() if p.grad is not None) > 0
    v.zero_grad()
    v.requires_grad_(False)


# --- convexity ----------------------------------------------------------------------------------------------------


def convex(seed: int = 0, **how) -> ConvexPotential:
    v = ConvexPotential(3, (9, 7, 5), convexity=0.05, equilibrium=(0.7, -1.3, 2.1), **how)
    return large(v, 3.0, seed=seed).double().requires_grad_(False)


@pytest.mark.parametrize("activation", [Ramp(), Ramp(0.01), ReLU()], ids=["ramp", "steep", "relu"])
@pytest.mark.parametrize("seed", range(3))
def test_convex_potentials_are_convex_with_their_minimum_at_the_equilibrium(seed: int, activation):
    v = convex(seed, activation=activation)
    x, y = v.centre + states(2, 2000, 3, scale=3.0)
    s = torch.rand(2000, dtype=torch.float64)
    chord = (1 - s) * v(x) + s * v(y) - 0.05 / 2 * s * (1 - s) * (x - y).square().sum(1)
    assert bool((v((1 - s)[:, None] * x + s[:, None] * y) <= chord * (1 + 1e-12)).all())
    assert bool((v(x) >= 0.05 / 2 * (x - v.centre).square().sum(1) * (1 - 1e-12)).all())
    at = v.centre[None]
    assert float(v(at)) == 0 and float(v.gradient(at).abs().max()) == 0
    assert bool((v.gradient(x).norm(dim=1) >= 0.05 * (x - v.centre).norm(dim=1) * (1 - 1e-12)).all())


def test_more_convexity_than_claimed_is_refuted_and_free_signs_are_not_convex():
    f = GradientField(convex())
    x, y = f.potential.centre + states(2, 500, 3, scale=0.01)  # pyright: ignore
    assert float(OneSidedLipschitz(-0.05).violation(f, x, y).max()) <= 1e-12
    assert float(OneSidedLipschitz(-0.051).violation(f, x, y).max()) > 1e-4
    free = GradientField(large(DeepPotential(3, (9, 7)))).double().requires_grad_(False)
    assert free.claims().get(OneSidedLipschitz) is None and free.claims().get(Cocoercive) is None
    assert float(OneSidedLipschitz(0.0).violation(free, *states(2, 500, 3)).max()) > 0.1


@pytest.mark.parametrize("distance", [1e-2, 1e-8, 1e-60, 1e-140])
def test_convex_potentials_lose_no_digits_near_the_equilibrium(distance: float):
    """Without biases one layer is quadratic near x* = 0: V(t x) / t^2 does not depend on t."""
    v = large(ConvexPotential(3, (9,), convexity=0.05), 0.3).double().requires_grad_(False)
    v.biases[0].zero_()
    x = 1e-2 * states(50, 3)
    torch.testing.assert_close(v(distance * x) / distance**2, v(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(v.gradient(distance * x) / distance, v.gradient(x), rtol=1e-10, atol=0)
    assert bool((v(x) > 0.05 / 2 * x.square().sum(1) * 1.01).all())


# --- smoothness ---------------------------------------------------------------------------------------------------


def test_the_smoothness_of_a_single_layer_is_attained():
    dense = Dense(4, 3)
    ridge = RidgePotential(dense, LeakyReLU(1.0)).double().requires_grad_(False)  # V is quadratic
    ridge.outer.fill_(-2.0)
    dense.weight.normal_()
    hessian = jacobian(ridge.gradient, states(1, 4))
    assert float(spectral(hessian)) == pytest.approx(ridge.smoothness(), rel=1e-9)
    layered = DeepPotential(4, (3,), Tanh()).double().requires_grad_(False)
    layered.biases[0].zero_()  # every slope of tanh is 1 at the origin
    hessian = jacobian(layered.gradient, torch.zeros(1, 4, dtype=torch.float64))
    layered.outer.abs_()
    hessian = jacobian(layered.gradient, torch.zeros(1, 4, dtype=torch.float64))
    assert float(spectral(hessian)) == pytest.approx(layered.smoothness(), rel=1e-9)


@pytest.mark.parametrize("make", [
    lambda: DeepPotential(3, (4, 3), Tanh()),
    lambda: DeepPotential(3, (4, 3, 2), Sigmoid()),
    lambda: ConvexPotential(3, (4, 3), activation=Ramp(0.5)),
], ids=["deep", "three layers", "convex"])  # fmt: skip
@pytest.mark.parametrize("seed", range(3))
def test_the_smoothness_of_several_layers_is_a_bound(make, seed: int):
    v = large(make(), 3.0, seed=seed).double().requires_grad_(False)
    largest = float(spectral(jacobian(v.gradient, states(4000, 3, scale=0.5))).max())
    assert largest <= v.smoothness() <= 1e4 * largest
    for attempt in falsify(GradientField(v), [Lipschitz(v.smoothness())], (3,), steps=20):
        assert not attempt.refuted, str(attempt)


def test_what_is_known_of_a_sum_is_the_sum_of_what_is_known_of_its_parts():
    """Quadratic parts with one matrix, whose Hessians, and multiples of x, whose convexities, add up exactly."""
    weight = states(3, 4)
    ridges = [RidgePotential(Dense(4, 3), LeakyReLU(1.0)).double().requires_grad_(False) for _ in range(2)]
    for ridge, outer in zip(ridges, (-2.0, -0.5), strict=True):
        ridge.linear.weight.copy_(weight)  # pyright: ignore[reportCallIssue]
        ridge.outer.fill_(outer)
    v = PotentialSum(*ridges)
    assert float(spectral(jacobian(v.gradient, states(1, 4)))) == pytest.approx(v.smoothness(), rel=1e-9)
    assert v.smoothness() >= sum(ridge.smoothness() for ridge in ridges)
    assert v.convexity is None and PotentialSum(convex()).convexity == pytest.approx(0.05)
    flat = [ConvexPotential(3, (4,), convexity=m, equilibrium=(0.7, -1.3, 2.1)) for m in (0.1, 0.2)]
    both = PotentialSum(*flat).double().requires_grad_(False)
    for part in flat:  # the gradient is convexity * (x - x*) up to where the layers begin
        part.biases[0].fill_(-50.0)
    assert both.convexity is not None and both.convexity <= 0.1 + 0.2 and both.convexity == pytest.approx(0.3)
    x, y = states(2, 100, 3)
    f = GradientField(both)
    for attempt in falsify(f, f.claims(), (3,), steps=20):
        assert not attempt.refuted, str(attempt)
    assert float(OneSidedLipschitz(-both.convexity * (1 + 1e-6)).violation(f, x, y).min()) > 0
    assert PotentialSum(convex(), RidgePotential(Dense(3, 2))).convexity is None


@pytest.mark.parametrize("parts", [(), (RidgePotential(Dense(3, 2)), RidgePotential(Dense(2, 3)))])
def test_sums_of_nothing_and_over_different_spaces_are_refused(parts):
    with pytest.raises(InputError, match="states of one shape"):
        PotentialSum(*parts)


def test_unbounded_activations_have_no_smoothness_in_depth():
    v = DeepPotential(3, (4, 3), ReLU())
    assert v.smoothness() == float("inf")
    assert GradientField(v).claims().get(Lipschitz) is None
    assert GeneralHamiltonian(DeepPotential(4, (4, 3), ReLU())).claims().get(Lipschitz) is None


# --- gradient networks --------------------------------------------------------------------------------------------


def test_the_lecture_s_minus_sign_gives_no_gradient():
    """N - (dN)^T x has a skew Jacobian where N is linear; N + (dN)^T x is the gradient of <x, N(x)>."""
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4)).double().requires_grad_(False)
    paired = GradientField(PairedPotential(net))

    def printed(x):
        return net(x) - (jacobian(net, x).mT @ x[:, :, None]).squeeze(2)

    x = states(20, 4)
    assert float(SymmetricJacobian().violation(paired, x, x).max()) <= 1e-12
    assert float(SymmetricJacobian().violation(printed, x, x).min()) > 0.1
    linear = nn.Linear(4, 4, bias=False).double().requires_grad_(False)
    m = jacobian(lambda x: linear(x) - (jacobian(linear, x).mT @ x[:, :, None]).squeeze(2), x)
    torch.testing.assert_close(m, -m.mT)


def test_a_field_next_to_a_gradient_is_not_one():
    f = GradientField(large(DeepPotential(4, (5, 3)))).double().requires_grad_(False)
    turn = torch.zeros(4, 4, dtype=torch.float64)
    turn[0, 1], turn[1, 0] = 0.01, -0.01
    x = states(50, 4)
    claim = f.claims().get(Dissipates)
    assert float(SymmetricJacobian().violation(f, x, x).max()) <= 1e-12
    assert float(SymmetricJacobian().violation(lambda x: f(x) + x @ turn, x, x).max()) > 1e-4
    assert float(claim.violation(lambda x: -f(x), x, x).max()) > 0.9, "up the gradient V rises"


def test_gradient_fields_are_the_lecture_s_hamiltonian_layers():
    """q' = A^T diag(u) sigma(A p + a), p' = -B^T diag(v) sigma(B q + b)."""
    kinetic, potential = large(RidgePotential(Dense(2, 5))), large(RidgePotential(Dense(2, 4)), seed=1)
    f = SeparableHamiltonian(GradientField(kinetic), GradientField(potential)).double().requires_grad_(False)
    q, p = states(2, 7, 2)
    force = torch.cat([q, p], 1)
    expected = [
        (part.outer * torch.tanh(z @ part.linear.weight.mT + part.bias)) @ part.linear.weight
        for part, z in ((kinetic, p), (potential, q))
    ]
    torch.testing.assert_close(f(force), torch.cat([expected[0], -expected[1]], 1))
    torch.testing.assert_close(f.energy_gradient(force), gradient(f.energy, force))
    assert f.claims(estimate).get(Lipschitz) is not None


# --- energies -----------------------------------------------------------------------------------------------------


def test_a_general_hamiltonian_does_not_split():
    f = GeneralHamiltonian(large(DeepPotential(4, (5, 3)))).double().requires_grad_(False)
    x = states(20, 4)
    q_by_q = jacobian(f, x)[:, :2, :2]
    assert float(q_by_q.abs().max()) > 0.1
    with pytest.raises(TypeError, match="SplitField"):
        Flow(f, StormerVerlet(), h=0.1)
    with pytest.raises(InputError, match="momenta"):
        GeneralHamiltonian(DeepPotential(3, (5,)))


def test_port_hamiltonian_fields_dissipate_and_keep_nothing_else():
    f = large(PortHamiltonian(DeepPotential(4, (6, 5)), rank=2)).double().requires_grad_(False)
    x = states(200, 4)
    energy = Invariant("energy", f.energy)
    assert float(Dissipates(energy).violation(f, x, x).max()) <= 1e-12
    assert float(FirstIntegral(energy).violation(f, x, x).max()) > 0.1
    assert FirstIntegral(energy) not in f.claims() and f.claims().get(Hamiltonian) is None
    assert float(Dissipates(energy).violation(lambda x: -f(x), x, x).max()) > 0.1
    still = large(PortHamiltonian(DeepPotential(4, (6, 5)), rank=0)).double().requires_grad_(False)
    assert still.claims().get(FirstIntegral) == FirstIntegral(Invariant("energy", still.energy))


@pytest.mark.parametrize("make", [
    lambda: PortHamiltonian(DeepPotential(4, (6,)), rank=5),
    lambda: PortHamiltonian(RidgePotential(Conv2d(1, 2, 3, 3)), rank=1),
    lambda: DeepPotential(4, ()),
    lambda: SeparableHamiltonian(*(GradientField(PairedPotential(nn.Linear(2, 2))) for _ in range(2))),
])  # fmt: skip
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(InputError, match="needed"):
        make()
