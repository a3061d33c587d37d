"""A figure of a function on the plane: its level sets, two point clouds, and how one is moved onto the other."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from .figures import COLOURS, LOOK, MARKERS, _write


def level_sets(
    first: np.ndarray, second: np.ndarray, values: np.ndarray, x: np.ndarray, y: np.ndarray, path: Path
) -> Path:
    """Draw level sets of a function, and pairs of points joined by thin lines.

    Args:
        first, second: points (n, 2); `second[i]` is where `first[i]` is moved.
        values: of the function on the grid, (len(y), len(x)).
        path: ends in .svg, .pdf or .png.

    Returns:
        `path`.
    """
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(5.4, 4.6), layout="constrained")
        axes = figure.add_subplot()
        drawn = axes.contourf(x, y, values, levels=14, cmap="PuOr_r", alpha=0.55)
        axes.contour(x, y, values, levels=drawn.levels, colors="#5d5c58", linewidths=0.4, linestyles="solid")
        lines = LineCollection(list(np.stack([first, second], 1)), colors="#5d5c58", linewidths=0.4, alpha=0.7)
        axes.add_collection(lines)
        for i, points in enumerate((first, second)):
            look = {"linestyle": "none", "marker": MARKERS[i], "markersize": 3, "markeredgewidth": 0}
            axes.plot(*points.T, color=COLOURS[i], label=("x", "y")[i], **look)
        axes.set_aspect("equal")
        axes.set_xlim(x[0], x[-1])
        axes.set_ylim(y[0], y[-1])
        figure.legend(loc="outside upper center", ncols=2)
        figure.colorbar(drawn, ax=axes, label="critic", shrink=0.8)
        return _write(figure, path)
