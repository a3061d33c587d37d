"""The table field x integrator: the page is what the command writes, and cells that claim nothing have evidence."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path

import pytest
import torch

import everything  # noqa: F401  fills the registries
from stablenets import cli
from stablenets.core.claims import Claims
from stablenets.core.errors import ConvergenceError
from stablenets.core.properties import Cocoercive, Dissipates, FirstIntegral, Invariant, OneSidedLipschitz, Preserves
from stablenets.fields import Field
from stablenets.integrators import Integrator
from stablenets.testing.aims import aims
from stablenets.testing.show_table import as_json, section, text
from stablenets.testing.steps import one_step
from stablenets.testing.table import (
    EXACT,
    LIMIT,
    LONG,
    LOST,
    ORDER,
    UNCLAIMED,
    cells,
    label,
    properties,
    step_unit,
    violation,
)

PAGE = (Path(__file__).parent.parent / "docs" / "table.md").read_text(encoding="utf-8")
FIELDS, INTEGRATORS = (
    [n for n, c in point.registry.items() if c.__module__.startswith("stablenets.")] for point in (Field, Integrator)
)
EXPLICIT = [n for n in INTEGRATORS if not Integrator.registry[n].solves]  # equations take long
PROPERTIES = properties()


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_page_is_what_the_command_writes(name: str):
    assert section(cells(FIELDS, INTEGRATORS, [name]), name) in PAGE, (
        "docs/table.md is old: run `stablenets table --format markdown > docs/table.md`"
    )


def test_the_page_has_these_sections_and_no_others():
    assert [line[3:] for line in PAGE.splitlines() if line.startswith("## ")] == PROPERTIES


def examples(name: str) -> list[Field]:

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [copy.deepcopy(f).double().eval().requires_grad_(False) for f in Field.registry[name].examples()]


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_what_is_not_exact_is_violated_and_orders_are_measured(name: str):
    """Every *order p* and *lost* cell of steps that solve no equation; orders at other samples than the table's."""
    table = {(c.integrator, c.property): c for c in cells([name], EXPLICIT)}
    fields = [(f, f.claims()) for f in examples(name)]
    for method in (g for n in EXPLICIT for g in Integrator.registry[n].examples() if isinstance(fields[0][0], g.needs)):
        for aim in {a.name for _, claims in fields for a in aims(claims)}:
            cell = table[label(method), aim]
            found = [
                (f, a, step_unit(f, claims)) for f, claims in fields for a in aims(claims) if a.name == aim
            ]  # some example shows it
            if cell.verdict == ORDER:
                assert any(order_holds(method, *case, seed) for case in found for seed in (11, 12, 13)), cell
            elif cell.verdict in (LOST, LONG):
                sizes = (1 / 16, 1 / 4) if cell.verdict == LOST else (1.0, 4.0, 16.0)
                assert any(
                    violation(one_step(method, f, m * unit), a, f.state_shape or (4,), seed=seed) > 0
                    for f, a, unit in found
                    for seed in (11, 12, 3)  # the last is the table's own
                    for m in sizes
                ), cell


def order_holds(method: Integrator, f: Field, aim, unit: float, seed: int) -> bool:
    """Whether the defect of one step falls at least like h^(p + 1), from above rounding.

    Near a singularity a method of order 5 comes to its order below rounding only: hence several samples.
    """
    seen: list[float] = []
    for k in range(14):  # the shortest show the order, also at states near a singularity
        try:
            defect = violation(one_step(method, f, unit / 2**k), aim, f.state_shape or (4,), seed=seed)
        except ConvergenceError:
            continue
        if defect == 0 and seen:
            break
        seen += [defect] if defect else []
    if len(seen) < 2:
        return bool(seen) and method.order > 6  # falls below rounding at once
    rates = [math.log2(a / b) for a, b in itertools.pairwise(seen[-4:])]  # the last may be near rounding
    return max(rates) >= method.order + 1 - 0.3


def test_a_sample_without_a_step_leaves_the_others_their_say():
    """Which samples of a batch an implicit step cannot solve depends on rounding; what the rest shows must not."""
    (aim,) = aims(Claims([Dissipates(Invariant("v", lambda x: x.square().sum(1)))]))

    def step(x: torch.Tensor) -> torch.Tensor:
        if lost := [i for i, size in enumerate(x.norm(dim=1).tolist()) if size > 5]:
            raise ConvergenceError("far away there is no step", lost)
        return 1.5 * x

    assert violation(step, aim, (4,)) == pytest.approx(1 / 6)  # (9/4 - 1) / (9/2 + 2 + 1)
    assert violation(lambda x: x / 2, aim, (4,)) == 0

    def never(x: torch.Tensor) -> torch.Tensor:
        raise ConvergenceError("nowhere there is a step", range(len(x)))

    assert violation(never, aim, (4,)) == 0

    def overflowing(x: torch.Tensor) -> torch.Tensor:
        return x * x.square().sum(1, keepdim=True).pow(200)  # infinite far away, where no singular value is known

    (distances,) = aims(Claims([OneSidedLipschitz(0.0)]))
    assert violation(overflowing, distances, (4,)) > 1


# --- how a cell comes about ---------------------------------------------------------------------------------------


def cell(field: str, integrator: str, name: str):
    found, *_ = cells([field], [integrator], [name])  # of an integrator with several examples the first
    return found


def test_verdicts_that_are_known_from_theory():
    """HLW = Hairer, Lubich & Wanner, Geometric Numerical Integration."""
    assert cell("Pendulum", "StormerVerlet", "symplectic").verdict == EXACT
    assert str(cell("Pendulum", "RK4", "symplectic")) == "order 4"  # HLW VI.4.3: explicit methods never are
    assert cell("SkewLinear", "Cayley", "squared norm").verdict == EXACT
    assert cell("NormConserving", "ImplicitMidpoint", "squared norm").verdict == EXACT  # HLW IV.2.1
    assert cell("SkewLinear", "Euler", "non-expansive").verdict == LOST  # |1 + i y| > 1 for every y
    assert cell("SkewLinear", "RK4", "non-expansive").verdict == LONG  # |R(i y)| <= 1 up to y = 2.83
    assert cell("ConvexGradient", "Euler", "non-expansive").limit == pytest.approx(2.0)
    assert cell("ConvexGradient", "ImplicitEuler", "non-expansive").verdict == EXACT
    assert cell("MassConserving", "Heun", "mass").verdict == EXACT  # HLW IV.1.5
    assert cell("SIR", "PositiveEuler", "positive").verdict == EXACT
    assert cell("SIR", "RK4", "positive").verdict in (LOST, LONG)  # Bolley & Crouzeix 1978: order 1 at most
    assert cell("LyapunovStable", "LyapunovStep", "lyapunov falls").verdict == EXACT
    assert str(cell("Contracting", "Euler", "contracting")) == "h <= limit"
    assert cell("LinearAdvection", "DiscreteGradient", "mass").verdict == UNCLAIMED  # true, and nobody claims it


def test_a_limit_is_the_last_step_size_that_is_claimed():
    for name in ("Euler", "SSPRK3"):
        found = cell("ConvexGradient", name, "non-expansive")
        assert found.verdict == LIMIT and found.limit is not None
        (f, *_), (g,) = examples("ConvexGradient"), Integrator.registry[name].examples()
        (aim,) = (a for a in aims(f.claims()) if a.name == "non-expansive")
        h = found.limit * step_unit(f, f.claims())
        assert aim.kept(g.transfer(f.claims(), 0.999999 * h)) and not aim.kept(g.transfer(f.claims(), 1.000002 * h))


def test_what_a_field_claims_becomes_what_a_step_should_keep():
    v = Invariant("v", lambda x: x.sum(1))
    assert [a.name for a in aims(Claims([Cocoercive(0.5)]))] == ["invertible", "non-expansive"]
    assert [a.name for a in aims(Claims([OneSidedLipschitz(-1.0)]))] == ["non-expansive", "contracting"]
    assert not list(aims(Claims([OneSidedLipschitz(0.1)])))
    (falls,), (kept,) = aims(Claims([Dissipates(v)])), aims(Claims([FirstIntegral(v)]))
    assert falls.kept(Claims([Preserves(v)])) and not falls.equality, "what is constant does not grow"
    assert kept.kept(Claims([Preserves(v)])) and not kept.kept(Claims([Preserves(Invariant("v", lambda x: x.sum(1)))]))


def test_the_command(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["table", "--field", "kepler", "--integrator", "StormerVerlet", "--property", "volume"])
    assert done.value.code == 0 and capsys.readouterr().out == "volume  Kepler  StormerVerlet  exact\n"
    with pytest.raises(SystemExit) as done:
        cli.main(["table", "--field", "Kepler", "--integrator", "RK4", "--property", "energy", "--format", "json"])
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["verdict"] == "order" and entry["order"] == 4 and entry["violation"][1] > 1e-9
    for words, error in ((["--property", "enrgy"], "unknown property 'enrgy'"), (["--field", "Keplr"], "'Kepler'")):
        with pytest.raises(SystemExit) as done:
            cli.main(["table", *words])
        assert done.value.code == 2 and error.lower() in capsys.readouterr().err.lower()
    assert text([]) == "" and json.loads(as_json([])) == []
