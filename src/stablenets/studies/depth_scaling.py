"""CPL slides (Fig. 3): networks of 100, 300 and 1,000 gradient steps train as they are, beside residual networks.

Fashion-MNIST, dense blocks only, few hidden units, so that it runs on one core of a CPU. Three networks of each depth,
trained on the same images for the same epochs, without normalisation or any other regularisation:

- gradient: steps of the largest non-expansive size; certified;
- plain: the residual network x + B relu(A x + b) + c with PyTorch's initial weights, whose states grow exponentially
  with the depth (it gets a tenth of the learning rate, which suits it better);
- scaled: the residual network whose steps are 1 / depth and start at zero; nothing is proved of it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ..core.errors import TrainingError
from ..report import build, load_run
from ..report.figures import training_curves
from ..tasks import classify
from ..tasks.options import ClassifyConfig
from ..tasks.progress import Progress, prefixed, silent
from ..tasks.run_folder import Run
from ._compare import open_run

DEPTHS = (100, 300, 1000)
RADIUS = 36 / 255
GRADIENT = ClassifyConfig(
    data="fashion-mnist",
    network="non-expansive-net",
    train_limit=10_000,
    epochs=3,
    weight_decay=0.0,
    blocks=(0,),
    dense_width=16,
    test_limit=100,
    attack_steps=10,
    radii=(RADIUS,),
    threads=1,
)
NETWORKS = {
    "gradient": GRADIENT,
    "plain": replace(GRADIENT, network="res-net", plain=True, peak=GRADIENT.peak / 10),
    "scaled": replace(GRADIENT, network="res-net"),
}
QUICK = {"train_limit": 256, "test_limit": 20, "epochs": 1, "attack_steps": 2}
QUICK_DEPTHS = (3, 30)


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder, one network after the other."""
    own = "" if data is None else f"-{Path(data).stem}"
    folder = out or Path(f"runs/depth-scaling{own}{'-quick' if quick else ''}")
    runs: dict[tuple[str, int], Run] = {}
    for depth in QUICK_DEPTHS if quick else DEPTHS:
        for name, config in NETWORKS.items():
            config = replace(config, data=data or config.data, dense_blocks=depth, **(QUICK if quick else {}))
            runs[name, depth] = open_run(folder / f"{name}-{depth}", config)
    for (name, depth), one in runs.items():
        if not one.has("diverged.txt"):
            try:
                classify.resume(one, prefixed(progress, f"{name}-{depth}"))
            except TrainingError as error:  # a result, not a failure
                one.write_text("diverged.txt", f"{error}\n")
    rows = [row(name, depth, one) for (name, depth), one in runs.items()]
    (folder / "depth-scaling.md").write_text("\n".join([*HEAD, *rows]) + "\n", encoding="utf-8")
    training_curves([load_run(one.path) for (name, _), one in runs.items() if name == "gradient"], folder / FIGURE)
    build([one.path for one in runs.values() if not one.has("diverged.txt")], folder / "report.html")
    return folder


FIGURE = "figure-3-depth.svg"
HEAD = (
    "| network | layers | loss, first epoch | last epoch | test accuracy | proved at 36/255 | seconds per epoch |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def row(name: str, depth: int, run: Run) -> str:
    """A line of the table; accuracies are of all test images."""
    lines = run.file("metrics.jsonl").read_text(encoding="utf-8").splitlines() if run.has("metrics.jsonl") else []
    epochs = [json.loads(line) for line in lines]
    cells = [name, str(depth)]
    cells += [f"{epochs[0]['loss']:.4g}", f"{epochs[-1]['loss']:.4g}"] if epochs else ["", ""]
    if run.has("diverged.txt"):
        cells += ["diverged", ""]
    else:
        cells.append(f"{100 * epochs[-1]['test_accuracy']:.1f} %")
        cells.append(f"{100 * proved(run):.1f} %" if run.has("certificate.json") else "nothing")
    cells.append(f"{sum(e['seconds'] for e in epochs) / len(epochs):.0f}" if epochs else "")
    return f"| {' | '.join(cells)} |"


def proved(run: Run) -> float:
    """The certified accuracy at `RADIUS`."""
    certified = json.loads(run.file("certified.json").read_text(encoding="utf-8"))
    return certified["certified_accuracy"][certified["radii"].index(RADIUS)]
