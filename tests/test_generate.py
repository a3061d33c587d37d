"""`stablenets generate`: points are read or refused, learned, measured, resumed, sampled and scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stablenets import cli
from stablenets.core.errors import InputError, IntegrationError
from stablenets.data.points import find_points, read_points, write_points
from stablenets.layers.files import weights_hash
from stablenets.report.generate import build_generation, sentence
from stablenets.tasks import config as toml
from stablenets.tasks import generate
from stablenets.tasks.generate import Model
from stablenets.tasks.options import GenerateConfig
from stablenets.tasks.run_folder import Run

TINY = GenerateConfig(steps=6, width=6, depth=1, samples=20, batch_size=16, points=100)


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "own.csv"
    random = np.random.default_rng(0)
    write_points(path, ("mass", "length"), np.array([100.0, 0.01]) * random.standard_normal((600, 2)) + [5000.0, 1.0])
    return path


@pytest.fixture(scope="module")
def run(csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "own"
    return generate.run(replace(TINY, data=str(csv), out=str(out), steps=400, likelihood=3, peak=2e-2))


def test_a_normal_distribution_in_odd_units(run: Run, csv: Path):
    """Already nearly normal when scaled: the likelihood in the data's units is that of the true density."""
    result = generate.results(run)
    exact = 2 * 0.5 * np.log(2 * np.pi * np.e) + np.log(100.0) + np.log(0.01)
    assert result["negative_log_likelihood"] == pytest.approx(exact, abs=0.2) and result["held_out"]
    assert result["round_trip"] <= 1e-5
    names, samples = read_points(run.file("samples.csv"))
    assert names == ("mass", "length") and samples.shape == (20, 2)
    assert abs(samples[:, 0].mean() - 5000) < 100 and samples[:, 1].std() < 0.03
    model = Model.open(run)
    line = np.linspace(-4, 4, 41)
    grid = np.array([5000.0, 1.0]) + np.array([100.0, 0.01]) * np.stack(np.meshgrid(line, line), 2).reshape(-1, 2)
    assert np.exp(model.log_density(grid)).sum() * 0.2**2 * 100 * 0.01 == pytest.approx(1, abs=0.05)


def test_files_of_a_run(run: Run):
    rows = [json.loads(line) for line in run.file("metrics.jsonl").read_text().splitlines()]
    assert {r["loss_of"] for r in rows} == {"matching", "likelihood"} and rows[-1]["step"] == 3
    assert not list(run.path.glob("*.tmp")) and not run.has("matching.safetensors")
    page = build_generation(run.path, run.file("report.html")).read_text(encoding="utf-8")
    assert "Negative log-likelihood" in page and "data:image/svg+xml" in page and "Flow matching loss" in page
    assert toml.read(run.file("config.toml"), GenerateConfig).steps == 400


def test_interrupted_and_resumed(tmp_path: Path):
    """Bit for bit, in either stage."""
    config = replace(TINY, data="moons", likelihood=2, solver_steps=2)
    whole = generate.run(replace(config, out=str(tmp_path / "whole")))

    class Stop(Exception):
        pass

    for stage, at in (("matching", 3), ("likelihood", 1)):
        part = generate.create(replace(config, out=str(tmp_path / stage)))

        def progress(task: str, done: int, total: int, note: str, stage=stage, at=at) -> None:
            if (task, done) == (stage, at):
                raise Stop

        with pytest.raises(Stop):
            generate.resume(part, progress)
        generate.resume(part)
        assert weights_hash(Model.open(part).flow) == weights_hash(Model.open(whole).flow)
        assert part.file("samples.csv").read_text() == whole.file("samples.csv").read_text()


def test_digits(tmp_path: Path):
    points = find_points("digits", count=1, test=0.2, seed=0)
    assert points.learned.shape[1] == 64 and points.learned.min() >= 0 and 16 < points.learned.max() < 17
    few = replace(TINY, data="digits", out=str(tmp_path / "run"), steps=2)
    run = generate.create(few)
    names = run.environment["names"]
    assert len(names) == 64 and min(run.environment["size"]) > 0


def test_samples_and_scores_of_a_model(run: Run, csv: Path, tmp_path: Path, capsys):
    words = ["generate", "--model", str(run.path)]
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--samples", "7", "--out", str(tmp_path / "more.csv")])
    assert end.value.code == 0 and len(read_points(tmp_path / "more.csv")[1]) == 7
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--data", str(csv), "--out", str(tmp_path / "scored.csv")])
    assert end.value.code == 0 and "Mean log-likelihood of 600 points" in capsys.readouterr().out
    names, rows = read_points(tmp_path / "scored.csv")
    assert names == ("mass", "length", "log_density")
    assert rows[:, 2] == pytest.approx(Model.open(run).log_density(rows[:, :2]), abs=1e-4)
    for more in (["--steps", "3"], ["--out", "x.txt"], ["--samples", "-5"], ["--resume", str(run.path)]):
        with pytest.raises(SystemExit) as end:
            cli.main([*words, *more])
        assert end.value.code == 2


def test_points_come_back_with_all_digits_and_names(tmp_path: Path):
    names, rows = ("time, s", 'a "b"'), np.array([[1732699234.123456, 0.1], [-1e-300, 1 / 3]])
    write_points(tmp_path / "points.csv", names, rows)
    assert read_points(tmp_path / "points.csv")[0] == names
    assert np.array_equal(read_points(tmp_path / "points.csv")[1], rows)


def test_points_that_cannot_be_solved(run: Run):
    """One of them costs its own likelihood only."""
    model = Model.open(run)
    model.flow.integrator.max_steps = 2
    near = model.scale.outwards(torch.zeros(1, 2))
    with pytest.raises(IntegrationError):
        model.sample(5, 0)
    assert np.isnan(model.log_density(near + np.array([[0.0, 0.0], [1e6, 1e6]]))).any()


def test_the_command(tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([
            *("generate", "--data", "eight-gaussians", "--out", str(tmp_path / "run"), "--progress", "none"),
            *("--steps", "3", "--width", "4", "--depth", "1", "--points", "60", "--samples", "5"),
        ])  # fmt: skip
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "the entropy of the data is 2.138" in said and "report.html" in said
    assert (tmp_path / "run" / "density.svg").is_file()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a\n1\n2\n", "one column only, a"),
        ("1,2\n3,4\n", "no header"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells"),
        ("a,b\n1,nan\n", "line 2, column b: 'nan'.*finite"),
        ("a,b\n1,\n", "line 2, column b: ''"),
        ("a,b\n1,inf\n", "line 2, column b"),
        ("a,a\n1,2\n", "different names"),
        ("a,b\n" + "1,2\n" * 100, "the column a is constant"),
        ("a,b\n" + "0.1,2\n" * 95 + "5,3\n" + "0.1,2\n" * 4, "the column a of the points .* deviation 0"),
        ("a,b\n" + "1e300,2\n-1e300,3\n" * 60, "the column a .* deviation inf"),
        ("a,b\n", "a header and no points"),
        ("a,b\n" + "".join(f"{i},{i * i}\n" for i in range(40)), "32 rows to learn from; needed: at least 50"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, words: str):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        generate.create(replace(TINY, data=str(path), out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists(), "before any work"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": ""}, "no data"),
        ({"data": "eight-gausians"}, "Did you mean 'eight-gaussians'"),
        ({"data": "missing.csv"}, "there is no file missing.csv"),
        ({"steps": 0}, "--steps 0 and --likelihood 0"),
        ({"width": 0}, "width is 0"),
        ({"probes": 0}, "probes is 0"),
        ({"peak": 0.0}, "peak is 0"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, change: dict, words: str):
    with pytest.raises(InputError, match=words):
        generate.create(replace(TINY, **({"data": "moons", "out": str(tmp_path / "run")} | change)))


def test_data_that_change_are_noticed_even_when_all_is_learned(tmp_path: Path):
    path, rows = tmp_path / "own.csv", np.random.default_rng(0).standard_normal((80, 2))
    write_points(path, ("a", "b"), rows)
    run = generate.run(replace(TINY, data=str(path), out=str(tmp_path / "run")))
    write_points(path, ("a", "b"), np.concatenate([rows, rows[:1]]))
    with pytest.raises(InputError, match="has changed since the run began"):
        generate.resume(run)


def test_the_largest_seed(tmp_path: Path):
    generate.run(replace(TINY, data="moons", out=str(tmp_path / "run"), steps=1, seed=2**63 - 1))


def test_a_likelihood_that_is_not_finite_is_said():
    result = {"negative_log_likelihood": None, "points": 5, "held_out": False}
    assert sentence(result) == "The likelihood is not finite, on 5 points, the ones learned from."
