"""What the page says in words and numbers: what was run, the headline numbers, the table of all radii."""

from __future__ import annotations

from typing import Any

import numpy as np

from .curves import USUAL_RADIUS, all_radii, attacked_at, certified_accuracy, contradictions, headline_radius
from .plot import NOTHING
from .run import Run


def percent(value: float | None) -> str:
    """A fraction as text, "88.6 %"; a dash for None.

    >>> percent(0.5)
    '50.0\\u202f%'
    """
    return NOTHING if value is None else f"{100 * value:.1f}\u202f%"


def radius_text(radius: float) -> str:
    """A radius as text; 36/255 keeps its usual name.

    >>> radius_text(36 / 255), radius_text(0.25)
    ('36/255', '0.25')
    """
    return "36/255" if abs(radius - USUAL_RADIUS) < 1e-6 else f"{radius:.4g}"


def clean(run: Run) -> float | None:
    """The accuracy on clean images: of the attacked ones, else of the last epoch on the test set."""
    if run.attack is not None:
        return run.attack.clean_accuracy
    last = run.metrics[-1].get("test_accuracy") if run.metrics else None
    return float(last) if isinstance(last, (int, float)) else None


def certified_at(run: Run, radius: float) -> float | None:
    """The certified accuracy of a run at one radius; None when nothing is proved."""
    if not run.certified or run.samples is None:
        return None
    return float(certified_accuracy(run.samples, np.array([radius]))[0])


def pgd_at(run: Run, radius: float) -> float | None:
    """Accuracy under attack at a radius that was attacked, else None."""
    return None if run.attack is None else attacked_at(run.attack, radius)


def title(runs: list[Run]) -> str:
    """The title of the page."""
    if any(run.certified for run in runs):
        return f"Proved and measured robustness on {runs[0].data}"
    if any(run.attack for run in runs):
        return f"Measured robustness on {runs[0].data}"
    return f"Training on {runs[0].data}"


def lede(runs: list[Run]) -> list[str]:
    """One or two opening paragraphs: what was done, and what came out."""
    shape = " \u00d7 ".join(str(size) for size in runs[0].environment["image_shape"])
    trained = f"{_count(len(runs), 'network was', 'networks were')} trained on {runs[0].data} "
    trained += f"(images of {shape}, {len(runs[0].classes)} classes)"
    attacks = [run.attack for run in runs if run.attack is not None]
    if not attacks:
        return [f"{trained}."]
    first, largest = attacks[0], max(float(attack.radii[-1]) for attack in attacks)
    same = all((a.name, a.steps, a.n) == (first.name, first.steps, first.n) for a in attacks)
    how = f"{first.name} ({first.steps} steps each) on {first.n:,} test images" if same else "the attacks below"
    paragraphs = [f"{trained} and attacked with {how}, at ℓ₂ radii up to {radius_text(largest)}."]
    finding = _finding(runs, headline_radius(runs))
    return paragraphs + ([finding] if finding else [])


def headline(runs: list[Run]) -> dict[str, Any]:
    """The headline numbers: columns (text, kind) and, for each run, one number per column."""
    near = headline_radius(runs)
    columns: list[tuple[str, str, float]] = [("clean", "clean", 0.0)]
    if any(run.certified for run in runs):
        columns.append((f"proved at {radius_text(near)}", "proved", near))
    if any(run.attack for run in runs):
        columns.append((f"attacked at {radius_text(near)}", "measured", near))
        far = float(all_radii(runs)[-1])
        if far != near:
            columns.append((f"attacked at {radius_text(far)}", "measured", far))
    rows = [
        {
            "run": i,
            "name": run.name,
            "facts": _facts(run),
            "cells": [(kind, percent(_accuracy(run, kind, radius))) for _, kind, radius in columns],
        }
        for i, run in enumerate(runs)
    ]
    return {"columns": [(text, kind) for text, kind, _ in columns], "rows": rows}


def table(runs: list[Run]) -> dict[str, Any]:
    """All numbers: a row per radius, with for each run the proved and the measured accuracy."""
    radii = all_radii(runs)
    if any(run.certified for run in runs) and np.abs(radii - USUAL_RADIUS).min() > 1e-6:
        radii = np.sort(np.append(radii, USUAL_RADIUS))
    rows = [
        {
            "radius": "0 (clean)" if r == 0 else radius_text(r),
            "cells": [
                (percent(certified_at(run, r)), percent(clean(run) if r == 0 else pgd_at(run, r))) for run in runs
            ],
        }
        for r in radii
    ]
    return {"rows": rows}


def notes(runs: list[Run]) -> list[dict[str, str]]:
    """What is missing in the runs, and the command that computes it."""
    found = []
    for run in runs:
        if run.attack is None:
            found.append(
                {
                    "text": f"{run.name} has not been attacked yet; its clean accuracy is that of the last epoch.",
                    "command": run.command("attack"),
                }
            )
        if run.certificate is None and run.uncertified is None:
            found.append({"text": f"{run.name} has not been certified yet.", "command": run.command("certify")})
        elif run.certificate is not None and run.attack is not None and not run.certified:
            text = f"{run.name} was attacked before it was certified, so its certified curve is missing."
            found.append({"text": text, "command": run.command("attack")})
    return found


def sandwich(runs: list[Run]) -> dict[str, Any] | None:
    """The test of proof against attack: how many images of which runs, and where the attack contradicts."""
    checked = [(run, run.samples, run.attack) for run in runs if run.certified]
    if not checked:
        return None
    wrong = [
        (run.name, contradictions(samples))
        for run, samples, attack in checked
        if samples is not None and attack is not None and (contradictions(samples) or not attack.sandwich_ok)
    ]
    n = sum(int(samples.correct.sum()) for _, samples, _ in checked if samples is not None)
    return {"compared": f"{n:,}", "wrong": wrong, "names": [run.name for run, _, _ in checked]}


def _accuracy(run: Run, kind: str, radius: float) -> float | None:
    if kind == "clean":
        return clean(run)
    return certified_at(run, radius) if kind == "proved" else pgd_at(run, radius)


def _finding(runs: list[Run], radius: float) -> str:
    proved = [(value, run) for run in runs if (value := certified_at(run, radius)) is not None]
    if not proved:
        return ""
    value, best = max(proved, key=lambda pair: pair[0])
    text = f"On {percent(value)} of these images no perturbation of ℓ₂ norm up to {radius_text(radius)} can make "
    text += f"{best.name} answer wrongly: this is proved, against every attack."
    far = float(all_radii(runs)[-1])
    bare = [(value, run) for run in runs if not run.certified and (value := pgd_at(run, far)) is not None]
    if bare:
        worst, run = min(bare, key=lambda pair: pair[0])
        text += f" Nothing is proved of {run.name}"
        text += f"; the attack at radius {radius_text(far)} leaves {percent(worst)} of its answers right"
        held = pgd_at(best, far)
        text += "." if held is None else f", against {percent(held)} for {best.name}."
    return text


def _facts(run: Run) -> list[str]:
    parts = [run.network] if run.network != run.name else []
    if isinstance(parameters := run.environment.get("parameters"), int):
        parts.append(f"{parameters:,} parameters")
    if run.metrics:
        parts.append(f"{len(run.metrics)} epochs" if len(run.metrics) != 1 else "1 epoch")
    if isinstance(seconds := run.environment.get("seconds"), (int, float)):
        parts.append(f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min")
    return parts


def _count(n: int, one: str, many: str) -> str:
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six")
    return f"{words[n] if n < len(words) else n} {one if n == 1 else many}"
