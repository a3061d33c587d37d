"""The study of the Wasserstein distance: the exact value is exact, the bound is below it, and near."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

import stablenets as sn
from stablenets import cli
from stablenets.certify import certify
from stablenets.core.errors import ClaimError, InputError
from stablenets.core.properties import Lipschitz
from stablenets.studies import wasserstein
from stablenets.studies.wasserstein import Case, assignment, critic, lower_bound, train


def random(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, n, d))) / 2
    return x, y + 0.3


def untold(*_: object) -> None:
    pass


def test_the_assignment_is_the_linear_program() -> None:
    x, y = random(7, 3)
    cost = (x[:, None] - y[None]).norm(dim=2).numpy()
    marginals = np.concatenate([np.kron(np.eye(7), np.ones(7)), np.kron(np.ones(7), np.eye(7))])
    exact, pairs = assignment(x, y)
    assert exact == pytest.approx(linprog(cost.ravel(), A_eq=marginals, b_eq=np.full(14, 1 / 7)).fun, rel=1e-9)
    assert exact == pytest.approx(float((x - y[pairs]).norm(dim=1).mean())) and sorted(pairs) == list(range(7))


@pytest.mark.parametrize("name", wasserstein.CASES)
def test_the_clouds(name: str) -> None:
    x, y = wasserstein.CASES[name].clouds()
    assert x.shape == y.shape == (len(x), int(name.rsplit("-", 1)[1][:-1])) and x.dtype == torch.float64
    assert torch.cat([x, y]).mean(0).abs().max() < 1e-12
    assert torch.equal(x, wasserstein.CASES[name].clouds()[0])
    assert assignment(x, y)[0] > 1.03 * float((x.mean(0) - y.mean(0)).norm()), "a linear critic is not enough"


def test_a_critic_comes_near_from_below_and_is_certified() -> None:
    x, y = wasserstein.clusters()
    x, y = x[:60], y[:60]
    net = critic(2, 16, 3)
    train(net, x, y, 250, untold)
    proof = certify(net, input_shape=(2,))
    assert sn.claims(net).get(Lipschitz) == Lipschitz(proof.layers[-1].lipschitz) and proof.lipschitz == 1.0
    exact, _ = assignment(x, y)
    assert 0.93 * exact < lower_bound(proof, x, y) <= exact
    halves = x + (y[assignment(x, y)[1]] - x) / 2  # half of the way: half of the distance
    assert lower_bound(proof, x, halves) <= exact / 2


def test_constant_and_rounding_are_taken_off() -> None:
    x, y = random(20, 2)
    net = critic(2, 8, 2)
    train(net, x, y, 20, untold)
    proof = certify(net, input_shape=(2,))
    with torch.no_grad():
        values = net.double()(torch.cat([x, y]))[:, 0]
    gain = float(values[:20].mean() - values[20:].mean())
    assert 0 < gain - lower_bound(proof, x, y) < 1e-10
    replaced: Callable[..., float] = lambda **changes: lower_bound(dataclasses.replace(proof, **changes), x, y)  # noqa: E731
    assert replaced(lipschitz=2.0) == pytest.approx(gain / 2, abs=1e-10)
    assert replaced(rounding=0.1) == pytest.approx(gain - 0.2, abs=1e-10)
    with pytest.raises(ClaimError, match=r"a point of norm 1\d.*; needed: norms below 2.83"):
        lower_bound(proof, x + 10, y)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {"plane": Case(lambda: random(12, 2), 6, 1, 20), "space": Case(lambda: random(9, 5), 8, 1, 20)}
    monkeypatch.setattr(wasserstein, "CASES", cases)


@pytest.mark.usefixtures("small")
def test_the_study_leaves_a_table_a_figure_and_certificates(tmp_path: Path) -> None:
    news: list[tuple[str, int, int, str]] = []
    folder = wasserstein.run(out=tmp_path / "study", progress=lambda *one: news.append(one))
    assert [n[0] for n in news] == ["plane"] * 20 + ["space"] * 20 and news[-1][1:3] == (20, 20)
    assert {p.name for p in folder.iterdir()} == {"plane", "space", "critic-2d.svg", "wasserstein.md"}
    lines = (folder / "wasserstein.md").read_text().splitlines()
    assert len(lines) == 4 and lines[2].startswith("| plane | 2 x 12 | 2 | ") and lines[3].startswith("| space |")
    for name in ("plane", "space"):
        found = json.loads((folder / name / "result.json").read_text())
        assert found["proved"] <= found["exact"]
        assert sn.verify(folder / name / "model.safetensors", folder / name / "certificate.json").ok
    (folder / "space" / "result.json").unlink()
    again: list[str] = []
    wasserstein.run(out=folder, progress=lambda name, *_: again.append(name))
    assert set(again) == {"space"}, "finished parts are kept"


@pytest.mark.usefixtures("small")
def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["study", "wasserstein", "--out", str(tmp_path), "--progress", "none"])
    assert end.value.code == 0 and "| space | 2 x 9 | 5 | " in capsys.readouterr().out


def test_what_cannot_be_done_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"--data mnist; needed: no data set\. This study has point clouds of its own"):
        wasserstein.run(data="mnist", out=tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(InputError, match=r"scipy is not installed.*pip install 'stablenets\[demo\]'"):
        assignment(*random(3, 2))


@pytest.mark.usefixtures("small")
def test_a_bound_above_the_distance_is_never_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasserstein, "assignment", lambda x, y: (1e-3, np.arange(len(x))))
    with pytest.raises(ClaimError, match=r"is above its value 0\.001; needed: a true proof"):
        wasserstein.run(out=tmp_path)
    assert not list(tmp_path.glob("*/result.json"))
