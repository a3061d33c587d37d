"""Certificates read back from JSON, with suspicion."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import InputError, message

SCHEMA = "stablenets/certificate/2"
DTYPES = ("float64", "float32")
LARGEST = 2**28  # numbers in one input


def read(path: Path) -> dict[str, Any]:
    """The content of a certificate; of its values, those are checked that say what to certify.

    Raises:
        InputError: when the file is missing, broken or of another version.
    """
    try:
        content = json.loads(path.read_text("utf-8"), parse_constant=_no_number, object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _unreadable(path, reason) from error
    if not isinstance(content, dict):
        raise _unreadable(path, "it is no object")
    if content.get("schema", SCHEMA) != SCHEMA:
        given = f"{path} has the schema {content['schema']!r:.60}"
        raise InputError(message(given, repr(SCHEMA), "It is of another version: certify the network again."))
    shape = content["input"].get("shape") if isinstance(content.get("input"), dict) else ()
    sizes = isinstance(shape, list) and shape and all(type(n) is int and n > 0 for n in shape)
    if not (shape is None or (sizes and math.prod(shape) < LARGEST)):
        raise _unreadable(path, "it has no input shape")
    for name, good in (
        ("weights_sha256", isinstance(content.get("weights_sha256"), str)),
        ("dtype", content.get("dtype") in DTYPES),
    ):
        if not good:
            raise _unreadable(path, f"{name!r} is missing or wrong")
    return content


def close(a: Any, b: Any) -> bool:
    """Equality up to the last digits in which LAPACK builds differ."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, float):
        return type(b) in (int, float) and math.isclose(a, b, rel_tol=1e-9)
    return a == b and type(a) is type(b)


def _unreadable(path: Path, reason: object) -> InputError:
    given = f"{path} is not a readable certificate ({reason})"
    return InputError(message(given, "an intact file", "Certify the network again."))


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return found
