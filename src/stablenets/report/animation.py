"""Points that move, as one self-contained SVG that plays by itself in a browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .figures import COLOURS

SIDE, MARGIN = 420, 24  # in pixels


def moving_points(
    frames: np.ndarray, colours: Sequence[int], path: Path, *, seconds: float = 8.0, hold: float = 1.5, title: str = ""
) -> Path:
    """Write points that move on straight lines from frame to frame, rest at the last one, and start again.

    Args:
        frames: positions (frames, points, 2), at least two frames.
        colours: for each point a place in the palette of the figures.
        path: ends in .svg.
        seconds: how long one round takes.
        hold: how many of them the points rest.
        title: what a screen reader says.

    Returns:
        `path`.
    """
    low, high = frames.min((0, 1)), frames.max((0, 1))
    scale = (SIDE - 2 * MARGIN) / float((high - low).max())
    middle = SIDE / 2 + scale * (frames - (low + high) / 2) * np.array([1.0, -1.0])  # y points up
    times = [*np.linspace(0.0, 1 - hold / seconds, len(frames)), 1.0]
    shared = f'dur="{seconds:g}s" repeatCount="indefinite" keyTimes="{";".join(f"{t:.4g}" for t in times)}"'
    circles = []
    for track, colour in zip(middle.transpose(1, 2, 0), colours, strict=True):
        moves = ""
        for axis, values in zip("xy", track, strict=True):
            places = ";".join(f"{v:.1f}" for v in [*values, values[-1]])
            moves += f'<animate attributeName="c{axis}" {shared} values="{places}"/>'
        x, y = track[:, -1]  # where nothing moves, the last frame is shown
        fill = COLOURS[colour % len(COLOURS)]
        circles.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{fill}">{moves}</circle>')
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}">'
    ground = f'<title>{title}</title><rect width="100%" height="100%" fill="white"/>'
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text("\n".join([opening, ground, *circles, "</svg>"]) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return path
