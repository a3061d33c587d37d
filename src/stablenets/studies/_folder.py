"""What studies without classifiers share: a folder whose finished parts are kept, and tables of numbers."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..core.errors import InputError, message
from ..tasks.progress import Progress
from ..train.minimise import OnStep


def open_folder(
    name: str, *, data: str | None, out: Path | None, quick: bool, settings: Mapping[str, Any] | None = None
) -> Path:
    """The folder of the study `name`, made if it is not there.

    Raises:
        InputError: `data` is given, but the study makes its own; or the folder holds results with other settings.
    """
    if data is not None:
        raise InputError(message(f"--data {data}", "no data set", f"The study {name} makes its own data."))
    folder = out or Path(f"runs/{name}{'-quick' if quick else ''}")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(json.dumps({"study": name, **(settings or {})}))
    if once(folder / "settings.json", lambda: wanted) != wanted:
        todo = "Choose another folder by --out, or delete this one."
        raise InputError(message(f"{folder} holds results with other settings", "the settings of this study", todo))
    return folder


def once(path: Path, compute: Callable[[], Any]) -> Any:
    """What the JSON file holds; computed and written if it is not there, so that a stopped study goes on."""
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        write(path, json.dumps(compute(), indent=1, allow_nan=False) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def write_table(path: Path, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as markdown to `path`, and with all their digits to the .json beside it.

    Args:
        path: ends in .md.
        columns: for each column of the table its format, such as ".1e"; rows may hold more than these. A cell that is
            None is empty.
        rows: the numbers.
    """
    lines = [list(columns), ["---"] * len(columns)]
    lines += [["" if row[c] is None else format(row[c], form) for c, form in columns.items()] for row in rows]
    write(path, "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n")
    write(path.with_suffix(".json"), json.dumps(list(rows), indent=1, allow_nan=False) + "\n")


def write(path: Path, text: str) -> None:
    """Write under a temporary name first: a file that is there is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def told(progress: Progress, task: str) -> OnStep:
    """`progress` as `train.minimise` calls it."""
    return lambda done, total, loss: progress(task, done, total, f"loss {loss:.3g}")


@contextlib.contextmanager
def seeded(seed: int, *, threads: int = 1) -> Iterator[None]:
    """Inside, random numbers of that seed, and one thread, which is quickest for small networks; then all as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)
