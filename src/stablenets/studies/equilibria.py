"""Chapter 5: phase portraits of linear systems (Fig. 5), and the Lyapunov functions of Exercises 10 to 12.

- Exercise 10: x' = A x, A diagonalisable, is asymptotically stable exactly when all real parts of its eigenvalues are
  negative, and stable exactly when none is positive. Then P with A^T P + P A = -I, or the sum of squares in coordinates
  that diagonalise A, gives the Lyapunov function x^T P x. The table has a matrix, not diagonalisable, where it fails.
- Exercise 11: V = x^2 + y^2 for x' = -x + y^2, y' = -2 y + 3 x^2. V' <= -V / 2 in the disc of radius 1/4 (the proof is
  at `systems.QuadraticSink`); V' < 0 up to a larger radius, found here; no Lyapunov function holds in the whole plane,
  since there is another equilibrium.
- Exercise 12: a strict Lyapunov function makes an equilibrium locally asymptotically stable: all solutions that start
  in the disc end in the origin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..integrators import RK4
from ..report.panels import Curve, Dots, Mark, Panel, Streams, draw_panels
from ..systems import LinearSystem, QuadraticSink
from ..systems.quadratic_sink import RADIUS
from ..tasks.progress import Progress, silent
from ._folder import once, open_folder, write_table

LINEAR = {  # the first three are Fig. 5
    "sink": [[-1.0, 2.0], [-2.0, -0.5]],
    "saddle": [[1.0, 0.5], [0.5, -1.0]],
    "centre": [[0.0, 1.5], [-1.5, 0.0]],
    "line of equilibria": [[0.0, 0.0], [0.0, -1.0]],
    "not diagonalisable": [[0.0, 1.0], [0.0, 0.0]],
}
TIME, STARTS = 20.0, 1000
SECOND = ((2 / 3) ** (2 / 3), (2 / 3) ** (1 / 3))  # the other equilibrium of Exercise 11: x = y^2 and 2 y = 3 x^2
EPS = 1e-12  # for eigenvalues of 2 x 2 matrices


def stability(system: LinearSystem) -> str:
    """What the eigenvalues say of the origin (Exercise 10); "" where they decide nothing."""
    values, vectors = np.linalg.eig(np.array(system.matrix))
    if np.real(values).max() < -EPS:
        return "asymptotically stable"
    if np.real(values).max() > EPS:
        return "unstable"
    return "stable" if np.linalg.cond(vectors) < 1 / EPS else ""


def lyapunov_matrix(matrix: np.ndarray) -> np.ndarray | None:
    """P > 0 for which x^T P x is a Lyapunov function of x' = A x, A being diagonalisable; None where there is none.

    It solves A^T P + P A = -I where A is asymptotically stable; else it is the sum of squares in A's own coordinates.
    """
    values, vectors = np.linalg.eig(matrix)
    n = len(matrix)
    if np.real(values).max() < -EPS:
        operator = np.kron(np.eye(n), matrix.T) + np.kron(matrix.T, np.eye(n))
        return np.linalg.solve(operator, -np.eye(n).ravel()).reshape(n, n)
    if np.real(values).max() > EPS or np.linalg.cond(vectors) > 1 / EPS:
        return None
    inverse = np.linalg.inv(vectors)
    return (inverse.conj().T @ inverse).real


def disc_slope(radius: float, angles: int = 3600) -> float:
    """The largest V' / V of Exercise 11, V = x^2 + y^2, on the circle of that radius."""
    angle = 2 * math.pi * torch.arange(angles, dtype=torch.float64) / angles
    x = radius * torch.stack([torch.cos(angle), torch.sin(angle)], 1)
    return float((2 * (x * QuadraticSink()(x)).sum(1)).max()) / radius**2


def basin_radius() -> float:
    """The radius up to which V' < 0, by bisection: along a ray V' / V is linear, and negative where it starts."""
    low, high = RADIUS, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if disc_slope(middle) < 0 else (low, middle)
    return low


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: two tables and the figure.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
    """
    starts = 50 if quick else STARTS
    folder = open_folder("equilibria", data=data, out=out, quick=quick, settings={"starts": starts})
    jobs: dict[str, Callable[[], dict[str, Any]]] = {name: lambda name=name: _linear(name, starts) for name in LINEAR}
    rows = []
    for i, (name, job) in enumerate(jobs.items()):
        rows.append(once(folder / "parts" / f"{name.replace(' ', '-')}.json", job))
        progress("linear systems", i + 1, len(jobs), name)
    columns = {"system": "", "eigenvalues": "", "origin": "", "norm at the end": ".2e", "largest growth of V": ".1e"}
    write_table(folder / "linear.md", columns, rows)
    sink = once(folder / "parts" / "exercise-11.json", lambda: _sink(starts))
    progress("Exercises 11 and 12", 1, 1, "")
    write_table(folder / "exercises-11-12.md", {"quantity": "", "value": ".6g"}, sink)
    _draw(folder / "figure-5-equilibria.svg")
    return folder


def _linear(name: str, starts: int) -> dict[str, Any]:
    system = LinearSystem(LINEAR[name])
    p = lyapunov_matrix(np.array(system.matrix))
    x = torch.randn(starts, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x / x.norm(dim=1, keepdim=True)
    times = torch.linspace(0.0, TIME, 201, dtype=torch.float64)
    states = torch.stack([system.solution(x, float(t)) for t in times])
    growth = None
    if p is not None:
        values = torch.einsum("tbi,ij,tbj->tb", states, torch.from_numpy(p), states)
        growth = float((values[1:] / values[:-1]).max()) - 1  # relative to V, from one time to the next
    return {
        "system": name, "matrix": LINEAR[name], "starts": starts, "time": TIME,
        "eigenvalues": ", ".join(_complex(z) for z in system.eigenvalues()),
        "origin": stability(system) or "unstable, though no real part is positive",
        "norm at the end": float(states[-1].norm(dim=1).max()), "largest growth of V": growth,
        "P": None if p is None else p.tolist(),
    }  # fmt: skip


def _complex(z: complex) -> str:
    real = f"{z.real + 0.0:.4g}"
    return f"{real} {'+' if z.imag > 0 else '-'} {abs(z.imag):.4g}i" if abs(z.imag) > EPS else real


def _sink(starts: int) -> list[dict[str, Any]]:
    f, step, h = QuadraticSink(), RK4(), 0.05
    angle = 2 * math.pi * torch.arange(starts, dtype=torch.float64) / starts
    x = RADIUS * torch.stack([torch.cos(angle), torch.sin(angle)], 1)
    increases, checks = 0, 0
    for _ in range(round(TIME / h)):
        y = step.step(f, x, h)
        increases, checks = increases + int((y.square().sum(1) >= x.square().sum(1)).sum()), checks + len(x)
        x = y
    second = torch.tensor([SECOND], dtype=torch.float64)
    values = {
        "largest V' / V in the disc of radius 1/4 (proved: at most -1/2)": max(
            disc_slope(RADIUS * k / 100) for k in range(1, 101)
        ),
        "largest radius with V' < 0": basin_radius(),
        "distance of the other equilibrium": float(second.norm()),
        "norm of the field there": float(f(second).norm()),
        f"starts on the circle of radius 1/4, followed to t = {TIME:g}": starts,
        f"steps in which V did not fall, of {checks}": increases,
        "largest norm at the end": float(x.norm(dim=1).max()),
    }
    return [{"quantity": name, "value": value} for name, value in values.items()]


def _draw(path: Path) -> None:
    grid = np.linspace(-2, 2, 41)
    panels = []
    for i, name in enumerate(list(LINEAR)[:3]):
        system = LinearSystem(LINEAR[name])
        panels.append(Panel(f"{name}: {stability(system)}", [_streams(system, grid, grid, i)], equal=True))
    x, y, angle = np.linspace(-1.1, 1.3, 41), np.linspace(-1.1, 1.3, 41), np.linspace(0, 2 * np.pi, 200)
    marks: list[Mark] = [_streams(QuadraticSink(), x, y, 3)]
    circles = ((RADIUS, "V' ≤ -V/2, proved", False), (basin_radius(), "V' < 0", True))
    for radius, label, dashed in circles:
        marks.append(Curve(radius * np.cos(angle), radius * np.sin(angle), label, -1, dashed=dashed, width=1.6))
    marks += [Dots(np.array([[0.0, 0.0]]), colour=0, size=5), Dots(np.array([SECOND]), colour=1, size=5)]
    panels.append(Panel("Exercise 11", marks, equal=True))
    draw_panels(panels, path, columns=4)


def _streams(f: LinearSystem | QuadraticSink, x: np.ndarray, y: np.ndarray, colour: int) -> Streams:
    points: Tensor = torch.from_numpy(np.stack(np.meshgrid(x, y), 2).reshape(-1, 2))
    u, v = f(points).numpy().reshape(len(y), len(x), 2).transpose(2, 0, 1)
    return Streams(x, y, u, v, colour)
