"""Figures of run folders for documents (SVG, PDF or PNG, by the ending of the file name), drawn with matplotlib."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..core.errors import InputError, message
from .figure import accuracy_plot, training_plots
from .overview import radius_text
from .plot import Plot, Style
from .run import Run

COLOURS = ("#0a5c99", "#b34700", "#00704f", "#8c3d80", "#7a5c00", "#555555")
MARKERS = ("o", "s", "^", "D")
FORMATS = (".svg", ".pdf", ".png")
# Text stays text, names of parts are reproducible, lines are thin.
LOOK: dict[Any, Any] = {
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "stablenets",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#5d5c58",
    "legend.frameon": False,
}


def accuracy_curve(runs: Sequence[Run], path: Path) -> Path:
    """Draw accuracy against the l2 radius: proved curves solid and filled, attacked ones dashed with open marks.

    Returns:
        `path`.

    Raises:
        InputError: no run was attacked, or `path` cannot be written.
    """
    plot = accuracy_plot(list(runs))
    if plot is None:
        todo = f"Run `{runs[0].command('attack')}`." if runs else ""
        raise InputError(message("no run was attacked", "attack.json in a run folder", todo))
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        _draw(figure.add_subplot(), plot)
        figure.axes[0].legend(loc="best")
        return _write(figure, path)


def training_curves(runs: Sequence[Run], path: Path) -> Path:
    """Draw loss, accuracies and integration steps against the epoch, in one panel each.

    Returns:
        `path`.

    Raises:
        InputError: the runs hold no metrics, or `path` cannot be written.
    """
    plots = training_plots(list(runs))
    if not plots:
        raise InputError(message("no run has metrics", "at least one epoch in metrics.jsonl", "Train first."))
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(6.4, 2.3 * ((len(plots) + 1) // 2)), layout="constrained")
        for i, plot in enumerate(plots):
            axes = figure.add_subplot((len(plots) + 1) // 2, min(2, len(plots)), i + 1)
            _draw(axes, plot)
            axes.set_title(plot.title, loc="left", fontsize=9)
        figure.axes[0].legend(loc="best")
        return _write(figure, path)


def attack_gallery(runs: Sequence[Run], path: Path) -> Path:
    """Draw, for each run, one image attacked at growing radii, and below it the changes with their norms.

    Wrong answers are marked by a cross. All changes share one scale.

    Returns:
        `path`.

    Raises:
        InputError: no run holds a gallery, or `path` cannot be written.
    """
    found = [(run, run.samples, run.samples.gallery) for run in runs if run.samples and run.samples.gallery]
    if not found:
        todo = f"Run `{runs[0].command('attack')}`." if runs else ""
        raise InputError(message("no run holds attacked images", "gallery_x in samples.npz", todo))
    columns = max(len(gallery[1]) for _, _, gallery in found)
    changes = [gallery[1] - samples.x[gallery[0]] for _, samples, gallery in found]
    scale = max(float(np.abs(change).max()) for change in changes) or 1.0
    layout = ConstrainedLayoutEngine(rect=(0.025, 0, 0.975, 1))  # leaves room for the names on the left
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(1.02 * columns, 2.55 * len(found)), layout=layout)
        grid = figure.subplots(2 * len(found), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for i, (run, samples, (index, images, radii, answers)) in enumerate(found):
            for j, (image, change, radius, answer) in enumerate(zip(images, changes[i], radii, answers, strict=True)):
                cross = "" if int(answer) == int(samples.y[index]) else " ✗"
                answered = f"ε = {radius_text(float(radius))}\n{run.classes[int(answer)]}{cross}"
                _image(grid[2 * i, j], image, 0.0, 1.0, "gray", answered)
                norm = f"‖δ‖₂ = {np.linalg.norm(change):.2g}"
                _image(grid[2 * i + 1, j], change, -scale, scale, "PuOr_r", norm)
            label = grid[2 * i, 0].text(-0.1, -0.1, run.name, rotation=90, ha="right", va="center")
            label.set_transform(grid[2 * i, 0].transAxes)
            label.set_in_layout(False)
        return _write(figure, path)


def _draw(axes: Axes, plot: Plot) -> None:
    for series in plot.series:
        colour, marker = COLOURS[series.run % len(COLOURS)], MARKERS[series.run % len(MARKERS)]
        if series.style is Style.PROVED:
            axes.fill_between(series.x, series.y, step="post", color=colour, alpha=0.15, linewidth=0)
            axes.step(series.x, series.y, where="post", color=colour, linewidth=1.6, label=series.name)
        elif series.style is Style.MEASURED:
            x, y = series.x, series.y
            axes.vlines(x[1:], y[1:], y[:-1], color=colour, linewidth=0.6, alpha=0.4, clip_on=False)
            axes.hlines(y[:-1], x[:-1], x[1:], color=colour, linestyle="--", linewidth=1.2)
            look = {"color": colour, "marker": marker, "markerfacecolor": "white", "markersize": 4.5}
            axes.plot(x, y, linestyle="none", clip_on=False, zorder=3, **look)
            axes.plot([], [], linestyle="--", linewidth=1.2, label=series.name, **look)  # for the legend
        else:
            axes.plot(series.x, series.y, color=colour, linewidth=1.2, label=series.name)
    axes.set_xlabel(plot.x_label)
    axes.set_xlim(plot.x_range)
    axes.set_ylim(plot.y_range)
    axes.grid(axis="y", color="#dcd8cf", linewidth=0.6)
    axes.set_axisbelow(True)
    if plot.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if plot.x_step:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _image(axes: Axes, image: np.ndarray, low: float, high: float, colours: str | None, title: str) -> None:
    if len(image) == 3:
        shown, colours = np.clip((image.transpose(1, 2, 0) - low) / (high - low), 0, 1), None
    else:
        shown = image.mean(axis=0)
    drawn = axes.imshow(shown, vmin=low, vmax=high, cmap=colours, interpolation="nearest")
    drawn.set_clip_on(False)  # it fills its axes, and names of clip paths differ from run to run
    axes.set_title(title, fontsize=7.5, pad=3)


def _write(figure: Figure, path: Path) -> Path:
    """Save without date, under a temporary name first."""
    path = Path(path)
    if path.suffix not in FORMATS:
        raise InputError(message(f"{path} does not end in a known format", f"one of {', '.join(FORMATS)}"))
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
        figure.savefig(temporary, dpi=200, metadata=metadata)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        given = f"{path} cannot be written ({error.strerror})"
        raise InputError(message(given, "a folder that exists and can be written to")) from None
    return path
