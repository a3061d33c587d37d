"""The geometry of a line plot, computed here and drawn by `plot.html.jinja` as inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

import numpy as np

NOTHING = "\u2013"  # how a number that does not exist is written


class Style(Enum):
    """How a series is drawn, so that what is proved never looks like what is measured."""

    PROVED = "proved"  # a solid step function, filled down to the axis
    MEASURED = "measured"  # a dashed step function, marked where it was measured
    TRACE = "trace"  # a thin line


@dataclass(frozen=True)
class Series:
    """One line: the run it belongs to (its place gives colour and marker) and values y at growing x."""

    run: int
    name: str
    style: Style
    x: np.ndarray
    y: np.ndarray

    def at(self, x: float) -> float | None:
        """The last value known at x (no value is made up between the known ones); None outside."""
        if not self.x[0] <= x <= self.x[-1]:
            return None
        return float(self.y[np.searchsorted(self.x, x, side="right") - 1])


@dataclass(frozen=True)
class Frame:
    """The size of a drawing and its margins, in SVG units (CSS pixels at full size)."""

    css: str
    width: int
    height: int
    left: int
    right: int
    top: int = 14
    bottom: int = 42


WIDE = Frame("wide", 820, 410, 46, 158, 10)
NARROW = Frame("narrow", 400, 330, 44, 12)
SMALL = Frame("small", 360, 200, 44, 12, 10, 44)


@dataclass(frozen=True)
class Plot:
    """Some series in one pair of axes; `cursor` is the x that is read off before anything is touched."""

    ident: str
    title: str
    x_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    percent: bool
    series: list[Series]
    cursor: float
    frames: tuple[Frame, ...]
    x_step: float = 0.0  # the least distance of ticks: 1 where x counts something

    def drawing(self, frame: Frame) -> dict[str, Any]:
        """Everything `plot.html.jinja` needs to draw the plot in one frame."""
        right, bottom = frame.width - frame.right, frame.height - frame.bottom

        def px(x: float | np.ndarray) -> Any:
            low, high = self.x_range
            return frame.left + (right - frame.left) * (np.asarray(x) - low) / (high - low)

        def py(y: float | np.ndarray) -> Any:
            low, high = self.y_range
            return bottom - (bottom - frame.top) * (np.asarray(y) - low) / (high - low)

        lines = []
        for series in self.series:
            x, y = px(series.x), py(series.y)
            path = _DRAW[series.style](x, y)
            lines.append(
                {
                    "run": series.run,
                    "name": series.name,
                    "style": series.style.value,
                    "path": path,
                    "area": f"{path}V{bottom}H{x[0]:.1f}Z" if series.style is Style.PROVED else None,
                    "risers": _risers(x, y) if series.style is Style.MEASURED else None,
                    "markers": "".join(marker(series.run, a, b) for a, b in zip(x, y, strict=True))
                    if series.style is Style.MEASURED
                    else None,
                    "end": float(y[-1]),
                    "dot": None if (v := series.at(self.cursor)) is None else float(py(v)),
                }
            )
        label_y = spread([line["end"] for line in lines], 17.0, frame.top + 4, bottom - 4)
        for line, y in zip(lines, label_y, strict=True):
            line["label_y"] = y
        return {
            "frame": frame,
            "right": right,
            "bottom": bottom,
            "middle": (frame.left + right) / 2,
            "x_ticks": [(float(px(t)), f"{t:g}") for t in ticks(*self.x_range, 5, self.x_step)],
            "y_ticks": [(float(py(t)), self._y_text(t)) for t in ticks(*self.y_range, 5)],
            "lines": lines,
            "cursor": float(px(self.cursor)),
        }

    def readings(self) -> list[tuple[int, Series, str]]:
        """For each series its number and the text of its value at the cursor, as `page.js` writes it."""
        return [(i, series, self._reading(series)) for i, series in enumerate(self.series)]

    def data(self) -> dict[str, Any]:
        """What `page.js` needs to read the curves off: the ranges and the values."""
        return {
            "x": self.x_range,
            "y": self.y_range,
            "percent": self.percent,
            "cursor": self.cursor,
            "series": [
                {"style": s.style.value, "x": np.round(s.x, 6).tolist(), "y": np.round(s.y, 6).tolist()}
                for s in self.series
            ],
        }

    def _reading(self, series: Series) -> str:
        value = series.at(self.cursor)
        if value is None:
            return NOTHING
        return f"{100 * value:.1f}\u202f%" if self.percent else f"{value:.4g}"

    def _y_text(self, y: float) -> str:
        if not self.percent:
            return f"{y:g}"
        return f"{100 * y:g}" + (" %" if y >= self.y_range[1] - 1e-9 else "")


def ticks(low: float, high: float, count: int, least: float = 0.0) -> list[float]:
    """About `count` round numbers in [low, high], at least `least` apart.

    >>> ticks(0.0, 1.0, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = max((high - low) / count, 1e-12)
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough)), least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near those wanted, in their order, at least `gap` apart, within [low, high] where they fit.

    >>> spread([10.0, 11.0], 5.0, 0.0, 100.0)
    [10.0, 15.0]
    """
    placed = list(wanted)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    for a, b in pairwise(order):
        placed[b] = max(placed[b], placed[a] + gap)
    limit = high
    for i in reversed(order):
        placed[i] = max(min(placed[i], limit), low)
        limit = placed[i] - gap
    return placed


def marker(run: int, x: float, y: float) -> str:
    """An SVG path for the marker of a run: circle, square, triangle or diamond."""
    shapes = (
        f"M{x - 4:.1f} {y:.1f}a4 4 0 1 1 8 0a4 4 0 1 1 -8 0Z",
        f"M{x - 3.6:.1f} {y - 3.6:.1f}h7.2v7.2h-7.2Z",
        f"M{x:.1f} {y - 4.8:.1f}l4.6 8h-9.2Z",
        f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5Z",
    )
    return shapes[run % len(shapes)]


def _line(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _steps(x: np.ndarray, y: np.ndarray) -> str:
    """A path that keeps y[i] from x[i] to x[i + 1]."""
    path = [f"M{x[0]:.1f} {y[0]:.1f}"]
    for i in range(1, len(x)):
        if y[i] != y[i - 1]:
            path.append(f"H{x[i]:.1f}V{y[i]:.1f}")
    return "".join(path) + f"H{x[-1]:.1f}"


def _treads(x: np.ndarray, y: np.ndarray) -> str:
    """The level parts of the steps only, so that dashes do not run up and down."""
    return "".join(f"M{a:.1f} {b:.1f}H{c:.1f}" for a, b, c in zip(x, y, x[1:], strict=False))


def _risers(x: np.ndarray, y: np.ndarray) -> str:
    return "".join(f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in zip(x[1:], y, y[1:], strict=False))


_DRAW = {Style.PROVED: _steps, Style.MEASURED: _treads, Style.TRACE: _line}
