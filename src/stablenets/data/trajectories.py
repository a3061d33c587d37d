"""Trajectories of a dynamical system: states at growing times, from a CSV or an `.npz` file."""

from __future__ import annotations

import csv
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError, message

TIME = ("t", "time")  # names of the column of times
LABEL = "trajectory"  # name of the column that says which rows belong together
CSV_NEEDED = f"a header with a column {TIME[0]!r}, perhaps a column {LABEL!r}, and one column for each entry of a state"
NPZ_NEEDED = "arrays t (n,) and x (n, d), perhaps trajectory (n,); or t (n,) or (m, n) and x (m, n, d)"


@dataclass(frozen=True)
class Trajectory:
    """Times (n,), strictly growing, and states (n, d) at them, both in float64."""

    label: str
    times: np.ndarray
    states: np.ndarray


@dataclass(frozen=True)
class Trajectories:
    """Several trajectories of one system; `names` are those of the d entries of a state."""

    names: tuple[str, ...]
    items: tuple[Trajectory, ...]

    @property
    def points(self) -> int:
        """How many states there are in all."""
        return sum(len(item.times) for item in self.items)


def read_trajectories(path: Path, *, points: int = 2) -> Trajectories:
    """The trajectories in a file.

    A `.csv` file has a header. Its columns are `t` (or `time`), perhaps `trajectory`, any text that says which rows
    belong together, and one column for each entry of a state, named as you like. An `.npz` file holds arrays `t` and
    `x`: either all rows below each other, with an array `trajectory` if there are several, or x (m, n, d) with times
    (n,) or (m, n); and perhaps `names` of the entries. Times may be irregular, and differ between trajectories.

    Args:
        points: how many each trajectory needs, at least.

    Raises:
        InputError: a file that is missing, damaged or of another form; a value that is not finite; times that do not
            grow; too few points. The place in the file is named.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "own.csv"
    ...     _ = path.write_text("t,q,p\\n0,1,0\\n0.1,0.99,-0.1\\n")
    ...     read_trajectories(path).names
    ('q', 'p')
    """
    if path.suffix not in (".csv", ".npz"):
        raise InputError(message(f"{path} ends in {path.suffix!r}", "a .csv or .npz file of trajectories"))
    if not path.is_file():
        raise InputError(message(f"there is no file {path}", "a .csv or .npz file of trajectories", "Check the path."))
    names, labels, times, states = _csv(path) if path.suffix == ".csv" else _npz(path)
    places: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        places.setdefault(label, []).append(i)
    return Trajectories(
        names, tuple(_checked(path, label, times[rows], states[rows], names, points) for label, rows in places.items())
    )


def _checked(
    path: Path, label: str, times: np.ndarray, states: np.ndarray, names: Sequence[str], points: int
) -> Trajectory:
    where = f"{path}, trajectory {label}"
    for name, values in (("t", times), *zip(names, states.T, strict=True)):
        if not np.isfinite(values).all():
            row = int(np.isfinite(values).argmin())
            given = f"{where}: {name} is {values[row]} in its row {row + 1}"
            raise InputError(message(given, "finite numbers", "Leave out the rows with missing values."))
    if len(times) < points:
        raise InputError(message(f"{where} has {len(times)} points", f"at least {points}"))
    if not (steps := np.diff(times) > 0).all():
        row = int(steps.argmin())
        given = f"{where}: time {times[row + 1]:.6g} follows {times[row]:.6g} (its rows {row + 1} and {row + 2})"
        todo = f"Sort the rows; give different trajectories different values in a column {LABEL!r}."
        raise InputError(message(given, "strictly growing times", todo))
    return Trajectory(label, times, states)


Table = tuple[tuple[str, ...], list[str], np.ndarray, np.ndarray]


def _csv(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(i, row) for i, row in enumerate(csv.reader(file), start=1) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(message(f"{path} cannot be read ({error})", "a CSV file in UTF-8")) from None
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    clock = [i for i, name in enumerate(header) if name in TIME]
    entries = [i for i, name in enumerate(header) if name not in (*TIME, LABEL)]
    if len(clock) != 1 or not entries or len(set(header)) < len(header) or "" in header:
        raise InputError(message(f"the header of {path} is {','.join(header) or 'empty'!r:.200}", CSV_NEEDED))
    labels, numbers = [], []
    for i, row in lines[1:]:
        if len(row) != len(header):
            given = f"{path}, line {i} has {len(row)} columns"
            raise InputError(message(given, f"{len(header)}, as in the header", "All states have the same entries."))
        labels.append(row[header.index(LABEL)].strip() if LABEL in header else "1")
        numbers.append([_number(path, i, header[k], row[k]) for k in (*clock, *entries)])
    if not numbers:
        raise InputError(message(f"{path} has no rows below its header", "states at several times"))
    values = np.array(numbers)
    return tuple(header[k] for k in entries), labels, values[:, 0], values[:, 1:]


def _number(path: Path, line: int, column: str, cell: str) -> float:
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError:
        given = f"{path}, line {line}: {column} is {cell!r:.40}"
        raise InputError(message(given, "a number", "Decimals are written with a point.")) from None


def _npz(path: Path) -> Table:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, SyntaxError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        given = f"{path} is damaged or no .npz file ({error})"
        raise InputError(message(given, NPZ_NEEDED, "Write it with numpy.savez; it must hold plain numbers.")) from None
    if missing := [name for name in ("t", "x") if name not in arrays]:
        given = f"{path} has no array {missing[0]!r} (it has {', '.join(arrays) or 'none'})"
        raise InputError(message(given, NPZ_NEEDED))
    t, x = arrays["t"], arrays["x"]
    if t.dtype.kind not in "iuf" or x.dtype.kind not in "iuf":
        raise InputError(message(f"{path}: t is of type {t.dtype}, x of type {x.dtype}", "real numbers"))
    shapes = f"{path}: t has the shape {t.shape}, x the shape {x.shape}"
    if x.ndim == 3 and t.shape in (x.shape[:2], x.shape[1:2]):
        labels = [str(i + 1) for i in range(len(x)) for _ in range(x.shape[1])]
        t = np.broadcast_to(t, x.shape[:2])
    elif x.ndim == 2 and t.shape == x.shape[:1]:
        labels = [str(label) for label in arrays.get(LABEL, np.ones(len(t), int)).ravel()]
        if len(labels) != len(t):
            raise InputError(message(f"{path}: {LABEL} has {len(labels)} entries, t has {len(t)}", "one for each row"))
    else:
        raise InputError(message(shapes, NPZ_NEEDED))
    width = x.shape[-1]
    names = tuple(map(str, arrays["names"].ravel())) if "names" in arrays else tuple(f"x{i + 1}" for i in range(width))
    if len(names) != width or width == 0 or not labels:
        raise InputError(message(f"{shapes}, with {len(names)} names", "a name for each entry of x, and some states"))
    if len({*names, *TIME, LABEL}) < width + len(TIME) + 1:
        needed = f"different ones, and none of {', '.join((*TIME, LABEL))}"
        raise InputError(message(f"{path}: the names {', '.join(names)}", needed))
    return names, labels, t.astype(np.float64).reshape(-1), x.astype(np.float64).reshape(-1, width)


def write_csv(path: Path, data: Trajectories) -> None:
    """Write trajectories as `read_trajectories` reads them, with all digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([LABEL, TIME[0], *data.names])
        for item in data.items:
            for t, x in zip(item.times.tolist(), item.states.tolist(), strict=True):
                writer.writerow([item.label, repr(t), *map(repr, x)])
