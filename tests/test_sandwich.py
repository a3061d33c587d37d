"""`stablenets deform`, and the report's panel between proof and attack: on true numbers, and on contradictions."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch

import fake_runs
import small_runs
from stablenets import report
from stablenets.certify import Certificate
from stablenets.cli import main
from stablenets.core.errors import ClaimError, InputError
from stablenets.layers import load
from stablenets.linear.deform import deform, size
from stablenets.report.gaps import l2_gap, pixel_gap
from stablenets.report.run import load_run
from stablenets.report.sandwich import contradictions
from stablenets.tasks import classify
from stablenets.tasks import deform as task
from stablenets.tasks.build import read_data
from stablenets.tasks.run_folder import Run
from test_report_browser import CHROMIUM, FLAGS


@pytest.fixture(scope="module")
def deformed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = small_runs.copied(tmp_path_factory.mktemp("deformed"))
    task.deform(run)
    return run


def arrays(run: Run, name: str = "deformations.npz") -> dict[str, np.ndarray]:
    with np.load(run.file(name)) as archive:
        return dict(archive)


def changed(run: Run, path: Path, name: str, **values: np.ndarray) -> Run:
    """A copy of a run in which some arrays of a file are others."""
    path.mkdir()
    for file in run.path.iterdir():
        if file.is_file():
            (path / file.name).write_bytes(file.read_bytes())
    copy = Run(path)
    copy.write_arrays(name, (arrays(copy, name) if copy.has(name) else {}) | values)
    return copy


def test_what_is_proved_and_what_is_found(deformed: Run) -> None:
    kept, summary = arrays(deformed), json.loads(deformed.file("deformations.json").read_text())
    right = kept["prediction"] == kept["y"]
    found, certified = kept["found"], kept["certified"]
    assert len(found) == summary["n"] == small_runs.TINY.test_limit and summary["sandwich_ok"]
    assert np.array_equal(found > 0, right) and right.mean() == summary["clean_accuracy"] > 0.3
    assert (certified[right] < found[right]).all() and (certified > 0).mean() > 0.5
    broken = right & np.isfinite(found)
    assert summary["success"] == broken.sum() / right.sum() > 0.9
    assert summary["found"]["mean"] == pytest.approx(found[broken].mean())
    x, tau = torch.from_numpy(kept["shown_x"]), torch.from_numpy(kept["shown_tau"])
    assert np.array_equal(deform(x, tau).numpy(), kept["shown_adv"]) and len(x) >= 6
    assert np.array_equal(size(tau).numpy(), found[kept["shown"]])
    assert (kept["shown_prediction"] != kept["y"][kept["shown"]]).all()


def test_the_panel(deformed: Run, tmp_path: Path) -> None:
    run = load_run(deformed.path)
    pixel, l2 = pixel_gap(run), l2_gap(run)
    assert pixel is not None and l2 is not None and not contradictions([run])
    assert (pixel.width > 0).all() and len(pixel.wrong) == len(l2.wrong) == 0
    widest = pixel.widest(3)
    assert pixel.width[widest[0]] == pixel.width[np.isfinite(pixel.width)].max()
    page = report.build([deformed.path], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Between proof and attack" in page and "Contradiction." not in page
    assert page.count('data-plot="sandwich-') == 2 and page.count("arrows to where pixels look") == 1
    assert f"test image {int(pixel.index[widest[0]])}<" in page and "norm_T" not in page


def test_smallest_attacks_replace_the_radii_of_the_curve(deformed: Run, tmp_path: Path) -> None:
    samples = load_run(deformed.path).samples
    assert samples is not None
    at = np.flatnonzero(samples.correct)[:2]
    radius = samples.certified_radius[at] * np.array([1.5, 1.2])
    run = changed(
        deformed, tmp_path / "a", "smallest.npz", radius=radius, indices=at, attack=np.array(["DDN", "DeepFool"])
    )
    gap = l2_gap(load_run(run.path))
    assert (
        gap is not None
        and gap.found[:2] == pytest.approx(radius)
        and gap.attack[:3].tolist()[:2] == ["DDN", "DeepFool"]
    )
    wrong = changed(run, tmp_path / "b", "smallest.npz", radius=radius / 2, attack=np.array("DDN"))
    (sentence,) = contradictions([load_run(wrong.path)])
    assert "DDN broke 2 answers within their certified radius" in sentence
    for bad in ({"radius": radius[:1]}, {"indices": -at - 1}, {"indices": at + 0.5}):
        broken = changed(run, tmp_path / f"bad{len(list(tmp_path.iterdir()))}", "smallest.npz", **bad)
        with pytest.raises(InputError, match="do not fit"):
            l2_gap(load_run(broken.path))


def test_a_contradiction_is_said_aloud(deformed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = arrays(deformed)
    certified = kept["certified"].copy()
    first = np.flatnonzero((kept["found"] > 0) & np.isfinite(kept["found"]))[1]
    certified[first] = 1.01 * kept["found"][first]
    wrong = changed(deformed, tmp_path / "wrong", "deformations.npz", certified=certified)
    with pytest.raises(SystemExit) as end:
        main(["report", str(wrong.path)])
    assert end.value.code == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "a wrong guarantee: wrong: ADef broke 1 answers" in said and f"test image {first} " in said
    page = wrong.file("report.html").read_text(encoding="utf-8")
    assert "Contradiction." in page and "do not use this certificate" in page
    with pytest.raises(SystemExit) as end:
        main(["report", str(deformed.path)])
    assert end.value.code == 0


def test_a_wrong_radius_is_an_error_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_runs.copied(tmp_path)
    monkeypatch.setattr(task, "deformation_radius", lambda proof, x, limit: torch.full((len(x),), limit).double())
    with pytest.raises(ClaimError, match="a deformation refutes the certificate"):
        task.deform(run, limit=2.0)
    assert json.loads(run.file("deformations.json").read_text())["sandwich_ok"] is False
    assert contradictions([load_run(run.path)])


def test_rounding_in_another_arithmetic_is_no_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the float32 answers change, nothing is refuted: neither by the command nor on the page."""
    run = small_runs.copied(tmp_path)
    task.deform(run)
    found = arrays(run)["found"]
    first = int(np.flatnonzero((found > 0) & np.isfinite(found))[0])

    def radius(proof: Certificate, x: torch.Tensor, **_: object) -> torch.Tensor:  # one is as large as what was found
        certified = torch.zeros(len(x), dtype=torch.float64)
        certified[first] = 1.001 * float(found[first])
        return certified

    answers = torch.zeros(100, 10).scatter(1, torch.zeros(100, 1, dtype=torch.int64), 1.0)
    monkeypatch.setattr(task, "deformation_radius", radius)
    monkeypatch.setattr(Certificate, "logits", lambda self, x: answers[: len(x)])  # in float64 nothing changes
    task.deform(run)
    assert np.isinf(arrays(run)["found"][first]) and not contradictions([load_run(run.path)])


def test_attacks_by_minimal_size_are_judged_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_runs.copied(tmp_path)
    run.remove("smallest.npz")
    classify.attack(run, name="DDN", radii=(1.0, 9.0), test_limit=20)
    found = arrays(run, "smallest.npz")["radius"]
    first = int(np.flatnonzero((found > 0) & np.isfinite(found))[0])
    right, logits = Certificate.radius, Certificate.logits

    def radius(self: Certificate, x: torch.Tensor) -> torch.Tensor:
        certified = right(self, x)
        certified[first] = 1.2 * found[first]
        return certified

    monkeypatch.setattr(Certificate, "radius", radius)
    with pytest.raises(ClaimError, match="refutes the certificate of 1 test images"):
        classify.attack(run, name="DDN", radii=(1.0, 9.0), test_limit=20)
    with pytest.raises(SystemExit) as end:
        main(["report", str(run.path)])
    assert end.value.code == 1 and contradictions([load_run(run.path)])
    run.remove("smallest.npz")
    x = read_data(run.config).x_test[:20]
    whole = logits(Certificate.load(run.file("certificate.json"), load(run.file("model.safetensors"))), x)
    same = lambda self, z: whole if len(z) == len(x) else whole[first : first + 1].expand(len(z), -1)  # noqa: E731
    monkeypatch.setattr(Certificate, "logits", same)
    with pytest.raises(SystemExit) as end:
        main(
            [
                "attack",
                str(run.path),
                *["--attack", "ddn", "--radii", "1", "9", "--test-limit", "20", "--progress", "none"],
            ]
        )
    assert end.value.code == 0 and np.isinf(arrays(run, "smallest.npz")["radius"][first])


def test_a_command_fails_where_the_page_says_contradiction(deformed: Run, tmp_path: Path) -> None:
    """Also where another file than its own is contradicted."""
    certified = arrays(deformed)["certified"] + 9
    wrong = changed(deformed, tmp_path / "wrong", "deformations.npz", certified=certified)
    for words in (["attack", str(wrong.path), "--test-limit", "20"], ["classify", "--resume", str(wrong.path)]):
        for progress in ("none", "json"):
            with pytest.raises(SystemExit) as end:
                main([*words, "--progress", progress])
            assert end.value.code == 1


def test_the_smallest_of_all_attacks_is_kept(deformed: Run, tmp_path: Path) -> None:
    run = small_runs.copied(tmp_path)
    classify.attack(run, name="DDN", test_limit=20)
    ddn = arrays(run, "smallest.npz")
    classify.attack(run, name="FGSM", radii=(0.8,), test_limit=10)
    both = arrays(run, "smallest.npz")
    assert both["indices"].tolist() == sorted({*ddn["indices"].tolist(), *range(10)})
    at = np.searchsorted(both["indices"], ddn["indices"])
    assert (both["radius"][at] <= ddn["radius"]).all() and "DDN" in both["attack"]
    better = ddn["radius"] / 2
    run.write_arrays("smallest.npz", ddn | {"radius": better, "attack": np.array("mine")})
    classify.attack(run, name="DDN", test_limit=20)
    kept = arrays(run, "smallest.npz")
    finite = np.isfinite(better)
    assert np.array_equal(kept["radius"][at][finite], better[finite])
    assert set(kept["attack"][at][finite & (better > 0)]) == {"mine"}
    gap = l2_gap(load_run(run.path))
    assert gap is not None and not gap.examples  # no image of theirs is at hand
    run.file("smallest.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="Delete it and attack again"):
        classify.attack(run, name="FGSM", test_limit=10)


def test_without_a_certificate(deformed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_runs.copied(tmp_path)
    run.remove("certificate.json", "attack.json")
    run.write_text("uncertified.txt", "nothing is known.\n")
    with pytest.raises(SystemExit) as end:
        main(["deform", str(run.path), "--test-limit", "20", "--limit", "4", "--progress", "none"])
    assert end.value.code == 0 and "Nothing is proved of this network." in capsys.readouterr().out
    gap = pixel_gap(load_run(run.path))
    assert gap is not None and not gap.certified.any() and np.isnan(arrays(run)["certified"]).all()
    assert "Between proof and attack" in run.file("report.html").read_text(encoding="utf-8")
    stale = changed(run, tmp_path / "stale", "deformations.npz", certified=arrays(deformed)["certified"][:20])
    with pytest.raises(InputError, match="the certificate that proves them"):
        pixel_gap(load_run(stale.path))
    with pytest.raises(InputError, match="limit"):
        task.deform(run, limit=0.0)
    assert replace(run.config, test_limit=3).test_limit == 3  # the run's own options are not touched
    assert run.config.test_limit == small_runs.TINY.test_limit


READER = """<script>
const box = document.querySelector('[data-plot^="sandwich-pixels"]');
const read = () => box.closest(".multiple").querySelector(".readout-line").innerText;
const seen = [read()];
box.dispatchEvent(new KeyboardEvent("keydown", {key: "End", bubbles: true}));
seen.push(read(), document.documentElement.scrollWidth - document.documentElement.clientWidth);
seen.push([...document.querySelectorAll(".field svg")].every(s => s.getBoundingClientRect().height > 20));
const pre = document.createElement("pre");
pre.id = "seen";
pre.textContent = JSON.stringify(seen);
document.body.append(pre);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (apt-get install chromium)")
@pytest.mark.parametrize("width", [1200, 400])
def test_in_a_browser(deformed: Run, tmp_path: Path, width: int) -> None:
    assert CHROMIUM is not None
    page = report.build([deformed.path], tmp_path / "report.html")
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", READER + "</body>"), encoding="utf-8")
    words = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom"]
    dom = subprocess.run([*words, page.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found, "a script of the page stopped"
    before, after, overflow, drawn = json.loads(unescape(found[1]))
    assert before != after and "proved 0.0" in after and "not broken by an attack 0.0" in after
    assert overflow <= 0 and drawn


def test_pages_of_runs_without_deformations_are_as_before(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path / "bare", certified=False, network="res-net")
    page = report.build([run], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Between proof and attack" not in page
