"""A learned model in the units of its data: it rolls out trajectories."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, message
from ..data import Trajectories, Trajectory, read_trajectories, write_csv
from ..layers import Flow, load
from . import config as toml
from .drift import errors
from .options import SimulateConfig
from .progress import Progress, silent
from .run_folder import Run

MOST_STEPS = 10**7  # in one roll-out; they take hours


@dataclass(frozen=True)
class Simulator:
    """A learned model, in the units of the data: x = centre + size y and t = time s, where y' = field(y)."""

    flow: Flow
    names: tuple[str, ...]
    centre: np.ndarray
    size: float
    time: float

    @classmethod
    def open(cls, run: Run) -> Simulator:
        """The model of a finished run."""
        toml.read(run.file("config.toml"), SimulateConfig)
        if not run.has("model.safetensors"):
            todo = f"Run: stablenets simulate --resume {shlex.quote(str(run.path))}"
            raise InputError(message(f"{run.path} has no model.safetensors", "a finished run", todo))
        flow, e = load(run.file("model.safetensors")), run.environment
        assert isinstance(flow, Flow)
        return cls(flow, tuple(e["names"]), np.array(e["centre"]), e["size"], e["time"])

    def scaled(self, states: np.ndarray) -> Tensor:
        """States (n, d) as the model sees them."""
        return torch.from_numpy((states - self.centre) / self.size)

    @torch.no_grad()
    def roll_out(self, start: np.ndarray, times: np.ndarray) -> np.ndarray:
        """The states (n, d) at growing times (n,), from `start` (d,) at the first of them.

        Equal steps from each time to the next, as few as the model's longest step allows. From where the states become
        infinite (only possible where the structure does not bound them) they are NaN.

        Raises:
            ConvergenceError: the equation of an implicit step was not solved.
            InputError: it would take over ten million steps.
        """
        step = self.time * self.flow.step_size
        endless(float(np.ptp(times)) / step, step)
        x, out = self.scaled(start[None]), [start]
        for gap in np.diff(times) / self.time:
            count = max(1, math.ceil(gap / self.flow.step_size - 1e-9))
            for _ in range(count):
                if x.isfinite().all():
                    x = self.flow.integrator.step(self.flow.field, x, float(gap) / count)
            out.append(self.centre + self.size * x[0].numpy() if x.isfinite().all() else np.full_like(start, np.nan))
        return np.array(out)


def endless(steps: float, step: float) -> None:
    """Refuse a roll-out of too many steps of the size `step`."""
    if not steps <= MOST_STEPS:
        todo = f"Roll out a shorter time, or learn with a longer --step than {step:.3g}."
        raise InputError(message(f"{steps:.3g} steps", f"at most {MOST_STEPS:.3g} in a roll-out", todo))


def predict(model: Simulator, data: Trajectories, progress: Progress = silent) -> Trajectories:
    """What the model makes of the first state of each trajectory, at all its times."""
    items = []
    for i, item in enumerate(data.items):
        items.append(Trajectory(item.label, item.times, model.roll_out(item.states[0], item.times)))
        progress("predicting", i + 1, len(data.items), "")
    return Trajectories(data.names, tuple(items))


def roll_out(
    run: Run,
    options: SimulateConfig,
    start: tuple[float, ...] = (),
    until: float | None = None,
    points: int = 201,
    progress: Progress = silent,
) -> str:
    """Write what a run's model predicts to the CSV file `options.out` (default rollout.csv); returns what was done.

    Args:
        run: a finished run.
        options: with `data`, a file of trajectories of which each is predicted from its first state, or without.
        start: in place of `data`, an initial state at time 0.
        until: the last time, with `start`.
        points: how many times from 0 to `until`.

    Raises:
        InputError: both or neither of `data` and `start`, other options, or entries that the model does not have.
    """
    if options != SimulateConfig(data=options.data, out=options.out):
        raise InputError(message("--model beside options of learning", "--data or --start, and --out"))
    if bool(options.data) == bool(start) or bool(start) != (until is not None):
        needed = "either --data FILE, or --start X1 X2 ... with --until T"
        raise InputError(message("--model with both or neither of --data and --start", needed))
    model, out = Simulator.open(run), Path(options.out or "rollout.csv")
    if out.suffix != ".csv":
        raise InputError(message(f"--out {out}", "a file that ends in .csv"))
    data = read_trajectories(Path(options.data), points=1) if until is None else grid(model, start, until, points)
    if data.names != model.names:
        given = f"states with the entries {', '.join(data.names)}"
        raise InputError(message(given, f"those of the model, {', '.join(model.names)}"))
    found = predict(model, data, progress)
    try:
        write_csv(out, found)
    except OSError as error:
        raise InputError(message(f"{out} cannot be written ({error.strerror})", "a writable folder")) from None
    wrong = errors(found, data)["rmse"]
    return f"Written: {out}." + ("" if wrong is None else f" Root mean square error against the data: {wrong:.3g}.")


def grid(model: Simulator, start: tuple[float, ...], until: float, points: int) -> Trajectories:
    """One trajectory with only its first state known, at `points` times from 0 to `until`."""
    if len(start) != len(model.names) or not all(map(math.isfinite, start)):
        given, needed = " ".join(map(str, start)), f"{len(model.names)}: {', '.join(model.names)}"
        raise InputError(message(f"--start {given}", f"finite numbers, {needed}"))
    if not (0 < until < math.inf and points >= 2):
        raise InputError(message(f"--until {until} --points {points}", "a positive time and at least 2 points"))
    states = np.full((points, len(start)), np.nan)
    states[0] = start
    return Trajectories(model.names, (Trajectory("1", np.linspace(0, until, points), states),))
