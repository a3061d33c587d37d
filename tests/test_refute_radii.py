"""`stablenets refute`: every attack inside certified radii, counted in the report; and a radius that is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import small_runs
from stablenets.attack import Attack
from stablenets.certify import Certificate
from stablenets.cli import main
from stablenets.core.errors import InputError
from stablenets.layers import load
from stablenets.report.attempts import tally
from stablenets.report.run import load_run
from stablenets.report.sandwich import contradictions
from stablenets.tasks.build import read_data
from stablenets.tasks.run_folder import Run
from stablenets.testing.radii import Judge, trials

KINDS = 3  # of attempts by deformations


def refute(run: Run, options: str = "") -> int:
    with pytest.raises(SystemExit) as end:
        main(["refute", str(run.path), "--steps", "2", "--progress", "none", *options.split()])
    return int(end.value.code or 0)


def test_counts_in_the_file_and_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_runs.copied(tmp_path)
    monkeypatch.setattr("stablenets.commands.refute.BATCH", 15)
    assert refute(run, "--test-limit 15") == 0
    first = json.loads(run.file("refuted.json").read_text())
    assert refute(run, "--test-limit 30") == 0  # goes on
    counts = json.loads(run.file("refuted.json").read_text())
    assert first["seen"] == 15 and counts["seen"] == 30 and first["n"] < counts["n"] <= 30
    assert set(Attack.registry) < set(counts["attempts"]) and len(counts["attempts"]) == len(Attack.registry) + KINDS
    for name, row in counts["attempts"].items():
        assert row["broken"] == 0 and row["tried"] >= first["attempts"][name]["tried"] > 0, name
    assert counts["attempts"]["PGD"]["tried"] == 4 * counts["n"]  # its four examples
    tried = sum(row["tried"] for row in counts["attempts"].values())
    assert f"{tried:,} attempts inside the certified radii of {counts['n']}" in " ".join(
        capsys.readouterr().out.split()
    )
    found = tally(load_run(run.path))
    assert found is not None and found.tried == tried and found.broken == 0
    page = run.file("report.html").read_text(encoding="utf-8")
    assert f"{tried:,} attempts inside the certified radii of" in page and "CarliniWagner" in page


def test_what_was_counted_is_neither_forgotten_nor_believed_when_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_runs.copied(tmp_path)
    proof = json.loads(run.file("certificate.json").read_text())
    same = {"weights_sha256": proof["weights_sha256"], "dtype": proof["dtype"]}
    counts = same | {"steps": 2, "seen": 40, "n": 30, "attempts": {"PGD": {"tried": 30, "broken": 1}}}
    run.write_json("refuted.json", counts)
    assert refute(run, "--test-limit 3") == 1, "fewer images than were attacked: the success stays"
    assert json.loads(run.file("refuted.json").read_text()) == counts
    run.write_json("refuted.json", counts | {"steps": 9})
    assert refute(run, "--test-limit 3") == 2, "other attempts do not replace a success"
    assert "refute this certificate" in capsys.readouterr().err
    for bad in ("", "[]", "{}", json.dumps(counts | {"seen": -1}), json.dumps(counts | {"attempts": {"PGD": 3}})):
        run.write_text("refuted.json", bad)
        assert refute(run) == 2
        assert "refuted.json" in capsys.readouterr().err
    run.write_json("refuted.json", counts | {"weights_sha256": "other"})
    assert refute(run, "--test-limit 1") == 0, "counts of another certificate are replaced"


def test_scores_that_are_not_finite_refute_an_answer() -> None:
    class Proof:
        def logits(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 0, math.nan, torch.tensor([[1.0, 0.0]]))

    judge = Judge(Proof(), torch.zeros(2, 1))  # type: ignore[arg-type]
    judge(torch.tensor([[1.0], [0.0]]), torch.arange(2))
    assert (judge.done.tried, judge.done.broken) == (2, 1)


@pytest.mark.parametrize("inflate", [1.0, 30.0])
def test_attempts_have_teeth(inflate: float) -> None:
    """Each kind of attempt breaks answers where radii are wrong, and none where they are right."""
    run = small_runs.finished()
    net = load(run.file("model.safetensors"))
    proof, x = Certificate.load(run.file("certificate.json"), net), read_data(run.config).x_test[:20]
    radius = proof.radius(x)
    x, radius = x[radius > 1e-3], radius[radius > 1e-3]
    for name, trial in trials(net, proof, x, radius, steps=4, inflate=inflate).items():
        assert (trial().broken > 0) == (inflate > 1), name


def test_a_wrong_radius_is_said_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_runs.copied(tmp_path)
    right = Certificate.radius
    monkeypatch.setattr(Certificate, "radius", lambda self, x: 20 * right(self, x))
    assert refute(run, "--test-limit 10") == 1
    monkeypatch.undo()
    assert any("attempts inside certified radii changed" in said for said in contradictions([load_run(run.path)]))
    assert "Contradiction." in run.file("report.html").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["report", str(run.path)])
    assert end.value.code == 1


def test_counts_of_another_certificate_are_not_shown(tmp_path: Path) -> None:
    run = small_runs.copied(tmp_path)
    counts = {"weights_sha256": "other", "dtype": "float64", "n": 3, "attempts": {"PGD": {"tried": 3, "broken": 3}}}
    run.write_json("refuted.json", counts)
    assert tally(load_run(run.path)) is None
    for bad in ({"attempts": 3}, {"attempts": {"PGD": {}}}):
        weights = json.loads(run.file("certificate.json").read_text())["weights_sha256"]
        run.write_json("refuted.json", counts | {"weights_sha256": weights} | bad)
        with pytest.raises(InputError, match="numbers tried and broken"):
            tally(load_run(run.path))
    run.remove("certificate.json")
    assert refute(run) == 2
