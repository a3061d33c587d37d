"""What commands share: how they show progress, how they end, what they print."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Show = Literal["bars", "json", "none"]
USAGE, FAILED, INTERRUPTED = 2, 1, 130  # exit codes


@contextlib.contextmanager
def resumable(command: str) -> Iterator[None]:
    """Say on Ctrl-C which command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Go on with: {command}") from None


def write_report(runs: list[Path], out: Path) -> Path:
    """Build the page and return its path."""
    from ..report import build
    from ..report.simulate import build_simulation

    if len(runs) == 1 and (runs[0] / "predictions.npz").is_file():
        return build_simulation(runs[0], out)
    return build(runs, out)


def contradicted(runs: list[Path], *, quiet: bool = False) -> bool:
    """Say it, and say so, where an attack refutes what is proved of a classifier: a wrong guarantee."""
    from ..console import say
    from ..report.run import find_runs, load_run
    from ..report.sandwich import contradictions

    folders = [f for run in runs for f in find_runs(run) if not (f / "predictions.npz").is_file()]
    found = contradictions([load_run(folder) for folder in folders])
    for sentence in () if quiet else found:
        say(f"CONTRADICTION, a wrong guarantee: {sentence} Please report this bug.")
    return bool(found)


def conclude(paths: list[Path], page: Path, progress: Show) -> int:
    """Print the table of results, how to check what is proved, and where the report is; for people only.

    Returns:
        The exit code: `FAILED` where an attack refutes what is proved.
    """
    if progress == "json":
        return FAILED if contradicted(paths, quiet=True) else 0
    from ..console import results, say

    for certified in results(paths):
        say(f"Check what is proved, by independent code: stablenets verify {shlex.quote(str(certified))}")
    wrong = contradicted(paths)
    say(f"The report: {page}")
    return FAILED if wrong else 0
