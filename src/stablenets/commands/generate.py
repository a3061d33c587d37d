"""Learn a distribution, and sample from it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..tasks.options import GenerateConfig
from .shared import Show, resumable


def generate(
    *,
    config: Path | None = None,
    resume: Path | None = None,
    model: Path | None = None,
    progress: Show = "bars",
    options: Annotated[GenerateConfig | None, Parameter(name="*")] = None,
) -> None:
    """Learn the distribution of points by a continuous normalising flow, and sample from it; or use such a model.

    For example:

        stablenets generate --data eight-gaussians
        stablenets generate --data measured.csv --likelihood 200
        stablenets generate --data digits --width 256
        stablenets generate --resume runs/measured-flow
        stablenets generate --model runs/measured-flow --samples 500 --out more.csv
        stablenets generate --model runs/measured-flow --data new.csv --out scored.csv

    A .csv file of points has a header, and a number in each cell of its two or more columns.

    Args:
        config: TOML file with any of the options below (names with underscores). The command line wins over it.
        resume: Run folder to go on with; its options are those of its config.toml.
        model: Run folder of a learned model: draw --samples of it, or append the log-likelihood to the rows of --data.
        progress: How to show progress.
    """
    from ..console import say, shown
    from ..core.errors import InputError, message
    from ..report.generate import build_generation, draw_generation, sentence
    from ..tasks import generate as task
    from ..tasks.run_folder import Run

    if model is not None:
        if resume is not None or config is not None:
            raise InputError(message("--model beside --resume or --config", "--model RUN, --data, --samples, --out"))
        done = task.apply(Run.open(model), options or GenerateConfig())
        return None if progress == "json" else say(done)
    if resume is not None and (options is not None or config is not None):
        raise InputError(message("--resume beside other options", "--resume RUN alone", "A run keeps its options."))
    with shown(progress) as show:
        run = task.create(options or GenerateConfig()) if resume is None else Run.open(resume)
        with resumable(f"stablenets generate --resume {shlex.quote(str(run.path))}"):
            task.resume(run, show)
    draw_generation(run.path, run.file("density.svg"))
    page = build_generation(run.path, run.file("report.html"))
    if progress != "json":
        say(sentence(task.results(run)))
        say(f"Samples: {run.file('samples.csv')}")
        say(f"The report: {page}")
    return None
