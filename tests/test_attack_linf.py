"""Attacks in the l-infinity norm from the command line, and what l2 certificates are worth there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import small_runs
from stablenets import cli
from stablenets.attack import PGD
from stablenets.certify import Certificate
from stablenets.core.errors import InputError
from stablenets.layers import load
from stablenets.report.pixelwise import pixelwise
from stablenets.report.run import load_run
from stablenets.report.sandwich import contradictions
from stablenets.tasks import attack, attack_linf, classify
from stablenets.tasks.build import read_data
from stablenets.tasks.run_folder import Run


def called(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_attack_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_runs.copied(tmp_path)
    before = run.file("attack.json").read_text()
    assert called("attack", str(run.path), "--norm", "linf", "--radii", "0.001", "0.05", "0.3", "--steps", "5") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "in the l-infinity norm, on 40 test images" in shown and "r / sqrt(64)" in shown
    assert run.file("attack.json").read_text() == before, "l2 results are left alone"
    page = run.file("report.html").read_text()
    assert "Certificates are for the ℓ₂ norm only" in page and "d = 64" in page
    table = json.loads(run.file("attack-linf.json").read_text())
    net, data = load(run.file("model.safetensors")), read_data(run.config)
    x, y = data.x_test[:40], data.y_test[:40]
    for radius, accuracy in list(zip(table["radii"], table["robust_accuracy"], strict=True))[1:]:
        apart = ~PGD(radius, math.inf, 5).run(net, x, y).broken
        assert abs(float(apart.double().mean()) - accuracy) <= 1 / 40
    radius = Certificate.load(run.file("certificate.json"), net).radius(x) / 8
    with torch.no_grad():
        right = net(x).argmax(1) == y
    for eps, proved, accuracy in zip(
        table["radii"], table["certified_accuracy"], table["robust_accuracy"], strict=True
    ):
        assert proved == pytest.approx(float((right & (radius > eps)).double().mean())) and proved <= accuracy
    assert 0 < table["certified_accuracy"][1] < 1


@pytest.mark.parametrize("name", ["fgsm", "apgd", "square-attack", "ensemble", "smallest"])
def test_every_attack_within_a_ball(tmp_path: Path, name: str) -> None:
    run = small_runs.copied(tmp_path, "res-net")
    classify.attack(run, steps=2, radii=(0.02, 0.5), test_limit=6, name=name, norm=math.inf)
    found = pixelwise(load_run(run.path))
    assert found is not None and found.proved is None and not found.wrong
    assert found.attacked[0] >= found.attacked[1] >= found.attacked[2]
    assert "nothing is proved" in small_page(run)


def small_page(run: Run) -> str:
    assert called("report", str(run.path)) == 0
    return run.file("report.html").read_text()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--attack", "ddn"), "the attack 'ddn' in the l-infinity norm; needed: one of apgd, ensemble, fgsm, pgd"),
        (("--attack", "pdg"), "Did you mean 'pgd'"),
        (("--radii", "0"), "radii"),
        (("--norm", "l1"), "l1"),
    ],
)
def test_clear_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], named: str) -> None:
    run = small_runs.copied(tmp_path)
    norm = () if "--norm" in words else ("--norm", "linf")
    assert called("attack", str(run.path), *norm, *words) == 2
    shown = " ".join("".join(capsys.readouterr()).replace("│", " ").split())
    assert named in shown
    assert not run.has("attack-linf.json")


def test_a_broken_proof_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_runs.copied(tmp_path)
    truth = Certificate.radius
    monkeypatch.setattr(Certificate, "radius", lambda self, x: truth(self, x) * 0 + 0.9 * 8)
    with pytest.raises(ValueError, match="refutes the certificate"):
        monkeypatch.setattr(attack_linf, "DOWN", 0.1)  # the attack begins within what is claimed
        classify.attack(run, steps=5, radii=(0.3, 0.8), norm=math.inf)
    assert any("l-infinity" in sentence for sentence in contradictions([load_run(run.path)]))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = small_runs.copied(tmp_path)
    classify.attack(run, steps=2, radii=(0.1,), test_limit=4, norm=math.inf)
    table = json.loads(run.file("attack-linf.json").read_text())
    for change in ({"attack": 1}, {"radii": [0.1]}, {"n": "4"}, {"robust_accuracy": ["a"]}):
        run.write_json("attack-linf.json", table | change)
        with pytest.raises(InputError, match=r"attack-linf.json.*Attack again"):
            pixelwise(load_run(run.path))


@pytest.mark.parametrize("change", ["dtype", "weights", "none", "damaged"])
def test_what_was_judged_by_another_certificate_is_removed(tmp_path: Path, change: str) -> None:
    """The radii in smallest.npz were found by answers in the arithmetic of the old certificate."""
    run = small_runs.copied(tmp_path)
    classify.attack(run, steps=2, radii=(0.1,), test_limit=4, norm=math.inf)
    assert all(run.has(name) for name in ("attack.json", "smallest.npz", "attack-linf.json"))
    content = json.loads(run.file("certificate.json").read_text())
    if change == "weights":
        run.write_json("certificate.json", content | {"weights_sha256": "0" * 64})
    elif change == "none":
        run.remove("certificate.json")
    elif change == "damaged":
        run.write_text("certificate.json", '{"dtype": "float64"')
    classify.certify(run, dtype="float32" if change == "dtype" else "float64")
    assert not any(run.has(name) for name in ("attack.json", "smallest.npz", "attack-linf.json"))
    attacked(run)
    classify.certify(run, dtype="float32" if change == "dtype" else "float64")
    assert run.has("smallest.npz") and run.has("attack.json"), "the same certificate: nothing is lost"


def attacked(run: Run) -> None:
    classify.attack(run, steps=2, radii=(0.1,), test_limit=4)
    with np.load(run.file("smallest.npz")) as arrays:
        assert len(arrays["radius"]) == 4
    assert attack.find("pgd", run.config).norm == 2
