"""Points to learn a distribution from: a named one, the digits of scikit-learn, or a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError, message, unknown_name
from .densities import DENSITIES, density
from .registry import load_data

LEAST = 50  # points, from which a distribution can be guessed at
NEEDED = "a header with a name for each of two or more columns, and a number in each cell"
NAMED = (*sorted(DENSITIES), "digits")


@dataclass(frozen=True)
class Points:
    """Points to learn from (n, d) and to measure on (m, d), in float64, and the names of the d columns."""

    names: tuple[str, ...]
    learned: np.ndarray
    held_out: np.ndarray


def find_points(name: str, *, count: int, test: float, seed: int) -> Points:
    """The points that `name` stands for.

    Args:
        name: of a distribution on the plane, of which `count` points are drawn, and half as many to measure on;
            "digits": pixels 0 to 16, made continuous by adding uniform noise on [0, 1]; or a path that ends in .csv.
        test: share of the rows of a file, drawn at random, to measure on.
        seed: of all that is random.

    Raises:
        InputError: an unknown name; or a file that is missing or damaged, has a cell that is not finite (its place is
            named), one column only, a constant column, or too few rows.

    >>> find_points("moons", count=100, test=0.2, seed=0).learned.shape
    (100, 2)
    """
    if name in DENSITIES:
        draw = density(name).sample
        return Points(("x", "y"), draw(count, 2 * seed), draw(max(LEAST, count // 2), 2 * seed + 1))
    random = np.random.default_rng(seed)
    if name == "digits":
        data = load_data("digits")
        parts = [np.rint(16 * x.flatten(1).double().numpy()) for x in (data.x_train, data.x_test)]
        learned, held_out = (x + random.random(x.shape) for x in parts)
        return Points(tuple(f"pixel {i}" for i in range(learned.shape[1])), learned, held_out)
    path = Path(name)
    if path.suffix != ".csv":
        raise unknown_name("distribution (or file that ends in .csv)", name, NAMED)
    names, rows = read_points(path)
    constant = [n for n, size in zip(names, np.ptp(rows, axis=0), strict=True) if size == 0]
    if constant:
        todo = "A constant has no density. Leave the column out."
        raise InputError(message(f"{path}: the column {constant[0]} is constant", "columns that vary", todo))
    order = random.permutation(len(rows))
    kept = len(rows) - round(test * len(rows))
    if kept < LEAST:
        raise InputError(message(f"{path} has {kept} rows to learn from", f"at least {LEAST}", "Or take --test 0."))
    return Points(names, rows[order[:kept]], rows[order[kept:]])


def read_points(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the columns of a CSV file, and its rows (n, d).

    Raises:
        InputError: see `find_points`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(i, row) for i, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    except FileNotFoundError:
        raise InputError(message(f"there is no file {path}", "a .csv file of points", "Check the path.")) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(message(f"{path} cannot be read ({error})", "a .csv file of points")) from None
    if not lines:
        raise InputError(message(f"{path} is empty", NEEDED))
    names = tuple(cell.strip() for cell in lines[0][1])
    if all(map(_number, names)):
        raise InputError(message(f"{path} has no header: its first line is numbers", NEEDED))
    if len(names) < 2:
        todo = "A flow on a line could only sort the points."
        raise InputError(message(f"{path} has one column only, {lines[0][1][0].strip()}", "two or more columns", todo))
    if len(set(names)) < len(names) or not all(names):
        raise InputError(message(f"{path} has the columns {', '.join(names)}", "different names"))
    rows = []
    for line, cells in lines[1:]:
        if len(cells) != len(names):
            raise InputError(message(f"{path}, line {line}: {len(cells)} cells", f"{len(names)}, one for each column"))
        for name, cell in zip(names, cells, strict=True):
            if not _number(cell):
                given = f"{path}, line {line}, column {name}: {cell.strip()!r}"
                raise InputError(message(given, "a finite number", "Leave out the rows that are not complete."))
        rows.append([float(cell) for cell in cells])
    if not rows:
        raise InputError(message(f"{path} has a header and no points", NEEDED))
    return names, np.array(rows, dtype=np.float64).reshape(-1, len(names))


def write_points(path: Path, names: Iterable[str], rows: np.ndarray) -> None:
    """Write a CSV file that `read_points` reads, with all digits, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([list(names), *rows.tolist()])
        temporary.replace(path)
    except OSError as error:
        raise InputError(message(f"{path} cannot be written ({error.strerror})", "a writable folder")) from None


def _number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
