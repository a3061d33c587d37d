"""Lecture appendix, "Implementation with PyTorch": a Neural ODE learned from irregularly sampled oscillations.

The lecture's program: 1,000 solutions of the harmonic oscillator, observed at 50 times on [0, 2 pi], here drawn at
random; a network 2-32-2 with tanh, in float32; Adam with a learning rate of 1e-2 on the mean square error, all data in
every one of 1,000 iterations; tolerances 1e-7 and 1e-9 (torchdiffeq's defaults). It is run with torchdiffeq, if that is
installed, and with this library, from the same weights. The lecture differentiates by torchdiffeq's `odeint_adjoint`;
since that takes a quarter of an hour, it is timed over a few iterations, and `odeint` does the training in its place.
Last, what we would do: tolerances that fit the data, a learning rate that falls, fewer iterations.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..fields import FreeField
from ..integrators import Dopri5, EmbeddedRungeKutta, Tsit5
from ..report.panels import Curve, Dots, Panel, draw_panels
from ..solvers import integrate
from ..tasks.progress import Progress, silent
from ..train.schedule import one_cycle
from ._folder import once, open_folder, seeded, write_table

SOLUTIONS, TIMES, ITERATIONS, FEW, OWN = 1000, 50, 1000, 5, 300
Solver = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (network, x0, times) -> (times, batch, 2)
COLUMNS = {
    "program": "", "iterations": "d", "training error": ".2e", "test error": ".2e", "CPU seconds": ".1f",
    "seconds per iteration": ".4f", "seconds to the error of odeint": ".1f", "share of odeint": ".2f",
    "share of odeint_adjoint": ".3f",
}  # fmt: skip


def sampled(solutions: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Initial states (n, 2), times (50,), the first 0, and the exact states (50, n, 2)."""
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.randn(solutions, 2, generator=generator)
    inner = 2 * math.pi * torch.rand(TIMES - 1, generator=generator, dtype=torch.float64)
    times = torch.cat([torch.zeros(1, dtype=torch.float64), inner.sort().values])
    return x0, times.float(), exact(x0, times.float())


def exact(x0: Tensor, times: Tensor) -> Tensor:
    """The solutions of q' = p, p' = -q: rotations."""
    c, s = times.cos()[:, None], times.sin()[:, None]
    q, p = x0.unbind(1)
    return torch.stack([c * q + s * p, c * p - s * q], 2)


def network() -> nn.Module:
    """The lecture's, with the weights of seed 0."""
    with seeded(0):
        return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))


def ours(integrator: EmbeddedRungeKutta) -> Solver:
    """This library's solve."""
    return lambda net, x0, times: integrate(FreeField(net), x0, times.tolist(), integrator=integrator).states


def theirs(name: str) -> Solver | None:
    """torchdiffeq's solve of that name, if it is installed."""
    try:
        solve = getattr(importlib.import_module("torchdiffeq"), name)
    except ImportError:
        return None

    class Field(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return self.net(y)

    return lambda net, x0, times: solve(Field(net), x0, times)


def train(name: str, solve: Solver, rate: Callable[[int], float], iterations: int, quick: bool, told: Progress) -> Any:
    """The lecture's loop; the learning rate is that of the step."""
    x0, times, wanted = sampled(30 if quick else SOLUTIONS, 0)
    net = network()
    adam = torch.optim.Adam(net.parameters(), lr=rate(0))
    errors, seconds, began = [], [], time.process_time()
    for step in range(iterations):
        for group in adam.param_groups:
            group["lr"] = rate(step)
        error = (solve(net, x0, times) - wanted).square().mean()
        adam.zero_grad()
        error.backward()
        adam.step()
        errors.append(float(error.detach()))
        seconds.append(time.process_time() - began)
        told(name, step + 1, iterations, f"error {errors[-1]:.3g}")
    start, _, _ = sampled(50 if quick else 500, 1)
    grid = torch.linspace(0, 2 * math.pi, 101)
    with torch.no_grad():
        found = ours(Dopri5(1e-7, 1e-9))(net, start, grid)
    return {
        "program": name, "iterations": iterations, "training error": errors[-1],
        "test error": float((found - exact(start, grid)).square().mean()), "CPU seconds": seconds[-1],
        "seconds per iteration": seconds[-1] / iterations, "errors": errors, "times": seconds,
        "path": found[:, :3].tolist(), "start": start[:3].tolist(),
    }  # fmt: skip


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: all programs, table and figure.

    Raises:
        InputError: `data` is given: the study makes its own.
    """
    folder = open_folder("irregular-sampling", data=data, out=out, quick=quick, settings={"quick": quick})
    lecture, own = (4, 3) if quick else (ITERATIONS, OWN)
    programs: list[tuple[str, Solver | None, Callable[[int], float], int]] = [
        ("torchdiffeq, odeint_adjoint", theirs("odeint_adjoint"), lambda step: 1e-2, 1 if quick else FEW),
        ("torchdiffeq, odeint", theirs("odeint"), lambda step: 1e-2, lecture),
        ("stablenets, the same program", ours(Dopri5(1e-7, 1e-9)), lambda step: 1e-2, lecture),
        (
            "stablenets, its own settings",
            ours(Tsit5(1e-4, 1e-6)),
            lambda step: one_cycle(step, own, low=2e-3, peak=3e-2),
            own,
        ),
    ]
    with seeded(0):
        rows: list[dict[str, Any]] = [
            once(
                folder / "parts" / f"{name.replace(', ', '-').replace(' ', '-')}.json",
                lambda n=name, s=solve, r=rate, i=count: train(n, s, r, i, quick, progress),
            )
            for name, solve, rate, count in programs
            if solve is not None
        ]
    write_table(folder / "irregular-sampling.md", COLUMNS, compared(rows))
    _draw(rows, folder / "irregular-sampling.svg")
    return folder


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the table: with the time that each program took to the last error of torchdiffeq's `odeint`.

    Adam's errors scatter from step to step: what is compared are lowest errors so far. The lecture's own program takes
    the same steps as `odeint`, so its time is that of 1,000 of its iterations.
    """
    peer = next((r for r in rows if r["program"] == "torchdiffeq, odeint"), None)
    adjoint = next((r for r in rows if r["program"] == "torchdiffeq, odeint_adjoint"), None)
    found = []
    for row in rows:
        reached = None
        if row is adjoint:
            reached = None if peer is None else row["seconds per iteration"] * peer["iterations"]
        elif peer is not None:
            lowest = np.minimum.accumulate(row["errors"])
            first = np.flatnonzero(lowest <= min(peer["errors"]))
            reached = row["times"][int(first[0])] if len(first) else None
        short = row is adjoint
        found.append(
            {
                **{k: v for k, v in row.items() if k not in ("errors", "times", "path", "start")},
                "training error": None if short else row["training error"],
                "test error": None if short else row["test error"],
                "seconds to the error of odeint": reached,
            }
        )
    by_name = {r["program"]: r["seconds to the error of odeint"] for r in found}
    for row in found:
        for name in ("odeint", "odeint_adjoint"):
            base, own = by_name.get(f"torchdiffeq, {name}"), row["seconds to the error of odeint"]
            row[f"share of {name}"] = own / base if own is not None and base else None
    return found


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    learned = rows[-1]
    grid = torch.linspace(0, 2 * math.pi, 101)
    marks: list[Any] = []
    _, times, _ = sampled(1, 0)
    states = np.array(learned["path"])
    for i in range(states.shape[1]):
        seen = exact(torch.tensor(learned["start"])[i : i + 1], times)[:, 0, 0]
        marks.append(Curve(grid.numpy(), states[:, i, 0], "learned" if i == 0 else "", 0))
        marks.append(Dots(np.stack([times.numpy(), seen.numpy()], 1), "exact, at the times" if i == 0 else "", 1))
    curves = [
        Curve(np.array(r["times"]), np.array(r["errors"]), r["program"], i)
        for i, r in enumerate(rows)
        if r["program"] != "torchdiffeq, odeint_adjoint"
    ]
    panels = [
        Panel("training error", curves, x_label="CPU seconds", log_x=10, log_y=True),
        Panel("new solutions", marks, x_label="t", y_label="q"),
    ]
    draw_panels(panels, path, columns=2, height=3.2)
