"""The study of deformations, in small; its tables; and the figure with the fields."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stablenets.attack import FGSM, ADef
from stablenets.core.errors import InputError
from stablenets.networks import ConvNet
from stablenets.report.deformed import Deformed, deformed_images
from stablenets.studies import deformations
from stablenets.tasks import classify
from stablenets.tasks.progress import Progress
from stablenets.tasks.run_folder import Run


def finish_here(runs: Mapping[str, Run], progress: Progress) -> None:
    """In this process, which is quicker."""
    for run in runs.values():
        classify.resume(run)


def test_the_study_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformations, "finish_all", finish_here)
    small = deformations.configs()["non-expansive"]
    small = replace(small, dense_width=32, dense_blocks=1, margin=2.0)
    every = deformations.configs() | {"non-expansive": small}
    monkeypatch.setattr(deformations, "configs", lambda: every)
    monkeypatch.setattr(deformations, "QUICK", deformations.QUICK | {"train_limit": None, "epochs": 3})
    folder = deformations.run(data="digits", out=tmp_path / "s", quick=True)
    names = set(deformations.configs())
    assert names == {"neural-ode", "cnn", "contracting", "non-expansive"}
    tables = {"deformations.md", "deformations.json", "networks.md", "networks.json"}
    assert {p.name for p in folder.iterdir()} == {*names, *tables, "sizes.svg", "figure-2-deformations.svg"}
    assert all(Run(folder / name).has("certificate.json") for name in names)
    found = json.loads((folder / "cnn" / "attacks.json").read_text())
    for attack, limit in (("FGSM, l-infinity 0.1", 0.1), ("FGSM, l-infinity 0.2", 0.2), ("PGD, l-infinity 0.1", 0.1)):
        norms = [v for v in found["attacks"][attack]["l_inf"] if v is not None]
        assert all(0 < v <= limit * (1 + 1e-6) for v in norms), attack
    assert set(found["attacks"]["ADef"]) == {"l2", "l_inf", "norm_T"}
    assert len({len(sizes["l2"]) for sizes in found["attacks"].values()}) == 1
    rows = json.loads((folder / "deformations.json").read_text())
    assert len(rows) == 4 * len(deformations.attacks(quick=True))
    figure = (folder / "figure-2-deformations.svg").stat().st_mtime_ns
    monkeypatch.setattr(deformations, "attacked", lambda *_: pytest.fail("again"))
    deformations.run(data="digits", out=folder, quick=True)
    assert (folder / "figure-2-deformations.svg").stat().st_mtime_ns > figure, "drawn from what is there"
    with pytest.raises(InputError, match="run with other options"):
        deformations.run(data="digits", out=folder)


def test_sizes_are_those_of_the_images_that_were_broken() -> None:
    torch.manual_seed(0)
    net = ConvNet((1, 8, 8), 3, channels=(4,), hidden=4, depth=1).eval()
    x = torch.rand(12, 1, 8, 8)
    y = net(x).argmax(1)
    for attack in (FGSM(0.1), FGSM(1e-6), ADef(limit=2.0)):
        measured = deformations.sizes(attack, net, x, y)
        x_adv = attack(net, x, y)
        broken = net(x_adv).argmax(1) != y
        assert [v is not None for v in measured["l2"]] == broken.tolist(), attack
        for i in broken.nonzero()[:, 0].tolist():
            change = (x_adv[i].double() - x[i].double()).numpy().ravel()
            assert measured["l2"][i] == pytest.approx(float(np.linalg.norm(change)))
            assert measured["l_inf"][i] == pytest.approx(float(np.abs(change).max()))
    fields = ADef(limit=2.0).fields(net, x, y)
    for i, size in enumerate(deformations.sizes(ADef(limit=2.0), net, x, y)["norm_T"]):
        assert size is None or size == pytest.approx(float(np.sqrt((fields.tau[i].numpy() ** 2).sum(-1)).max()))


def test_the_table_counts_what_was_broken_and_takes_medians_of_it() -> None:
    one = {"attacks": {"A": {"l2": [1.0, None, 3.0, 8.0], "l_inf": [0.1, None, 0.1, 0.1]}}}
    none = {"attacks": {"A": {"l2": [None, None], "l_inf": [None, None]}}}
    first, second = deformations.table({"one": one, "none": none})
    assert first == {
        **{"attack": "A", "network": "one", "images": 4, "broken": 0.75},
        **{"median l2": 3.0, "median l_inf": 0.1, "median norm_T": None},
    }
    assert second["broken"] == 0 and second["median l2"] is None


def test_the_figure_has_an_arrow_for_every_pixel_that_looks_elsewhere(tmp_path: Path) -> None:
    tau = np.zeros((5, 5, 2))
    tau[1, 2], tau[3, 3], tau[4, 4] = (0.0, 1.5), (-1.0, 0.0), (0.0, 0.01)
    image = np.random.default_rng(0).random((1, 5, 5))
    one = Deformed(image, image[:, ::-1], tau, "3", "8")
    assert one.size == 1.5
    text = deformed_images([one, one], tmp_path / "f.svg").read_text()
    assert text.count("<image ") == 6 and "1.50 px" in text and "8 ✗" in text
    quivers = re.findall(r'<g id="Quiver_\d">(.*?)</g>', text, re.DOTALL)
    assert [quiver.count("<path") for quiver in quivers] == [2, 2]
    for path, flat in zip(re.findall(r'<path d="(.*?)"', quivers[0], re.DOTALL), (True, False), strict=True):
        wide, tall = np.ptp(np.array(re.findall(r"-?\d+\.?\d*", path), dtype=float).reshape(-1, 2), axis=0)
        assert (wide > 2 * tall) == flat and (tall > 2 * wide) != flat, "across, then up"
