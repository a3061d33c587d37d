"""Images as PNG data URIs, written with the standard library only."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

# Colour-blind safe, and legible on light and dark paper: blue is darker, transparent unchanged, orange brighter.
DARKER, BRIGHTER = (10, 112, 200), (222, 98, 0)


def pixels(x: np.ndarray, side: int = 64) -> np.ndarray:
    """An image (C, H, W) in [0, 1] as bytes: (H, W) for grey, (H, W, 3) for three channels.

    Images larger than `side` are shrunk by averaging blocks of pixels; other numbers of channels are averaged.
    """
    x = np.nan_to_num(np.asarray(x, dtype=np.float64))
    block = max(1, -(-max(x.shape[1:]) // side))
    if block > 1:
        tall, wide = (min(block, size) for size in x.shape[1:])
        height, width = x.shape[1] // tall, x.shape[2] // wide
        x = x[:, : height * tall, : width * wide]
        x = x.reshape(len(x), height, tall, width, wide).mean(axis=(2, 4))
    grey = np.rint(255 * np.clip(x, 0, 1)).astype(np.uint8)
    if len(x) == 3:
        return grey.transpose(1, 2, 0)
    return grey[0] if len(x) == 1 else np.rint(grey.mean(axis=0)).astype(np.uint8)


def difference(change: np.ndarray, scale: float, side: int = 64) -> np.ndarray:
    """A change (C, H, W) of an image as bytes; a change of +-`scale` gets the full colour.

    One channel is drawn in two colours that fade to transparent, (H, W, 4); three channels as colours around middle
    grey, (H, W, 3).
    """
    signed = np.clip(change / max(scale, 1e-12), -1, 1)
    if len(change) == 3:
        return pixels(0.5 + signed / 2, side)
    darker, brighter = (pixels(np.maximum(part, 0), side) for part in (-signed, signed))
    opacity = np.maximum(darker, brighter)[..., None]
    colour = np.where((darker > brighter)[..., None], DARKER, BRIGHTER).astype(np.uint8)
    return np.concatenate([colour, opacity], axis=2)


def png(image: np.ndarray) -> bytes:
    """Encode bytes (H, W), (H, W, 3) or, with opacity, (H, W, 4) as a PNG file.

    >>> png(np.zeros((2, 3), dtype=np.uint8))[1:4]
    b'PNG'
    """
    height, width = image.shape[:2]
    colour = 0 if image.ndim == 2 else {3: 2, 4: 6}[image.shape[2]]
    rows = image.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), dtype=np.uint8), rows], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def data_uri(image: np.ndarray) -> str:
    """Bytes, as `png` takes them, as the address of an inline PNG."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode("ascii")
