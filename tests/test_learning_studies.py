"""The studies that learn dynamics: their data are exact, their quick versions run, and finished parts are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from stablenets.core.errors import InputError
from stablenets.studies import find, learn_double_pendulum, learn_pendulum, sir
from stablenets.studies._learning import mean_square, windows

TABLES = {
    "learn-pendulum": ("pairs", "noisy"),
    "learn-double-pendulum": ("learn-double-pendulum",),
    "sir": ("sir",),
}


def test_the_swing_is_exact() -> None:
    t = np.arange(141) / 10
    found = solve_ivp(lambda t, x: [x[1], -np.sin(x[0])], (0, 14), [1, 0], t_eval=t, rtol=1e-12, atol=1e-12)
    assert np.abs(found.y.T - learn_pendulum.swing().numpy()).max() < 1e-9


@pytest.mark.parametrize("name", learn_pendulum.SYSTEMS)
def test_the_systems_of_hamiltonian_networks_run_at_twice_the_speed(name: str) -> None:
    system = learn_pendulum.SYSTEMS[name]
    start = system.starts(2, np.random.default_rng(0))
    force = (lambda q: 2 * q) if name == "spring" else (lambda q: 2 * np.sin(q))
    for x, found in zip(start.numpy(), system.solve(start, 0.1, 30).numpy(), strict=True):
        exact = solve_ivp(lambda t, x: [2 * x[1], -force(x[0])], (0, 3), x, rtol=1e-11, atol=1e-11)
        assert np.abs(exact.y[:, -1] - found[-1]).max() < 1e-7
    q, p = start.unbind(1)
    assert torch.allclose(system.energy(start), p**2 + (q**2 if name == "spring" else 2 - 2 * torch.cos(q)))


def test_places_of_the_double_pendulum_agree_in_both_coordinates() -> None:
    x = learn_double_pendulum.solutions(2, 3, np.random.default_rng(0))
    both = learn_double_pendulum.cartesian(x)
    assert torch.allclose(learn_double_pendulum.places(both), learn_double_pendulum.places(x), atol=1e-14)
    residual = learn_double_pendulum.CARTESIAN.residual(both.view(-1, 8))
    assert residual.abs().max() < 1e-13, "the momenta are tangent, too"
    energy = learn_double_pendulum.CARTESIAN.energy(both.view(-1, 8)).view(2, 4)
    assert (energy - energy[:, :1]).abs().max() < 1e-7


def test_epidemics_are_exact_and_on_the_simplex() -> None:
    x = sir.starts(3, np.random.default_rng(0))
    assert bool((x >= 0).all()) and torch.allclose(x.sum(1), torch.ones(3, dtype=torch.float64))

    def f(t: float, x: np.ndarray) -> list[float]:
        return [-2 * x[0] * x[1], 2 * x[0] * x[1] - x[1] / 2, x[1] / 2]

    exact = solve_ivp(f, (0, 5), x[0].numpy(), rtol=1e-11, atol=1e-12).y[:, -1]
    assert np.abs(exact - sir.exact(x, 20)[0, -1].numpy()).max() < 1e-7
    assert torch.allclose(sir.corners().sum(1), torch.ones(5, dtype=torch.float64))


def test_windows_meet_at_their_ends_and_errors_are_numbers() -> None:
    x = torch.arange(7.0)[None, :, None]
    assert windows(x, 3)[:, :, 0].tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert mean_square(torch.full((2,), torch.nan), torch.zeros(2)) == 1e300


@pytest.mark.parametrize("name", TABLES)
def test_quick_studies(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, news = find(name), []
    folder = study.run(data=None, out=tmp_path / "s", quick=True, progress=lambda *n: news.append(n))
    for table in TABLES[name]:
        rows = json.loads((folder / f"{table}.json").read_text())
        lines = (folder / f"{table}.md").read_text().strip().splitlines()
        assert len(lines) == len(rows) + 2
        for row in rows:
            if row.get("network") == "constrained":
                assert row["rods"] < 1e-13
            if row.get("structure") == "sum and signs":
                assert row["least entry"] >= 0 and row["sum"] < 1e-13
            if row.get("structure") == "free":
                assert row["sum"] > 1e-6
    assert (folder / f"{name}.svg").is_file() and news[-1][1] == news[-1][2]
    for module in (learn_pendulum, learn_double_pendulum, sir):  # nothing is learned twice
        for learns in ("learn", "learn_map", "learn_noisy"):
            monkeypatch.setattr(module, learns, None, raising=False)
    study.run(data=None, out=folder, quick=True, progress=lambda *n: None)
    with pytest.raises(InputError, match="makes its own data"):
        study.run(data="digits", out=folder, quick=True, progress=lambda *n: None)
    with pytest.raises(InputError, match="other settings"):
        study.run(data=None, out=folder, quick=False, progress=lambda *n: None)
