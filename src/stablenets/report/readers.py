"""Read the files of a run folder; every failure names the file, what it should hold and what to do."""

from __future__ import annotations

import json
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError, message


def read_text(path: Path, needed: str, todo: str) -> str:
    """The text of `path`.

    Raises:
        InputError: the file is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(message(f"{path} is missing", needed, todo)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(message(f"{path} cannot be read ({error})", needed, todo)) from None


def read_json(path: Path, needed: str, todo: str) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        InputError: missing, not JSON, or JSON that is not an object.
    """
    return _object(read_text(path, needed, todo), str(path), needed, todo)


def read_jsonl(path: Path, needed: str, todo: str) -> list[dict[str, Any]]:
    """One JSON object per line of `path`; empty lines are skipped.

    Raises:
        InputError: missing, or a line (named by its number) is not a JSON object.
    """
    lines = enumerate(read_text(path, needed, todo).splitlines(), start=1)
    return [_object(line, f"{path}, line {i},", needed, todo) for i, line in lines if line.strip()]


def read_toml(path: Path, needed: str, todo: str) -> tuple[dict[str, Any], str]:
    """The table in a TOML file and the text it was written as.

    Raises:
        InputError: missing or not TOML.
    """
    text = read_text(path, needed, todo)
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise InputError(message(f"{path} is not valid TOML ({error})", needed, todo)) from None


def read_npz(path: Path, names: Iterable[str], needed: str, todo: str) -> dict[str, np.ndarray]:
    """The arrays of a numpy archive, without pickle.

    Raises:
        InputError: missing, damaged, or one of `names` is not in it.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(message(f"{path} is missing", needed, todo)) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(message(f"{path} is damaged ({error})", needed, todo)) from None
    for name in names:
        if name not in arrays:
            raise InputError(message(f"{path} has no array {name!r}", needed, todo))
    return arrays


def field(table: dict[str, Any], name: str, path: Path, todo: str) -> Any:
    """`table[name]`, where `table` was read from `path`.

    Raises:
        InputError: there is no such entry.
    """
    if name not in table:
        raise InputError(message(f"{path} has no entry {name!r}", "an entry of that name", todo))
    return table[name]


def numbers(table: dict[str, Any], name: str, path: Path, todo: str) -> np.ndarray:
    """`table[name]` as a float64 vector.

    Raises:
        InputError: there is no such entry or it is not a list of numbers.
    """
    value = field(table, name, path, todo)
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(())
    if array.ndim != 1 or not isinstance(value, list):
        raise InputError(message(f"{name!r} in {path} is {value!r:.60}", "a list of numbers", todo))
    return array


def _object(text: str, where: str, needed: str, todo: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(message(f"{where} is not valid JSON ({error})", needed, todo)) from None
    if not isinstance(value, dict):
        raise InputError(message(f"{where} holds a JSON {type(value).__name__}", needed, todo))
    return value
