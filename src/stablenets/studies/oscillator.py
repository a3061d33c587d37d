"""Chapter Exercise 3 and Fig. 3: the harmonic oscillator, and what each integrator does to its energy.

What is proved, for E = (x^2 + p^2) / 2 and steps of size h from (1, 0):

- A Runge-Kutta method with the stability function R multiplies x + i p by R(-i h), so E_n = E_0 |R(i h)|^(2 n):
  (1 + h^2)^n for Euler, (1 + h^2)^-n for the implicit Euler method, 1 for the implicit midpoint and Gauss methods.
- A symplectic splitting is a matrix M with det M = 1. Where |tr M| < 2 it keeps a definite quadratic form, which bounds
  the energy from above and below for ever. For symplectic Euler the form is x^2 + p^2 - h x p and 0 < h < 2:

      1 / (1 + h / 2) <= E_n / E_0 <= 1 / (1 - h / 2).

  (The library updates p first. The chapter's (10) updates x first: the same steps in the coordinates (-p, x).)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..integrators import (
    RK4,
    BlanesMoan4,
    DiscreteGradient,
    Euler,
    GaussLegendre4,
    Heun,
    ImplicitEuler,
    ImplicitMidpoint,
    Integrator,
    StormerVerlet,
    SymplecticEuler,
    Yoshida4,
)
from ..report.panels import Curve, Panel, draw_panels
from ..systems import HarmonicOscillator
from ..tasks.progress import Progress, silent
from ._folder import once, open_folder, write_table

H = 0.1
SIZES = (0.1, 0.5, 1.0, 1.5, 1.9, 1.99, 2.0, 2.1)  # for symplectic Euler: stable below 2, and not from there
STEPS, QUICK_STEPS = 2_000, 100
HUGE = 1e100  # a trajectory that gets so far is not followed further
DRAWN = 300  # steps in the figure
SPLITTINGS = (SymplecticEuler, StormerVerlet, Yoshida4, BlanesMoan4)
GROWTH: dict[type[Integrator[Any]], Callable[[float], float]] = {  # |R(i h)|^2, less 1
    Euler: lambda h: h**2,
    Heun: lambda h: h**4 / 4,
    RK4: lambda h: -(h**6) / 72 + h**8 / 576,
    ImplicitEuler: lambda h: -(h**2) / (1 + h**2),
    ImplicitMidpoint: lambda h: 0.0,
    GaussLegendre4: lambda h: 0.0,
    DiscreteGradient: lambda h: 0.0,  # the energy is quadratic: it is the implicit midpoint rule
}


def trajectory(method: Integrator[Any], h: float, steps: int) -> Tensor:
    """The states (steps + 1, 2) from (1, 0), float64; fewer where they leave for infinity."""
    f, x = HarmonicOscillator(), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    states = [x]
    for _ in range(steps):
        x = method.step(f, x, h)
        states.append(x)
        if not float(x.abs().max()) < HUGE:
            break
    return torch.cat(states)


def relative_energy(states: Tensor) -> Tensor:
    """E_n / E_0, one for each state."""
    energy = HarmonicOscillator().energy(states)
    return energy / energy[0]


def energy_bounds(method: Integrator[Any], h: float) -> tuple[float, float] | None:
    """Bounds of E_n / E_0 from (1, 0) for a step with a matrix M of determinant 1; None where |tr M| >= 2."""
    m = method.step(HarmonicOscillator(), torch.eye(2, dtype=torch.float64), h).mT.numpy()
    if not abs(np.trace(m)) < 2 - 1e-12:
        return None
    (a, b), (c, d) = m
    form = np.array([[-c, (a - d) / 2], [(a - d) / 2, b]])  # J M, symmetrised: M keeps it
    low, high = sorted(abs(np.linalg.eigvalsh(form)))
    return abs(c) / high, abs(c) / low  # the form's value at (1, 0) is -c


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: two tables and the figure.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
    """
    steps = QUICK_STEPS if quick else STEPS
    folder = open_folder("oscillator", data=data, out=out, quick=quick, settings={"steps": steps})
    jobs = [(cls.__name__, H) for cls in (*GROWTH, *SPLITTINGS)] + [("SymplecticEuler", h) for h in SIZES]
    rows = []
    for i, (name, h) in enumerate(jobs):
        rows.append(once(folder / "parts" / f"{name}-{h:g}.json", lambda name=name, h=h: _row(name, h, steps)))
        progress("integrating", i + 1, len(jobs), name)
    count = len(jobs) - len(SIZES)
    bounds = dict.fromkeys(("least E / E_0", "bound below", "largest E / E_0", "bound above"), ".10g")
    exact = {"E_n / E_0": ".10g", "formula": ".10g", "deviation from it": ".1e"}
    write_table(folder / "integrators.md", {"integrator": "", "h": "g", **exact, **bounds}, rows[:count])
    write_table(folder / "symplectic-euler.md", {"integrator": "", "h": "g", **bounds}, rows[count:])
    _draw(folder / "figure-3-oscillator.svg")
    return folder


def _row(name: str, h: float, steps: int) -> dict[str, Any]:
    cls = Integrator.registry[name]
    method: Integrator[Any] = cls()
    energy = relative_energy(trajectory(method, h, steps)).numpy()
    formula = deviation = None
    if cls in GROWTH:
        expected = np.exp(np.arange(len(energy)) * np.log1p(GROWTH[cls](h)))
        formula, deviation = float(expected[-1]), float(np.abs(energy / expected - 1).max())
    low, high = (cls in SPLITTINGS and energy_bounds(method, h)) or (None, None)
    return {
        "integrator": name, "h": h, "steps": len(energy) - 1, "E_n / E_0": float(energy[-1]), "formula": formula,
        "deviation from it": deviation, "least E / E_0": float(energy.min()), "bound below": low,
        "largest E / E_0": float(energy.max()), "bound above": high,
    }  # fmt: skip


def _draw(path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = Curve(np.cos(angle), np.sin(angle), colour=-1, dashed=True, width=0.8)
    panels, curves = [], []
    for i, method in enumerate((Euler(), SymplecticEuler(), ImplicitMidpoint(), ImplicitEuler(), RK4())):
        states = trajectory(method, 0.2, DRAWN)
        name = type(method).__name__
        x, p = states.numpy().T
        curves.append(Curve(np.arange(DRAWN + 1) * 0.2, relative_energy(states).numpy(), name, i))
        span = (-2.2, 2.2, -2.2, 2.2)
        panels.append(Panel(name, [circle, Curve(x, p, colour=i, width=0.8)], "x", "p", equal=True, span=span))
    draw_panels([*panels, Panel("energy / initial energy, h = 0.2", curves, "time", log_y=True)], path)
