"""Every attack against a certificate."""

from __future__ import annotations

import shlex
from itertools import chain
from pathlib import Path
from typing import Any

from .shared import FAILED, Show, resumable, write_report

BATCH = 250  # images after which the counts are written


def refute(run: Path, /, *, test_limit: int | None = None, steps: int = 4, progress: Show = "bars") -> int:
    """Attack certified answers inside their certified radii, by every attack that there is. Exit code 1: one succeeded.

    In l2, and for image networks in pixels of deformation. It goes on where it was interrupted; the counts are written
    into refuted.json and into the report. Images that were attacked stay counted when --test-limit is smaller; another
    number of --steps begins anew. For example:

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
    from ..report.readers import read_json
    from ..tasks.build import read_data, threads
    from ..tasks.run_folder import Run
    from ..testing.boundary import SMALLEST
    from ..testing.radii import trials

    found = Run.open(run)
    if not found.has("certificate.json"):
        raise InputError(message(f"{run} has no certificate.json", "a certified run", f"stablenets certify {run}"))
    if steps < 1 or (test_limit is not None and test_limit < 1):
        raise InputError(message(f"steps={steps}, test_limit={test_limit}", "whole numbers of at least 1"))
    go_on = shlex.join(["stablenets", "refute", str(run), "--steps", str(steps)])
    go_on += f" --test-limit {test_limit}" if test_limit else ""
    with shown(progress) as show, resumable(go_on), found.work(), threads(found.config):
        net = load(found.file("model.safetensors"))
        proof = Certificate.load(found.file("certificate.json"), net)
        x = read_data(found.config).x_test[:test_limit]
        what = {"weights_sha256": proof.weights_sha256, "dtype": proof.dtype, "steps": steps}
        done = what | {"seen": 0, "n": 0, "attempts": {}}
        if found.has("refuted.json"):
            old = read_json(found.file("refuted.json"), "counts of attempts", "Delete it, and run the command again.")
            done = _resumed(old, done, found.file("refuted.json"))
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


def _resumed(old: dict[str, Any], new: dict[str, Any], path: Path) -> dict[str, Any]:
    """The counts to go on with: the `old` ones, if they are of the same certificate and the same number of steps.

    Raises:
        InputError: they are damaged, or would be replaced although they refute this certificate.
    """
    from ..core.errors import InputError, message

    todo = f"Delete {path} to begin anew."
    try:
        rows = [(row["tried"], row["broken"]) for row in old["attempts"].values()]
        sound = all(type(v) is int and v >= 0 for v in (old["seen"], old["n"], *chain(*rows)))
    except (AttributeError, KeyError, TypeError):
        rows, sound = [], False
    if not sound:
        raise InputError(message(f"{path} is damaged", "counts of attempts as written", todo))
    if any(old.get(key) != new[key] for key in ("weights_sha256", "dtype")):
        return new
    if old.get("steps") == new["steps"]:
        return old
    if any(broken for _, broken in rows):
        given = f"{path} holds attempts of {old.get('steps')} steps that refute this certificate"
        raise InputError(message(given, "another certificate", todo))
    return new
