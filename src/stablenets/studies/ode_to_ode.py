"""Lecture appendix, "ODE to an ODE": weights that flow on the orthogonal matrices, beside weights that do not.

Two spirals are lifted to R^6 and classified by the flow of x' = tanh(W(t) x + b) for a time of 8. W is constant and
free, or different and free in each of 16 intervals, or it flows on O(6). Then how far W is from orthogonal at any time,
in both precisions, and the singular values of the Jacobian of the whole flow: where they span decades, gradients
explode or vanish. With `convex`, x' = -W^T relu(W x + b), the flow is proved to be non-expansive.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.properties import Lipschitz, jacobian
from ..data.densities import density
from ..fields import Field, FreeField, PiecewiseConstant, ReLU, WeightFlow
from ..integrators import RK4
from ..layers import Flow
from ..report.panels import Curve, Panel, draw_panels
from ..tasks.progress import Progress, silent
from ..train import minimise
from ._folder import once, open_folder, seeded, told, write_table

WIDTH, TIME, PIECES, SEEDS, STEPS, POINTS = 6, 8.0, 16, 3, 300, 400


def _free() -> Field:
    return FreeField(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()))


FIELDS: dict[str, Callable[[], Field]] = {
    "constant": _free,
    "free in each interval": lambda: PiecewiseConstant(*(_free() for _ in range(PIECES)), interval=TIME / PIECES),
    "flowing on O(d)": lambda: WeightFlow(WIDTH, 16, time=TIME, steps=2 * PIECES),
    "flowing on O(d), convex": lambda: WeightFlow(
        WIDTH, 16, activation=ReLU(), convex=True, time=TIME, steps=2 * PIECES
    ),
}
COLUMNS = {
    "weights": "", "parameters": "d", "seed": "d", "loss": ".3f", "test accuracy": ".1%", "defect, float32": ".1e",
    "defect, float64": ".1e", "smallest singular value": ".1e", "largest": ".1e", "proved": ".3f", "CPU seconds": ".0f",
}  # fmt: skip


def points(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of two spirals (count, 2), and their labels 0 and 1."""
    random = np.random.default_rng(seed)
    s, sign = random.random(count), random.choice([-1.0, 1.0], size=count)
    spirals: Any = density("spirals")
    x = spirals.curve(s, sign) + spirals.noise * random.standard_normal((count, 2))
    return torch.from_numpy(x).float(), torch.from_numpy(sign > 0).long()


class Classifier(nn.Module):
    """Affine lift, flow, affine head."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(2, WIDTH), nn.Linear(WIDTH, 2)
        self.flow = Flow(field, RK4(), time=TIME, steps=PIECES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flow(self.lift(x)))


@torch.no_grad()
def defect(field: Field, dtype: torch.dtype) -> float | None:
    """The largest ||W^T W - I|| over 201 times, of W as the states of that precision see it; None for free weights."""
    if not isinstance(field, WeightFlow):
        return None
    found = []
    for t in np.linspace(0, TIME, 201):
        w = field.weights(float(t)).to(dtype).double()
        found.append(float(torch.linalg.matrix_norm(w.mT @ w - torch.eye(WIDTH, dtype=torch.float64), 2)))
    return max(found)


def train(kind: str, seed: int, quick: bool, progress: Progress) -> dict[str, Any]:
    """Train one classifier, and measure it."""
    x, labels = points(POINTS, seed)
    began = time.process_time()
    with seeded(seed):
        net = Classifier(FIELDS[kind]())
        loss = minimise(
            net, lambda net, step: F.cross_entropy(net(x), labels), steps=3 if quick else STEPS, peak=2e-2,
            on_step=told(progress, f"{kind}, seed {seed}"),
        )  # fmt: skip
        spent = time.process_time() - began
        test, wanted = points(1000, 1000 + seed)
        with torch.no_grad():
            right = float((net(test).argmax(1) == wanted).double().mean())
        exact = copy.deepcopy(net).double()
        sizes = torch.linalg.svdvals(jacobian(exact.flow, exact.lift(test[:40].double())).detach())
    proved = exact.flow.claims().get(Lipschitz)
    return {
        "weights": kind, "parameters": sum(p.numel() for p in net.parameters()), "seed": seed, "loss": loss,
        "test accuracy": right, "defect, float32": defect(net.flow.field, torch.float32),
        "defect, float64": defect(exact.flow.field, torch.float64),
        "smallest singular value": float(sizes.min()), "largest": float(sizes.max()),
        "proved": proved.bound if proved and proved.bound < 1e3 else None, "CPU seconds": spent,
        "sizes": sizes.log10().mean(0).tolist(),
    }  # fmt: skip


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: all kinds of weights, table and figure.

    Raises:
        InputError: `data` is given: the study makes its own.
    """
    folder = open_folder("ode-to-ode", data=data, out=out, quick=quick, settings={"quick": quick})
    rows = [
        once(folder / "parts" / f"{i}-{seed}.json", lambda k=kind, s=seed: train(k, s, quick, progress))
        for i, kind in enumerate(FIELDS)
        for seed in range(1 if quick else SEEDS)
    ]
    write_table(folder / "ode-to-ode.md", COLUMNS, [{k: v for k, v in r.items() if k != "sizes"} for r in rows])
    place = np.arange(1, WIDTH + 1)
    marks = [
        Curve(place, 10.0 ** np.array(r["sizes"]), r["weights"], i, marks=True)
        for i, r in enumerate(row for row in rows if row["seed"] == 0)
    ]
    panel = Panel(
        "singular values of the flow's Jacobian", marks, x_label="from the largest to the smallest", log_y=True
    )
    draw_panels([panel], folder / "ode-to-ode.svg", height=3.4)
    return folder
