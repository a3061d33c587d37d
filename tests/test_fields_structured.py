"""Volume, mass, signs, norm, weights in time: each field has its property, and its neighbour has not."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from stablenets.core.claims import Claims
from stablenets.core.errors import InputError
from stablenets.core.properties import (
    Cocoercive,
    Dissipates,
    DivergenceFree,
    EnergyForm,
    FirstIntegral,
    Hamiltonian,
    Lipschitz,
    OneSidedLipschitz,
    Preserves,
    QuasiPositive,
    SymmetricJacobian,
    jacobian,
)
from stablenets.fields import (
    BlockShears,
    ConvexGradient,
    Coupling,
    Field,
    GradientField,
    LeakyReLU,
    MassAction,
    MassConserving,
    NormConserving,
    PiecewiseConstant,
    SeparableHamiltonian,
    Tanh,
    TwoLayerField,
)
from stablenets.fields.examples import large
from stablenets.fields.invariants import MASS, SQUARED_NORM
from stablenets.integrators import RK4, Euler, Integrator, Midpoint
from stablenets.layers import Chain, Flow
from stablenets.linear import Conv2d, Dense


def free(shape: tuple[int, ...]) -> TwoLayerField:
    """The unstructured neighbour: large weights, nothing but a Lipschitz bound."""
    make = (lambda: Dense(shape[0], 6)) if len(shape) == 1 else (lambda: Conv2d(shape[0], 3, 3, shape[1]))
    return exact(large(TwoLayerField(make(), make()), seed=5))  # pyright: ignore


def exact(f):
    return f.double().requires_grad_(False)


CASES = {
    "coupling": (DivergenceFree(), lambda: next(Coupling.examples())),
    "coupling, conv": (DivergenceFree(), lambda: list(Coupling.examples())[1]),
    "shears": (DivergenceFree(), lambda: large(BlockShears((1, 1, 2), 7))),
    "mass": (FirstIntegral(MASS), lambda: next(MassConserving.examples())),
    "mass, conv": (FirstIntegral(MASS), lambda: list(MassConserving.examples())[1]),
    "mass action": (FirstIntegral(MASS), lambda: large(MassAction(4, 9))),
    "signs": (QuasiPositive(), lambda: large(MassAction(4, 9))),
    "norm": (FirstIntegral(SQUARED_NORM), lambda: next(NormConserving.examples())),
    "norm, conv": (FirstIntegral(SQUARED_NORM), lambda: list(NormConserving.examples())[1]),
}


@pytest.mark.parametrize("claim, make", CASES.values(), ids=CASES)
def test_the_property_holds_and_the_unstructured_neighbour_lacks_it(claim, make):
    f = exact(make())
    x, y = 2 * torch.randn(2, 64, *f.state_shape, dtype=torch.float64)
    assert claim in f.claims()
    assert float(claim.violation(f, x, y).max()) <= 1e-12
    assert float(f(x).abs().max()) > 0.1
    neighbour = free(f.state_shape)
    assert claim not in neighbour.claims()
    assert float(claim.violation(neighbour, x, y).max()) > 1e-2
    assert float(claim.violation(lambda z: f(z) + 0.03 * neighbour(z), x, y).max()) > 1e-4, "not even nearly"


def test_none_has_more_than_it_claims():
    x, y = 2 * torch.randn(2, 64, 4, dtype=torch.float64)

    def lacks(f: Field, *claims) -> None:
        for claim in claims:
            assert claim not in f.claims()
            assert float(claim.violation(exact(f), x, y).max()) > 1e-2, (f, claim)

    lacks(next(Coupling.examples()), Hamiltonian(), FirstIntegral(SQUARED_NORM), SymmetricJacobian())
    lacks(large(BlockShears((1, 1, 2), 7)), Hamiltonian(), SymmetricJacobian())
    lacks(next(MassConserving.examples()), QuasiPositive(), DivergenceFree(), FirstIntegral(SQUARED_NORM))
    lacks(large(MassAction(4, 9)), DivergenceFree(), FirstIntegral(SQUARED_NORM))
    lacks(next(NormConserving.examples()), DivergenceFree(), FirstIntegral(MASS))


# --- volume -------------------------------------------------------------------------------------------------------


def test_no_block_drives_itself():
    f = exact(large(BlockShears((2, 1, 3), 7)))
    m = jacobian(f, torch.randn(10, 6, dtype=torch.float64))
    start = 0
    for n in f.blocks:
        assert float(m[:, start : start + n, start : start + n].abs().max()) == 0
        start += n
    assert float(m.abs().max()) > 0.1


def test_a_euler_step_does_not_keep_volume_and_moving_the_blocks_in_turn_does():
    f = exact(large(BlockShears((1, 1, 2), 7)))
    x = torch.randn(20, 4, dtype=torch.float64)

    def in_turn(z):
        parts = list(z.split(f.blocks, 1))
        for i in range(len(parts)):
            parts[i] = parts[i] + 0.3 * f.rate(i, tuple(parts[:i] + parts[i + 1 :]))
        return torch.cat(parts, 1)

    logdet = lambda step: float(torch.linalg.slogdet(jacobian(step, x)).logabsdet.abs().max())  # noqa: E731
    assert logdet(in_turn) <= 1e-13
    assert logdet(lambda z: z + 0.3 * f(z)) > 1e-2


# --- mass and signs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, floor", [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("make", [lambda: large(MassConserving(free((4,)))), lambda: large(MassAction(4, 9))])
def test_the_mass_over_a_thousand_layers(make, dtype: torch.dtype, floor: float):
    f = make().to(dtype).requires_grad_(False)
    x = torch.rand(20, 4).to(dtype)
    x = x / x.sum(1, keepdim=True)
    for _ in range(1000):
        x = Euler().step(f, x, 0.01)
    assert float((x.double().sum(1) - 1).abs().max()) <= floor * 10
    assert float(x.std(0).max()) < 10


def test_the_matrix_of_mass_action_is_a_generator():
    f = exact(large(MassAction(4, 9)))
    a = f.matrix(torch.randn(50, 4, dtype=torch.float64))
    off = a - torch.diag_embed(a.diagonal(dim1=1, dim2=2))
    assert float(off.min()) >= 0 and float(off.max()) > 0.5
    assert float(a.sum(1).abs().max()) <= 1e-14


def test_sir_is_a_mass_action_field():
    """x' = A(x) x with rates 2 I from S to I and 0.5 from I to R: what the network of rates has to learn."""
    x = torch.rand(10, 3, dtype=torch.float64)
    s, i, _ = x.unbind(1)
    rates = torch.zeros(10, 3, 3, dtype=torch.float64)
    rates[:, 1, 0], rates[:, 2, 1] = 2 * i, 0.5
    a = rates - torch.diag_embed(rates.sum(1))
    expected = torch.stack([-2 * s * i, 2 * s * i - 0.5 * i, 0.5 * i], 1)
    torch.testing.assert_close((a @ x[:, :, None]).squeeze(2), expected)


# --- norm ---------------------------------------------------------------------------------------------------------


def test_the_skew_part_is_skew_and_the_gates_matter():
    f = exact(large(NormConserving(Dense(4, 6), Dense(4, 6), gate=Dense(4, 6))))
    x = torch.randn(10, 4, dtype=torch.float64)
    s = torch.stack([f.skew(x, e.expand_as(x)) for e in torch.eye(4, dtype=torch.float64)], 2)
    torch.testing.assert_close(s, -s.mT, rtol=0, atol=1e-14)
    assert float((s[0] - s[1]).abs().max()) > 0.1, "it depends on the state"
    torch.testing.assert_close((s @ x[:, :, None]).squeeze(2), f(x))
    u, v = f.left.matrix(), f.right.matrix()
    d = torch.tanh(f.gate(x) + f.bias)
    torch.testing.assert_close(s, torch.einsum("bk,ki,kj->bij", d, u, v) - torch.einsum("bk,ki,kj->bij", d, v, u))


def test_fields_that_share_an_invariant_compose():
    """The invariant is one object: a chain of different mass-conserving fields keeps the mass."""
    fields = [next(MassConserving.examples()), large(MassAction(4, 5))]
    chain = exact(Chain(*(Flow(f, Euler(), h=0.1) for f in fields)).eval())
    assert Preserves(MASS) in chain.claims()
    x = torch.rand(10, 4, dtype=torch.float64)
    assert float(Preserves(MASS).violation(chain, x, x).max()) <= 1e-14


# --- weights in time ----------------------------------------------------------------------------------------------


def scheduled() -> PiecewiseConstant:
    fields = [TwoLayerField(Dense(3, 4), Dense(3, 4)) for _ in range(4)]
    return exact(large(PiecewiseConstant(*fields, interval=0.1)))


def test_the_weights_change_at_the_ends_of_the_intervals():
    f, x = scheduled(), torch.randn(5, 3, dtype=torch.float64)
    times = {-1.0: 0, 0.0: 0, 0.0999: 0, 0.1: 1, 0.1 + 0.2: 3, 0.7 - 0.4: 3, 0.3 - 1e-12: 3, 0.29: 2, 0.4: 3, 9.0: 3}
    for t, k in times.items():
        assert f.at(t) == k, t
        assert torch.equal(f(x, t), f.fields[k](x))


def test_a_schedule_takes_one_time_for_all_samples():
    f, x = scheduled(), torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(f(x, torch.tensor(0.15)), f(x, 0.15))
    with pytest.raises(InputError, match=r"time for every sample.*joint=True"):
        f(x, torch.tensor([[0.0], [0.15]]))


def test_euler_steps_are_the_lecture_s_residual_network():
    f, x = scheduled(), torch.randn(5, 3, dtype=torch.float64)
    expected = x
    for part in f.fields:
        b, a = part.outer.weight, part.inner.weight
        expected = expected + 0.1 * torch.tanh(expected @ a.mT + part.bias) @ b
    torch.testing.assert_close(Flow(f, Euler(), h=0.1, steps=4)(x), expected)


def test_methods_without_a_stage_at_the_end_keep_their_order():
    """RK4 evaluates its last stage at the end of the step, where the weights have changed: it falls to order 1."""
    f, x = scheduled(), torch.randn(20, 3, dtype=torch.float64)

    def after(method: Integrator, n: int, *, inside: bool = False) -> torch.Tensor:
        z = x
        for k, i in itertools.product(range(4), range(n)):
            h = 0.1 / n
            z = method.step(f.fields[k] if inside else f, z, h, k * 0.1 + i * h)
        return z

    def order(method: Integrator) -> float:
        errors = [float((after(method, n) - reference).norm()) for n in (8, 16)]
        return math.log2(errors[0] / errors[1])

    reference = after(RK4(), 64, inside=True)
    assert order(Midpoint()) == pytest.approx(2, abs=0.1)
    assert order(RK4()) == pytest.approx(1, abs=0.1)


def test_a_schedule_claims_what_all_its_fields_have_with_the_weakest_constants():
    parts = [exact(large(ConvexGradient(Dense(4, 6), Tanh()), c)) for c in (1.0, 3.0)]
    f = PiecewiseConstant(*parts, interval=1.0)
    weaker = parts[1].claims()
    assert f.claims().get(Cocoercive) == weaker.get(Cocoercive)
    assert f.claims().get(Lipschitz) == weaker.get(Lipschitz)
    mixed = PiecewiseConstant(parts[0], free((4,)), interval=1.0)
    assert [type(c) for c in mixed.claims()] == [Lipschitz]
    assert float(OneSidedLipschitz(0.0).violation(lambda x: mixed(x, 1.5), *torch.randn(2, 64, 4).double()).max()) > 0.1
    masses = [next(MassConserving.examples()), large(MassAction(4, 5))]
    assert FirstIntegral(MASS) in PiecewiseConstant(*masses, interval=1.0).claims()
    assert PiecewiseConstant(free((4,)), interval=1.0).claims() != Claims()


@pytest.mark.parametrize("kind", [GradientField, SeparableHamiltonian])
def test_a_schedule_of_fields_with_different_energies_claims_none_of_them(kind):
    parts = [exact(large(next(kind.examples()), size)) for size in (1.0, 2.0)]
    f, x = PiecewiseConstant(*parts, interval=1.0), torch.randn(64, 4, dtype=torch.float64)
    assert not [c for c in f.claims() if isinstance(c, (EnergyForm, Dissipates, FirstIntegral))]
    (form,) = [c for c in parts[0].claims() if isinstance(c, EnergyForm)]
    assert float(form.violation(lambda z: f(z, 1.5), x, x).max().detach()) > 0.1  # it would be false
    assert form in PiecewiseConstant(parts[0], parts[0], interval=1.0).claims()


# --- the free branch ----------------------------------------------------------------------------------------------


def test_the_bound_of_two_layers_is_attained():
    a = Dense(4, 6)
    f = exact(TwoLayerField(a, a, LeakyReLU(1.0)))  # x' = A^T A x
    a.weight.normal_()
    v = torch.linalg.svd(a.matrix()).Vh[:1]
    stated = f.claims().get(Lipschitz)
    assert float(stated.violation(f, v, 0 * v).max()) <= 1e-9
    assert float(Lipschitz(0.999 * stated.bound).violation(f, v, 0 * v).max()) > 1e-4


@pytest.mark.parametrize("make", [
    lambda: TwoLayerField(Dense(3, 4), Dense(3, 5)),
    lambda: Coupling(TwoLayerField(Dense(3, 4), Dense(3, 4)), TwoLayerField(Dense(2, 4), Dense(2, 4))),
    lambda: BlockShears((3,), 4),
    lambda: BlockShears((2, 0), 4),
    lambda: MassAction(1, 4),
    lambda: NormConserving(Dense(3, 4), Dense(3, 4), gate=Dense(3, 5)),
    lambda: PiecewiseConstant(interval=1.0),
    lambda: PiecewiseConstant(free((4,)), interval=0.0),
    lambda: PiecewiseConstant(free((4,)), free((3,)), interval=1.0),
])  # fmt: skip
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(InputError, match="needed"):
        make()
