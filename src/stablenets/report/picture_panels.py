"""Pictures in the panels of a figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes


@dataclass(frozen=True)
class Picture:
    """A picture (channels, height, width) of bytes, or of floats in [0, 1], grey or colour; without axes."""

    pixels: np.ndarray

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        pixels = np.asarray(self.pixels)
        if pixels.dtype != np.uint8:
            pixels = np.rint(255 * np.clip(np.nan_to_num(pixels), 0, 1)).astype(np.uint8)
        shown = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
