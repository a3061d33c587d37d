"""Attack a trained network in the l-infinity norm, and say what its certificate, which is for l2, is worth there."""

from __future__ import annotations

import math

import torch

from ..attack import attack_curve
from ..certify import Certificate
from ..core.component import config as settings
from ..data import ImageData
from ..layers import load
from .attack import find, judged, proved_accuracy, scores, uphold
from .options import ClassifyConfig
from .progress import Progress
from .run_folder import Run

RADII = (2 / 255, 4 / 255, 8 / 255, 16 / 255, 0.1, 0.2, 0.3)  # those usual for pixels in [0, 1]
DOWN = 1 - 1e-12


def attack(
    run: Run, config: ClassifyConfig, data: ImageData, device: torch.device, progress: Progress, name: str = "PGD"
) -> None:
    """Write attack-linf.json: accuracies under the attack at l-infinity radii, and what is proved of them.

    A change of at most eps in each of d entries has an l2 norm of at most eps sqrt(d). So an image whose certified l2
    radius is r is certified for eps = r / sqrt(d), and no more is proved. Images are not attacked within it.

    Args:
        config: its `radii` are l-infinity radii, in units of the pixels.
        name: of the attack, see `attack.find`.

    Raises:
        InputError: the attack has no l-infinity form, or a file cannot be used.
        ClaimError: an attack succeeded within a certified l2 radius. The file is written all the same.
    """
    by = find(name, config, math.inf)
    net = load(run.file("model.safetensors"))
    proof = Certificate.load(run.file("certificate.json"), net) if run.has("certificate.json") else None
    x, y = data.x_test[: config.test_limit], data.y_test[: config.test_limit]
    entries = x[0].numel()
    radius = None if proof is None else proof.radius(x)
    proved = None if radius is None else radius / math.sqrt(entries) * DOWN
    right = (scores(net, x) if proof is None else proof.logits(x)).argmax(1) == y
    task, note = "attacking", f"{len(y)} images at {len(config.radii)} l-infinity radii"
    progress(task, 0, 0, note)
    net.to(device)
    curve = attack_curve(by, net, x.to(device), y.to(device), config.radii, certified=proved)
    refuted: list[int] = []
    if proof is not None and radius is not None:
        refuted, curve = judged(proof, x, radius, curve)
    run.write_json(
        "attack-linf.json",
        {
            "attack": {"name": type(by).__name__, "norm": "linf", "steps": settings(by).get("steps")},
            "seed": by.seed,
            "n": len(y),
            "entries": entries,
            "radii": list(curve.radii),
            "robust_accuracy": list(curve.accuracy),
            "certified_accuracy": None if proved is None else proved_accuracy(right, proved, curve.radii),
            "sandwich_ok": not refuted,
        },
    )
    progress(task, 1, 1, note)
    uphold(refuted)
