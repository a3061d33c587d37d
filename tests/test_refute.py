"""`refute` on every property of the library: it finds a fault where there is one, and none where there is none."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from stablenets.attack import refute
from stablenets.core import properties as p
from stablenets.core import regions as r
from stablenets.core.claims import Map, Property
from stablenets.testing.falsify import falsify

D = 4
ENERGY = p.Invariant("energy", lambda x: x.square().sum(1) / 2, 2, True)
SPHERE = r.Region(
    "sphere", lambda x: x.square().sum(1, keepdim=True) - 1, lambda x: x / x.norm(dim=1, keepdim=True).clamp(min=1e-9)
)
ROTATION = torch.linalg.matrix_exp(torch.tensor([[0, 1.0, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 2], [0, 0, -2, 0]]).double())
SKEW = torch.tensor([[0, 0, 1.0, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, -1, 0, 0]]).double()


def bump(x: Tensor) -> Tensor:
    """0 nearly everywhere: 1 near (1.2, ..., 1.2), where no sample starts."""
    return torch.exp(-(x - 1.2).square().sum(1, keepdim=True))


def rotate(x: Tensor) -> Tensor:
    return x @ ROTATION.T


def spin(x: Tensor) -> Tensor:
    return x @ SKEW.T


def halve(x: Tensor) -> Tensor:
    return x / 2


def minus(x: Tensor) -> Tensor:
    return -x


def kick(x: Tensor) -> Tensor:
    q, m = x.chunk(2, 1)
    return torch.cat([q, m - q.sin()], 1)


@dataclass(frozen=True)
class Case:
    claim: Property
    true: Map
    false: Map


CASES = [
    Case(p.Lipschitz(1.0), rotate, lambda x: rotate(x) + 0.3 * bump(x)),
    Case(p.Averaged(0.5), halve, lambda x: x / 2 - 3 * bump(x) * (x - 1.2)),
    Case(p.Expansive(1.0), rotate, lambda x: rotate(x) - 0.3 * bump(x) * rotate(x - 1.2)),
    Case(p.Isometry(), rotate, lambda x: rotate(x) * (1 + 0.1 * bump(x))),
    Case(p.Symplectic(), kick, lambda x: kick(x) + 0.2 * bump(x) * x),
    Case(p.VolumePreserving(), kick, lambda x: kick(x) + 0.2 * bump(x) * x),
    Case(p.Invertible(), kick, lambda x: x - 3 * bump(x) * (x - 1.2)),
    Case(p.Preserves(ENERGY), rotate, lambda x: rotate(x) * (1 + 0.1 * bump(x))),
    Case(p.Decreases(ENERGY, 0.5), halve, lambda x: x * (0.5 + 0.5 * bump(x))),
    Case(p.Positive(), torch.relu, lambda x: torch.relu(x) - 3 * bump(x)),
    Case(p.OneSidedLipschitz(-1.0), minus, lambda x: -x + 0.3 * bump(x) * (x - 1.2)),
    Case(p.Cocoercive(1.0), minus, lambda x: -x - 0.5 * bump(x) * (x - 1.2)),
    Case(p.Hamiltonian(), spin, lambda x: spin(x) + 0.2 * bump(x)),
    Case(p.DivergenceFree(), spin, lambda x: spin(x) + 0.2 * bump(x)),
    Case(p.FirstIntegral(ENERGY), spin, lambda x: spin(x) + 0.2 * bump(x) * x),
    Case(p.Dissipates(ENERGY), lambda x: spin(x) - 0.1 * x, lambda x: spin(x) - 0.1 * x + 0.5 * bump(x) * x),
    Case(p.EnergyForm(ENERGY, conserved=True), spin, lambda x: spin(x) + 0.2 * bump(x) * x),
    Case(p.SymmetricJacobian(), minus, lambda x: -x + 0.2 * bump(x) * spin(x)),
    Case(p.QuasiPositive(), lambda x: x.flip(1).abs(), lambda x: x.flip(1).abs() - 9 * bump(x)),
    Case(r.Bounded(0.0, 1.0), torch.sigmoid, lambda x: torch.sigmoid(x) + 2 * bump(x)),
    Case(r.StaysIn(SPHERE), rotate, lambda x: rotate(x) * (1 + 0.1 * bump(2.4 * x))),
    Case(r.TangentTo(SPHERE), spin, lambda x: spin(x) + 0.2 * bump(2.4 * x) * x),
    Case(r.Within(SPHERE, p.FirstIntegral(ENERGY)), spin, lambda x: spin(x) + 0.2 * bump(2.4 * x) * x),
]


def states(count: int = 8) -> Tensor:
    return torch.randn(count, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_every_property_has_a_case() -> None:
    known = {c for module in (p, r) for c in vars(module).values() if isinstance(c, type) and issubclass(c, Property)}
    assert known - {Property} == {type(case.claim) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda c: type(c.claim).__name__)
def test_a_fault_is_found_and_the_truth_stands(case: Case) -> None:
    x = states()
    assert refute(case.true, case.claim, x, steps=15).violation < 1e-9
    start, found = (refute(case.false, case.claim, x, steps=s) for s in (0, 40))
    assert found.violation > 1e-3 and found.violation >= start.violation
    again = case.claim.violation(case.false, found.x[None], found.y[None])
    assert float(again.detach()) == pytest.approx(found.violation, rel=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda c: type(c.claim).__name__)
def test_what_check_runs_finds_it_too(case: Case) -> None:
    """`stablenets check` attacks claims by `falsify`, which samples first and then climbs by `refute`."""
    assert falsify(case.false, [case.claim], (D,))[0].refuted
    assert not falsify(case.true, [case.claim], (D,))[0].refuted
