"""Learn the dynamics behind trajectories with a structure of choice, predict, and measure what is kept."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, message
from ..core.properties import Decreases, Expansive, Positive, Preserves, Property
from ..data import Trajectories, Trajectory, read_trajectories
from ..fields import Field
from ..layers import Flow, save
from ..train import minimise
from ..train.shooting import Shooting
from . import config as toml
from .build import threads
from .drift import errors, kept
from .options import SimulateConfig
from .progress import Progress, silent
from .run_folder import Run, machine
from .simulator import Simulator, endless, predict
from .simulator import roll_out as roll_out
from .structures import STEPS, STRUCTURES, find, units

WHOLE = 5  # from so many trajectories on, some are held out as a whole; else the end of each
SHORTEST = 0.3  # longest step of RK4 in training, as a share of the time in which the states change


@dataclass(frozen=True)
class Split:
    """Trajectories to learn from and to predict; a predicted one starts from the first state that it holds."""

    learned: Trajectories
    predicted: Trajectories


def run(config: SimulateConfig, progress: Progress = silent) -> Run:
    """Do the whole job in a new run folder: learn, predict, measure.

    Raises:
        InputError: an option or the data cannot be used, or the folder exists.
        TrainingError: the loss is not finite; the last good checkpoint is in the folder.
        KeyboardInterrupt: after Ctrl-C; `resume` goes on from there.
    """
    return resume(create(config), progress)


def create(config: SimulateConfig) -> Run:
    """A new run folder for `config`; everything that can be checked in advance is checked before it is made."""
    config = toml.check(config)
    if not config.data:
        raise InputError(message("no data", "--data FILE, a .csv or .npz file of trajectories"))
    data = read_trajectories(Path(config.data))
    kept = replace(config, data=str(Path(config.data).resolve()), out=None)
    structure = find(kept.structure, data)
    if kept.equilibrium is not None and (kept.structure != "stable" or len(kept.equilibrium) != len(data.names)):
        given = f"--equilibrium with {len(kept.equilibrium)} numbers for the structure {kept.structure!r}"
        raise InputError(message(given, f"the structure 'stable', and {len(data.names)} numbers"))
    parts = split(data, kept.test)
    centre, size, time = units(structure, parts.learned, kept.equilibrium)
    field = build(kept, len(data.names))
    integrator = structure.integrator()
    order = int(getattr(integrator, "order", 1))
    step = min(kept.step or math.inf, STEPS[order] * time)
    endless(max(float(np.ptp(item.times)) for item in data.items) / step, step)
    environment = machine() | {
        "seconds": 0.0,
        "command": toml.command(replace(config, out=None)),
        "data": Path(config.data).name,
        "names": list(data.names),
        "trajectories": len(data.items),
        "points": data.points,
        "structure": structure.summary,
        "field": type(field).__name__,
        "integrator": type(integrator).__name__,
        "parameters": sum(p.numel() for p in field.parameters()),
        "centre": centre.tolist(),
        "size": size,
        "time": time,
        "step": step,
    }
    name = Path(config.data).stem
    return Run.create(config.out or f"runs/{name}-{config.structure}", kept, environment)


def split(data: Trajectories, share: float) -> Split:
    """Hold out the last `share` of the trajectories, or of the time of each where there are fewer than five."""
    if share == 0:
        return Split(data, Trajectories(data.names, ()))
    if len(data.items) >= WHOLE:
        first = len(data.items) - max(1, round(share * len(data.items)))
        return Split(*(Trajectories(data.names, part) for part in (data.items[:first], data.items[first:])))
    learned, predicted = [], []
    for item in data.items:
        last = int(np.searchsorted(item.times, item.times[0] + (1 - share) * np.ptp(item.times), side="right")) - 1
        last = min(last, len(item.times) - 2)
        if last < 1:
            given = f"trajectory {item.label} has {len(item.times)} points, of which {last + 1} are left to learn from"
            raise InputError(message(given, "at least 2", "Take a smaller --test, or --test 0."))
        learned.append(Trajectory(item.label, item.times[: last + 1], item.states[: last + 1]))
        predicted.append(Trajectory(item.label, item.times[last:], item.states[last:]))
    return Split(Trajectories(data.names, tuple(learned)), Trajectories(data.names, tuple(predicted)))


def build(config: SimulateConfig, entries: int) -> Field:
    """The field of a config in float64, with the weights that its seed gives. The global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return STRUCTURES[config.structure].field(entries, config.width).double()


# --- learning -----------------------------------------------------------------------------------------------------


def resume(run: Run, progress: Progress = silent) -> Run:
    """Do what is missing in a run folder, from the last checkpoint on; nothing if nothing is missing.

    Raises:
        InputError: a file in the folder cannot be used, or the data have changed.
    """
    config = toml.read(run.file("config.toml"), SimulateConfig)
    with run.work(), threads(config):
        parts = split(read_trajectories(Path(config.data)), config.test)
        if not run.has("model.safetensors"):
            _learn(run, config, parts.learned, progress)
        if not (run.has("result.json") and run.has("predictions.npz")):
            _measure(run, parts, progress)
    return run


def windows(data: Trajectories, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Times (windows, 1 + n) and states (windows, 1 + n, d) of stretches of n = `horizon` intervals, which cover all.

    Stretches meet at their ends; the last one of a trajectory overlaps the one before. n is smaller where a trajectory
    is shorter.
    """
    n = min(horizon, *(len(item.times) - 1 for item in data.items))
    times, states = [], []
    for item in data.items:
        last = len(item.times) - 1 - n
        for first in sorted({*range(0, last + 1, n), last}):
            times.append(item.times[first : first + n + 1])
            states.append(item.states[first : first + n + 1])
    return np.array(times), np.array(states)


def _learn(run: Run, config: SimulateConfig, data: Trajectories, progress: Progress) -> None:
    environment = run.environment
    times, states = windows(data, config.horizon)
    intervals = torch.from_numpy(np.diff(times, axis=1) / environment["time"])
    seen = torch.from_numpy((states - environment["centre"]) / environment["size"])
    substeps = min(20, max(1, math.ceil(float(intervals.max()) / SHORTEST)))
    field = build(config, len(data.names))
    net = Shooting(field, seen[:, 0], free=config.noisy)
    compared = seen if config.noisy else seen[:, 1:]
    lines: list[str] = []
    every = max(1, (config.steps + config.refine) // 200)

    def loss(net: torch.nn.Module, step: int) -> Tensor:
        found = net(intervals, substeps, hold=step < config.steps * 3 // 4)
        return (found[:, found.shape[1] - compared.shape[1] :] - compared).square().mean()

    def on_step(step: int, total: int, value: float) -> None:
        if not lines and step > 1 and run.has("metrics.jsonl"):  # resumed: keep what is older than the checkpoint
            old = run.file("metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            lines.extend(line for line in old if json.loads(line)["step"] < step)
        if step % every == 0 or step == total or step > config.steps:
            lines.append(json.dumps({"step": step, "loss": value}) + "\n")
            run.write_text("metrics.jsonl", "".join(lines))
        progress("learning", step, total, f"loss {value:.3g}")

    minimise(
        net, loss, steps=config.steps, peak=config.peak, refine=config.refine,
        checkpoint=run.file("checkpoint.safetensors"), resume=True,
        settings={"seed": config.seed, "data": float(np.sum(states)), "shape": list(states.shape)}, on_step=on_step,
    )  # fmt: skip
    progress("learning", config.steps + config.refine, config.steps + config.refine, "")
    integrator = STRUCTURES[config.structure].integrator()
    save(Flow(field, integrator, h=environment["step"] / environment["time"]).eval(), run.file("model.safetensors"))


# --- measuring ---------------------------------------------------------------------------------------------------


def _measure(run: Run, parts: Split, progress: Progress) -> None:
    """Predict, and write result.json and predictions.npz."""
    model, environment = Simulator.open(run), run.environment
    told = parts.predicted if parts.predicted.items else parts.learned
    found = predict(model, told, progress)
    arrays = {
        "names": np.array(told.names),
        "trajectory": np.concatenate([[item.label] * len(item.times) for item in told.items]),
        "t": np.concatenate([item.times for item in told.items]),
        "x": np.concatenate([item.states for item in found.items]),
        "observed": np.concatenate([item.states for item in told.items]),
    }
    run.write_arrays("predictions.npz", arrays)
    shown_above = (Preserves, Decreases, Expansive)
    others: list[Property] = [c for c in model.flow.claims() if not isinstance(c, shown_above)]
    lowest = float(np.nanmin(arrays["x"]))
    result = {
        "held_out": bool(parts.predicted.items),
        "predicted": len(told.items),
        "points": len(arrays["t"]),
        "step": environment["step"],
        **errors(found, told),
        "kept": kept(model.flow, model.scaled, found, told),
        "claims": [repr(c) for c in others],
        "lowest_entry": lowest if any(isinstance(c, Positive) for c in others) else None,
    }
    run.write_json("result.json", result)


def results(run: Run) -> dict[str, Any]:
    """What result.json says."""
    return json.loads(run.file("result.json").read_text(encoding="utf-8"))
