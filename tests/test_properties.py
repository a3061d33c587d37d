"""The falsifiers: silent on what is true, loud on what is false. And the algebra of claims."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stablenets.core.claims import Claims, Property
from stablenets.core.properties import (
    Averaged,
    Cocoercive,
    Decreases,
    Dissipates,
    DivergenceFree,
    EnergyForm,
    Expansive,
    FirstIntegral,
    Hamiltonian,
    Invariant,
    Invertible,
    Isometry,
    Lipschitz,
    OneSidedLipschitz,
    Positive,
    Preserves,
    QuasiPositive,
    SymmetricJacobian,
    Symplectic,
    VolumePreserving,
    gradient,
    jacobian,
    symplectic_matrix,
)
from stablenets.core.regions import Bounded, Region, StaysIn, TangentTo, Within

ROTATION = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
SHEAR = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
J = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)
SWAP = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
RADIUS = Invariant("radius", lambda x: x.square().sum(1), 2)
SUM = Invariant("sum", lambda x: x.sum(1), 1)
CIRCLE = Region(
    "circle",
    lambda x: x.square().sum(1, keepdim=True) - 1,
    lambda x: x / x.norm(dim=1, keepdim=True),
)


def linear(m: Tensor):
    return lambda x: x @ m.T


def diagonal(*entries: float):
    return linear(torch.diag(torch.tensor(entries, dtype=torch.float64)))


def states(n: int = 64) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, n, 2, dtype=torch.float64)
    return x, y


def worst(claim: Property, f) -> float:
    return float(claim.violation(f, *states()).max())


# property, a map or field for which it is true (and tight where it has a value), one for which it is false
CASES = {
    "Lipschitz": (Lipschitz(2.0), diagonal(2, 1), diagonal(2.01, 1)),
    "Lipschitz, nonlinear": (Lipschitz(1.0), torch.sin, lambda x: torch.sin(1.2 * x)),
    "Lipschitz, constant": (Lipschitz(0.0), torch.zeros_like, lambda x: 1e-6 * x),
    "Averaged": (Averaged(0.25), diagonal(1, 0.5), diagonal(1, 0.45)),
    "Averaged, rotation": (Averaged(0.5), linear((EYE + ROTATION) / 2), linear(ROTATION)),
    "Expansive": (Expansive(0.5), diagonal(1, 0.5), diagonal(1, 0.49)),
    "Expansive, collapsing": (Expansive(0.1), diagonal(1, 0.1), torch.relu),
    "Isometry": (Isometry(), linear(ROTATION), linear(1.001 * ROTATION)),
    "Isometry, lift": (Isometry(), lambda x: torch.cat([x, 0 * x], 1), lambda x: torch.cat([x, 0.1 * x], 1)),
    "Symplectic": (Symplectic(), linear(SHEAR), diagonal(2, 0.6)),
    "Symplectic, nonlinear": (
        Symplectic(),
        lambda x: torch.stack([x[:, 0], x[:, 1] + torch.sin(x[:, 0])], 1),
        lambda x: torch.stack([x[:, 0], x[:, 1] * (1 + 0.1 * torch.sin(x[:, 0]))], 1),
    ),
    "VolumePreserving": (VolumePreserving(), diagonal(-2, 0.5), diagonal(2, 0.51)),
    "Invertible": (Invertible(), lambda x: x + 0.9 * torch.sin(x), lambda x: x - 1.5 * torch.sin(x)),
    "Invertible, collapsing": (Invertible(), diagonal(1, 1e-6), diagonal(0, 0)),
    "Preserves": (Preserves(RADIUS), linear(ROTATION), linear(SHEAR)),
    "Preserves, linear": (Preserves(SUM), linear(EYE + 0.3 * (J @ J + SWAP)), linear(SHEAR)),
    "Decreases": (Decreases(RADIUS), diagonal(1, 0.9), diagonal(1.001, 0.9)),
    "Decreases, factor": (Decreases(RADIUS, 0.5), linear(0.5**0.5 * ROTATION), linear(0.71 * ROTATION)),
    "Positive": (Positive(), linear(SHEAR), linear(SHEAR - SWAP)),
    "OneSidedLipschitz": (OneSidedLipschitz(0.5), linear(0.5 * EYE + 9 * J), linear(0.51 * EYE + 9 * J)),
    "OneSidedLipschitz, negative": (OneSidedLipschitz(-1.0), diagonal(-1, -4), diagonal(-0.99, -4)),
    "Cocoercive": (Cocoercive(0.25), diagonal(-4, -1), diagonal(-4.05, -1)),
    "Cocoercive, rotation": (Cocoercive(0.5), linear(J - EYE), linear(J - 0.9 * EYE)),
    "Hamiltonian": (Hamiltonian(), linear(J), linear(J - 0.01 * EYE)),
    "DivergenceFree": (DivergenceFree(), diagonal(1, -1), diagonal(1, -0.99)),
    "FirstIntegral": (FirstIntegral(RADIUS), linear(J), linear(J - 0.01 * EYE)),
    "SymmetricJacobian": (SymmetricJacobian(), linear(SWAP), linear(SWAP + 0.01 * J)),
    "QuasiPositive": (QuasiPositive(), linear(SWAP - 3 * EYE), linear(SHEAR - 1.1 * SWAP)),
    "Dissipates, rate": (Dissipates(RADIUS, 0.2), linear(J - 0.1 * EYE), linear(J - 0.09 * EYE)),
    "Dissipates": (Dissipates(RADIUS), linear(J - 0.01 * EYE), linear(J + 0.01 * EYE)),
    "EnergyForm, conserved": (EnergyForm(RADIUS, True), linear(J), linear(J - 0.01 * EYE)),
    "EnergyForm": (EnergyForm(RADIUS, False), linear(J - 0.01 * EYE), linear(J + 0.01 * EYE)),
    "Bounded": (Bounded(-1.0, 2.0), lambda x: (9 * x).clamp(-1.0, 2.0), lambda x: (9 * x).clamp(-1.0, 2.01)),
    "StaysIn": (StaysIn(CIRCLE), linear(ROTATION), linear(1.001 * ROTATION)),
    "TangentTo": (TangentTo(CIRCLE), linear(J), linear(J + 0.01 * EYE)),
    "Within": (Within(CIRCLE, FirstIntegral(RADIUS)), linear(J), linear(J - 0.01 * EYE)),
}


@pytest.mark.parametrize("claim, true, false", CASES.values(), ids=CASES)
def test_falsifiers(claim: Property, true, false):
    assert worst(claim, true) <= 1e-12
    assert worst(claim, false) > 1e-6


def test_every_property_has_a_case():
    assert {type(claim) for claim, _, _ in CASES.values()} == set(Property.__subclasses__())


@pytest.mark.parametrize("claim, true, false", CASES.values(), ids=CASES)
def test_violations_are_one_number_per_sample_without_a_dimension(claim: Property, true, false):
    x, y = states(5)
    assert claim.violation(true, x, y).shape == (5,)
    if "sin" in repr(false) or isinstance(claim, (Lipschitz, Symplectic, Invertible, Expansive, Bounded)):
        return  # nonlinear maps, or a derivative that is no difference
    torch.testing.assert_close(claim.violation(false, 1e3 * x, 1e3 * y), claim.violation(false, x, y))


def test_falsifiers_survive_saturated_and_constant_fields():
    """Where f is constant, f(x) - f(y) is nothing but rounding, and its direction is noise."""
    x, y = states()
    for claim in (OneSidedLipschitz(0.0), Cocoercive(1.0), Hamiltonian(), DivergenceFree()):
        saturated = claim.violation(lambda x: -1e3 * torch.tanh(x + 25) @ ROTATION @ ROTATION.T, x, y)
        assert float(saturated.max()) <= 1e-9, claim
        zero = claim.violation(torch.zeros_like, x.float(), y.float())
        assert float(zero.max()) == 0, claim  # not NaN, in float32 either


def test_an_expansive_map_does_not_lose_a_dimension():
    assert worst(Expansive(0.1), lambda x: x[:, :1]) > 0.1


def test_images_are_vectors():
    """States of any shape; phase-space states have q and p in the halves of dimension 1."""
    x, y = torch.randn(2, 4, 2, 3, 3, dtype=torch.float64)
    assert float(Isometry().violation(lambda x: x.flip(2), x, y).max()) <= 1e-12
    assert symplectic_matrix(x).shape == (18, 18)
    kick = lambda x: torch.cat([x[:, :1], x[:, 1:] + torch.sin(x[:, :1])], 1)  # noqa: E731
    assert float(Symplectic().violation(kick, x, y).max()) <= 1e-12
    assert float(Symplectic().violation(lambda x: kick(x).transpose(1, 1) * 1.01, x, y).max()) > 1e-3


def test_jacobian_against_finite_differences():
    f = lambda x: torch.stack([torch.sin(x[:, 0] * x[:, 1]), x[:, 0] ** 2, torch.exp(x[:, 1])], 1)  # noqa: E731
    x, _ = states(6)
    m = jacobian(f, x)
    assert m.shape == (6, 3, 2)
    for i in range(2):
        e = torch.zeros(2, dtype=torch.float64)
        e[i] = 1e-6
        torch.testing.assert_close(m[:, :, i], (f(x + e) - f(x - e)) / 2e-6, rtol=1e-7, atol=1e-8)


def test_gradient_is_per_sample():
    x, _ = states(5)
    torch.testing.assert_close(gradient(lambda x: x.pow(3).sum(1), x), 3 * x**2)


# --- the algebra --------------------------------------------------------------------------------------------------

ALL = [claim for claim, _, _ in CASES.values()]
CLOSED = {
    Lipschitz(2.0): Lipschitz(4.0),
    Expansive(0.5): Expansive(0.25),
    Isometry(): Isometry(),
    Symplectic(): Symplectic(),
    VolumePreserving(): VolumePreserving(),
    Invertible(): Invertible(),
    Preserves(RADIUS): Preserves(RADIUS),
    Decreases(RADIUS, 0.5): Decreases(RADIUS, 0.25),
    Positive(): Positive(),
    Averaged(0.5): Averaged(math.nextafter(2 / 3, 1)),  # rounded up
    StaysIn(CIRCLE): StaysIn(CIRCLE),
    Bounded(-1.0, 2.0): Bounded(-1.0, 2.0),
}


@pytest.mark.parametrize("claim", CLOSED, ids=repr)
def test_what_is_closed_under_composition(claim: Property):
    assert repr(claim.after(claim)) == repr(CLOSED[claim])


@pytest.mark.parametrize("a", ALL, ids=repr)
def test_nothing_else_follows(a: Property):
    for b in ALL:
        if isinstance(a, Bounded):  # values of the later map, whatever came first
            assert a.after(b) == a
        elif type(a) is type(b) and (type(a) in map(type, CLOSED)) and (not isinstance(a, Preserves) or a == b):
            assert a.after(b) is not None
        else:
            assert a.after(b) is None


def test_nothing_follows_by_default():
    class Smooth(Property):
        def violation(self, f, x, y):
            return x.new_zeros(len(x))

    try:
        assert Smooth().after(Smooth()) is None
        assert Smooth().implies() == ()
        assert not Smooth().stronger(Smooth())
    finally:
        del Smooth
        import gc

        gc.collect()  # Property.__subclasses__ holds it weakly


@pytest.mark.parametrize("a, b", [(0.2, 0.3), (0.5, 0.5), (0.9, 0.1), (0.999, 0.999)])
def test_composition_of_averaged_maps(a: float, b: float):
    """Symmetric, no smaller than either, below 1; the closed formula is a telescope: a/(1-a) adds up."""
    c = Averaged(a).after(Averaged(b)).alpha
    assert c == pytest.approx(Averaged(b).after(Averaged(a)).alpha)
    assert max(a, b) < c < 1
    assert c / (1 - c) == pytest.approx(a / (1 - a) + b / (1 - b))


def test_many_averaged_maps_never_reach_one():
    claim: Property = Averaged(0.9999999)
    for _ in range(100):
        claim = Averaged(0.9999999).after(claim) or Lipschitz(1.0)
        assert isinstance(claim, Lipschitz) or claim.alpha < 1
        if isinstance(claim, Lipschitz):
            break


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.5, 1.5, math.nan])
def test_alpha_lies_between_zero_and_one(alpha: float):
    with pytest.raises(ValueError, match="0 < alpha < 1"):
        Averaged(alpha)


def test_implications():
    assert Claims([Averaged(0.3)]).get(Lipschitz) == Lipschitz(1.0)
    assert set(Claims([Isometry()])) == {Isometry(), Lipschitz(1.0), Expansive(1.0)}
    assert Claims([Symplectic()]).get(VolumePreserving) == VolumePreserving()
    assert Claims([Hamiltonian()]).get(DivergenceFree) == DivergenceFree()
    assert set(Claims([Cocoercive(0.5)])) == {Cocoercive(0.5), Lipschitz(2.0), OneSidedLipschitz(0.0)}


@pytest.mark.parametrize(
    "strong, weak",
    [
        (Lipschitz(1.0), Lipschitz(2.0)),
        (Averaged(0.2), Averaged(0.3)),
        (Expansive(0.9), Expansive(0.1)),
        (OneSidedLipschitz(-1.0), OneSidedLipschitz(0.0)),
        (Cocoercive(2.0), Cocoercive(1.0)),
    ],
    ids=repr,
)
def test_the_strongest_of_a_kind_is_kept(strong: Property, weak: Property):
    assert strong.stronger(weak) and not weak.stronger(strong) and not strong.stronger(strong)
    for both in ((strong, weak), (weak, strong)):
        kept = [c for c in Claims(both) if type(c) is type(strong)]
        assert kept == [strong]


def test_different_invariants_live_side_by_side():
    claims = Claims([Preserves(RADIUS), Preserves(SUM), Preserves(RADIUS)])
    assert len(claims) == 2
    renamed = Invariant("radius", lambda x: x[:, 0], 2)
    assert Preserves(renamed).after(Preserves(RADIUS)) is None, "the same name is not the same function"


def test_what_is_lost_names_the_layer():
    first = Claims([Symplectic(), Lipschitz(2.0)])
    second = Claims([Lipschitz(3.0)])
    both = second.after(first, "layers.1 (Flow)")
    assert list(both) == [Lipschitz(6.0)]
    assert [str(lost) for lost in both.lost] == [
        "Symplectic() is lost at layers.1 (Flow)",
        "VolumePreserving() is lost at layers.1 (Flow)",
    ]
    third = Claims([Isometry()]).after(both, "layers.2 (Lift)")
    assert third.lost == both.lost, "losses add up along the chain, and are reported once"


def test_an_isometry_keeps_the_lipschitz_bound():
    assert Claims([Isometry()]).after(Claims([Lipschitz(3.0)])).get(Lipschitz) == Lipschitz(3.0)
    assert Claims([Lipschitz(3.0)]).after(Claims([Isometry()])).get(Lipschitz) == Lipschitz(3.0)
    assert Claims([Averaged(0.5)]).after(Claims([Isometry()])).get(Averaged) is None


def test_claims_print_as_what_they_are():
    assert repr(Claims([Lipschitz(1.0)])) == "Claims(Lipschitz(bound=1.0))"
    assert "function" not in repr(Preserves(RADIUS))
