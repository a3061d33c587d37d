"""Files and JSON read with suspicion: no pipes, duplicate keys, NaN, wrong types, unknown keys, surprises in size."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable
from typing import Any, BinaryIO, NoReturn

LARGEST_INTEGER = 2**53
MOST_CONTAINERS = 10**6  # lists and objects of one text: each takes dozens of times its two characters of memory


def open_file(path: str | os.PathLike[str], what: str) -> BinaryIO:
    """A regular file, opened for reading. Anything else, such as a pipe, might never end, or never begin."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise Rejected(f"{what} cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Rejected(f"{what} cannot be read (it is not a regular file)")
    return os.fdopen(descriptor, "rb")


class Rejected(Exception):
    """The first step of the check that fails. Becomes the reason of the verdict and never leaves `verify`."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise Rejected(f"the key {twice!r} occurs twice")
    return result


def _constant(text: str) -> NoReturn:
    raise Rejected(f"{text} is not a JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Rejected(f"the number {text[:40]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > LARGEST_INTEGER:
        raise Rejected(f"the number {text[:40]} is too large")
    return int(text)


def parse(data: bytes | str, what: str) -> Any:
    """The value of a JSON text; `what` names it in the reason of a rejection.

    >>> parse('{"a": [1, 2.5]}', "example")
    {'a': [1, 2.5]}
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        if text.count("[") + text.count("{") > MOST_CONTAINERS:
            raise Rejected(f"over {MOST_CONTAINERS} lists and objects")
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_integer,
        )
    except Rejected as error:
        raise Rejected(f"{what}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise Rejected(f"{what} is not valid JSON ({error})") from None


def entries(value: Any, keys: Iterable[str], what: str) -> dict[str, Any]:
    """`value` as an object with exactly these keys."""
    keys = list(keys)
    if not isinstance(value, dict):
        raise Rejected(f"{what} is not an object")
    missing = [k for k in keys if k not in value]
    unknown = [k for k in value if k not in keys]
    if missing:
        raise Rejected(f"{what} has no key {missing[0]!r}")
    if unknown:
        raise Rejected(f"{what} has the unknown key {unknown[0]!r}")
    return value


def items(value: Any, what: str) -> list[Any]:
    """`value` as a list."""
    if not isinstance(value, list):
        raise Rejected(f"{what} is not a list")
    return value


def text(value: Any, what: str) -> str:
    """`value` as a string."""
    if not isinstance(value, str):
        raise Rejected(f"{what} is not a string")
    return value


def number(value: Any, what: str, *, positive: bool = False) -> float:
    """`value` as a finite float, not negative; above zero when `positive`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Rejected(f"{what} is not a number")
    if not (math.isfinite(value) and value >= 0) or (positive and value == 0):
        raise Rejected(f"{what} is {value}, which is not {'positive' if positive else 'non-negative'} and finite")
    return float(value)


def natural(value: Any, what: str, *, least: int = 1) -> int:
    """`value` as an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Rejected(f"{what} is not an integer")
    if value < least:
        raise Rejected(f"{what} is {value}, below {least}")
    return value


def kind(config: Any, what: str) -> str:
    """The type of a component's description."""
    if not isinstance(config, dict) or "type" not in config:
        raise Rejected(f"{what} is not the description of a component")
    return text(config["type"], f"the type of {what}")


def join(*parts: str) -> str:
    """A dotted name."""
    return ".".join(p for p in parts if p)
