"""Lecture, "learning problems with a structure": the flow map of the epidemic model SIR, with its sum and its signs.

Three networks learn from the same noise-free solutions. One keeps the sum of the three parts of the population *and*
their signs, for every weight and step: exactly in real numbers, to rounding here. One keeps the sum only, one nothing.
What is tested: new solutions of the length of those learned from, and long runs from the corners of the simplex, where
a part of the population is nearly zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..fields import Field, FreeField, MassAction, MassConserving
from ..integrators import RK4, Integrator, PositiveEuler
from ..report.panels import Curve, Panel, draw_panels
from ..systems import SIR
from ..tasks.progress import Progress, silent
from ..train import minimise
from ..train.shooting import Shooting
from ._folder import once, open_folder, seeded, write_table
from ._learning import mean_square, roll_out, size, windows

TRUE = SIR(beta=2.0, gamma=0.5)
DT, COUNT, STRETCH, SUBSTEPS = 0.25, 60, 5, 2
LEARNED, TESTED, LONG = 20, 20, 2000
SEEDS = 3


def _network(width: int) -> FreeField:
    return FreeField(nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 3)))


FIELDS: dict[str, tuple[Callable[[], Field], Integrator[Any], str]] = {
    "sum and signs": (lambda: MassAction(3, 16), PositiveEuler(), "PositiveEuler"),
    "sum": (lambda: MassConserving(_network(31)), RK4(), "RK4"),
    "free": (lambda: _network(31), RK4(), "RK4"),
}


def starts(count: int, random: np.random.Generator) -> Tensor:
    """Initial parts of the population, (count, 3): a few infected, some already immune, the rest susceptible."""
    infected, immune = random.uniform(0.005, 0.2, count), random.uniform(0.0, 0.4, count)
    return torch.from_numpy(np.stack([1 - infected - immune, infected, immune], 1))


def corners() -> Tensor:
    """Hard starts: nobody susceptible, nobody immune, hardly anybody infected, nobody at all."""
    rows = [[0.0, 1.0, 0.0], [1 - 1e-9, 1e-9, 0.0], [0.0, 1e-6, 1 - 1e-6], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)


def exact(x: Tensor, count: int = COUNT) -> Tensor:
    """Solutions up to far below the errors of what is learned."""
    return roll_out(TRUE, RK4(), x, DT, count, 8)


def learn(kind: str, seed: int, quick: bool, told: Progress) -> dict[str, Any]:
    """Learn with one structure, and measure errors, sums and signs."""
    make, method, name = FIELDS[kind]
    random = np.random.default_rng(seed)
    seen = windows(exact(starts(3 if quick else LEARNED, random)), STRETCH)
    began = time.process_time()
    with seeded(seed):
        field = make().double()
        net = Shooting(field, seen[:, 0], free=False, method=method)

        def loss(net: nn.Module, step: int) -> Tensor:
            return (net(DT, SUBSTEPS, count=STRETCH) - seen).square().mean()

        task, steps, refine = f"{kind}, seed {seed}", *((5, 1) if quick else (300, 300))
        minimise(net, loss, steps=steps, refine=refine, on_step=lambda i, n, v: told(task, i, n, f"{v:.1e}"))
        told(task, steps + refine, steps + refine, "")
    start = starts(TESTED, np.random.default_rng(1000 + seed))
    found, true = roll_out(field, method, start, DT, COUNT, SUBSTEPS), exact(start)
    far = roll_out(field, method, corners(), DT, LONG // 50 if quick else LONG, SUBSTEPS)
    far = far[:, far.isfinite().all(2).all(0)]  # until it leaves for infinity
    return {
        "structure": kind, "field": type(field).__name__, "integrator": name, "parameters": size(field), "seed": seed,
        "error": mean_square(found, true) ** 0.5,
        "sum": float((far.sum(2) - 1).abs().max()),
        "least entry": float(min(found.min(), far.min())),
        "steps": SUBSTEPS * (far.shape[1] - 1),
        "seconds": round(time.process_time() - began, 1),
        "states": found[0].tolist(), "exact": true[0].tolist(),
    }  # fmt: skip


COLUMNS = {
    "structure": "", "field": "", "integrator": "", "parameters": "", "seed": "", "error": ".1e", "sum": ".1e",
    "least entry": ".1e", "steps": "", "seconds": ".0f",
}  # fmt: skip


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: three structures, three seeds, the table and the figure.

    Raises:
        InputError: `data` is given: the study makes its own.
    """
    folder = open_folder("sir", data=data, out=out, quick=quick, settings={"quick": quick})
    with seeded(0):  # for one thread everywhere
        rows = [
            once(folder / f"{kind.replace(' ', '-')}-{seed}.json", lambda k=kind, s=seed: learn(k, s, quick, progress))
            for kind in FIELDS
            for seed in range(1 if quick else SEEDS)
        ]
    table = [{k: v for k, v in row.items() if k not in ("states", "exact")} for row in rows]
    write_table(folder / "sir.md", COLUMNS, table)
    t = DT * np.arange(COUNT + 1)
    panels = []
    for i, part in enumerate(("susceptible", "infected", "recovered")):
        first = {row["structure"]: row for row in reversed(rows)}
        marks = [Curve(t, np.array(rows[0]["exact"])[:, i], "exact", -1, width=2.4)]
        marks += [Curve(t, np.array(row["states"])[:, i], kind, k) for k, (kind, row) in enumerate(first.items())]
        panels.append(Panel(part, marks, x_label="t"))
    draw_panels(panels, folder / "sir.svg")
    return folder
