"""Handwritten digits: a non-expansive network and a ResNet, trained, attacked and (the first) certified, in a minute.

The images come with scikit-learn, so nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..report import build
from ..tasks import classify
from ..tasks.options import ClassifyConfig
from ..tasks.progress import Progress, prefixed, silent
from ._compare import free, open_runs

CONFIG = ClassifyConfig(
    data="digits",
    epochs=40,
    margin=0.7,
    patch=2,
    blocks=(2,),
    hidden=32,
    dense_width=128,
    dense_blocks=2,
    evaluate_every=5,
    threads=1,  # more are slower, for networks as small as these
    radii=(0.1, 36 / 255, 0.25, 0.4, 0.6, 0.8, 1.0),
)
QUICK = {"epochs": 4, "test_limit": 60, "attack_steps": 10}


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Run the demo in a new folder (runs/demo, else runs/demo-2, ...) and write its report.html."""
    config = replace(CONFIG, data=data or CONFIG.data, **(QUICK if quick else {}))
    folder = free(Path("runs/demo")) if out is None else out
    runs = open_runs(folder, config)
    for name, one in runs.items():
        classify.resume(one, prefixed(progress, name))
    build([one.path for one in runs.values()], folder / "report.html")
    return folder
