"""Every attack against a certificate."""

from __future__ import annotations

import json
from pathlib import Path

from .shared import FAILED, Show, write_report

BATCH = 250  # images after which the counts are written


def refute(run: Path, /, *, test_limit: int | None = None, steps: int = 4, progress: Show = "bars") -> int:
    """Attack certified answers inside their certified radii, by every attack that there is. Exit code 1: one succeeded.

    In l2, and for image networks in pixels of deformation. It goes on where it was interrupted; the counts are written
    into refuted.json and into the report. For example:

        stablenets refute runs/certified --test-limit 500

    Args:
        run: Run folder with a certificate.
        test_limit: Attack the first so many test images. By default all.
        steps: Gradient steps of each attack.
        progress: How to show progress.
    """
    from ..certify import Certificate
    from ..console import say, shown
    from ..core.errors import InputError, message
    from ..layers import load
    from ..tasks.build import read_data, threads
    from ..tasks.run_folder import Run
    from ..testing.boundary import SMALLEST
    from ..testing.radii import trials

    found = Run.open(run)
    if not found.has("certificate.json"):
        raise InputError(message(f"{run} has no certificate.json", "a certified run", f"stablenets certify {run}"))
    if steps < 1 or (test_limit is not None and test_limit < 1):
        raise InputError(message(f"steps={steps}, test_limit={test_limit}", "whole numbers of at least 1"))
    with shown(progress) as show, found.work(), threads(found.config):
        net = load(found.file("model.safetensors"))
        proof = Certificate.load(found.file("certificate.json"), net)
        x = read_data(found.config).x_test[:test_limit]
        what = {"weights_sha256": proof.weights_sha256, "dtype": proof.dtype, "steps": steps}
        done = json.loads(found.file("refuted.json").read_text()) if found.has("refuted.json") else {}
        if {key: done.get(key) for key in what} != what or done["seen"] > len(x):
            done = what | {"seen": 0, "n": 0, "attempts": {}}
        for start in range(done["seen"], len(x), BATCH):
            show("refuting", start, len(x), "")
            part = x[start : start + BATCH]
            radius = proof.radius(part)
            part, radius = part[radius > SMALLEST], radius[radius > SMALLEST]
            for name, trial in trials(net, proof, part, radius, steps=steps).items() if len(part) else ():
                found_now, row = trial(), done["attempts"].setdefault(name, {"tried": 0, "broken": 0})
                row["tried"] += found_now.tried
                row["broken"] += found_now.broken
            done |= {"seen": min(start + BATCH, len(x)), "n": done["n"] + len(part)}
            found.write_json("refuted.json", done)
        show("refuting", len(x), len(x), "")
    tried, broken = (sum(row[key] for row in done["attempts"].values()) for key in ("tried", "broken"))
    page = write_report([run], run / "report.html")
    if progress != "json":
        say(
            f"{tried:,} attempts inside the certified radii of {done['n']:,} test images, {broken:,} changed an answer."
        )
        say(f"The report: {page}")
    return FAILED if broken else 0
