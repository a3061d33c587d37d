"""Lecture "Generative modelling with continuous normalising flows": densities on the plane, learned in two ways.

Each distribution is learned by flow matching; eight normal distributions on a circle, whose entropy is known, also by
maximum likelihood alone and by flow matching with a little of it afterwards. What a model misses is the mean of
log p - log q on new points, its Kullback-Leibler divergence. (The density of the checkerboard jumps; no flow has that.)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import InputError, message
from ..report.generate import build_generation, draw_generation
from ..tasks import config as toml
from ..tasks import generate
from ..tasks.options import GenerateConfig
from ..tasks.progress import Progress, prefixed, silent
from ..tasks.run_folder import Run
from ._folder import open_folder, write_table

POLISH, ALONE = 400, 300
RUNS: dict[str, GenerateConfig] = {
    "eight-gaussians": GenerateConfig("eight-gaussians"),
    "eight-gaussians-both": GenerateConfig("eight-gaussians", likelihood=POLISH),
    "eight-gaussians-likelihood": GenerateConfig("eight-gaussians", steps=0, likelihood=ALONE, peak=2e-2),
    "checkerboard": GenerateConfig("checkerboard"),
    "moons": GenerateConfig("moons"),
    "spirals": GenerateConfig("spirals"),
}
QUICK = {"points": 400, "width": 8, "depth": 1, "samples": 50, "solver_steps": 2}
COLUMNS = {
    "data": "", "flow matching": "d", "likelihood": "d", "negative log-likelihood": ".3f", "standard error": ".3f",
    "entropy": ".3f", "missed": ".3f", "round trip": ".0e", "seconds": ".0f",
}  # fmt: skip


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: a run of `stablenets generate` for each row of the table.

    Raises:
        InputError: `data` is given: the study makes its own; or a run that is there has other options.
    """
    folder = open_folder("density-2d", data=data, out=out, quick=quick, settings={"quick": quick})
    rows = []
    for name, config in RUNS.items():
        if quick:
            few = {"steps": min(config.steps, 20), "likelihood": min(config.likelihood, 2)}
            config = replace(config, **QUICK, **few)
        run = _open(folder / name, config)
        generate.resume(run, prefixed(progress, name))
        draw_generation(run.path, folder / f"{name}.svg")
        build_generation(run.path, run.file("report.html"))
        rows.append(_row(run, config))
    write_table(folder / "density-2d.md", COLUMNS, rows)
    return folder


def _open(path: Path, config: GenerateConfig) -> Run:
    """The run with these options at `path`, finished or not, else a new one."""
    if not Run(path).has("config.toml"):
        return generate.create(replace(config, out=str(path)))
    if toml.read(path / "config.toml", GenerateConfig) != config:
        todo = "Choose another folder by --out, or delete this one."
        raise InputError(message(f"{path} is a run with other options", "the options of this study", todo))
    return Run(path)


def _row(run: Run, config: GenerateConfig) -> dict[str, Any]:
    result = generate.results(run)
    return {
        "data": config.data, "flow matching": config.steps, "likelihood": config.likelihood,
        "negative log-likelihood": result["negative_log_likelihood"], "standard error": result["standard_error"],
        "entropy": result["entropy"], "missed": result["excess"], "round trip": result["round_trip"],
        "seconds": run.environment["seconds"],
    }  # fmt: skip
