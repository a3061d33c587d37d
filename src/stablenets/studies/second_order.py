"""Lecture appendix, second-order Neural ODEs: paths that cross, and a system that is seen by its positions only.

Reflection: learn x -> -x on [-1, 1]. Paths of a first-order equation on the line cannot cross, so a Neural ODE on R
fails; one on R^2, with a zero appended (augmented), and one of second order succeed (Norcliffe et al. 2020).

Oscillation: positions of q'' = -q - q' / 5 from rest, on [0, 6], at irregular times; then predictions up to 12.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..fields import Field, FreeField, SecondOrder
from ..integrators import RK4
from ..report.panels import Curve, Dots, Panel, draw_panels
from ..solvers import integrate
from ..tasks.progress import Progress, silent
from ..train import minimise
from ._folder import once, open_folder, seeded, told, write_table

FIELDS: dict[str, Callable[[], Field]] = {
    "first order": lambda: FreeField(_perceptron(1, 1)),
    "augmented": lambda: FreeField(_perceptron(2, 2)),
    "second order": lambda: SecondOrder(_perceptron(2, 1)),
}
TASKS = ("reflection", "oscillation")
SEEDS, STEPS, SEEN, FAR = 3, 500, 6.0, 12.0
COLUMNS = {
    "task": "", "field": "", "parameters": "d", "seed": "d", "training error": ".1e", "test error": ".1e",
    "CPU seconds": ".0f",
}  # fmt: skip


def _perceptron(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, outputs))


def lifted(field: Field, q: Tensor) -> Tensor:
    """Positions (batch, 1) as states: as they are, or with a zero appended."""
    return q if isinstance(field, FreeField) and field.module[0].in_features == 1 else torch.cat([q, 0 * q], 1)


def positions(field: Field, q: Tensor, times: Tensor, steps: int = 2) -> Tensor:
    """The positions (times, batch) of solutions from rest at `q` (batch, 1); times[0] = 0."""
    return integrate(field, lifted(field, q), times, integrator=RK4(), steps=steps).states[..., 0]


def oscillation(q: Tensor, times: Tensor) -> Tensor:
    """The exact positions (times, batch): q exp(-a t) (cos w t + a / w sin w t), a = 1/10, w^2 = 1 - a^2."""
    a = 0.1
    w = (1 - a * a) ** 0.5
    t = times[:, None]
    return q[:, 0] * torch.exp(-a * t) * (torch.cos(w * t) + a / w * torch.sin(w * t))


def train(task: str, kind: str, seed: int, quick: bool, progress: Progress) -> dict[str, Any]:
    """Learn one task with one field, and test it."""
    generator = torch.Generator().manual_seed(seed)
    steps, began = 10 if quick else STEPS, time.process_time()
    if task == "reflection":
        times, tests = torch.tensor([0.0, 1.0]), torch.linspace(0, 1, 21)
        q, unseen, each = torch.linspace(-1, 1, 40)[:, None], torch.linspace(-0.97, 0.97, 41)[:, None], 10
        wanted, exact = -q.T, -unseen.T
    else:
        times = torch.cat([torch.zeros(1), (SEEN * torch.rand(24, generator=generator)).sort().values])
        tests, each = torch.linspace(0, FAR, 61), 2
        q, unseen = torch.linspace(-1.5, 1.5, 12)[:, None], torch.linspace(-1.3, 1.4, 7)[:, None]
        wanted, exact = oscillation(q, times)[1:], oscillation(unseen, tests)[1:]
    with seeded(seed):
        net = FIELDS[kind]()

        def loss(net: Any, step: int) -> Tensor:
            return (positions(net, q, times, each)[1:] - wanted).square().mean()

        error = minimise(net, loss, steps=steps, peak=2e-2, on_step=told(progress, f"{task}, {kind}, seed {seed}"))
        with torch.no_grad():
            path = positions(net, unseen, tests, 2)
    told_at = path[-1:] if task == "reflection" else path[1:]
    test = float((told_at - exact).square().mean())
    return {
        "task": task, "field": kind, "parameters": sum(p.numel() for p in net.parameters()), "seed": seed,
        "training error": error, "test error": min(test, 1e300), "CPU seconds": time.process_time() - began,
        "times": tests.tolist(), "path": path[:, ::8 if task == "reflection" else 6].clamp(-9, 9).tolist(),
    }  # fmt: skip


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: both tasks with all fields, table and figure.

    Raises:
        InputError: `data` is given: the study makes its own.
    """
    folder = open_folder("second-order", data=data, out=out, quick=quick, settings={"quick": quick})
    rows = [
        once(
            folder / "parts" / f"{task}-{kind.replace(' ', '-')}-{seed}.json",
            lambda t=task, k=kind, s=seed: train(t, k, s, quick, progress),
        )
        for task in TASKS
        for kind in FIELDS
        for seed in range(1 if quick else SEEDS)
    ]
    hidden = ("times", "path")
    write_table(folder / "second-order.md", COLUMNS, [{k: v for k, v in r.items() if k not in hidden} for r in rows])
    panels = []
    for row in (row for row in rows if row["seed"] == 0):
        t, path = np.array(row["times"]), np.array(row["path"])
        marks: list[Any] = [Curve(t, x) for x in path.T]
        if row["task"] == "oscillation":
            start = torch.tensor(path[0], dtype=torch.float64)[:, None]
            exact = oscillation(start, torch.tensor(t)).numpy()
            marks += [Dots(np.stack([t[::3], x[::3]], 1), "exact" if i == 0 else "", 1) for i, x in enumerate(exact.T)]
        panels.append(Panel(f"{row['task']}, {row['field']}", marks, x_label="t", y_label="q"))
    draw_panels(panels, folder / "second-order.svg")
    return folder
