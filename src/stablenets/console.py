"""What the command line shows on the terminal: progress, and tables of results."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from .tasks.progress import Progress, silent


@contextlib.contextmanager
def shown(how: str) -> Iterator[Progress]:
    """A `Progress` that shows itself as "bars" (lines where the output is no terminal), as "json" or not ("none")."""
    if how == "none":
        yield silent
    elif how == "json":
        yield Lines(as_json=True, pause=0.2)
    elif not Console(stderr=True).is_terminal:
        yield Lines(as_json=False, pause=20.0)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with RichProgress(*columns, console=Console(stderr=True)) as bars:
            yield Bars(bars)


class Bars:
    """One bar per task, on stderr."""

    def __init__(self, bars: RichProgress) -> None:
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, task: str, done: int, total: int, note: str) -> None:
        if task not in self.tasks:
            self.tasks[task] = self.bars.add_task(task, total=None, note="")
        self.bars.update(self.tasks[task], completed=done, total=total or None, note=note)


class Lines:
    """A line now and then: text on stderr, or JSON [task, done, total, note] on stdout.

    Args:
        pause: seconds between two lines of one task; its first and its last are always written.
    """

    def __init__(self, *, as_json: bool, pause: float) -> None:
        self.as_json, self.pause = as_json, pause
        self.last: dict[str, float] = {}

    def __call__(self, task: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        over = done == total > 0
        if not over and now - self.last.get(task, float("-inf")) < self.pause:
            return
        self.last[task] = now
        if self.as_json:
            sys.stdout.write(json.dumps([task, done, total, note]) + "\n")
            sys.stdout.flush()
        else:
            far = f" {done:,}/{total:,}" if total > 1 else " done" if over else ""
            sys.stderr.write(f"{task}{far}{f'  {note}' if note else ''}\n")
            sys.stderr.flush()


def results(paths: Sequence[Path]) -> list[Path]:
    """Print accuracy against radius for some runs, proved and under attack; returns the folders of certified runs."""
    from .report.overview import table
    from .report.run import load_runs

    runs = load_runs(list(paths))
    grid = Table(title="accuracy by l2 radius of the perturbation", title_justify="left")
    grid.add_column("radius", justify="right")
    for run in runs:
        if run.certified:
            grid.add_column(f"{run.name}\nproved", justify="right", style="bold")
        grid.add_column(f"{run.name}\nunder attack", justify="right")
    for row in table(runs)["rows"]:
        cells = [
            cell
            for run, (proved, attacked) in zip(runs, row["cells"], strict=True)
            for cell in ((proved, attacked) if run.certified else (attacked,))
        ]
        grid.add_row(row["radius"], *cells)
    Console().print(grid)
    return [run.path for run in runs if run.certified]


def listing(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print names with one line about each."""
    grid = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column()
    for name, summary in rows:
        grid.add_row(name, Text(summary))
    Console().print(grid)


def say(text: str) -> None:
    """Print plain text."""
    Console(highlight=False, soft_wrap=True).print(text, markup=False)
