"""The idx format of MNIST: big-endian header (magic, sizes), then the bytes of an array; packed with gzip."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..core.errors import InputError, message

UINT8 = 0x08  # the only element type MNIST and its successors use


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an `idx.gz` file, e.g. images (n, height, width) or labels (n,).

    Raises:
        InputError: missing, not gzip, truncated, a wrong magic number or element type, or more or fewer bytes
            than the header says.

    Reference: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database", section on the file format.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels.gz"
    ...     _ = path.write_bytes(gzip.compress(bytes([0, 0, UINT8, 1, 0, 0, 0, 3, 7, 8, 9])))
    ...     read_idx(path).tolist()
    [7, 8, 9]
    """
    todo = "Delete it and get it again from the data set's official source."
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error, struct.error) as error:
        needed = "a complete file packed with gzip"
        raise InputError(message(f"{path} cannot be unpacked ({error})", needed, todo)) from None
    dimensions = raw[3] if len(raw) > 3 else 0
    start = 4 + 4 * dimensions
    if raw[:3] != bytes((0, 0, UINT8)) or dimensions == 0 or len(raw) < start:
        needed = "an idx file of bytes: 00 00 08, the number of dimensions, the sizes"
        raise InputError(message(f"{path} starts with {raw[:4].hex(' ') or 'nothing'}", needed, todo))
    shape = struct.unpack(f">{dimensions}I", raw[4:start])
    size = math.prod(shape)
    if len(raw) - start != size:
        given = f"{path} holds {len(raw) - start} bytes after a header for shape {shape}"
        raise InputError(message(given, f"{size} bytes", todo))
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
