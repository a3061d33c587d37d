"""Lecture: the norm-preserving flow map of the linear advection equation, learned from pairs of states.

The equation on a periodic grid, u' = D u with D skew, keeps |u|. Three networks learn u(0) -> u(STEP) from pairs:

- rotation: one Cayley step along x' = S x, S skew, which is an isometry whatever its weights;
- norm-conserving: non-linear steps along `fields.NormConserving`, whose norm a projection makes exact;
- free: residual steps x + B^T tanh(A x + b) with as many parameters, about which nothing is proved.

Judged on initial values that were not seen: the error of one step, and error and drift of the norm in a long roll-out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..fields import NormConserving, SkewLinear, TwoLayerField
from ..integrators import RK4, Cayley, Euler, Projection
from ..layers import Chain, Flow, load, save
from ..linear import Dense, SkewDense
from ..report.panels import Curve, Panel, draw_panels
from ..systems import LinearAdvection
from ..tasks.progress import Progress, silent
from ..train import minimise
from ._folder import once, open_folder, seeded, told, write_table
from ._held_out import norm_drift, parameters, relative_error, roll_out, spread

POINTS, STEP, MODES = 32, 0.05, 5
PAIRS, HELD_OUT, STEPS, QUICK_STEPS = 200, 100, 1000, 10
LONG, QUICK_LONG = 1000, 20  # steps of the roll-out
TURN = 20  # steps in which a wave of the equation itself passes the grid once
SEEDS = range(3)


def residual(width: int) -> Chain:
    """Two residual steps."""
    return Chain(*(Flow(TwoLayerField(Dense(POINTS, width), Dense(POINTS, width)), Euler(), h=1.0) for _ in range(2)))


def conserving(width: int) -> Chain:
    """Two steps along norm-conserving fields."""
    fields = [NormConserving(Dense(POINTS, width), Dense(POINTS, width), gate=Dense(POINTS, width)) for _ in range(2)]
    return Chain(*(Flow(f, Projection(RK4()), h=1.0) for f in fields))


NETWORKS: dict[str, Callable[[], Chain]] = {
    "rotation": lambda: Chain(Flow(SkewLinear(SkewDense(POINTS)), Cayley(), h=1.0)),
    "norm-conserving": lambda: conserving(32),
    "free": lambda: residual(48),
}


def profiles(count: int, seed: int) -> Tensor:
    """Random smooth initial values (count, POINTS), float64: Fourier series of MODES modes, of norm 1."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, count, MODES, 1, generator=generator, dtype=torch.float64)
    modes = torch.arange(1, MODES + 1, dtype=torch.float64)[:, None]
    angle = 2 * math.pi * modes * LinearAdvection(POINTS).grid()
    u = (a * angle.cos() + b * angle.sin()).sum(1)
    return u / u.norm(dim=1, keepdim=True)


def true_step(x: Tensor) -> Tensor:
    """The exact state of the discretised equation after the time STEP."""
    return LinearAdvection(POINTS).solution(x, STEP)


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: a network of each kind for each seed, the table and the figure.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
        TrainingError: a training diverged.
    """
    steps, long, seeds = (QUICK_STEPS, QUICK_LONG, range(1)) if quick else (STEPS, LONG, SEEDS)
    settings = {"steps": steps, "roll-out": long, "seeds": len(seeds)}
    folder = open_folder("advection", data=data, out=out, quick=quick, settings=settings)
    rows = []
    for name in NETWORKS:
        found = []
        for seed in seeds:
            part = folder / "parts" / f"{name}-{seed}"
            found.append(
                once(part.with_suffix(".json"), lambda n=name, s=seed, p=part: _train(n, s, steps, long, p, progress))
            )
        cells = {c: spread([r[key] for r in found], ".1e") for c, key in COLUMNS.items()}
        rows.append({"network": name, "parameters": str(found[0]["parameters"]), **cells, "seeds": found})
    write_table(folder / "advection.md", dict.fromkeys(("network", "parameters", *COLUMNS), ""), rows)
    _draw(folder, long)
    return folder


COLUMNS = {
    "error, one step": "one step",
    "norm drift, one step": "one step drift",
    "error, one turn": "one turn",
    f"error, {LONG} steps": "roll-out",
    f"norm drift, {LONG} steps": "drift",
}


def _train(name: str, seed: int, steps: int, long: int, part: Path, progress: Progress) -> dict[str, Any]:
    x = profiles(PAIRS, seed)
    y = true_step(x)
    with seeded(seed):
        net = NETWORKS[name]().double()

        def loss(net: nn.Module, step: int) -> Tensor:
            return (net(x) - y).square().sum(1).mean()

        minimise(net, loss, steps=steps, on_step=told(progress, f"{name}, seed {seed}"))
        part.parent.mkdir(exist_ok=True)
        save(net, part.with_suffix(".safetensors"))
        test = profiles(HELD_OUT, 1000 + seed)
        states = roll_out(net, test, long)
    return {
        "parameters": parameters(net), "steps": long, "one step": relative_error(states[1], true_step(test)),
        "one step drift": norm_drift(states[:2]), "drift": norm_drift(states),
        "one turn": relative_error(states[TURN], LinearAdvection(POINTS).solution(test, STEP * TURN)),
        "roll-out": relative_error(states[-1], LinearAdvection(POINTS).solution(test, STEP * long)),
    }  # fmt: skip


def _draw(folder: Path, long: int) -> None:
    test, grid, times = profiles(20, 2000), LinearAdvection(POINTS).grid().numpy(), np.arange(long + 1)
    truth = roll_out(true_step, test, long)
    waves = [Curve(grid, truth[-1][0].numpy(), "true", -1, width=2.0)]
    errors, norms = [], []
    for i, name in enumerate(NETWORKS):
        states = roll_out(load(folder / "parts" / f"{name}-0.safetensors").double(), test, long)
        waves.append(Curve(grid, states[-1][0].numpy(), name, i, dashed=True))
        errors.append(Curve(times[1:], (states - truth).norm(dim=2).mean(1)[1:].numpy(), name, i))
        norms.append(Curve(times, states.norm(dim=2).mean(1).numpy(), name, i))
    panels = [
        Panel(f"a held-out wave after {long} steps", waves, "x", "u"),
        Panel("mean error", errors, "steps", log_x=10, log_y=True),
        Panel("mean norm (true: 1)", norms, "steps"),
    ]
    draw_panels(panels, folder / "advection.svg")
