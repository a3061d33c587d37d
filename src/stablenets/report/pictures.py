"""The test images one can click, and the gallery of one image under growing attack."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .curves import USUAL_RADIUS
from .images import data_uri, difference, pixels
from .overview import radius_text
from .results import Samples
from .run import Run


def cards(runs: list[Run], count: int, side: int) -> dict[str, Any] | None:
    """The first `count` test images that all attacked runs share, with what each network makes of them.

    Args:
        runs: the runs of the page.
        count: how many images at most.
        side: the greatest width and height of an image in pixels; larger ones are shrunk.

    Returns:
        None when no run was attacked, else the cards, the scale of their bars and the runs left out because
        they were attacked on other images.
    """
    attacked = [
        (i, run, run.samples, run.attack)
        for i, run in enumerate(runs)
        if run.samples is not None and run.attack is not None
    ]
    if not attacked:
        return None
    places = [_places(samples) for _, _, samples, _ in attacked]
    shared = [key for key in places[0] if all(key in place for place in places)]
    left_out: list[str] = []
    if not shared:
        left_out = [run.name for _, run, _, _ in attacked[1:]]
        attacked, places, shared = attacked[:1], places[:1], list(places[0])
    scale = max(float(attack.radii[-1]) for _, _, _, attack in attacked) or USUAL_RADIUS
    built = []
    for key in shared[:count]:
        first = attacked[0][2]
        index = places[0][key]
        label = attacked[0][1].classes[int(first.y[index])]
        nets = [
            _answer(i, run, samples, place[key], scale, side)
            for (i, run, samples, _), place in zip(attacked, places, strict=True)
        ]
        certified = [net["certified"] for net in nets if net["certified"] is not None and net["correct"]]
        built.append(
            {
                "number": index,
                "image": data_uri(pixels(first.x[index], side)),
                "label": label,
                "nets": nets,
                "certified": max(certified, default=0.0),
                "bar": 100 * min(max(certified, default=0.0) / scale, 1.0),
                "attack": min((net["attack"] for net in nets), default=0.0),
                "wrong": sum(not net["correct"] for net in nets),
            }
        )
    return {"cards": built, "scale": radius_text(scale), "left_out": left_out}


def galleries(runs: list[Run], side: int) -> list[dict[str, Any]]:
    """For each run with a gallery: one image attacked at growing radii, the changes, and the answers.

    All changes are drawn on one scale: the largest change of a pixel in any gallery of the page.
    """
    found = []
    for i, run in enumerate(runs):
        if run.samples is not None and run.samples.gallery is not None:
            index, images, radii, answers = run.samples.gallery
            original = run.samples.x[index].astype(np.float64)
            found.append((i, run, int(run.samples.y[index]), original, images, radii, answers))
    scale = max((float(np.abs(images - x).max()) for _, _, _, x, images, _, _ in found), default=0.0)
    return [
        {
            "run": i,
            "name": run.name,
            "label": run.classes[label],
            "scale": f"{scale:.2g}",
            "steps": [
                {
                    "image": data_uri(pixels(image, side)),
                    "change": data_uri(difference(image - original, scale, side)),
                    "radius": radius_text(float(radius)),
                    "norm": f"{float(np.linalg.norm(image - original)):.3g}",
                    "answer": run.classes[int(answer)],
                    "correct": int(answer) == label,
                }
                for image, radius, answer in zip(images, radii, answers, strict=True)
            ],
        }
        for i, run, label, original, images, radii, answers in found
    ]


def _places(samples: Samples) -> dict[bytes, int]:
    """Where each image is: a digest of its pixels and label -> its place among the samples."""
    found: dict[bytes, int] = {}
    for i, (x, y) in enumerate(zip(samples.x, samples.y, strict=True)):
        pixels_and_label = np.ascontiguousarray(x, dtype=np.float32).tobytes() + bytes(str(int(y)), "ascii")
        found.setdefault(hashlib.sha256(pixels_and_label).digest(), i)
    return found


def _answer(i: int, run: Run, samples: Samples, index: int, scale: float, side: int) -> dict[str, Any]:
    """What one network makes of one image, with the texts and the bar (in per cent of `scale`)."""
    answer, right = int(samples.prediction[index]), bool(samples.correct[index])
    certified = float(samples.certified_radius[index]) if run.certified else None
    attack = float(samples.smallest_attack[index])
    if certified is None:
        proved = "nothing is proved"
    elif certified > 0:
        proved = f"same answer proved up to {certified:.3f}"
    else:
        proved = "not certified at any radius"
    if not right:
        measured = "already wrong without an attack"
    elif np.isinf(attack):
        measured = f"no attack found up to {radius_text(_largest(run))}"
    else:
        measured = f"smallest attack found: {radius_text(attack)}"
    adversarial = None
    if right and index in samples.adversarial:
        image, radius, prediction = samples.adversarial[index]
        text = f"attacked within {radius_text(radius)}: {run.classes[prediction]}"
        adversarial = {"image": data_uri(pixels(image, side)), "text": text}
    return {
        "run": i,
        "name": run.name,
        "answer": run.classes[answer],
        "correct": right,
        "certified": certified,
        "attack": attack,
        "proved": proved,
        "measured": measured,
        "proved_bar": 100 * min((certified or 0.0) / scale, 1.0),
        "attack_bar": 100 * attack / scale if right and np.isfinite(attack) else None,
        "adversarial": adversarial,
    }


def _largest(run: Run) -> float:
    return float(run.attack.radii[-1]) if run.attack is not None else 0.0
