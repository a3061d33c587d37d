"""Learned dynamics with a stable equilibrium, and contracting ones, in continuous and in discrete time.

Stable (chapter (29), Kolter & Manek): the double pendulum with friction is learned from states and their derivatives by
`LyapunovStable`, whose V falls along every solution. In discrete time this is lost by Euler's method and RK4;
`LyapunovStep` keeps it for every step size. Beside it is a free network of the same trunk.

Contracting: two systems in the plane, both drawn to the origin, are learned by three fields. All solutions of a first,
a Hopfield network, approach each other. Those of a second, a whirl that turns faster near the origin, may part first.

- `Contracting`: any two solutions approach each other as exp(-rate t), a worst case over all pairs. Checked on 1e5
  pairs, and by the largest eigenvalue of Sym Df at the points of the pairs.
- `EquilibriumContracting` (chapter (30)): Sym A <= -rate in x' = A(x) (x - x*), so |x - x*| falls as exp(-rate t). That
  is all: Sym Df may have positive eigenvalues, and pairs of solutions may part. Both are counted.
- free: nothing is proved.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.properties import Dissipates, Lipschitz, OneSidedLipschitz, jacobian
from ..fields import (
    Contracting,
    ConvexGradient,
    ConvexPotential,
    EquilibriumContracting,
    Field,
    FreeField,
    LyapunovStable,
    Softplus,
)
from ..integrators import RK4, Euler, ImplicitEuler, Integrator, LyapunovStep
from ..linear import Dense
from ..report.panels import Curve, Panel, draw_panels
from ..systems import NLinkPendulum
from ..tasks.progress import Progress, silent
from ..train import minimise
from ._folder import once, open_folder, seeded, told, write_table
from ._held_out import roll_out, spread

H, SEEDS = 0.2, range(3)
TRAJECTORIES, LENGTH = 500, 200  # of the issue: 1e5 steps in all
PAIRS = 100_000
STEPS, QUICK_STEPS = 1500, 10
RATE = 0.5  # of the contracting fields
TIMES = 0.05 * np.arange(101)  # at which pairs are compared
STEPPERS: dict[str, Callable[[], Integrator[Any]]] = {"LyapunovStep": LyapunovStep, "RK4": RK4, "Euler": Euler}


# --- stable ---------------------------------------------------------------------------------------------------------


def pendulum(count: int, seed: int) -> Tensor:
    """States of the double pendulum: angles up to pi / 8, momenta up to 1/2, float64."""
    box = torch.tensor([math.pi / 8, math.pi / 8, 0.5, 0.5], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    return box * (2 * torch.rand(count, 4, generator=generator, dtype=torch.float64) - 1)


def trunk(width: int = 64) -> FreeField:
    """A free field on R^4."""
    return FreeField(nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 4)))


def stable() -> LyapunovStable:
    """The free field, made stable by a convex V."""
    return LyapunovStable(trunk(), ConvexPotential(4, (16, 16)), rate=0.01)


def fit(f: Field, true: Field, x: Tensor, steps: int, progress: Progress, task: str) -> Field:
    """`f` with f(x) near true(x), in float64."""
    y = true(x)

    def loss(net: nn.Module, step: int) -> Tensor:
        return (net(x) - y).square().sum(1).mean()

    minimise(f.double(), loss, steps=steps, on_step=told(progress, task))
    return f


def increases(f: LyapunovStable, method: Integrator[Any], x: Tensor, steps: int) -> tuple[int, float]:
    """In how many steps of size H from the states `x` V grows, and the largest of its quotients V(x+) / V(x)."""
    grown, worst = 0, 0.0
    for _ in range(steps):
        with torch.no_grad():
            y = method.step(f, x, H)
            before, after = f.lyapunov(x), f.lyapunov(y)
        grown += int((~(after <= before)).sum())  # NaN counts
        worst = max(worst, float((after / before.clamp(min=1e-300)).max()))
        x = y
    return grown, worst


def _stable(seed: int, steps: int, count: int, length: int, progress: Progress) -> list[dict[str, Any]]:
    true, x, test = NLinkPendulum(2, friction=0.3), pendulum(1000, seed), pendulum(count, 1000 + seed)
    with seeded(seed):
        learned = fit(stable(), true, x, steps, progress, f"stable, seed {seed}")
        free = fit(trunk(), true, x, steps, progress, f"free, seed {seed}")
        random = torch.randn(count, 4, dtype=torch.float64)  # far outside of the data as well
        assert isinstance(learned, LyapunovStable) and learned.claims().get(Dissipates)
        near = test[:100]
        truth = roll_out(functools.partial(RK4().step, true, h=H), near, length)
        rows = []
        for name, make in STEPPERS.items():
            grown, largest = increases(learned, make(), test, length)
            far, _ = increases(learned, make(), 3 * random, length)
            states = roll_out(functools.partial(make().step, learned, h=H), near, length)
            with torch.no_grad():
                v = torch.stack([learned.lyapunov(x) for x in states])
            row = {"field": "LyapunovStable", "step": name, "near": grown, "far": far, "largest": largest}
            row |= {"checks": count * length, "V": (v / v[0]).mean(1).tolist()}
            rows.append(row | _errors(states, truth))
        states = roll_out(functools.partial(RK4().step, free, h=H), near, length)
        row = {"field": "free", "step": "RK4", "near": None, "far": None, "largest": None, "checks": 0}
        rows.append(row | _errors(states, truth))
        with torch.no_grad():
            zero = bool((learned(learned.centre[None]) == 0).all())
    return [row | {"seed": seed, "exactly 0 at the equilibrium": zero} for row in rows]


def _errors(states: Tensor, truth: Tensor) -> dict[str, Any]:
    away = (states - truth).norm(dim=2).mean(1)
    return {"error": float(away.mean()), "errors": away.tolist(), "angle": states[:, 0, 0].tolist()} | {
        "true angle": truth[:, 0, 0].tolist()
    }


# --- contracting ----------------------------------------------------------------------------------------------------


class Hopfield(nn.Module):
    """x -> -x + W tanh(x) with ||W|| < 0.4: Sym Df <= -0.6."""

    def forward(self, x: Tensor) -> Tensor:
        return -x + torch.tanh(x) @ x.new_tensor([[0.2, 0.3], [-0.3, 0.2]]).mT


class Whirl(nn.Module):
    """x -> -0.75 x + 4 exp(-|x|^2) R x, R a quarter turn: |x| falls as exp(-0.75 t), but Sym Df is up to 0.7."""

    def forward(self, x: Tensor) -> Tensor:
        turned = torch.stack([-x[:, 1], x[:, 0]], 1)
        return -0.75 * x + 4 * torch.exp(-x.square().sum(1, keepdim=True)) * turned


def dense() -> Dense:
    """A layer of the contracting fields."""
    return Dense(2, 32)


SYSTEMS: dict[str, Callable[[], nn.Module]] = {"Hopfield": Hopfield, "whirl": Whirl}
CONTRACTING: dict[str, Callable[[], Field]] = {
    "Contracting": lambda: Contracting(ConvexGradient(dense(), Softplus()), Dense(2, 2), rate=RATE),
    "EquilibriumContracting": lambda: EquilibriumContracting(dense(), dense(), gate=dense(), rate=RATE),
    "free": lambda: FreeField(nn.Sequential(nn.Linear(2, 48), nn.Tanh(), nn.Linear(48, 2))),
}


def pair_rates(f: Field, x: Tensor, y: Tensor) -> Tensor:
    """<f(x) - f(y), x - y> / |x - y|^2: the rate at which x and y part, negative where they approach each other."""
    with torch.no_grad():
        d = x - y
        return ((f(x) - f(y)) * d).sum(1) / d.square().sum(1)


def _contracting(system: str, name: str, seed: int, steps: int, pairs: int, progress: Progress) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    x, y = 1.5 * torch.randn(2, pairs, 2, generator=generator, dtype=torch.float64)
    y = torch.where(torch.rand(pairs, 1, generator=generator) < 0.5, x + 1e-3 * y, y)  # half of the pairs are near
    true = FreeField(SYSTEMS[system]())
    with seeded(seed):
        f = fit(CONTRACTING[name](), true, x[:500], steps, progress, f"{system}, {name}, seed {seed}")
    rates, claim = pair_rates(f, x, y), f.claims().get(OneSidedLipschitz)
    df = jacobian(f, x[:5000]).detach()
    inwards = pair_rates(f, x, torch.zeros_like(x))  # x* = 0
    test, partner = x[-500:], y[-500:]
    with torch.no_grad():
        error = (f(test) - true(test)).norm() / true(test).norm()
        apart = [roll_out(functools.partial(RK4().step, f, h=0.05), at, len(TIMES) - 1) for at in (test, partner)]
        distance = (apart[0] - apart[1]).norm(dim=2) / (test - partner).norm(dim=1)
        step = factor = None
        if claim is not None:
            bound = ImplicitEuler().transfer(f.claims(), H).get(Lipschitz)
            step = None if bound is None else bound.bound
            moved = [ImplicitEuler().step(f, at, H) for at in (test, partner)]
            factor = float(((moved[0] - moved[1]).norm(dim=1) / (test - partner).norm(dim=1)).max())
    limit = -RATE + 1e-9
    return {
        "system": system, "field": name, "seed": seed, "error": float(error), "pairs": pairs,
        "worst pair": float(rates.max()), "pairs above -rate": int((rates > limit).sum()),
        "pairs that part": int((rates > 0).sum()), "Sym Df": float(torch.linalg.eigvalsh((df + df.mT) / 2).max()),
        "proved": None if claim is None else claim.nu,
        "towards x*": int((inwards > limit).sum()) if name != "free" else None,
        "implicit Euler, proved": step, "implicit Euler, worst pair": factor,
        "distance": distance.max(1).values.tolist(),
    }  # fmt: skip


# --- the study ------------------------------------------------------------------------------------------------------


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: the fields for each seed, two tables and the figure.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
        TrainingError: a training diverged.
    """
    steps, seeds = (QUICK_STEPS, range(1)) if quick else (STEPS, SEEDS)
    count, length, pairs = (20, 10, 1000) if quick else (TRAJECTORIES, LENGTH, PAIRS)
    settings = {"steps": steps, "trajectories": count, "seeds": len(seeds)}
    folder = open_folder("stable-dynamics", data=data, out=out, quick=quick, settings=settings)
    parts = folder / "parts"
    found = [once(parts / f"stable-{s}.json", lambda s=s: _stable(s, steps, count, length, progress)) for s in seeds]
    rows = [_stable_row([results[i] for results in found]) for i in range(len(found[0]))]
    write_table(folder / "stable.md", dict.fromkeys(STABLE, ""), rows)
    rows = []
    for system, name in itertools.product(SYSTEMS, CONTRACTING):
        results = []
        for seed in seeds:
            part = parts / f"{system}-{name}-{seed}.json"
            job = functools.partial(_contracting, system, name, seed, steps, pairs, progress)
            results.append(once(part, job))
        rows.append(_contracting_row(results))
    write_table(folder / "contracting.md", dict.fromkeys(list(rows[0])[:-1], ""), rows)
    _draw(found[0], rows, folder / "stable-dynamics.svg")
    return folder


STABLE = ("field", "step", "V grows, near the data", "V grows, far from it", "largest V(x+) / V(x)", "trajectory error")


def _stable_row(results: list[dict[str, Any]]) -> dict[str, Any]:
    def share(key: str) -> str:
        if results[0][key] is None:
            return ""
        total, checks = sum(r[key] for r in results), sum(r["checks"] for r in results)
        return f"{total} of {checks:,} ({total / checks:.1%})"

    largest = "" if results[0]["largest"] is None else f"{max(r['largest'] for r in results):.6g}"
    cells = (results[0]["field"], results[0]["step"], share("near"), share("far"), largest)
    return dict(zip(STABLE, (*cells, spread([r["error"] for r in results], ".1e")), strict=True)) | {"seeds": results}


def _contracting_row(results: list[dict[str, Any]]) -> dict[str, Any]:
    pairs = sum(r["pairs"] for r in results)
    claim, towards = results[0]["proved"], results[0]["towards x*"]
    return {
        "system": results[0]["system"],
        "field": results[0]["field"],
        "proved for all pairs": "" if claim is None else f"rate <= {claim:g}",
        "worst pair": f"{max(r['worst pair'] for r in results):.3f}",
        f"above -{RATE:g}": f"{sum(r['pairs above -rate'] for r in results)} of {pairs:,}",
        "pairs that part": f"{sum(r['pairs that part'] for r in results)}",
        "largest eigenvalue of Sym Df": f"{max(r['Sym Df'] for r in results):.3f}",
        f"to x*, above -{RATE:g}": "" if towards is None else f"{sum(r['towards x*'] for r in results)}",
        f"implicit Euler, h = {H:g}": ""
        if claim is None
        else (
            f"factor <= {results[0]['implicit Euler, proved']:.6f}, "
            f"worst pair {max(r['implicit Euler, worst pair'] for r in results):.6f}"
        ),
        "relative error": spread([r["error"] for r in results], ".1e"),
        "seeds": results,
    }


def _draw(stable: list[dict[str, Any]], contracting: list[dict[str, Any]], path: Path) -> None:
    times = H * np.arange(len(stable[0]["errors"]))
    angles = [Curve(times, np.array(stable[0]["true angle"]), "true", -1, width=2.0)]
    angles += [
        Curve(times, np.array(stable[i]["angle"]), stable[i]["field"], j, dashed=True) for j, i in ((0, 0), (1, 3))
    ]
    falls = [Curve(times, np.array(row["V"]), row["step"], i) for i, row in enumerate(stable[:3])]
    pairs = [Curve(TIMES, np.array(r["seeds"][0]["distance"]), r["field"], i) for i, r in enumerate(contracting[3:])]
    pairs.append(Curve(TIMES, np.exp(-RATE * TIMES), f"exp(-{RATE:g} t)", -1, dashed=True))
    panels = [
        Panel("first angle of a pendulum", angles, "time"),
        Panel(f"mean V / initial V, h = {H:g}", falls, "time", log_y=True),
        Panel("whirl, worst pair: distance / at first", pairs, "time", log_y=True),
    ]
    draw_panels(panels, path)
