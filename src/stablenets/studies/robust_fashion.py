"""Chapter 6.2 (Fig. 12-14): robust classification of Fashion-MNIST, a non-expansive network against a ResNet.

Both are trained on 30,000 images for 30 epochs (Adam, one-cycle learning rate from 1e-4 to 1e-2 and back, weight decay
1e-5, multi-margin loss), then attacked on 1,000 test images by l2-PGD with 100 steps at eight radii below 1; and what
the non-expansive network's certificate proves stands beside it.

A third network ends in a contracting flow (chapter 5.2). The contraction of that one layer is proved, the robustness of
the classifier is not: the free layers before it may stretch by as much. So its accuracy under attack is measured only.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..data import load_data
from ..report import build, load_run
from ..report.figures import accuracy_curve, attack_gallery, training_curves
from ..tasks.options import ClassifyConfig
from ..tasks.processes import finish_all
from ..tasks.progress import Progress, silent
from ._compare import NETWORKS, open_runs
from ._examples import example_images

CONFIG = ClassifyConfig(data="fashion-mnist", train_limit=30_000, test_limit=1_000, epochs=30, attack_steps=100)
QUICK = {"train_limit": 2_000, "test_limit": 100, "epochs": 3, "attack_steps": 10}


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder; the networks are trained side by side."""
    config = replace(CONFIG, data=data or CONFIG.data, **(QUICK if quick else {}))
    images = load_data(config.data)
    limit = min(config.train_limit or len(images.y_train), len(images.y_train))
    config = replace(config, train_limit=limit)
    own = "" if config.data == CONFIG.data else f"-{Path(config.data).stem}"
    folder = out or Path(f"runs/robust-fashion{own}{'-quick' if quick else ''}")
    runs = open_runs(folder, config, NETWORKS | {"contracting": "contracting-net"})
    finish_all(runs, progress)
    progress("drawing", 0, 0, "")
    results = [load_run(one.path) for one in runs.values()]
    labels = [images.classes[int(label)] for label in images.y_train[:5]]
    example_images(images.x_train[:5].numpy(), labels, folder / "figure-12-examples.svg")
    attack_gallery(results[::-1], folder / "figure-13-attacked.svg")
    accuracy_curve(results, folder / "figure-14-accuracy.svg")
    training_curves(results, folder / "training.svg")
    build([one.path for one in runs.values()], folder / "report.html")
    progress("drawing", 1, 1, "")
    return folder
