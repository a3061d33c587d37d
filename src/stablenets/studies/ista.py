"""Lecture, "The Proximal Gradient Descent Method": a sparse signal from few measurements, by ISTA and FISTA.

f(x) = |K x - y|^2 / 2 with 80 random measurements of 200 numbers, of which 8 are not zero, and g(x) = weight |x|_1. For
steps h <= 1 / L, with L >= ||K||^2 from a proved bound of the norm,

- ISTA: F(x_k) - min F <= |x_0 - x*|^2 / (2 h k), and |x_(k+1) - x_k| never grows;
- FISTA: F(x_k) - min F <= 2 |x_0 - x*|^2 / (h (k + 1)^2) (Beck & Teboulle 2009, Thm 3.1 and 4.4);
- ISTA with a ridge in f, which makes it strongly convex: a contraction, with an a-posteriori bound of |x_k - x*|.

The study measures each beside its bound. With h >= 2 / L no theorem holds, and `solve` refuses the step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ClaimError
from ..inverse import FISTA, ForwardBackward, Problem, Solution, Solver, solve
from ..layers import SoftThreshold
from ..linear import Dense
from ..report.panels import Curve, Panel, draw_panels
from ..tasks.progress import Progress, silent
from ._folder import once, open_folder, write_table

ROWS, COLUMNS, SPIKES, NOISE = 80, 200, 8, 0.01
WEIGHT, RIDGE = 0.02, 0.05
ITERATIONS, QUICK_ITERATIONS = 2_000, 300
EXACT = 100_000  # iterations for the minimum that gaps are measured from, at most


def measured() -> tuple[Dense, Tensor, Tensor]:
    """K, the sparse signal (1, columns), and the data (1, rows), float64."""
    random = np.random.default_rng(0)
    k, x = Dense(COLUMNS, ROWS).double().requires_grad_(False), np.zeros((1, COLUMNS))
    k.weight.data = torch.from_numpy(random.standard_normal((ROWS, COLUMNS)) / ROWS**0.5)
    x[0, random.choice(COLUMNS, SPIKES, replace=False)] = random.choice([-1, 1], SPIKES) * random.uniform(
        0.5, 1.5, SPIKES
    )
    signal = torch.from_numpy(x)
    return k, signal, k(signal) + NOISE * torch.from_numpy(random.standard_normal((1, ROWS)))


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: the table and the figure.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
    """
    iterations = QUICK_ITERATIONS if quick else ITERATIONS
    settings = {"iterations": iterations, "weight": WEIGHT, "ridge": RIDGE}
    folder = open_folder("ista", data=data, out=out, quick=quick, settings=settings)
    jobs = {"ISTA": (ForwardBackward(), 0.0), "FISTA": (FISTA(), 0.0), "ISTA with a ridge": (ForwardBackward(), RIDGE)}
    rows = []
    for i, (name, (solver, ridge)) in enumerate(jobs.items()):
        path = folder / "parts" / f"{name.replace(' ', '-')}.json"
        rows.append(once(path, lambda s=solver, r=ridge, n=name: _follow(n, s, r, iterations)))
        progress("minimising", i + 1, len(jobs), name)
    columns = {"method": "", "guarantee": "", "iterations": "", "objective - minimum": ".1e", "proved": ".1e"}
    others = {
        "worst quotient to the bound": ".3f",
        "|x - x*|": ".1e",
        "proved |x - x*|": ".1e",
        "largest growth": ".6f",
    }
    write_table(folder / "ista.md", columns | others | {"rate": ".6f"}, rows)
    (folder / "refused.txt").write_text(refusal() + "\n", encoding="utf-8")
    _draw(folder / "ista.svg", rows)
    return folder


def refusal() -> str:
    """What `solve` says to a step of 2 / L."""
    k, _, y = measured()
    problem = Problem(k, y)
    try:
        solve(problem, SoftThreshold(WEIGHT), solver=ForwardBackward(2 / problem.smoothness))
    except ClaimError as error:
        return str(error)
    raise AssertionError("a step of 2 / L was accepted")


def _follow(name: str, solver: Solver, ridge: float, iterations: int) -> dict[str, Any]:
    k, signal, y = measured()
    problem = Problem(k, y, ridge=ridge)
    h = 1 / problem.smoothness
    prox, start = SoftThreshold(WEIGHT * h), torch.zeros_like(signal)

    def objective(x: Tensor) -> float:
        return float(problem.value(x) + WEIGHT * x.abs().sum())

    best = solve(problem, prox, solver=FISTA(), start=start, iterations=EXACT, tolerance=1e-15).x
    least, far = objective(best), float((start - best).norm()) ** 2
    counts = sorted({round(c) for c in np.geomspace(1, iterations, 60)})
    gaps, proved, x = [], [], start
    found: Solution | None = None
    for c in counts:
        found = solve(problem, prox, solver=solver, start=start, iterations=c, tolerance=0.0)
        gaps.append(objective(found.x) - least)
        proved.append(2 * far / (h * (c + 1) ** 2) if isinstance(solver, FISTA) else far / (2 * h * c))
        x = found.x
    assert found is not None
    away = float((x - best).norm())
    worst = max(g / p for g, p in zip(gaps, proved, strict=True))
    return {
        "method": name, "guarantee": found.certificate.guarantee.value, "iterations": iterations,
        "objective - minimum": gaps[-1], "proved": proved[-1], "worst quotient to the bound": worst, "|x - x*|": away,
        "proved |x - x*|": None if found.distance is None else float(found.distance),
        "largest growth": found.growth, "rate": found.certificate.rate, "certificate": str(found.certificate),
        "counts": counts, "gaps": gaps, "bounds": proved, "residuals": found.residuals[:, 0].tolist(),
        "x": x[0].tolist(), "signal": signal[0].tolist(),
    }  # fmt: skip


def _draw(path: Path, rows: list[dict[str, Any]]) -> None:
    gaps, residuals = [], []
    for i, row in enumerate(rows):
        counts = np.array(row["counts"])
        gaps.append(Curve(counts, np.maximum(row["gaps"], 1e-17), row["method"], i))
        gaps.append(Curve(counts, np.array(row["bounds"]), colour=i, dashed=True, width=0.8))
        steps = np.arange(1, len(row["residuals"]) + 1)
        residuals.append(Curve(steps, np.maximum(row["residuals"], 1e-17), row["method"], i))
    place = np.arange(COLUMNS)
    signals = [Curve(place, np.array(rows[0]["signal"]), "signal", -1), Curve(place, np.array(rows[0]["x"]), "ISTA", 0)]
    panels = [
        Panel("objective - minimum; dashed: proved", gaps, "iterations", log_x=10, log_y=True),
        Panel("fixed-point residual", residuals, "iterations", log_x=10, log_y=True),
        Panel("the signal and what is found", signals, "entry"),
    ]
    draw_panels(panels, path)
