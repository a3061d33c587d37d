"""Chapter Example 1, section 6.1 and Exercise 15: an ill-conditioned problem in the plane, inverted stably.

Points x on a curve are measured as y = A x + noise with A = [[1 + e, 1], [1, 1 + e]], e = 1/4, whose singular values
are 2 + e and e. Naive inversion blows the noise up to fourfold. Compared, on the same test set:

- Tikhonov regularisation with every parameter tau; the best on the training set has the Lipschitz constant L*;
- InvNet, certified to be L-Lipschitz, for L = L*/3, L* and 3 L*, trained together (`train.together`), with training
  sets of 20, 100 and 500 pairs and two activations (Exercise 15).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ClaimError, message
from ..core.properties import Lipschitz
from ..fields import Activation, ReLU, Tanh
from ..inverse.tikhonov import Tikhonov, grid_search, lipschitz
from ..layers import Flow, load, save
from ..linear import Dense
from ..networks import InvNet
from ..report.panels import Curve, Dots, Panel, draw_panels
from ..tasks.progress import Progress, silent
from ..train.together import fit_together
from ._folder import once, open_folder, seeded, write_table

EPSILON, NOISE = 0.25, 0.3
SIZES, TEST = (20, 100, 500), 1000  # pairs to train with (the middle one is the default), and to test with
FACTORS = {"L*/3": 1 / 3, "L*": 1.0, "3L*": 3.0}
ACTIVATIONS: dict[str, type[Activation]] = {"ReLU": ReLU, "Tanh": Tanh}
TAUS = np.logspace(-5, 2, 281).tolist()
STEPS, QUICK_STEPS = 10_000, 150
KEPT = 100  # losses that are kept of each training


def operator() -> Dense:
    """A, in float64."""
    a = Dense(2, 2).double()
    a.weight.data = torch.tensor([[1 + EPSILON, 1.0], [1.0, 1 + EPSILON]], dtype=torch.float64)
    return a


def sample(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """x on three quarters of the unit circle, and y = A x + Gaussian noise; (count, 2) each, float64."""
    random = np.random.default_rng(seed)
    angle = 1.5 * np.pi * random.random(count)
    x = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], 1))
    with torch.no_grad():
        return x, operator()(x) + NOISE * torch.from_numpy(random.standard_normal((count, 2)))


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: two tables and the figures.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
        ClaimError: a network is not proved to be L-Lipschitz (a bug).
    """
    steps = QUICK_STEPS if quick else STEPS
    settings = {"steps": steps, "noise": NOISE, "test": TEST}
    folder = open_folder("inverse-2d", data=data, out=out, quick=quick, settings=settings)
    x_test, y_test = sample(TEST, seed=1)
    classical = once(folder / "parts" / "tikhonov.json", lambda: _tikhonov(x_test, y_test))
    rows: list[dict[str, Any]] = []
    jobs = sorted(((size, name) for size in SIZES for name in ACTIVATIONS), key=lambda j: j[0] != SIZES[1])
    for i, (size, name) in enumerate(jobs):
        best = classical["by size"][str(size)]
        path = folder / "parts" / f"invnet-{size}-{name}.json"
        rows += once(path, lambda s=size, n=name, b=best, i=i: _train(folder, s, n, b, steps, progress, (i, len(jobs))))
    _write_tables(folder, classical, rows)
    _draw(folder, classical, rows, x_test, y_test)
    return folder


def _tikhonov(x_test: Tensor, y_test: Tensor) -> dict[str, Any]:
    a = operator()
    values = torch.linalg.svdvals(a.weight.detach()).tolist()
    found: dict[str, Any] = {}
    for size in SIZES:
        x, y = sample(size, seed=0)
        tau, errors = grid_search(a, x, y, TAUS)
        found[str(size)] = {"tau": tau, "L": lipschitz(values, tau), "errors": errors}
    tau, errors = grid_search(a, x_test, y_test, TAUS)  # no tau does better on the test set than this one
    with torch.no_grad():
        naive = y_test @ torch.linalg.inv(a.weight).mT
    return {
        "by size": found, "test errors": errors, "best tau on the test set": tau, "least test error": min(errors),
        "naive test error": float((naive - x_test).square().sum(1).mean()),
        "L": [lipschitz(values, t) for t in TAUS],
    }  # fmt: skip


def _train(
    folder: Path, size: int, name: str, best: dict[str, Any], steps: int, progress: Progress, place: tuple[int, int]
) -> list[dict[str, Any]]:
    """Three networks on one training set, certified; the files of their weights, and a row for each."""
    x, y = (v.float() for v in sample(size, seed=0))
    x_test, y_test = sample(TEST, seed=1)
    with seeded(0):
        nets = [InvNet(2, best["L"] * f, activation=ACTIVATIONS[name]()) for f in FACTORS.values()]

        def told(done: int, losses: Any) -> None:
            if done % 50 == 0 or done == steps:
                note = f"{name}, {size} pairs, losses {', '.join(f'{v:.3f}' for v in losses)}"
                progress("training", place[0] * steps + done, place[1] * steps, note)

        losses = fit_together(nets, y, x, steps=steps, on_step=told)
    rows = []
    for (label, factor), net, curve in zip(FACTORS.items(), nets, losses.mT.tolist(), strict=True):
        net.double().train().eval()  # the certificate is about the weights in float64, with steps taken afresh
        bound, proved = best["L"] * factor, net.claims().get(Lipschitz)
        if proved is None or not proved.bound <= bound:
            raise ClaimError(
                message(f"InvNet is proved {proved}, not {bound}-Lipschitz", "a proof", "Report this bug.")
            )
        (folder / "models").mkdir(exist_ok=True)
        save(net, folder / "models" / f"{size}-{name}-{label.replace('/', '-')}.safetensors")
        with torch.no_grad():
            error = float((net(y_test) - x_test).square().sum(1).mean())
        rows.append({
            "training pairs": size, "activation": name, "bound": label, "L": bound, "proved": proved.bound,
            "stretched by": stretch(net, y_test), "training error": curve[-1], "test error": error,
            "Euler steps": sum(f.step_count for f in net.modules() if isinstance(f, Flow)),
            "losses": curve[:: max(1, steps // KEPT)],
        })  # fmt: skip
    return rows


def stretch(net: InvNet, y: Tensor) -> float:
    """The largest singular value of the Jacobian at the points `y`: a lower bound of the Lipschitz constant."""
    jacobians = torch.func.vmap(torch.func.jacrev(lambda v: net(v[None])[0]))(y)
    return float(torch.linalg.matrix_norm(jacobians.detach(), 2).max())


def _write_tables(folder: Path, classical: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    table = [
        {
            "training pairs": size, "tau*": found["tau"], "L*": found["L"], "training error": min(found["errors"]),
            "test error": classical["test errors"][TAUS.index(found["tau"])],
            "least test error of any tau": classical["least test error"],
            "naive inversion": classical["naive test error"],
        }
        for size, found in ((s, classical["by size"][str(s)]) for s in SIZES)
    ]  # fmt: skip
    errors = dict.fromkeys(("training error", "test error"), ".4f")
    others = dict.fromkeys(("least test error of any tau", "naive inversion"), ".4f")
    write_table(folder / "tikhonov.md", {"training pairs": "", "tau*": ".4g", "L*": ".4f", **errors, **others}, table)
    columns = {"training pairs": "", "activation": "", "bound": "", "L": ".4f", "proved": ".4f", "stretched by": ".4f"}
    write_table(folder / "invnet.md", {**columns, **errors, "Euler steps": ""}, rows)


def _draw(folder: Path, classical: dict[str, Any], rows: list[dict[str, Any]], x: Tensor, y: Tensor) -> None:
    a, default = operator(), classical["by size"][str(SIZES[1])]
    span = (-1.9, 1.9, -1.9, 1.9)
    with torch.no_grad():
        clean, inverse = a(x), torch.linalg.inv(a.weight).mT
        pictures = {"x": x, "A x": clean, "A^-1 A x": clean @ inverse, "y = A x + noise": y, "A^-1 y": y @ inverse}
    panels: list[Panel] = [Panel(name, [Dots(v.numpy())], equal=True) for name, v in pictures.items()]
    x_train, y_train = sample(SIZES[1], seed=0)
    marks = [Dots(x_train.numpy(), "x", 0, 4), Dots(y_train.numpy(), "y", 1, 4)]
    draw_panels([*panels, Panel("training set", marks, equal=True)], folder / "figures-1-6-problem.svg")
    taus = np.array(TAUS)
    grid = [
        Curve(taus, np.array(default["errors"]), "training set"),
        Curve(taus, np.array(classical["test errors"]), "test set", 1),
    ]
    constants = [
        Curve(taus, np.array(classical["L"])),
        Dots(np.array([[default["tau"], default["L"]]]), "tau*, L*", 1, 6),
    ]
    panels = [
        Panel("mean squared error of Tikhonov", grid, "tau", log_x=10, log_y=True),
        Panel("L(tau) = max s / (s^2 + tau)", constants, "tau", log_x=10),
        *(_restored(f"Tikhonov, {k}", Tikhonov(a, _tau(default["L"] * f)), x, y, span) for k, f in FACTORS.items()),
    ]
    draw_panels(panels, folder / "figures-7-9-tikhonov.svg")
    chosen = [r for r in rows if (r["training pairs"], r["activation"]) == (SIZES[1], "ReLU")]
    curves = [
        Curve(np.linspace(0, 1, len(r["losses"])), np.array(r["losses"]), f"InvNet, {r['bound']}", i)
        for i, r in enumerate(chosen)
    ]
    panels = [Panel("training loss", curves, "part of the training", log_y=True)]
    for r in chosen:
        net = load(folder / "models" / f"{SIZES[1]}-ReLU-{r['bound'].replace('/', '-')}.safetensors")
        panels.append(_restored(f"InvNet, {r['bound']}", net, x, y, span))
    draw_panels(panels, folder / "figures-10-11-invnet.svg", columns=4)


def _restored(title: str, inverse: torch.nn.Module, x: Tensor, y: Tensor, span: Any) -> Panel:
    with torch.no_grad():
        found = inverse(y)
    return Panel(title, [Dots(found.numpy(), colour=1), Dots(x.numpy(), colour=-1, size=1.5)], equal=True, span=span)


def _tau(bound: float) -> float:
    """The tau with L(tau) = `bound`, by bisection: L falls; 1e-12 where the bound exceeds every L."""
    low, high, values = 1e-12, 1e6, (2 + EPSILON, EPSILON)
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if lipschitz(values, middle) > bound else (low, middle)
    return low
