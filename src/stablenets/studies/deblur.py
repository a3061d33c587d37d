"""Lecture, Fig. 2: motion blurs undone by plug-and-play with a proof of convergence; naive inversion blows up.

Pictures are blurred with Levin's measured camera motions (circular) and get noise. Compared:

- division by the kernel's Fourier transform (naive inversion);
- total variation, with the weight that is best on training pictures, and with the best one *for each picture*, which
  nobody could know;
- plug-and-play half-quadratic splitting with the averaged denoisers of the package, `grey-15` for Set12 and `colour`
  for CBSD68. Their noise level and balance with the data are those that are best on the same training pictures.

The splitting takes steps of any size. With long ones |x_(k+1) - x_k| falls to 1e-8 of the picture's size within
some hundreds of iterations in float64, and never grows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, message
from ..data.pictures import as_tensor, benchmark_files, read_pictures, training_files
from ..inverse import HalfQuadraticSplitting, Problem, Solution, solve
from ..layers.total_variation import differences, divergence
from ..linear.blur import Blur
from ..networks import Denoiser
from ..networks.shipped import pretrained_denoiser
from ..report.panels import Curve, Panel, draw_panels
from ..report.picture_panels import Picture
from ..tasks.progress import Progress, silent
from ..tasks.restore import compare, degrade
from ._folder import once, open_folder, seeded, write_table

SETS = {"set12": (1, "grey-15"), "cbsd68": (3, "colour")}  # channels and the denoiser
COUNT, SIDE, QUICK_SIDE = 6, 192, 64
NOISE, TOLERANCE, MOST = 0.01, 1e-8, 2000
LEVELS = tuple(s / 255 for s in (1, 1.5, 2))  # of the noise that the denoiser is asked to remove
BALANCES = 0.06, 0.1, 0.15  # 1: the denoiser trusts its input as much as the data deserve
WEIGHTS = 0.0002, 0.0004, 0.0006, 0.0008, 0.0012, 0.0016, 0.002  # of the total variation
TRAINING, TRAINING_SIDE, TRAINING_ITERATIONS = 6, 96, 120


class Chosen(NamedTuple):
    """What is best on training pictures."""

    level: float
    balance: float
    weight: float


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: every picture of both sets, the table and the figures.

    Raises:
        InputError: the pictures or Levin's kernels are not on this machine; `data` is given.
    """
    folder = open_folder("deblur", data=data, out=out, quick=quick, settings={"quick": quick, "noise": NOISE})
    all_kernels, rows, side = kernels(), [], QUICK_SIDE if quick else SIDE
    with seeded(0):
        jobs = [(level, balance) for level in LEVELS for balance in BALANCES][:: 8 if quick else 1]
        for name, (channels, denoiser) in SETS.items():
            net = pretrained_denoiser(denoiser)
            work = partial(tune, net, channels, all_kernels, jobs, quick, progress)
            tuned = once(folder / f"{name}-tuning.json", work)
            for i, picture in enumerate(read_pictures(benchmark_files(name)[: 1 if quick else COUNT], channels)):
                kernel = list(all_kernels)[i % len(all_kernels)]
                problem = Blurred(middle(picture, side), all_kernels[kernel], 0, torch.float64)
                names = {"picture": f"{name}, picture {i + 1}", "kernel": kernel}
                work = partial(deblur, names, problem, net, Chosen(*tuned["chosen"]), folder, quick, progress)
                rows.append(once(folder / f"{name}-{i + 1}.json", work))
    means = []
    for name in SETS:
        some = [row for row in rows if row["picture"].startswith(name)]
        keys = ("blurred", "naive", "total variation", "best total variation", "plug-and-play", "iterations")
        mean = {k: float(np.mean([row[k] for row in some])) for k in keys}
        worst = {k: max(row[k] for row in some) for k in ("residual", "growth")}
        means.append({"picture": f"{name}, mean (worst)", "kernel": "", **mean, **worst})
    columns = {
        "picture": "", "kernel": "", "blurred": ".2f", "naive": ".2f", "total variation": ".2f",
        "best total variation": ".2f", "plug-and-play": ".2f", "iterations": ".0f", "residual": ".1e", "growth": ".6f",
    }  # fmt: skip
    write_table(folder / "deblur.md", columns, [*rows, *means])
    curves = [Curve(np.arange(1, 1 + len(r["residuals"])), np.array(r["residuals"]), "", k) for k, r in enumerate(rows)]
    draw_panels([Panel("residuals", curves, x_label="iteration", log_y=True)], folder / "residuals.svg")
    return folder


def kernels() -> dict[str, np.ndarray]:
    """Levin's kernels by name.

    Raises:
        InputError: they are not on this machine.
    """
    from ..data.download import local_folders

    path = next((p for f in local_folders() if (p := f / "kernels" / "levin09.npz").is_file()), None)
    if path is None:
        todo = "Put levin09.npz into a folder kernels in $STABLENETS_DATA."
        raise InputError(message("Levin's kernels are not on this machine", "levin09.npz", todo))
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in sorted(file.files)}


def middle(picture: np.ndarray, side: int) -> np.ndarray:
    """The square in the middle of a picture, of at most `side` pixels."""
    side = min(side, *picture.shape[1:])
    row, column = ((n - side) // 2 for n in picture.shape[1:])
    return picture[:, row : row + side, column : column + side]


class Blurred(Problem):
    """A picture blurred by a kernel, with seeded noise, and the picture itself as `true`."""

    def __init__(self, picture: np.ndarray, kernel: np.ndarray, seed: int, dtype: torch.dtype) -> None:
        self.true = as_tensor(picture, dtype)
        blur = Blur(torch.from_numpy(kernel), self.true.shape[1:])
        super().__init__(blur, degrade(self.true, blur, NOISE, seed))

    def psnr(self, x: Tensor) -> float:
        """In dB."""
        return compare(x, self.true)["PSNR"]


@torch.no_grad()
def tune(
    net: Denoiser,
    channels: int,
    by: dict[str, np.ndarray],
    jobs: list[tuple[float, float]],
    quick: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Mean PSNR over training pictures of BSDS500 for all weights and `jobs` (level, balance), and the best of each."""
    count = 1 if quick else TRAINING
    files = training_files("bsds500")[0]
    pictures = read_pictures(files[:: len(files) // count][:count], channels)
    problems = [
        Blurred(middle(p, QUICK_SIDE if quick else TRAINING_SIDE), list(by.values())[i % len(by)], i, torch.float32)
        for i, p in enumerate(pictures)
    ]
    net = net.float()

    def mean(restored: Callable[[Blurred], Tensor]) -> float:
        return float(np.mean([p.psnr(restored(p)) for p in problems]))

    weights = [mean(lambda p, w=w: total_variation(p, w)) for w in WEIGHTS]
    found = []
    for i, (level, balance) in enumerate(jobs):
        progress("choosing on training pictures", i, len(jobs), f"noise level {level:.3f}, balance {balance}")
        found.append(mean(lambda p, j=jobs[i]: sharp(p, plug_and_play(p, net, *j, iterations=TRAINING_ITERATIONS), *j)))
    best = jobs[int(np.argmax(found))]
    return {
        "chosen": [*best, WEIGHTS[int(np.argmax(weights))]],
        "total variation": dict(zip(map(str, WEIGHTS), weights, strict=True)),
        "plug-and-play": [[*job, value] for job, value in zip(jobs, found, strict=True)],
    }


def plug_and_play(problem: Problem, net: Denoiser, level: float, balance: float, **options: Any) -> Solution:
    """Half-quadratic splitting with the denoiser at a noise level, and the step that weighs it against the data.

    As a proximal map, a denoiser of the noise `level` is that of level^2 times a penalty. So the step
    h = level^2 / (balance NOISE^2) gives the data the weight `balance` / NOISE^2.
    """
    return solve(problem, net.at(level), solver=HalfQuadraticSplitting(step(level, balance)), **options)


def step(level: float, balance: float) -> float:
    """h: see `plug_and_play`."""
    return level**2 / (balance * NOISE**2)


def sharp(problem: Problem, solution: Solution, level: float, balance: float) -> Tensor:
    """The restored picture as it enters the denoiser: it solves grad f(x) + (x - D(x)) / h = 0."""
    return problem.prox(solution.x, step(level, balance))


@torch.no_grad()
def deblur(
    names: dict[str, str],
    problem: Blurred,
    net: Denoiser,
    chosen: Chosen,
    folder: Path,
    quick: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Undo the blur in three ways."""
    job, net = names["picture"], net.double()
    true, most = problem.true, 60 if quick else MOST
    naive = problem.operator.solve_normal(problem.correlation, 1e-12)
    weights = (chosen.weight,) if quick else WEIGHTS
    best = max((total_variation(problem, w) for w in weights), key=problem.psnr)
    solution = plug_and_play(
        problem,
        net,
        chosen.level,
        chosen.balance,
        iterations=most,
        tolerance=TOLERANCE,
        on_iteration=lambda k, r: progress(job, k, most, f"residual {float(r.max()):.1e}"),
    )
    progress(job, most, most, f"{solution.iterations} iterations")
    tried = {
        "blurred": problem.data, "naive": naive, "total variation": total_variation(problem, chosen.weight),
        "plug-and-play": sharp(problem, solution, chosen.level, chosen.balance),
    }  # fmt: skip
    panels = [Panel(what, [Picture(x[0].numpy())]) for what, x in {"true": true, **tried}.items()]
    draw_panels(panels, folder / f"{job.replace(', picture ', '-')}.png", columns=5, height=2.9)
    size, residuals = float(solution.x.norm()), solution.residuals[:, 0]
    return {
        **names,
        **{what: problem.psnr(x) for what, x in tried.items()},
        "best total variation": problem.psnr(best),
        "SSIM": {what: compare(x, true).get("SSIM") for what, x in tried.items()},
        "iterations": solution.iterations,
        "residual": float(residuals[-1]) / size,
        "growth": float((residuals[1:] / residuals[:-1]).max()),
        "guarantee": solution.certificate.guarantee.name,
        "alpha": solution.certificate.alpha,
        "rate": solution.certificate.rate,
        "residuals": (residuals / size).tolist(),
    }


def total_variation(problem: Problem, weight: float, iterations: int = 500) -> Tensor:
    """argmin of |K x - y|^2 / 2 + weight TV(x), with the TV of `layers.TotalVariation`, by a primal-dual method.

    One iteration costs as much as one *inner* iteration of the proximal map.

    Reference: Condat (2013), Alg. 3.1; Vu (2013). Steps: 1 / tau - sigma |D|^2 >= L / 2 with |D|^2 <= 8; a small
    sigma, since |p| <= weight is small.
    """
    sigma = 0.01
    tau = 0.99 / (problem.smoothness / 2 + 8 * sigma)
    x, p = problem.data.clone(), torch.zeros(2, *problem.data.shape, dtype=problem.data.dtype)
    for _ in range(iterations):
        new = x - tau * (problem.gradient(x) - divergence(p))
        p = p + sigma * differences(2 * new - x)
        p = p / (p.square().sum((0, 2), keepdim=True).sqrt() / weight).clamp(min=1)
        x = new
    return x
