"""A row of images with their labels, as SVG."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, GAP, TEXT = 112, 12, 24  # in pixels


def example_images(images: np.ndarray, labels: Sequence[str], path: Path) -> Path:
    """Draw images (n, channels, height, width) in [0, 1], grey or colour, in a row, each with its label above.

    Returns:
        `path`.
    """
    parts = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        x = GAP + i * (SIDE + GAP)
        parts.append(f'<text x="{x + SIDE / 2}" y="{TEXT - 8}" text-anchor="middle">{html.escape(label)}</text>')
        parts.append(
            f'<image x="{x}" y="{TEXT}" width="{SIDE}" height="{SIDE}" style="image-rendering: pixelated" '
            f'href="data:image/png;base64,{_png(image)}"/>'
        )
    width, height = GAP + len(parts) // 2 * (SIDE + GAP), TEXT + SIDE + GAP
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    opening += 'font-family="sans-serif" font-size="12">'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text("\n".join([opening, ground, *parts, "</svg>"]) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return path


def _png(image: np.ndarray) -> str:
    values = (255 * image.clip(0, 1)).round().astype(np.uint8)
    picture = Image.fromarray(values.transpose(1, 2, 0) if len(values) == 3 else values[0])
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()
