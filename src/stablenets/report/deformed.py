"""Images, the fields that deform them, and what becomes of them (ADef 3, Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .figures import LOOK, _image, _write

LEAST = 0.1  # pixels; shorter arrows are not drawn


@dataclass(frozen=True)
class Deformed:
    """One image.

    Attributes:
        image: (channels, height, width) in [0, 1].
        deformed: of the same shape.
        tau: (height, width, 2), how far down and how far to the right each pixel looks, in pixels.
        before, after: what the network answers.
    """

    image: np.ndarray
    deformed: np.ndarray
    tau: np.ndarray
    before: str
    after: str

    @property
    def size(self) -> float:
        """The largest shift of a pixel."""
        return float(np.linalg.norm(self.tau, axis=-1).max())


def deformed_images(found: Sequence[Deformed], path: Path) -> Path:
    """Draw the images, below them the fields, and below those the deformed images.

    An arrow starts at a pixel and ends where it takes its value from, to scale.

    Args:
        found: one column each.
        path: ends in .svg, .pdf or .png.

    Returns:
        `path`.
    """
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(1.25 * max(len(found), 4), 4.6), layout="constrained")
        grid = figure.subplots(3, len(found), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for j, one in enumerate(found):
            _image(grid[0, j], one.image, 0.0, 1.0, "gray", one.before)
            _image(grid[1, j], 0.35 * one.image, 0.0, 1.0, "gray", f"‖τ‖ = {one.size:.2f} px")
            rows, columns = np.nonzero(np.linalg.norm(one.tau, axis=-1) >= LEAST)
            down, right = one.tau[rows, columns].T
            arrows = grid[1, j].quiver(
                *(columns, rows, right, down),
                color="#f0a050",
                angles="xy",
                scale_units="xy",
                scale=1.0,
                width=0.012,
                headwidth=3.5,
                headlength=4,
                headaxislength=3.5,
                minlength=0.5,
                clip_on=False,
            )
            arrows.set_in_layout(False)  # its extent is not known before it is drawn
            _image(grid[2, j], one.deformed, 0.0, 1.0, "gray", f"{one.after} ✗")
        return _write(figure, path)
