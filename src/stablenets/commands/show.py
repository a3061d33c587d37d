"""Look at what there is: reports, studies, the table, components."""

from __future__ import annotations

import functools
import shlex
import sys
from pathlib import Path
from typing import Any, Literal

from .shared import FAILED, Show, conclude, contradicted, resumable, write_report


def demo(*, out: Path | None = None, quick: bool = False, progress: Show = "bars") -> None:
    """Train, attack and certify two networks on bundled handwritten digits, in about a minute.

    For example:

        stablenets demo

    Args:
        out: New folder. By default runs/demo, or runs/demo-2 ... if that exists.
        quick: Train for a few epochs only, to see that everything works.
        progress: How to show progress.
    """
    study("demo", out=out, quick=quick, progress=progress)


def report(*runs: Path, out: Path | None = None) -> int:
    """Write one self-contained page about one run, or comparing several. Exit code 1: an attack refutes a proof.

    For example:

        stablenets report runs/baseline
        stablenets report runs/non-expansive runs/baseline --out comparison.html

    Args:
        runs: Run folders, or folders of run folders.
        out: Page to write. By default report.html in the folder, or beside the folders if there are several.
    """
    from ..certify.verify import verify as check_certificate
    from ..console import say
    from ..core.errors import InputError, message

    if out is not None and out.suffix != ".html":  # nothing but a page is ever overwritten
        raise InputError(message(f"--out {out}", "a file that ends in .html"))
    for folder in (f for run in runs for f in (run, *sorted(run.glob("*/"))) if (f / "certificate.json").is_file()):
        verdict = check_certificate(folder / "model.safetensors", folder / "certificate.json")
        if not verdict.ok:  # a page that says "proved" must be right
            todo = f"Run: stablenets certify {shlex.quote(str(folder))}"
            raise InputError(message(f"{folder}: NOT PROVED, {verdict.reason}", "a certificate that holds", todo))
    if out is None and runs:
        out = (runs[0] if len(runs) == 1 else runs[0].parent) / "report.html"
    say(f"The report: {write_report(list(runs), out or Path('report.html'))}")
    return FAILED if contradicted(list(runs)) else 0


def study(
    name: str,
    /,
    *,
    data: str | None = None,
    recipe: tuple[str, ...] = (),
    out: Path | None = None,
    quick: bool = False,
    progress: Show = "bars",
) -> None:
    """Run an experiment of the sources; finished parts of an earlier run are kept.

    For example:

        stablenets study robust-fashion
        stablenets study robust-fashion --data mnist
        stablenets study robust-fashion --quick
        stablenets study cpl-cifar10 --recipe cpl-s certified-cifar10-gpu

    Args:
        name: Name of the study (stablenets list).
        data: Another data set than the study's own.
        recipe: Names of recipes to compare in place of the study's own networks, if the study compares networks.
        out: Folder of the study. By default runs/NAME.
        quick: A small version, to see that everything works.
        progress: How to show progress.
    """
    from .. import studies
    from ..console import say, shown
    from ..core.errors import InputError, message

    chosen = studies.find(name)
    if recipe and not chosen.takes_recipes:
        raise InputError(message(f"the study {name!r} with --recipe", "no recipe", "It has networks of its own."))
    job: Any = chosen.run
    if recipe:
        job = functools.partial(job, recipes=recipe)
    with shown(progress) as show, resumable("the same command; finished parts are kept"):
        folder = job(data=data, out=out, quick=quick, progress=show)
    if (folder / "report.html").is_file():
        conclude([folder], folder / "report.html", progress)
    elif progress != "json":  # it trained no classifiers: tables and figures stand in place of the page
        say("".join(table.read_text(encoding="utf-8") for table in sorted(folder.glob("*.md"))) + f"In {folder}")


def table(
    *,
    field: tuple[str, ...] = (),
    integrator: tuple[str, ...] = (),
    property: tuple[str, ...] = (),
    format: Literal["text", "markdown", "json"] = "text",
) -> None:
    """Say which step keeps which property of which field: exactly, up to a computed step size, to an order, or not.

    What is proved is read from the components; for the rest violations are searched, which takes a minute for all.

    For example:

        stablenets table --field Pendulum
        stablenets table --property energy symplectic --integrator RK4 StormerVerlet
        stablenets table --format markdown > docs/table.md

    Args:
        field: Names of fields or systems (stablenets list). By default all.
        integrator: Names of integrators.
        property: Names of properties, such as energy, mass or non-expansive.
        format: Lines of text, a page, or JSON.
    """
    from ..core.component import by_name
    from ..core.errors import unknown_name
    from ..fields import Field
    from ..integrators import Integrator
    from ..testing import show_table
    from ..testing.table import cells, properties

    fields = [by_name("field", Field.registry, name).__name__ for name in field]
    methods = [by_name("integrator", Integrator.registry, name).__name__ for name in integrator]
    known = properties() if property else []
    for name in property:
        if name not in known:
            raise unknown_name("property", name, known)
    write = {"text": show_table.text, "markdown": show_table.markdown, "json": show_table.as_json}[format]
    sys.stdout.write(write(list(cells(fields, methods, property))).rstrip() + "\n")


def list_() -> None:
    """List data sets, networks, losses, studies and all other components, with one line each.

    For example:

        stablenets list
    """
    from .. import catalogue
    from ..console import listing

    for title, rows in catalogue.sections():
        listing(title, rows)


def check(file: Path, /) -> int:
    """Run the conformance suite on the components in your own Python file. Exit code 1 if a claim is contradicted.

    For example:

        stablenets check my_field.py

    Args:
        file: Python file; it is executed.
    """
    from ..console import say
    from ..testing import check_file

    found = check_file(file)
    for name, findings in found.items():
        say(name)
        for finding in findings:
            say(f"  {finding}")
    return 0 if all(finding.ok for findings in found.values() for finding in findings) else FAILED
