"""Lecture "imposing structure": a norm-preserving architecture, or a regulariser in the loss that asks for it.

The flow map x(0) -> x(STEP) of the free rigid body is learned from pairs; it keeps |x|. All networks share one trunk
N(x), a ResNet of two Euler steps:

- loss: N itself, with the lecture's regulariser w (|x| - |N(x)|)^2 in the loss, for weights w from 0 to 1,000;
- scaled: the lecture's architecture N(x) |x| / |N(x)|, with the same number of parameters;
- norm-conserving: steps along `fields.NormConserving`, made exact by a projection.

The last two keep the norm whatever their weights. Judged on held-out states: the error of one step, and error and drift
of the norm in a long roll-out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..fields import NormConserving, TwoLayerField
from ..integrators import RK4, Euler, Midpoint, Projection
from ..layers import Chain, Flow
from ..linear import Dense
from ..report.panels import Curve, Panel, draw_panels
from ..systems import RigidBody
from ..tasks.progress import Progress, silent
from ..train import minimise
from ._folder import once, open_folder, seeded, told, write_table
from ._held_out import norm_drift, parameters, relative_error, roll_out, spread

STEP, PAIRS, HELD_OUT, WIDTH = 0.5, 200, 200, 24
WEIGHTS = (0.0, 0.1, 1.0, 10.0, 100.0, 1000.0)  # of the regulariser
STEPS, QUICK_STEPS = 1500, 20
LONG, QUICK_LONG = 1000, 20  # steps of the roll-out, for the drift of the norm
COMPARED = 50  # of them, for the error: the time 25, four turns or so
SEEDS = range(3)


class Scaled(nn.Module):
    """x -> N(x) |x| / |N(x)|."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        return y * (x.norm(dim=1, keepdim=True) / y.norm(dim=1, keepdim=True))


def trunk() -> Chain:
    """A ResNet of two Euler steps."""
    return Chain(*(Flow(TwoLayerField(Dense(3, WIDTH), Dense(3, WIDTH)), Euler(), h=1.0) for _ in range(2)))


def conserving() -> Chain:
    """Two steps along norm-conserving fields."""
    width = round(WIDTH * 7 / 10)  # 10 numbers a unit instead of 7
    fields = [NormConserving(*(Dense(3, width) for _ in range(2)), gate=Dense(3, width)) for _ in range(2)]
    return Chain(*(Flow(f, Projection(Midpoint()), h=1.0) for f in fields))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{f"loss, weight {w:g}": trunk for w in WEIGHTS},
    "scaled": lambda: Scaled(trunk()),
    "norm-conserving": conserving,
}


def sphere(count: int, seed: int) -> Tensor:
    """Random states with norms between 0.5 and 1.5, float64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True) * (0.5 + torch.rand(count, 1, generator=generator, dtype=torch.float64))


def true_step(x: Tensor) -> Tensor:
    """The state after the time STEP: 10 steps of RK4, exact to about 1e-8."""
    for _ in range(10):
        x = RK4().step(RigidBody(), x, STEP / 10)
    return x


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: networks for each weight and seed, the table and the figure.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
        TrainingError: a training diverged.
    """
    steps, long, seeds = (QUICK_STEPS, QUICK_LONG, range(1)) if quick else (STEPS, LONG, SEEDS)
    settings = {"steps": steps, "roll-out": long, "seeds": len(seeds)}
    folder = open_folder("architecture-or-loss", data=data, out=out, quick=quick, settings=settings)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in NETWORKS:
        stem = name.replace(",", "").replace(" ", "-")
        found[name] = [
            once(folder / "parts" / f"{stem}-{s}.json", lambda n=name, s=s: _train(n, s, steps, long, progress))
            for s in seeds
        ]
    rows = []
    for name, results in found.items():
        cells = {column: spread([r[key] for r in results], ".1e") for column, key in MEASURED.items()}
        rows.append({"structure by": name, "parameters": str(results[0]["parameters"]), **cells, "seeds": results})
    columns = dict.fromkeys(("structure by", "parameters", *MEASURED), "")
    write_table(folder / "architecture-or-loss.md", columns, rows)
    _draw(found, folder / "architecture-or-loss.svg")
    return folder


MEASURED = {
    "error, one step": "one step",
    "norm drift, one step": "one step drift",
    f"error, {COMPARED} steps": "roll-out",
    f"norm drift, {LONG} steps": "drift",
}


def _train(name: str, seed: int, steps: int, long: int, progress: Progress) -> dict[str, Any]:
    weight = float(name.rsplit(" ", 1)[1]) if name.startswith("loss") else 0.0
    x = sphere(PAIRS, seed)
    y, sizes = true_step(x), x.norm(dim=1)
    with seeded(seed):
        net = NETWORKS[name]().double()

        def loss(net: nn.Module, step: int) -> Tensor:
            z = net(x)
            fit = (z - y).square().sum(1).mean()
            return fit + weight * (sizes - z.norm(dim=1)).square().mean() if weight else fit

        minimise(net, loss, steps=steps, on_step=told(progress, f"{name}, seed {seed}"))
        test = sphere(HELD_OUT, 1000 + seed)
        states, truth = roll_out(net, test, long), roll_out(true_step, test, min(long, COMPARED))
        size = parameters(net)
    errors = [relative_error(a, b) for a, b in zip(states, truth, strict=False)]
    return {
        "parameters": size, "one step": errors[1], "one step drift": norm_drift(states[:2]), "roll-out": errors[-1],
        "drift": norm_drift(states), "steps": long, "steps compared": len(errors) - 1,
        "drift at": [norm_drift(states[: 2**j + 1]) for j in range(long.bit_length())],
    }  # fmt: skip


def _draw(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    def middle(name: str, key: str) -> Any:
        return np.median([r[key] for r in found[name]], axis=0)

    weights = np.array([max(w, 0.01) for w in WEIGHTS])  # 0 is drawn at 0.01
    losses = [name for name in found if name.startswith("loss")]
    panels = []
    for title, key in (("held-out error, one step", "one step"), ("norm drift in the roll-out", "drift")):
        curves = [Curve(weights, np.array([middle(n, key) for n in losses]), "by the loss", 0, dashed=True, marks=True)]
        for i, name in enumerate(("scaled", "norm-conserving")):
            curves.append(Curve(weights, np.full(len(weights), middle(name, key)), name, i + 1))
        panels.append(Panel(title, curves, "weight of the regulariser (left: none)", log_x=10, log_y=True))
    times = 2.0 ** np.arange(len(found["scaled"][0]["drift at"]))
    shown = [losses[0], losses[-1], "scaled", "norm-conserving"]
    curves = [Curve(times, middle(n, "drift at"), n, i) for i, n in enumerate(shown)]
    panels.append(Panel("norm drift up to a step", curves, "steps", log_x=2, log_y=True))
    draw_panels(panels, path)
