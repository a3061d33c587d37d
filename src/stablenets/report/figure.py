"""The plots of the page: accuracy against radius, and the training curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .curves import USUAL_RADIUS, all_radii, attacked, certified_accuracy, headline_radius
from .plot import NARROW, SMALL, WIDE, Plot, Series, Style
from .run import Run

GRID = 1000


def accuracy_plot(runs: list[Run]) -> Plot | None:
    """Accuracy against l2 radius: certified (counted on a grid of 1000 steps and every attacked radius) and attacked.

    None when no run was attacked.
    """
    if not any(run.attack for run in runs):
        return None
    radii = all_radii(runs)
    cursor = headline_radius(runs)
    far = float(radii[-1]) or USUAL_RADIUS
    grid = np.unique(np.concatenate([np.linspace(0.0, far, GRID + 1), radii, [min(cursor, far)]]))
    series = []
    for i, run in enumerate(runs):
        if run.certified and run.samples is not None:
            proved = certified_accuracy(run.samples, grid)
            series.append(Series(i, f"{_short(run.name)}, proved", Style.PROVED, grid, proved))
        if run.attack is not None:
            series.append(Series(i, f"{_short(run.name)}, attacked", Style.MEASURED, *attacked(run.attack)))
    return Plot(
        ident="accuracy",
        title="Accuracy against the ℓ₂ radius of the perturbation",
        x_label="ℓ₂ radius of the perturbation (pixels in [0, 1])",
        x_range=(0.0, far),
        y_range=(0.0, 1.0),
        percent=True,
        series=series,
        cursor=min(cursor, far),
        frames=(WIDE, NARROW),
    )


def training_plots(runs: list[Run]) -> list[Plot]:
    """Loss, accuracies, steps of the flows and learning rate against the epoch, where the metrics have them."""
    accuracies = [
        value
        for run in runs
        for row in run.metrics
        for key in ("train_accuracy", "test_accuracy")
        if (value := _number(row.get(key))) is not None
    ]
    low = np.floor(min(accuracies, default=0.0) * 10) / 10
    accuracy = (float(min(low, 0.9)), 1.0)
    plots = [
        _trace(runs, "loss", "Loss", lambda row: _number(row.get("loss")), None, False),
        _trace(runs, "train", "Training accuracy", lambda row: _number(row.get("train_accuracy")), accuracy, True),
        _trace(runs, "test", "Test accuracy", lambda row: _number(row.get("test_accuracy")), accuracy, True),
        _trace(runs, "steps", "Integration steps of all flows", _steps, None, False),
    ]
    return [plot for plot in plots if plot is not None]


def _trace(
    runs: list[Run],
    ident: str,
    title: str,
    value: Callable[[dict[str, Any]], float | None],
    y_range: tuple[float, float] | None,
    percent: bool,
) -> Plot | None:
    series, last = [], 1
    for i, run in enumerate(runs):
        rows = [(_number(row.get("epoch", k + 1)), value(row)) for k, row in enumerate(run.metrics)]
        points = [(x, y) for x, y in rows if x is not None and y is not None]
        if points:
            x, y = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
            series.append(Series(i, run.name, Style.TRACE, x, y))
            last = max(last, int(x[-1]))
    if not series:
        return None
    top, bottom = max(float(s.y.max()) for s in series), min(float(s.y.min()) for s in series)
    return Plot(
        ident=ident,
        title=title,
        x_label="epoch",
        x_range=(1.0, float(max(last, 2))),
        y_range=y_range or (min(0.0, bottom), 1.08 * top if top > 0 else 1.0),
        percent=percent,
        series=series,
        cursor=float(last),
        frames=(SMALL,),
        x_step=1.0,
    )


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and np.isfinite(value)
    return float(value) if good else None


def _steps(row: dict[str, Any]) -> float | None:
    steps = row.get("flow_steps")
    return float(sum(steps)) if isinstance(steps, list) and steps else None
