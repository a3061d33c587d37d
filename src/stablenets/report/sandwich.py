"""Between proof and attack: how much of the truth is still open, image by image."""

from __future__ import annotations

from typing import Any

import numpy as np

from .attempts import tally
from .gaps import Example, Gap, l2_gap, pixel_gap
from .images import data_uri, difference, pixels
from .pixelwise import pixelwise
from .plot import NOTHING, SMALL, Plot, Series, Style
from .run import Run

MARKS = 12  # of the measured curve
GRID = 300
WIDEST = 6
ARROWS = 14  # most arrows in a row of the picture of a field


def sandwiches(runs: list[Run], side: int) -> list[dict[str, Any]]:
    """For each run and kind of perturbation: the curves, the numbers, what is contradicted, the widest gaps."""
    found = []
    for i, run in enumerate(runs):
        for kind, gap in (("l2", l2_gap(run)), ("pixels", pixel_gap(run))):
            if gap is not None and len(gap.index):
                found.append(_entry(i, run, kind, gap, side))
    return found


def contradictions(runs: list[Run]) -> list[str]:
    """One sentence for each run and kind of perturbation in which an attack refutes what is proved."""
    alarms = [
        _alarm(run, gap) for run in runs for gap in (l2_gap(run), pixel_gap(run)) if gap is not None and len(gap.wrong)
    ]
    linf = [found for run in runs if (found := pixelwise(run)) is not None and found.wrong]
    alarms += [
        f"{c.name}: {c.attack} in the l-infinity norm broke answers within their certified radius." for c in linf
    ]
    counted = [found for run in runs if (found := tally(run)) is not None and found.broken]
    return alarms + [
        f"{c.name}: {c.broken:,} of {c.tried:,} attempts inside certified radii changed the answer." for c in counted
    ]


def _entry(i: int, run: Run, kind: str, gap: Gap, side: int) -> dict[str, Any]:
    broken, proved = np.isfinite(gap.found), bool(gap.certified.any())
    unit = "pixels" if kind == "pixels" else ""
    middle = [gap.certified if proved else gap.found * np.nan, gap.found, gap.width if proved else gap.found * np.nan]
    return {
        "run": i,
        "name": run.name,
        "kind": kind,
        "proved": proved,
        "plot": _plot(i, kind, gap, proved),
        "facts": [
            (text, _number(float(np.median(values)), unit))
            for text, values in zip(("certified radius", "smallest attack found", "gap"), middle, strict=True)
        ],
        "images": f"{len(gap.index):,}",
        "held": "all" if broken.all() else f"{int(broken.sum()):,}",
        "limit": _number(gap.limit, unit),
        "alarm": _alarm(run, gap) if len(gap.wrong) else None,
        "widest": [_card(run, gap, int(place), unit, side) for place in gap.widest(WIDEST)],
    }


def _plot(i: int, kind: str, gap: Gap, proved: bool) -> Plot:
    """Shares of the images that are proved to hold, were not broken, and of which neither is known."""
    finite = gap.found[np.isfinite(gap.found)]
    far = float(max([*finite, *gap.certified])) * 1.02 or 1.0
    grid, marks = np.linspace(0, far, GRID + 1), np.linspace(0, far, MARKS + 1)

    def above(values: np.ndarray, radii: np.ndarray) -> np.ndarray:
        return (values[None] > radii[:, None]).mean(axis=1)

    series = [Series(i, "not broken by an attack", Style.MEASURED, marks, above(gap.found, marks))]
    if proved:
        held, open_ = above(gap.certified, grid), above(gap.found, grid) - above(gap.certified, grid)
        series = [Series(i, "proved", Style.PROVED, grid, held), *series, Series(5, "open", Style.TRACE, grid, open_)]
    label = "pixels that a deformation moves at most" if kind == "pixels" else "ℓ₂ radius of the perturbation"
    title = "Deformations" if kind == "pixels" else "ℓ₂ perturbations"
    cursor = float(marks[1])
    return Plot(f"sandwich-{kind}-{i}", title, label, (0.0, far), (0.0, 1.0), True, series, cursor, (SMALL,))


def _card(run: Run, gap: Gap, place: int, unit: str, side: int) -> dict[str, Any]:
    example = gap.examples[place]
    change = example.x_adv.astype(np.float64) - example.x
    return {
        "image": data_uri(pixels(example.x, side)),
        "adversarial": data_uri(pixels(example.x_adv, side)),
        "change": data_uri(difference(change, float(np.abs(change).max()), side)),
        "arrows": None if example.tau is None else arrows(example),
        "number": int(gap.index[place]),
        "label": run.classes[int(gap.y[place])],
        "answer": run.classes[example.answer],
        "attack": str(gap.attack[place]),
        "certified": _number(float(gap.certified[place]), unit),
        "found": _number(float(gap.found[place]), unit),
    }


def arrows(example: Example) -> dict[str, Any]:
    """A field as lines (x1, y1, x2, y2) in pixels of the image, at most `ARROWS` in a row, of at least a fifth of one.

    An arrow points to where its pixel looks.
    """
    assert example.tau is not None
    height, width = example.tau.shape[:2]
    step = max(1, -(-max(height, width) // ARROWS))
    lines = [
        (column + 0.5, row + 0.5, column + 0.5 + float(tau[1]), row + 0.5 + float(tau[0]))
        for row in range(0, height, step)
        for column in range(0, width, step)
        if np.hypot(*(tau := example.tau[row, column])) > 0.2
    ]
    return {"width": width, "height": height, "lines": lines}


def _alarm(run: Run, gap: Gap) -> str:
    worst = int(gap.wrong[0])
    return (
        f"{run.name}: {gap.attack[worst]} broke {len(gap.wrong)} answers within their certified radius, the first of "
        f"test image {int(gap.index[worst])} ({gap.found[worst]:.6g} found, {gap.certified[worst]:.6g} certified)."
    )


def _number(value: float, unit: str) -> str:
    if np.isnan(value):
        return NOTHING
    return ("none" if np.isinf(value) else f"{value:.3g}") + (f" {unit}" if unit and np.isfinite(value) else "")
