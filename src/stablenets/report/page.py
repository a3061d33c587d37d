"""`build`: one self-contained HTML page out of run folders."""

from __future__ import annotations

import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..core.errors import InputError, message
from . import overview
from .attempts import tally
from .figure import accuracy_plot, training_plots
from .pictures import cards, galleries
from .pixelwise import pixelwise
from .run import Run, load_runs
from .sandwich import sandwiches
from .words import certificates, environments

MOST_BYTES = 2_900_000
# How many images, how large: the first choice that keeps the page small is taken.
IMAGES = ((60, 64), (60, 32), (30, 32), (12, 24), (0, 24))


def build(run_paths: list[Path], out: Path) -> Path:
    """Write one page that shows and compares runs; it needs no network and no other file.

    Args:
        run_paths: run folders, or folders that hold run folders.
        out: the HTML file to write; it appears whole or not at all.

    Returns:
        `out`.

    Raises:
        InputError: a run cannot be read (the message names the file), or `out` cannot be written.
    """
    runs = load_runs([Path(path) for path in run_paths])
    for count, side in IMAGES:
        html = render(runs, count, side)
        if len(html.encode()) <= MOST_BYTES:
            break
    return write_text(Path(out), html)


def render(runs: list[Run], count: int = 60, side: int = 64) -> str:
    """The page as text, with at most `count` test images of at most `side` pixels."""
    plot = accuracy_plot(runs)
    content: dict[str, Any] = {
        "runs": runs,
        "title": overview.title(runs),
        "lede": overview.lede(runs),
        "headline": overview.headline(runs),
        "notes": overview.notes(runs),
        "sandwich": overview.sandwich(runs),
        "sandwiches": sandwiches(runs, side),
        "pixelwise": [found for run in runs if (found := pixelwise(run)) is not None],
        "tallies": [found for run in runs if (found := tally(run)) is not None],
        "table": overview.table(runs),
        "accuracy": plot,
        "training": training_plots(runs),
        "images": cards(runs, count, side),
        "galleries": galleries(runs, side),
        "certificates": certificates(runs),
        "environments": environments(runs),
        "percent": overview.percent,
        "radius_text": overview.radius_text,
        "css": _asset("page.css"),
        "js": _asset("page.js"),
    }
    environment = Environment(
        loader=PackageLoader("stablenets.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(content)


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` so that the file is never seen half written.

    Raises:
        InputError: the folder does not exist or cannot be written to, or `path` is a folder.
    """
    if path.is_dir():
        raise InputError(message(f"{path} is a folder", "the name of a file to write", f"Try {path / 'report.html'}."))
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        given = f"{path} cannot be written ({error.strerror})"
        raise InputError(message(given, "a folder that exists and can be written to")) from None
    return path


def _asset(name: str) -> str:
    return resources.files("stablenets.report").joinpath(name).read_text(encoding="utf-8")
