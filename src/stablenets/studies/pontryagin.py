"""ADef 3, "Optimal control theory": a network trained by gradients and by successive approximations of Pontryagin.

Two moons are lifted to R^3 and classified by ten Euler steps of x' = A_k tanh(x) + b_k, with the running cost
R = |A_k|^2 / 500 + |b_k|^2 / 500. These fields are affine in the controls, so that every Hamiltonian is concave in
them, and what is stationary is a maximum: Pontryagin's condition can be checked exactly. The basic method of successive
approximations (rho = 0) is compared with the extended one, and with Adam; then costs, gains of the Hamiltonians and
their course in time. (For continuous time the Hamiltonian of an optimal autonomous problem is constant.)
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.densities import density
from ..fields import Field, FreeField
from ..report.panels import Curve, Panel, draw_panels
from ..tasks.progress import Progress, silent
from ..train import minimise
from ..train.control import ControlProblem, maximum_condition, successive_approximations
from ._folder import once, open_folder, seeded, write_table

LAYERS, H, WEIGHT, POINTS, SHARPNESS = 10, 0.5, 2e-3, 200, 4.0
SEEDS = 3
METHODS: dict[str, float | None] = {
    "gradient descent (Adam)": None,
    "successive approximations, rho = 0": 0.0,
    "successive approximations, rho = 1": 1.0,
    "successive approximations, rho = 10": 10.0,
}
ADAM, ITERATIONS = 600, 150
COLUMNS = {
    "method": "", "seed": "d", "iterations": "d", "cost": ".4f", "lowest cost": ".4f", "accuracy": ".1%",
    "slope of H": ".1e", "gain of H": ".1e", "variation of H": ".1e", "CPU seconds": ".1f",
}  # fmt: skip


def points(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of the two moons in R^3 (count, 3), and signs: -1 and 1."""
    x = torch.from_numpy(density("moons").sample(count, seed))
    upper = torch.from_numpy(moon(x.numpy()))
    return torch.cat([x, torch.zeros(count, 1, dtype=x.dtype)], 1), torch.where(upper, 1.0, -1.0).double()


def moon(x: np.ndarray) -> np.ndarray:
    """Whether points are nearer to the first moon than to the second."""
    angle = np.pi * np.linspace(0, 1, 200)

    def distance(sign: float) -> np.ndarray:
        curve = np.stack([np.cos(angle) - 0.5 * sign, sign * (np.sin(angle) - 0.5)], 1)
        return np.linalg.norm(x[:, None] - curve, axis=2).min(1)

    return distance(1.0) < distance(-1.0)


def problem(labels: Tensor, seed: int) -> ControlProblem:
    """The control problem, with initial controls that `seed` gives."""
    generator = torch.Generator().manual_seed(seed)
    fields: list[Field] = []
    for _ in range(LAYERS):
        layer = nn.Linear(3, 3).double()
        for p in layer.parameters():
            p.data = 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        fields.append(FreeField(nn.Sequential(nn.Tanh(), layer)))

    def running(x: Tensor, f: Field, t: float) -> Tensor:
        return WEIGHT * torch.stack([p.square().sum() for p in f.parameters()]).sum()

    return ControlProblem(fields, H, lambda x: F.softplus(-SHARPNESS * labels * x[:, 0]), running)


def train(name: str, seed: int, quick: bool, told: Progress) -> dict[str, Any]:
    """Minimise the cost in one way, and check Pontryagin's conditions."""
    x, labels = points(POINTS, seed)
    p, rho = problem(labels, seed), METHODS[name]
    iterations = 3 if quick else ADAM if rho is None else ITERATIONS
    task, began = f"{name}, seed {seed}", time.process_time()
    costs: list[float] = []
    seconds: list[float] = []

    def on_step(done: int, cost: float) -> None:
        costs.append(cost)
        seconds.append(time.process_time() - began)
        told(task, done, iterations, f"cost {cost:.4g}")

    if rho is None:
        net = nn.ModuleList(p.fields)
        last = minimise(
            net, lambda net, step: p.cost(x), steps=iterations, peak=3e-2, on_step=lambda d, n, c: on_step(d - 1, c)
        )
        on_step(iterations, last)
    else:
        successive_approximations(p, x, iterations=iterations, rho=rho, inner=5, on_step=on_step)
    spent = time.process_time() - began
    conditions = maximum_condition(p, x, tries=1 if quick else 2, iterations=5 if quick else 100)
    course = [c.hamiltonian for c in conditions]
    test, wanted = points(2000, 1000 + seed)
    with torch.no_grad():
        right = torch.sign(p.states(test)[-1][:, 0]) == wanted
    return {
        "method": name, "seed": seed, "iterations": iterations, "cost": costs[-1], "lowest cost": min(costs),
        "accuracy": float(right.double().mean()), "slope of H": max(c.slope for c in conditions),
        "gain of H": max(c.gain for c in conditions), "variation of H": max(course) - min(course),
        "CPU seconds": spent, "costs": costs, "times": seconds, "hamiltonians": course,
    }  # fmt: skip


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: every method from three initial controls, table and figure.

    Raises:
        InputError: `data` is given: the study makes its own.
    """
    folder = open_folder("pontryagin", data=data, out=out, quick=quick, settings={"quick": quick})
    with seeded(0):
        rows = [
            once(folder / "parts" / f"{i}-{seed}.json", lambda n=name, s=seed: train(n, s, quick, progress))
            for i, name in enumerate(METHODS)
            for seed in range(1 if quick else SEEDS)
        ]
    hidden = ("costs", "times", "hamiltonians")
    write_table(folder / "pontryagin.md", COLUMNS, [{k: v for k, v in r.items() if k not in hidden} for r in rows])
    _draw([row for row in rows if row["seed"] == 0], folder / "pontryagin.svg")
    return folder


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    cost = [Curve(np.array(r["times"]), np.array(r["costs"]), r["method"], i) for i, r in enumerate(rows)]
    grid = H * np.arange(LAYERS)
    course = [Curve(grid, np.array(r["hamiltonians"]), "", i, marks=True) for i, r in enumerate(rows)]
    panels = [
        Panel("cost", cost, x_label="CPU seconds", log_y=True),
        Panel("mean Hamiltonian after training", course, x_label="t"),
    ]
    draw_panels(panels, path, columns=2, height=3.2)
