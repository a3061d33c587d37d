"""A model file without trust: every length is checked against the file before anything of that length is read."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .strict import Rejected, entries, items, natural, open_file, parse, text

FORMAT = "stablenets/1"
HEADER_LIMIT = 64 * 2**20
DTYPES = {"F32": ("float32", np.dtype("<f4")), "F64": ("float64", np.dtype("<f8"))}
CHUNK = 2**24


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies in the file: its dtype's tag, its shape, its first and last byte."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class ModelFile:
    """Configuration, frozen steps and tensors of a safetensors file written by `stablenets.save`."""

    path: Path
    config: Any
    extra: dict[str, Any]
    entries: dict[str, Entry]

    def tensor(self, name: str) -> np.ndarray:
        """The tensor in float64 (exact), all of whose entries are finite."""
        entry = self.entries[name]
        dtype = DTYPES[entry.dtype][1]
        count = (entry.stop - entry.start) // dtype.itemsize
        values = np.fromfile(self.path, dtype=dtype, count=count, offset=entry.start).astype(np.float64)
        if values.size != count:
            raise Rejected("the model file changed while it was read")
        if not np.isfinite(values).all():
            raise Rejected(f"the weights {name} hold NaN or infinite values")
        return values.reshape(entry.shape)

    def sha256(self) -> str:
        """Hash of architecture, frozen steps and weights, as docs/certificates.md defines it."""
        digest = hashlib.sha256()
        for value in (self.config, self.extra):
            digest.update(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
        with self.path.open("rb") as file:
            for name in sorted(self.entries):
                entry = self.entries[name]
                digest.update(f"{name}|{DTYPES[entry.dtype][0]}|{list(entry.shape)}|".encode())
                file.seek(entry.start)
                left = entry.stop - entry.start
                while left:
                    data = file.read(min(left, CHUNK))
                    if not data:
                        raise Rejected("the model file changed while it was read")
                    digest.update(data)
                    left -= len(data)
        return digest.hexdigest()


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read the header of a model file; the tensors stay on the disk.

    Raises:
        Rejected: when it is not a complete, well-formed file of ours.
    """
    with open_file(path, "the model file") as file:
        size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if size < 8 or length < 2 or length > size - 8:
            raise Rejected(f"the model file has {size} bytes and announces a header of {length}: not a model file")
        if length > HEADER_LIMIT:
            raise Rejected(f"the header of the model file has {length} bytes, over {HEADER_LIMIT}")
        header = parse(file.read(length), "the header of the model file")
    if not isinstance(header, dict):
        raise Rejected("the header of the model file is not an object")
    if not isinstance(header.get("__metadata__"), dict) or header["__metadata__"].get("format") != FORMAT:
        raise Rejected(f"the model file is not of format {FORMAT}")
    tags = entries(header.pop("__metadata__"), ("format", "config", "extra"), "the metadata of the model file")
    extra = parse(text(tags["extra"], "the frozen steps"), "the frozen steps of the model file")
    if not isinstance(extra, dict):
        raise Rejected("the frozen steps of the model file are not an object")
    config = parse(text(tags["config"], "the configuration"), "the configuration of the model file")
    return ModelFile(Path(path), config, extra, _places(header, 8 + length, size))


def _places(header: dict[str, Any], begin: int, size: int) -> dict[str, Entry]:
    """The tensors of a header; they must fill the file from `begin` to its end without gap or overlap."""
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
        places[name] = Entry(dtype, shape, begin + offsets[0], begin + offsets[1])
    position = begin
    for name, entry in sorted(places.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            raise Rejected(f"tensor {name!r} leaves a gap or overlaps another in the model file")
        position = entry.stop
    if position != size:
        raise Rejected(f"the tensors end at byte {position} of a model file of {size} bytes: truncated or padded")
    return places
