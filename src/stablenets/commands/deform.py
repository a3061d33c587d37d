"""Deformations: how many pixels are proved to be harmless, and how many break a network."""

from __future__ import annotations

import json
from pathlib import Path

from .shared import Show, conclude, write_report


def deform(
    run: Path,
    /,
    *,
    limit: float = 3.0,
    candidates: int = 3,
    test_limit: int | None = None,
    progress: Show = "bars",
) -> int:
    """Deform test images: prove how many pixels cannot break a network, and find deformations that do (ADef).

    The radius of a deformation is the farthest that any pixel looks away from its place. Exit code 1: an attack refutes
    a proof. For example:

        stablenets deform runs/baseline
        stablenets deform runs/certified --test-limit 10000

    Args:
        run: Run folder.
        limit: Radius in pixels up to which a deformation counts.
        candidates: Classes that the attack tries to reach.
        test_limit: Deform the first so many test images. The default is the run's own.
        progress: How to show progress.
    """
    from ..console import say, shown
    from ..tasks import deform as task
    from ..tasks.run_folder import Run

    found = Run.open(run)
    with shown(progress) as show:
        task.deform(found, limit=limit, candidates=candidates, test_limit=test_limit, progress=show)
    page = write_report([run], run / "report.html")
    if progress != "json":
        say(_sentence(json.loads(found.file("deformations.json").read_text(encoding="utf-8"))))
    return conclude([run], page, progress)


def _sentence(summary: dict) -> str:
    found, certified = summary["found"], summary["certified"]
    text = f"ADef broke {summary['success']:.2%} of the right answers on {summary['n']:,} images"
    if found is not None:
        text += f", with a mean norm_T of {found['mean']:.3f} pixels (median {found['median']:.3f})"
    if certified is None:
        return f"{text}. Nothing is proved of this network."
    proved = f"{certified['mean']:.3f} pixels in the mean (median {certified['median']:.3f})"
    return f"{text}. Proved: no deformation of up to {proved} changes a right answer."
