"""CPL slides (Fig. 1-2): certified accuracy on CIFAR-10, and accuracy under PGD with 10 steps, against the radius.

By default two networks that are small enough for one core of a CPU: the published architecture scaled down, with the
published loss and schedule, and our own, for 4 epochs each. They are far from the published figures, which need the
full sizes, 200 epochs and a GPU: `stablenets study cpl-cifar10 --recipe cpl-s certified-cifar10-gpu` runs those.

Beside the 10 steps of the slides, some images are attacked by 100 steps from each of five starts, which stands in for
AutoAttack. Its result is in strong-attack.json of each run, with the seconds that an epoch took.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from ..attack import robust_curve
from ..certify import Certificate
from ..layers import load
from ..report import build, load_run
from ..report.figures import accuracy_curve, training_curves
from ..tasks import classify, config
from ..tasks.attack import proved_accuracy
from ..tasks.build import find_device, read_data, threads
from ..tasks.processes import finish_all
from ..tasks.progress import Progress, prefixed, silent
from ..tasks.recipes import find
from ..tasks.run_folder import Run
from ._compare import open_run

RECIPES = ("cpl-tiny", "certified-cifar10")
QUICK = {"train_limit": 256, "test_limit": 20, "epochs": 1, "attack_steps": 2}


@dataclass(frozen=True)
class StrongAttack:
    """PGD with restarts on the first images of the test set."""

    images: int = 200
    steps: int = 100
    restarts: int = 5
    radii: tuple[float, ...] = (36 / 255, 72 / 255, 108 / 255)


def run(
    *,
    data: str | None = None,
    out: Path | None = None,
    quick: bool = False,
    progress: Progress = silent,
    recipes: tuple[str, ...] = RECIPES,
) -> Path:
    """Do what is missing in the study's folder, which has a run for each recipe."""
    own = "" if data is None else f"-{Path(data).stem}"
    folder = out or Path(f"runs/cpl-cifar10{own}{'-quick' if quick else ''}")
    runs: dict[str, Run] = {}
    for name in recipes:
        options = config.read(find(name))
        options = replace(options, data=data or options.data, **(QUICK if quick else {}))
        runs[name] = open_run(folder / name, options)
    if any(find_device(one.config).type != "cpu" for one in runs.values()):
        for name, one in runs.items():  # side by side they would slow each other down
            classify.resume(one, prefixed(progress, name))
    else:
        finish_all(runs, progress)
    for name, one in runs.items():
        if not one.has("strong-attack.json"):
            progress(f"{name}: attacking harder", 0, 0, "")
            attack_harder(one, StrongAttack(images=10, steps=2, restarts=2) if quick else StrongAttack())
            progress(f"{name}: attacking harder", 1, 1, "")
    results = [load_run(one.path) for one in runs.values()]
    accuracy_curve(results, folder / "figures-1-2-accuracy.svg")
    training_curves(results, folder / "training.svg")
    build([one.path for one in runs.values()], folder / "report.html")
    return folder


def attack_harder(run: Run, attack: StrongAttack) -> None:
    """Write strong-attack.json: accuracies that are proved and that the attack leaves, and the time of an epoch."""
    options, device = run.config, find_device(run.config)
    images = read_data(options)
    x, y = images.x_test[: attack.images], images.y_test[: attack.images]
    with run.work(), threads(options):
        net = load(run.file("model.safetensors"))
        proof = Certificate.load(run.file("certificate.json"), net)
        radius, right = proof.radius(x), proof.logits(x).argmax(1) == y
        curve = robust_curve(
            net.to(device),
            x.to(device),
            y.to(device),
            attack.radii,
            steps=attack.steps,
            restarts=attack.restarts,
            seed=options.seed,
            certified=radius,
        )
        metrics = map(json.loads, run.file("metrics.jsonl").read_text(encoding="utf-8").splitlines())
        result = {
            "attack": {"name": "PGD", "norm": 2, "steps": attack.steps, "restarts": attack.restarts},
            "n": len(y),
            "radii": list(curve.radii),
            "robust_accuracy": list(curve.accuracy),
            "certified_accuracy": proved_accuracy(right, radius, curve.radii),
            "seconds_per_epoch": median(epoch["seconds"] for epoch in metrics),
        }
        run.write_json("strong-attack.json", result)
