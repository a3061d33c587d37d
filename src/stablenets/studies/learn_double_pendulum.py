"""Lecture, figures (c) and (d): learn a double pendulum, in angles and in Cartesian coordinates with rigid rods.

The same solutions, of moderate energy, are learned by four networks of about the same size:

- constrained: the potential and the masses of two bobs on rigid rods, in Cartesian coordinates, rolled out by RATTLE:
  both rods keep their lengths to rounding, whatever the weights;
- free, Cartesian: a network as right-hand side in the same coordinates, RK4;
- hamiltonian: H(q, p) in angles, rolled out by the implicit Gauss method of order 4 (symplectic);
- free, angles: a network as right-hand side in angles, RK4.

The errors of all four are those of the places of the two bobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..fields import DeepPotential, Field, FreeField, GeneralHamiltonian, LearnedDoublePendulum, RidgePotential
from ..integrators import RATTLE, RK4, GaussLegendre4, Integrator
from ..linear import Dense
from ..report.panels import Curve, Panel, draw_panels
from ..systems import DoublePendulum, DoublePendulumCartesian
from ..tasks.progress import Progress, silent
from ..train import minimise
from ..train.shooting import Shooting
from ._folder import once, open_folder, seeded, write_table
from ._learning import mean_square, roll_out, size, windows

DT, LEARNED, LENGTH, STRETCH = 0.1, 20, 30, 3
TESTED, HORIZON = 10, 100  # new solutions, and intervals of each
SEEDS = 3
ANGLES, CARTESIAN = DoublePendulum(), DoublePendulumCartesian()


@dataclass(frozen=True)
class Case:
    """A network, the coordinates in which it learns, its integrator and that one's steps per interval."""

    field: Callable[[], Field]
    cartesian: bool
    method: Integrator[Any]
    substeps: int


def _network(d: int, width: int) -> FreeField:
    return FreeField(nn.Sequential(nn.Linear(d, width), nn.Tanh(), nn.Linear(width, d)))


CASES = {
    "constrained": Case(lambda: LearnedDoublePendulum(RidgePotential(Dense(4, 64))), True, RATTLE(), 4),
    "free, Cartesian": Case(lambda: _network(8, 24), True, RK4(), 2),
    "hamiltonian": Case(lambda: GeneralHamiltonian(DeepPotential(4, (14, 14))), False, GaussLegendre4(), 1),
    "free, angles": Case(lambda: _network(4, 44), False, RK4(), 2),
}


def solutions(count: int, intervals: int, random: np.random.Generator) -> Tensor:
    """Exact states (count, 1 + intervals, 4) in angles and momenta, that start at rest at angles of up to 1."""
    start = np.concatenate([random.uniform(-1, 1, (count, 2)), np.zeros((count, 2))], 1)
    return roll_out(ANGLES, RK4(), torch.from_numpy(start), DT, intervals, 8)


def cartesian(x: Tensor) -> Tensor:
    """States (..., 4) in angles and momenta as states (..., 8) of the bobs."""
    flat = x.reshape(-1, 4)
    return CARTESIAN.from_angles(flat[:, :2], ANGLES(flat)[:, :2]).view(*x.shape[:-1], 8)


def places(x: Tensor) -> Tensor:
    """The places (..., 4) of both bobs, from states in either coordinates."""
    if x.shape[-1] == 8:
        return x[..., :4]
    rods = torch.stack([torch.sin(x[..., :2]), -torch.cos(x[..., :2])], -1)
    return rods.cumsum(-2).flatten(-2)


def learn(name: str, seed: int, quick: bool, told: Progress) -> dict[str, Any]:
    """Learn one network, and roll out new solutions."""
    case, random = CASES[name], np.random.default_rng(seed)
    coordinates: Callable[[Tensor], Tensor] = cartesian if case.cartesian else lambda x: x
    seen = windows(coordinates(solutions(2 if quick else LEARNED, LENGTH, random)), STRETCH)
    began = time.process_time()
    with seeded(seed):
        field = case.field().double()
        net = Shooting(field, seen[:, 0], free=False)

        def loss(net: nn.Module, step: int) -> Tensor:
            return (net(DT, count=STRETCH) - seen).square().mean()

        task, steps, refine = f"{name}, seed {seed}", *((3, 1) if quick else (300, 500))
        minimise(net, loss, steps=steps, refine=refine, on_step=lambda i, n, v: told(task, i, n, f"{v:.1e}"))
        told(task, steps + refine, steps + refine, "")
    count = HORIZON // 20 if quick else HORIZON
    true = solutions(TESTED, count, np.random.default_rng(1000 + seed))
    found = roll_out(field, case.method, coordinates(true[:, 0]), DT, count, case.substeps)
    bobs = places(found)
    rods = torch.stack([bobs[..., :2], bobs[..., 2:] - bobs[..., :2]], -2).norm(dim=-1)
    return {
        "network": name, "integrator": type(case.method).__name__, "parameters": size(field), "seed": seed,
        "error": mean_square(bobs, places(true)) ** 0.5,
        "rods": float((rods - 1).abs().max().nan_to_num(1e300, 1e300)),
        "seconds": round(time.process_time() - began, 1),
        "states": bobs[0].nan_to_num().tolist(), "exact": places(true)[0].tolist(),
    }  # fmt: skip


COLUMNS = {
    "network": "", "integrator": "", "parameters": "", "seed": "", "error": ".1e", "rods": ".1e", "seconds": ".0f"
}  # fmt: skip


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: four networks, three seeds, the table and the figure.

    Raises:
        InputError: `data` is given: the study makes its own.
    """
    folder = open_folder("learn-double-pendulum", data=data, out=out, quick=quick, settings={"quick": quick})
    with seeded(0):  # for one thread everywhere
        rows = [
            once(folder / f"{file}-{seed}.json", lambda n=name, s=seed: learn(n, s, quick, progress))
            for name in CASES
            for file in (name.replace(", ", "-").lower(),)
            for seed in range(1 if quick else SEEDS)
        ]
    table = [{k: v for k, v in row.items() if k not in ("states", "exact")} for row in rows]
    write_table(folder / "learn-double-pendulum.md", COLUMNS, table)
    first = {row["network"]: row for row in reversed(rows)}
    t = DT * np.arange(len(rows[0]["exact"]))
    panels = []
    for title, names in (
        ("constrained", ("constrained", "free, Cartesian")),
        ("angles", ("hamiltonian", "free, angles")),
    ):
        for i, bob in enumerate(("first", "second")):
            marks = [Curve(t, np.array(rows[0]["exact"])[:, 2 * i], "exact", -1, width=2.4)]
            marks += [Curve(t, np.array(first[n]["states"])[:, 2 * i], n, k) for k, n in enumerate(names)]
            panels.append(Panel(f"{title}: {bob} pendulum", marks, x_label="t", y_label="x"))
    draw_panels(panels, folder / "learn-double-pendulum.svg", columns=2)
    return folder
