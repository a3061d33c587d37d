"""Studies of Neural ODEs: their data are exact, their quick versions run, and finished parts are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stablenets.core.errors import InputError
from stablenets.studies import density_2d, find, irregular_sampling, ode_to_ode, pontryagin, second_order
from stablenets.tasks import generate

MODULES = {
    "irregular-sampling": irregular_sampling,
    "second-order": second_order,
    "ode-to-ode": ode_to_ode,
    "density-2d": density_2d,
    "pontryagin": pontryagin,
}


def test_oscillations_are_exact():
    solve = pytest.importorskip("scipy.integrate").solve_ivp
    times = torch.linspace(0, 6, 7, dtype=torch.float64)
    found = second_order.oscillation(torch.tensor([[1.3]], dtype=torch.float64), times)[:, 0]
    options = {"t_eval": times.numpy(), "rtol": 1e-11, "atol": 1e-12}
    damped = solve(lambda t, x: [x[1], -x[0] - x[1] / 5], (0, 6), [1.3, 0], **options).y[0]
    assert np.abs(found.numpy() - damped).max() < 1e-8
    x0, t, states = irregular_sampling.sampled(3, 0)
    assert t[0] == 0 and bool((t.diff() > 0).all()) and float(t[-1]) < 2 * np.pi
    q, p = x0[1].tolist()
    free = solve(lambda t, x: [x[1], -x[0]], (0, 7), [q, p], t_eval=t.double().numpy(), rtol=1e-9, atol=1e-10).y
    assert np.abs(states[:, 1].numpy() - free.T).max() < 1e-5


def test_labels_of_the_moons():
    x, labels = pontryagin.points(300, 0)
    assert x.shape == (300, 3) and 0.35 < float((labels > 0).double().mean()) < 0.65
    assert bool((x[:, 2] == 0).all())


def test_times_to_an_error():
    def row(program, errors, seconds):
        return {
            "program": program, "iterations": len(errors), "seconds per iteration": seconds[-1] / len(errors),
            "errors": errors, "times": seconds, "training error": errors[-1], "test error": 0.0,
            "path": [], "start": [],
        }  # fmt: skip

    rows = [
        row("torchdiffeq, odeint_adjoint", [1.0], [10.0]),
        row("torchdiffeq, odeint", [1.0, 0.3, 0.5], [1.0, 2.0, 3.0]),
        row("ours", [0.6, 0.3, 0.2], [0.5, 1.0, 1.5]),
        row("bad", [0.6, 0.5, 0.4], [0.5, 1.0, 1.5]),
    ]
    found = irregular_sampling.compared(rows)
    assert [r["seconds to the error of odeint"] for r in found] == [30.0, 2.0, 1.0, None]
    assert [r["share of odeint"] for r in found] == [15.0, 1.0, 0.5, None]
    assert found[2]["share of odeint_adjoint"] == pytest.approx(1 / 30)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_quick_studies(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if name == "density-2d":
        few = {name: density_2d.RUNS[name] for name in ("eight-gaussians-both", "spirals")}
        monkeypatch.setattr(density_2d, "RUNS", few)
        monkeypatch.setattr(generate, "GRID", 5)
        monkeypatch.setattr(generate, "MEASURED", 50)
        monkeypatch.setattr(generate, "PATHS", 20)
    study = find(name)
    folder = study.run(data=None, out=tmp_path / "s", quick=True, progress=lambda *n: None)
    rows = json.loads((folder / f"{name}.json").read_text())
    assert len((folder / f"{name}.md").read_text().strip().splitlines()) == len(rows) + 2
    assert list(folder.glob("*.svg"))
    if name == "ode-to-ode":
        flowing = [r for r in rows if r["weights"].startswith("flowing")]
        assert flowing and all(r["defect, float32"] <= 1e-6 and r["defect, float64"] <= 1e-13 for r in flowing)
        assert [r["proved"] for r in flowing][1] == 1.0 and flowing[1]["largest"] <= 1.0
    if name == "density-2d":
        assert all(r["missed"] > 0 for r in rows if r["missed"] is not None and r["data"] == "eight-gaussians")
    monkeypatch.setattr(MODULES[name], "train", None, raising=False)  # nothing is learned twice
    monkeypatch.setattr(generate, "_learn", None)
    study.run(data=None, out=folder, quick=True, progress=lambda *n: None)
    with pytest.raises(InputError, match="makes its own data"):
        study.run(data="digits", out=folder, quick=True, progress=lambda *n: None)
    with pytest.raises(InputError, match="other settings"):
        study.run(data=None, out=folder, quick=False, progress=lambda *n: None)
