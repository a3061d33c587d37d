"""Figures of several panels: curves, points, decision regions and phase portraits, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import COLOURS, LOOK, MARKERS, _write

GREY = "#5d5c58"


class Mark(Protocol):
    """Something that is drawn in a panel."""

    def draw(self, axes: Axes) -> None:
        """Draw it."""


@dataclass(frozen=True)
class Curve:
    """A line through points (x, y). `colour` is a place in the palette; -1 is grey.

    `low` and `high`, where given, bound a band around it. A dashed line with marks is a measurement.
    """

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    colour: int = 0
    dashed: bool = False
    marks: bool = False
    width: float = 1.2
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        colour = _colour(self.colour)
        if self.low is not None and self.high is not None:
            axes.fill_between(self.x, self.low, self.high, color=colour, alpha=0.15, linewidth=0)
        style, marker = "--" if self.dashed else "-", MARKERS[self.colour % len(MARKERS)] if self.marks else ""
        look = {"color": colour, "linewidth": self.width, "marker": marker, "markersize": 4, "markerfacecolor": "white"}
        axes.plot(self.x, self.y, style, label=self.label or "_", **look)


@dataclass(frozen=True)
class Dots:
    """Points (n, 2), not joined."""

    points: np.ndarray
    label: str = ""
    colour: int = 0
    size: float = 2.5

    def draw(self, axes: Axes) -> None:
        """Draw them."""
        look = {"linestyle": "none", "marker": "o", "markeredgewidth": 0, "markersize": self.size}
        axes.plot(*self.points.T, color=_colour(self.colour), label=self.label or "_", **look)


@dataclass(frozen=True)
class Decision:
    """Two regions: where the values on the grid, (len(y), len(x)), are negative and where they are positive."""

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray

    def draw(self, axes: Axes) -> None:
        """Draw them."""
        colours = [_colour(0), _colour(1)]
        axes.contourf(self.x, self.y, np.sign(self.values), levels=[-2, 0, 2], colors=colours, alpha=0.16)


@dataclass(frozen=True)
class Streams:
    """Solution curves of a field (u, v) on the grid, each (len(y), len(x)): the thicker the faster."""

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    colour: int = 0

    def draw(self, axes: Axes) -> None:
        """Draw them."""
        speed = np.hypot(self.u, self.v)
        width = 0.3 + 1.7 * speed / speed.max()
        look = {"color": _colour(self.colour), "density": 0.9, "arrowsize": 0.8}
        axes.streamplot(self.x, self.y, self.u, self.v, linewidth=width, **look)


@dataclass(frozen=True)
class Panel:
    """One pair of axes and what is drawn in it, in this order.

    `span` gives the limits (left, right, bottom, top), `equal` units of the same length on both axes, `log_x` the base
    of a logarithmic axis or 0.
    """

    title: str
    marks: Sequence[Mark]
    x_label: str = ""
    y_label: str = ""
    log_x: int = 0
    log_y: bool = False
    equal: bool = False
    span: tuple[float, float, float, float] | None = None

    def draw(self, axes: Axes) -> None:
        """Draw it, with a legend if something has a label."""
        for mark in self.marks:
            mark.draw(axes)
        axes.set_title(self.title, loc="left", fontsize=9)
        axes.set_xlabel(self.x_label)
        axes.set_ylabel(self.y_label)
        if self.log_x:
            axes.set_xscale("log", base=self.log_x)
        if self.log_y:
            axes.set_yscale("log")
        if self.equal:
            axes.set_aspect("equal")
        if self.span is not None:
            axes.set_xlim(*self.span[:2])
            axes.set_ylim(*self.span[2:])
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", fontsize=7)


def draw_panels(panels: Sequence[Panel], path: Path, *, columns: int = 3, height: float = 2.6) -> Path:
    """Draw the panels row by row.

    Args:
        panels: what to draw.
        path: ends in .svg, .pdf or .png.
        columns: how many stand beside each other, at most.
        height: of a row, in inches; the figure is 8.4 wide where its rows are full.

    Returns:
        `path`.
    """
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(2.8 * max(columns, 2), height * rows), layout="constrained")
        for i, panel in enumerate(panels):
            panel.draw(figure.add_subplot(rows, columns, i + 1))
        return _write(figure, path)


def _colour(place: int) -> str:
    return GREY if place < 0 else COLOURS[place % len(COLOURS)]
