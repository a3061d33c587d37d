"""The studies of the Convex Potential Layer slides, in small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stablenets.core.errors import InputError, TrainingError
from stablenets.report import load_run
from stablenets.studies import cpl_cifar10, depth_scaling, find
from stablenets.tasks import classify, recipes
from stablenets.tasks import config as toml
from stablenets.tasks.progress import Progress, prefixed
from stablenets.tasks.run_folder import Run


@pytest.fixture
def colours(tmp_path: Path) -> str:
    """A data set of small colour images whose classes are colours."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 10
    x = rng.random((400, 8, 8, 3)).astype(np.float32) * 0.4 + rng.random((10, 1, 1, 3))[y] * 0.6
    np.savez(tmp_path / "colours.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return str(tmp_path / "colours.npz")


def finish_here(runs: Mapping[str, Run], progress: Progress) -> None:
    """In this process, which is quicker."""
    for name, run in runs.items():
        classify.resume(run, prefixed(progress, name))


def test_cpl_cifar10_in_small(colours: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"channels": (6,), "blocks": (1,), "dense_width": 8, "dense_blocks": 1}
    monkeypatch.setattr(cpl_cifar10, "QUICK", cpl_cifar10.QUICK | small)
    monkeypatch.setattr(cpl_cifar10, "finish_all", finish_here)
    news: set[str] = set()
    folder = cpl_cifar10.run(
        data=colours, out=tmp_path / "s", quick=True, recipes=("cpl-tiny",), progress=lambda task, *_: news.add(task)
    )
    assert {p.name for p in folder.iterdir()} == {
        *("cpl-tiny", "figures-1-2-accuracy.svg", "training.svg", "report.html")
    }
    run = Run(folder / "cpl-tiny")
    assert run.done and load_run(run.path).certified and classify.verify(run).ok
    assert {"cpl-tiny: training", "cpl-tiny: attacking", "cpl-tiny: attacking harder"} <= news
    strong = json.loads(run.file("strong-attack.json").read_text())
    assert strong["n"] == 10 and strong["attack"]["restarts"] == 2 and strong["seconds_per_epoch"] > 0
    assert all(c <= r for c, r in zip(strong["certified_accuracy"], strong["robust_accuracy"], strict=True))
    before = run.file("strong-attack.json").stat().st_mtime_ns
    cpl_cifar10.run(data=colours, out=folder, quick=True, recipes=("cpl-tiny",))  # nothing is done twice
    assert run.file("strong-attack.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="run with other options"):
        cpl_cifar10.run(data=colours, out=folder, recipes=("cpl-tiny",))


def test_cpl_cifar10_compares_networks_for_a_cpu_under_the_attack_of_the_slides() -> None:
    assert find("cpl-cifar10").takes_recipes and not find("depth-scaling").takes_recipes
    for name in cpl_cifar10.RECIPES:
        config = toml.read(recipes.find(name))
        assert (config.data, config.attack_steps, config.threads) == ("cifar10", 10, 1)
        assert config.radii[:3] == (36 / 255, 72 / 255, 108 / 255)


def test_depth_scaling_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three networks of each depth; one that diverges is a result, and is not trained again."""
    whole = classify.resume

    def resume(run: Run, *rest: object) -> None:
        if run.path.name == "plain-30":
            raise TrainingError("the loss is nan")
        whole(run)

    monkeypatch.setattr(classify, "resume", resume)
    folder = depth_scaling.run(data="digits", out=tmp_path / "s", quick=True)
    names = {f"{name}-{depth}" for name in depth_scaling.NETWORKS for depth in depth_scaling.QUICK_DEPTHS}
    assert {p.name for p in folder.iterdir()} == {*names, "depth-scaling.md", depth_scaling.FIGURE, "report.html"}
    rows = [line.split(" | ") for line in (folder / "depth-scaling.md").read_text().splitlines()[2:]]
    assert len(rows) == 6 and [row[4] for row in rows].count("diverged") == 1
    for row in rows:
        assert row[5].endswith("%") == (row[0] == "| gradient"), row
    for depth in depth_scaling.QUICK_DEPTHS:
        run = Run(folder / f"gradient-{depth}")
        assert classify.verify(run).ok and len(load_run(run.path).metrics[0]["flow_steps"]) == depth
    monkeypatch.setattr(classify, "resume", lambda run, *rest: pytest.fail("again") if not run.done else None)
    depth_scaling.run(data="digits", out=folder, quick=True)


def test_the_settings_of_depth_scaling() -> None:
    assert depth_scaling.DEPTHS == (100, 300, 1000)
    gradient, plain, scaled = (depth_scaling.NETWORKS[name] for name in ("gradient", "plain", "scaled"))
    assert plain == replace(gradient, network="res-net", plain=True, peak=gradient.peak / 10)
    assert scaled == replace(gradient, network="res-net")
    assert gradient.weight_decay == 0 and gradient.blocks == (0,) and gradient.data == "fashion-mnist"
