"""Learn a distribution by a continuous normalising flow, measure its likelihood, and sample from it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import InputError, message
from ..data.densities import DENSITIES
from ..data.points import NAMED, Points, find_points, read_points, write_points
from ..fields import TimedField
from ..integrators import RK4, Dopri5
from ..layers import load, save
from ..networks import ContinuousNormalisingFlow, flow_matching_loss
from ..train import minimise
from . import config as toml
from .build import threads
from .options import GenerateConfig
from .progress import Progress, silent
from .run_folder import Run, machine

MEASURED = 4000  # points of which the likelihood is measured, at most
GRID, REACH = 100, 0.15  # cells of the density's picture along each axis; room beyond the data, as a share of its width
PATHS, FRAMES = 400, 5
TOLERANCES = 1e-6, 1e-8
CHUNK = 1000


def run(config: GenerateConfig, progress: Progress = silent) -> Run:
    """Do the whole job in a new run folder: learn, measure, sample.

    Raises:
        InputError: an option or the data cannot be used, or the folder exists.
        TrainingError: the loss is not finite; the last good checkpoint is in the folder.
        KeyboardInterrupt: after Ctrl-C; `resume` goes on from there.
    """
    return resume(create(config), progress)


def create(config: GenerateConfig) -> Run:
    """A new run folder for `config`; everything that can be checked in advance is checked before it is made."""
    config = toml.check(config)
    if not config.data:
        raise InputError(message("no data", f"--data NAME, one of {', '.join(NAMED)}, or a .csv file of points"))
    if config.steps + config.likelihood < 1:
        raise InputError(message("--steps 0 and --likelihood 0", "steps of one of them"))
    points = _points(config)
    named = config.data in NAMED
    kept = replace(config, data=config.data if named else str(Path(config.data).resolve()), out=None)
    size = _spread(points)
    net = build(kept, len(points.names))
    environment = machine() | {
        "seconds": 0.0,
        "command": toml.command(replace(config, out=None)),
        "data": config.data if named else Path(config.data).name,
        "names": list(points.names),
        "learned": len(points.learned),
        "held_out": len(points.held_out),
        "parameters": sum(p.numel() for p in net.parameters()),
        "centre": points.learned.mean(0).tolist(),
        "size": size.tolist(),
    }
    return Run.create(config.out or f"runs/{Path(config.data).stem}-flow", kept, environment)


def _points(config: GenerateConfig) -> Points:
    return find_points(config.data, count=config.points, test=config.test, seed=config.seed)


def _spread(points: Points) -> np.ndarray:
    """The standard deviations of the columns, by which they are scaled."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.where(np.ptp(points.learned, 0) > 0, points.learned.std(0), 0.0)
    for name, value in zip(points.names, found, strict=True):
        if not 0 < value < math.inf:
            given = f"the column {name} of the points to learn from has the standard deviation {value:g}"
            todo = "Leave a constant column out; write very large or very small numbers in another unit."
            raise InputError(message(given, "one that is positive and finite", todo))
    return found


def build(config: GenerateConfig, entries: int) -> ContinuousNormalisingFlow:
    """The flow of a config, with the weights that its seed gives. The global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        field = TimedField.perceptron(entries, config.width, config.depth)
    return ContinuousNormalisingFlow(field, RK4(), steps=config.solver_steps, shape=(entries,), probes=config.probes)


def resume(run: Run, progress: Progress = silent) -> Run:
    """Do what is missing in a run folder, from the last checkpoint on; nothing if nothing is missing.

    Raises:
        InputError: a file in the folder cannot be used, or the data have changed.
    """
    config = toml.read(run.file("config.toml"), GenerateConfig)
    with run.work(), threads(config):
        points = _points(config)
        if not np.array_equal(points.learned.mean(0), Scale.of(run).centre):
            raise InputError(
                message(f"{config.data} has changed since the run began", "the same points", "Learn anew.")
            )
        if not run.has("model.safetensors"):
            _learn(run, config, points, progress)
        if not run.has("result.json"):
            _measure(run, config, points, progress)
    return run


# --- learning -----------------------------------------------------------------------------------------------------


def _learn(run: Run, config: GenerateConfig, points: Points, progress: Progress) -> None:
    net = build(config, len(points.names))
    scale = Scale.of(run)
    x = scale.inwards(points.learned).float()
    settings = {"seed": config.seed, "shape": list(points.learned.shape), "data": float(points.learned.sum())}

    def batch(step: int) -> tuple[Tensor, torch.Generator]:
        generator = torch.Generator().manual_seed((config.seed * 1_000_003 + step) % 2**63)
        return x[torch.randint(len(x), (config.batch_size,), generator=generator)], generator

    def matching(_: nn.Module, step: int) -> Tensor:
        return flow_matching_loss(net.field, *batch(step))

    def likelihood(_: nn.Module, step: int) -> Tensor:
        return -net.log_likelihood(batch(config.steps + step)[0], seed=step).mean()

    for name, loss, steps, peak in (
        ("matching", matching, config.steps, config.peak),
        ("likelihood", likelihood, config.likelihood, config.peak / 2),
    ):
        if steps:
            minimise(
                net, loss, steps=steps, peak=peak, checkpoint=run.file(f"{name}.safetensors"), resume=True,
                settings=settings | {"loss": name}, on_step=_written(run, name, steps, progress),
            )  # fmt: skip
            progress(name, steps, steps, "")
    exact = ContinuousNormalisingFlow(net.field, Dopri5(*TOLERANCES), shape=net.shape)
    save(exact.eval(), run.file("model.safetensors"))
    run.remove("matching.safetensors", "likelihood.safetensors")


def _written(run: Run, name: str, steps: int, progress: Progress) -> Callable[[int, int, float], None]:
    """Tells the progress and writes metrics.jsonl: a line with the mean loss of each two-hundredth of the steps."""
    every, values, lines = max(1, steps // 200), [], []

    def on_step(step: int, total: int, value: float) -> None:
        if not lines and not values and run.has("metrics.jsonl"):  # keep what is older than the checkpoint
            for line in run.file("metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True):
                row = json.loads(line)
                if row["loss_of"] != name or row["step"] < step:
                    lines.append(line)
        values.append(value)
        if step % every == 0 or step == total:
            row = {"loss_of": name, "step": step, "loss": math.fsum(values) / len(values)}
            lines.append(json.dumps(row) + "\n")
            values.clear()
            run.write_text("metrics.jsonl", "".join(lines))
        progress(name, step, total, f"loss {value:.3g}")

    return on_step


# --- measuring and sampling ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """The units of the model: (x - centre) / size, each (d,)."""

    centre: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, run: Run) -> Self:
        """Those of a run."""
        return cls(np.array(run.environment["centre"]), np.array(run.environment["size"]))

    def inwards(self, x: np.ndarray) -> Tensor:
        """From the units of the data."""
        return torch.from_numpy((x - self.centre) / self.size)

    def outwards(self, u: Tensor) -> np.ndarray:
        """To the units of the data."""
        return u.detach().double().numpy() * self.size + self.centre


@dataclass(frozen=True)
class Model:
    """What a run has learned, in the units of its data; solved in float64."""

    names: tuple[str, ...]
    flow: ContinuousNormalisingFlow
    scale: Scale

    @classmethod
    def open(cls, run: Run) -> Self:
        """That of a finished run.

        Raises:
            InputError: the run has not learned yet.
        """
        if not run.has("model.safetensors"):
            todo = f"Go on with it: stablenets generate --resume {run.path}"
            raise InputError(message(f"{run.path} has no model yet", "a run that has learned", todo))
        flow: Any = load(run.file("model.safetensors"))
        return cls(tuple(run.environment["names"]), flow.double(), Scale.of(run))

    @torch.no_grad()
    def log_density(self, x: np.ndarray, told: Callable[[int], object] = lambda done: None) -> np.ndarray:
        """log p at points (n, d), in nats; NaN where a solve fails."""
        found = []
        for i in range(0, len(x), CHUNK):
            found.append(self.flow.log_likelihood(self.scale.inwards(x[i : i + CHUNK])).numpy())
            told(min(len(x), i + CHUNK))
        return np.concatenate(found) - np.log(self.scale.size).sum()

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Independent samples (count, d)."""
        return self.scale.outwards(self.flow.sample(count, seed=seed))


def _measure(run: Run, config: GenerateConfig, points: Points, progress: Progress) -> None:
    """Write result.json, samples.csv and arrays.npz."""
    model, d = Model.open(run), len(points.names)
    told = points.held_out[:MEASURED] if len(points.held_out) else points.learned[:MEASURED]
    log = model.log_density(told, lambda done: progress("measuring", done, len(told), ""))
    samples = model.sample(config.samples, config.seed)
    with torch.no_grad():
        z = torch.randn(PATHS, d, generator=torch.Generator().manual_seed(config.seed), dtype=torch.float64)
        path = model.scale.outwards(model.flow.path(z, FRAMES))
        u = model.scale.inwards(told[:PATHS][np.isfinite(log[:PATHS])])
        back = float((model.flow(model.flow.inverse(u)) - u).abs().max()) if len(u) else math.nan
    arrays: dict[str, Any] = {
        "names": np.array(points.names),
        "data": told,
        "samples": samples,
        "path": path,
    }
    truth = DENSITIES.get(config.data)
    true_log = None if truth is None else truth.log_density(told)
    if d == 2:
        low, high = points.learned.min(0), points.learned.max(0)
        room = REACH * (high - low)
        x, y = (np.linspace(a, b, GRID) for a, b in zip(low - room, high + room, strict=True))
        grid = np.stack(np.meshgrid(x, y), 2).reshape(-1, 2)
        found = model.log_density(grid, lambda done: progress("density", done, len(grid), ""))
        arrays |= {"x": x, "y": y, "density": np.exp(found).reshape(GRID, GRID)}
        exact = None if truth is None else truth.log_density(grid)
        if exact is not None:
            arrays["truth"] = np.exp(exact).reshape(GRID, GRID)
    finite = bool(np.isfinite(log).all())
    result = {
        "points": len(told),
        "held_out": bool(len(points.held_out)),
        "negative_log_likelihood": float(-log.mean()) if finite else None,
        "standard_error": float(log.std() / len(log) ** 0.5) if finite else None,
        "entropy": None if truth is None else truth.entropy(),
        "excess": float((true_log - log).mean()) if finite and true_log is not None else None,
        "round_trip": back if math.isfinite(back) else None,
        "samples": len(samples),
    }
    write_points(run.file("samples.csv"), points.names, samples)
    run.write_arrays("arrays.npz", arrays)
    run.write_json("result.json", result)


def results(run: Run) -> dict[str, Any]:
    """What result.json says."""
    return json.loads(run.file("result.json").read_text(encoding="utf-8"))


def apply(run: Run, options: GenerateConfig) -> str:
    """Sample from a run's model, or append log p to the rows of a CSV file; returns what was done.

    Args:
        run: a finished run.
        options: with `data`, a file of points with the model's columns; or without, and with the number of `samples`.
            `out` is the CSV file to write.

    Raises:
        InputError: other options, or columns that the model does not have.
    """
    options = toml.check(options)
    allowed = GenerateConfig(data=options.data, out=options.out, samples=options.samples, seed=options.seed)
    if options != allowed:
        raise InputError(message("--model beside options of learning", "--data, --samples, --seed and --out alone"))
    out = Path(options.out or ("scored.csv" if options.data else "samples.csv"))
    if out.suffix != ".csv":
        raise InputError(message(f"--out {out}", "a file that ends in .csv"))
    model = Model.open(run)
    if not options.data:
        write_points(out, model.names, model.sample(options.samples, options.seed))
        return f"Written: {out}, {options.samples:,} samples."
    names, rows = read_points(Path(options.data))
    if names != model.names:
        given = f"points with the columns {', '.join(names)}"
        raise InputError(message(given, f"those of the model, {', '.join(model.names)}"))
    log = model.log_density(rows)
    write_points(out, (*names, "log_density"), np.column_stack([rows, log]))
    failed = int((~np.isfinite(log)).sum())
    warning = f" It is not finite at {failed:,} of them." if failed else ""
    return f"Written: {out}. Mean log-likelihood of {len(rows):,} points: {log.mean():.4g} nats.{warning}"
