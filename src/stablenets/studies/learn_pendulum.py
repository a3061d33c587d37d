"""Learn a pendulum and a spring: the protocols of SympNets (40 exact pairs) and of Hamiltonian networks (noisy).

SympNet protocol (Jin et al. 2020): from 40 consecutive pairs of states, h = 0.1, of one swing of amplitude 1, learn the
map; tested on the next 100 pairs and over 1,000 steps. Our network is one step of an explicit symplectic method along a
learned Hamiltonian field. Where both energies are learned, one unit of each has a linear force, as SympNets have linear
layers, and three others are shared out in each of the four ways: the least training error says to which energy they
belong. So the network is told neither that an energy is quadratic nor which.

Hamiltonian networks' protocol (Greydanus et al. 2019): 25 solutions on [0, 3] with noise of standard deviation 0.1 on
the states and exact derivatives; tested on 10 new solutions up to T = 20. The starts of stretches of 15 intervals are
learned with the field, so that the noise averages out where a fit of derivatives at noisy states is biased.
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

from ..fields import (
    ConvexGradient,
    Field,
    GradientField,
    LeakyReLU,
    PotentialSum,
    RidgePotential,
    SeparableHamiltonian,
    TwoLayerField,
)
from ..integrators import RK4, BlanesMoan4, Integrator, StormerVerlet
from ..layers import Flow
from ..linear import Dense
from ..report.panels import Curve, Dots, Panel, draw_panels
from ..systems import HarmonicOscillator, Pendulum
from ..tasks.progress import Progress, silent
from ..train import minimise
from ..train.shooting import Shooting
from ._folder import once, open_folder, seeded, write_table
from ._learning import mean_square, roll_out, size, windows

H, PAIRS, TESTED, LONG = 0.1, 40, 100, 1000
SEEDS, TRIALS, UNITS = 3, 4, 3


def _energy(units: int, *, held: bool = False) -> GradientField:
    """Of one unit with a linear gradient, outer * weight * (weight * x + bias), and `units` others.

    With few units an `outer` of the wrong sign drives the weight to 0, and there learning stops: hold it at 1 then.
    """
    linear = RidgePotential(Dense(1, 1), LeakyReLU(1.0))
    if held:
        linear.linear.weight.data.fill_(1.0)
        linear.linear.weight.requires_grad_(False)
    return GradientField(PotentialSum(linear, RidgePotential(Dense(1, units))) if units else linear)


def _ridge(width: int) -> GradientField:
    return GradientField(RidgePotential(Dense(1, width)))


def _quadratic() -> ConvexGradient:
    kinetic = ConvexGradient(Dense(1, 1), LeakyReLU(1.0))  # with the identity as activation
    kinetic.linear.weight.data.fill_(1.0)
    return kinetic


FIELDS: dict[str, Callable[[], Field]] = {
    "separable": lambda: SeparableHamiltonian(_energy(7), _energy(7)),
    "mechanical": lambda: SeparableHamiltonian(_quadratic(), _ridge(8)),
    "free": lambda: TwoLayerField(Dense(2, 16), Dense(2, 16)),
}
SHARED: dict[str, list[Callable[[], Field]]] = {  # what is tried, in turn
    "separable": [
        lambda k=k: SeparableHamiltonian(_energy(k, held=True), _energy(UNITS - k, held=True)) for k in range(UNITS + 1)
    ],
    "mechanical": [lambda: SeparableHamiltonian(_quadratic(), _ridge(UNITS))] * 2,
}
MAPS = (("separable", BlanesMoan4()), ("mechanical", StormerVerlet()), ("mechanical", BlanesMoan4()))


# --- the SympNet protocol -----------------------------------------------------------------------------------------


def swing() -> Tensor:
    """The exact states (1 + 40 + 100, 2) of the pendulum that starts at rest at an angle of 1."""
    return roll_out(Pendulum(), BlanesMoan4(), torch.tensor([[1.0, 0.0]], dtype=torch.float64), H, PAIRS + TESTED, 16)[
        0
    ]


def learn_map(kind: str, method: Integrator[Any], seed: int, quick: bool, told: Progress) -> dict[str, Any]:
    """Fit 40 pairs by some networks, keep that with the least training error, and test it."""
    x = swing()
    name = f"{kind}, {type(method).__name__}"

    def loss(net: nn.Module, step: int) -> Tensor:
        return (net(x[:PAIRS]) - x[1 : PAIRS + 1]).square().mean()

    best: tuple[float, Flow] | None = None
    began = time.process_time()
    for trial, make in enumerate(SHARED[kind][: 1 if quick else None]):
        task, steps, refine = f"{name}, seed {seed}, trial {trial + 1}", *((40, 5) if quick else (500, 1500))
        with seeded(100 * seed + trial):
            net = Flow(make().double(), method, h=H)
            told(task, 0, steps + refine, "")
            error = minimise(net, loss, steps=steps, refine=refine)
        told(task, steps + refine, steps + refine, f"{error:.1e}")
        if best is None or error < best[0]:
            best = error, net
    assert best is not None
    field, true = best[1].field, Pendulum()
    with torch.no_grad():
        test = mean_square(best[1](x[PAIRS:-1]), x[PAIRS + 1 :])
    start = x[PAIRS : PAIRS + 1]
    count = LONG // 10 if quick else LONG
    states = roll_out(field, method, start, H, count)[0]
    energy = true.energy(states)
    return {
        "network": name, "parameters": size(field), "seed": seed, "train": best[0], "test": test,
        "1000 steps": mean_square(states, roll_out(true, BlanesMoan4(), start, H, count, 4)[0]),
        "energy drift": float((energy - energy[0]).abs().max()), "seconds": round(time.process_time() - began, 1),
        "states": states.tolist(),
    }  # fmt: skip


# --- the protocol of Hamiltonian networks -------------------------------------------------------------------------


@dataclass(frozen=True)
class System:
    """H = p^2 + V(q), which is twice the energy of `field`: it runs at twice the speed. Radii of the initial states."""

    field: HarmonicOscillator | Pendulum
    radii: tuple[float, float]
    points: int  # on [0, 3]

    def solve(self, x: Tensor, h: float, count: int) -> Tensor:
        """The exact solution."""
        return roll_out(self.field, BlanesMoan4(), x, 2 * h, count, 8)

    def energy(self, x: Tensor) -> Tensor:
        """H of states (..., 2)."""
        return 2 * self.field.energy(x.reshape(-1, 2)).view(x.shape[:-1])

    def starts(self, count: int, random: np.random.Generator) -> Tensor:
        """Random directions, then random radii."""
        x = random.uniform(-1, 1, (count, 2))
        return torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True) * random.uniform(*self.radii, (count, 1)))


SYSTEMS = {
    "spring": System(HarmonicOscillator(), (0.1, 1.0), 31),
    "pendulum": System(Pendulum(), (0.2, 2.0), 46),
}
NOISE, STRETCH, HORIZON, FINE = 0.1, 15, 20.0, 200
WEIGHT = 1e-3  # of the states in the loss


def learn_noisy(system: str, kind: str, seed: int, quick: bool, told: Progress) -> dict[str, Any]:
    """Learn one system from noisy states and exact derivatives, and roll out 10 new solutions up to T = 20."""
    true, random = SYSTEMS[system], np.random.default_rng(seed)
    dt = 3.0 / (true.points - 1)
    clean = true.solve(true.starts(25, random), dt, true.points - 1)
    slopes = windows(2 * true.field(clean.reshape(-1, 2)).view(clean.shape), STRETCH)
    seen = windows(clean + NOISE * torch.from_numpy(random.standard_normal(clean.shape)), STRETCH)
    began, explained = time.process_time(), 2 * WEIGHT * NOISE**2  # what noise alone leaves, and a little more
    best: tuple[float, Field] | None = None
    for trial in range(1 if quick else TRIALS):
        task, steps, refine = (
            f"{system}, {kind}, seed {seed}, weights {trial + 1}",
            *((20, 5) if quick else (500, 1500)),
        )
        with seeded(100 * seed + trial):
            field = FIELDS[kind]().double()
            told(task, 0, steps + refine, "")
            error = minimise(
                Shooting(field, seen[:, 0], free=True),
                lambda net, step, f=field, n=steps: _noisy_loss(net(dt, count=STRETCH, hold=step < n), f, seen, slopes),
                steps=steps, refine=refine, peak=3e-2,
            )  # fmt: skip
        told(task, steps + refine, steps + refine, f"{error:.1e}")
        if best is None or error < best[0]:
            best = error, field
        if error < explained:  # no local minimum
            break
    assert best is not None
    field = best[1]
    method = BlanesMoan4() if isinstance(field, SeparableHamiltonian) else RK4()
    start = true.starts(10, np.random.default_rng(1000 + seed))
    found, exact = roll_out(field, method, start, HORIZON / FINE, FINE), true.solve(start, HORIZON / FINE, FINE)
    return {
        "system": system, "network": kind, "parameters": size(field), "seed": seed, "train": best[0],
        "energy error": mean_square(true.energy(found), true.energy(exact)),
        "trajectory error": mean_square(found, exact), "seconds": round(time.process_time() - began, 1),
        "states": found[0].tolist(), "exact": exact[0].tolist(),
    }  # fmt: skip


def _noisy_loss(x: Tensor, field: Field, seen: Tensor, slopes: Tensor) -> Tensor:
    """Derivatives are exact, so they weigh more than states."""
    return (field(x.flatten(0, 1)).view(x.shape) - slopes).square().mean() + WEIGHT * (x - seen).square().mean()


# --- the study ----------------------------------------------------------------------------------------------------

MAP_COLUMNS = {
    "network": "", "parameters": "", "seed": "", "train": ".1e", "test": ".1e", "1000 steps": ".1e",
    "energy drift": ".1e", "seconds": ".0f",
}  # fmt: skip
NOISY_COLUMNS = {
    "system": "", "network": "", "parameters": "", "seed": "", "train": ".1e", "energy error": ".1e",
    "trajectory error": ".1e", "seconds": ".0f",
}  # fmt: skip


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: both protocols, their tables and the figure.

    Raises:
        InputError: `data` is given: the study makes its own.
    """
    folder = open_folder("learn-pendulum", data=data, out=out, quick=quick, settings={"quick": quick})
    with seeded(0):  # for one thread everywhere
        seeds = range(1 if quick else SEEDS)
        maps = [
            once(
                folder / "pairs" / f"{kind}-{type(method).__name__}-{seed}.json",
                lambda k=kind, m=method, s=seed: learn_map(k, m, s, quick, progress),
            )
            for kind, method in MAPS
            for seed in seeds
        ]
        noisy = [
            once(
                folder / "noisy" / f"{system}-{kind}-{seed}.json",
                lambda y=system, k=kind, s=seed: learn_noisy(y, k, s, quick, progress),
            )
            for system in SYSTEMS
            for kind in FIELDS
            for seed in seeds
        ]
    write_table(folder / "pairs.md", MAP_COLUMNS, [_numbers(row) for row in maps])
    write_table(folder / "noisy.md", NOISY_COLUMNS, [_numbers(row) for row in noisy])
    _draw(maps, noisy, folder / "learn-pendulum.svg")
    return folder


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("states", "exact")}


def _draw(maps: list[dict[str, Any]], noisy: list[dict[str, Any]], path: Path) -> None:
    x, found = swing().numpy(), np.array(maps[-1]["states"])
    panels = [
        Panel(
            f"1,000 steps from {PAIRS} pairs",
            [Curve(found[:, 0], found[:, 1], "learned"), Dots(x[: PAIRS + 1], "pairs", 1, 4.0)],
            x_label="q", y_label="p", equal=True,
        )
    ]  # fmt: skip
    t = np.linspace(0, HORIZON, FINE + 1)
    for system in SYSTEMS:
        rows = {row["network"]: row for row in reversed(noisy) if row["system"] == system}
        marks = [Curve(t, np.array(rows["free"]["exact"])[:, 0], "exact", -1, width=2.4)]
        marks += [
            Curve(t, np.array(rows[kind]["states"])[:, 0], kind, i, dashed=kind == "free")
            for i, kind in enumerate(("separable", "free"))
        ]
        panels.append(Panel(f"{system}, learned up to t = 3", marks, x_label="t", y_label="q"))
    draw_panels(panels, path)
