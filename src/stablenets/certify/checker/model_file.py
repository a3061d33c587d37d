"""A model file without trust: every length is checked against the file before anything of that length is read.

The file is opened once and read once. What is hashed is then what is judged, whatever becomes of the file meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from .strict import Rejected, entries, items, natural, open_file, parse, text

FORMAT = "stablenets/1"
HEADER_LIMIT, BODY_LIMIT = 64 * 2**20, 4 * 2**30  # bytes: both are read into memory
DTYPES = {"F32": ("float32", np.dtype("<f4")), "F64": ("float64", np.dtype("<f8"))}


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies behind the header: its dtype's tag, its shape, its first byte and the one after its last."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class ModelFile:
    """Configuration, frozen steps and tensors of a safetensors file written by `stablenets.save`, all in memory."""

    config: Any
    extra: dict[str, Any]
    entries: dict[str, Entry]
    body: memoryview  # what follows the header

    def tensor(self, name: str) -> np.ndarray:
        """The tensor in float64 (exact), all of whose entries are finite."""
        entry = self.entries[name]
        values = np.frombuffer(self._bytes(entry), DTYPES[entry.dtype][1]).astype(np.float64)
        if not np.isfinite(values).all():
            raise Rejected(f"the weights {name} hold NaN or infinite values")
        return values.reshape(entry.shape)

    def sha256(self) -> str:
        """Hash of architecture, frozen steps and weights, as docs/certificates.md defines it."""
        digest = hashlib.sha256()
        for value in (self.config, self.extra):
            digest.update(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
        for name in sorted(self.entries):
            entry = self.entries[name]
            digest.update(f"{name}|{DTYPES[entry.dtype][0]}|{list(entry.shape)}|".encode())
            digest.update(self._bytes(entry))
        return digest.hexdigest()

    def _bytes(self, entry: Entry) -> memoryview:
        return self.body[entry.start : entry.stop]


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read a model file, the tensors only after the header has accounted for every byte of them.

    Raises:
        Rejected: when it is not a complete, well-formed file of ours.
    """
    with open_file(path, "the model file") as file:
        size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if size < 8 or length < 2 or length > size - 8:
            raise Rejected(f"the model file has {size} bytes and announces a header of {length}: not a model file")
        if length > HEADER_LIMIT:
            raise Rejected(f"the header of the model file has {length} bytes, over {HEADER_LIMIT}")
        if size - 8 - length > BODY_LIMIT:
            raise Rejected(f"not covered by the checker: a model file with over {BODY_LIMIT} bytes of weights")
        header = parse(file.read(length), "the header of the model file")
        config, extra, places = _header(header, size - 8 - length)
        body = file.read(size - 8 - length)
        if len(body) != size - 8 - length or file.read(1):
            raise Rejected("the model file changed while it was read")
    return ModelFile(config, extra, places, memoryview(body))


def _header(header: Any, size: int) -> tuple[Any, dict[str, Any], dict[str, Entry]]:
    """Configuration, frozen steps, and the places of the tensors in the `size` bytes behind the header."""
    if not isinstance(header, dict):
        raise Rejected("the header of the model file is not an object")
    if not isinstance(header.get("__metadata__"), dict) or header["__metadata__"].get("format") != FORMAT:
        raise Rejected(f"the model file is not of format {FORMAT}")
    tags = entries(header.pop("__metadata__"), ("format", "config", "extra"), "the metadata of the model file")
    extra = parse(text(tags["extra"], "the frozen steps"), "the frozen steps of the model file")
    if not isinstance(extra, dict):
        raise Rejected("the frozen steps of the model file are not an object")
    config = parse(text(tags["config"], "the configuration"), "the configuration of the model file")
    return config, extra, _places(header, size)


def _places(header: dict[str, Any], size: int) -> dict[str, Entry]:
    """The tensors of a header; they must fill the `size` bytes behind it without gap or overlap."""
    places: dict[str, Entry] = {}
    for name, value in header.items():
        given = entries(value, ("dtype", "shape", "data_offsets"), f"tensor {name!r}")
        dtype = text(given["dtype"], f"the dtype of {name!r}")
        if dtype not in DTYPES:
            raise Rejected(f"tensor {name!r} has dtype {dtype}; certificates hold for float32 and float64 weights")
        what = f"the shape of {name!r}"
        shape = tuple(natural(n, what, least=0) for n in items(given["shape"], what))
        what = f"the offsets of {name!r}"
        offsets = [natural(n, what, least=0) for n in items(given["data_offsets"], what)]
        if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype][1].itemsize:
            raise Rejected(f"{what} do not fit its shape")
        places[name] = Entry(dtype, shape, *offsets)
    position = 0
    for name, entry in sorted(places.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            raise Rejected(f"tensor {name!r} leaves a gap or overlaps another in the model file")
        position = entry.stop
    if position != size:
        raise Rejected(f"the tensors take {position} bytes of {size} in the model file: truncated or padded")
    return places
