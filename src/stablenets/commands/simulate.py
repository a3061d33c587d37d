"""Learn dynamics, and roll them out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..tasks.options import SimulateConfig
from .shared import Show, resumable


def simulate(
    *,
    config: Path | None = None,
    resume: Path | None = None,
    model: Path | None = None,
    start: tuple[float, ...] = (),
    until: float | None = None,
    points: int = 201,
    progress: Show = "bars",
    options: Annotated[SimulateConfig | None, Parameter(name="*")] = None,
) -> None:
    """Learn the dynamics behind trajectories, with a structure of your choice, and predict; or roll out a model.

    For example:

        stablenets simulate --data pendulum.csv --structure separable-hamiltonian
        stablenets simulate --data epidemic.npz --structure positive-mass --noisy
        stablenets simulate --resume runs/pendulum-free
        stablenets simulate --model runs/pendulum-free --start 1 0 --until 20 --out rollout.csv
        stablenets simulate --model runs/pendulum-free --data new.csv --out predicted.csv

    Data are states at growing times, regular or not. A .csv file has a header, with a column t (or time), perhaps a
    column trajectory that says which rows belong together, and a column for each entry of the state. An .npz file has
    arrays t and x: t (n,) and x (n, d), perhaps trajectory (n,); or t (n,) or (m, n) and x (m, n, d). Positions come
    before momenta, in the same order. Entries should be of similar size.

    Args:
        config: TOML file with any of the options below (names with underscores). The command line wins over it.
        resume: Run folder to go on with; its options are those of its config.toml.
        model: Run folder of a learned model to roll out: from the first state of each trajectory of --data, or from
            --start.
        start: Initial state, a number for each entry, at time 0.
        until: Last time.
        points: How many times from 0 to --until.
        progress: How to show progress.
    """
    from ..console import say, shown
    from ..core.errors import InputError, message
    from ..report.simulate import build_simulation, draw_simulation, sentence
    from ..tasks import simulate as task
    from ..tasks.run_folder import Run

    if model is not None:
        with shown(progress) as show:
            done = task.roll_out(Run.open(model), options or SimulateConfig(), start, until, points, show)
        return None if progress == "json" else say(done)
    if start or until is not None:
        raise InputError(message("--start or --until without --model", "--model RUN, a run that has learned"))
    if resume is not None and (options is not None or config is not None):
        raise InputError(message("--resume beside other options", "--resume RUN alone", "A run keeps its options."))
    with shown(progress) as show:
        run = task.create(options or SimulateConfig()) if resume is None else Run.open(resume)
        with resumable(f"stablenets simulate --resume {shlex.quote(str(run.path))}"):
            task.resume(run, show)
    draw_simulation(run.path, run.file("predictions.svg"))
    page = build_simulation(run.path, run.file("report.html"))
    if progress != "json":
        result = task.results(run)
        say(sentence(result))
        for row in result["kept"]:
            drift = "infinite" if row["drift"] is None else f"{row['drift']:.1e}"
            say(f"  {row['name']}: drift {drift}{', proved to be rounding alone' if row['proved'] else ''}")
        say(f"Roll it out: stablenets simulate --model {shlex.quote(str(run.path))} --start ... --until ...")
        say(f"The report: {page}")
