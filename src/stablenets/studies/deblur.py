"""Lecture, Fig. 2: motion blurs undone by plug-and-play with a proof of convergence; naive inversion blows up.

Pictures are blurred with Levin's measured camera motions (circular) and get noise. Compared: division by the kernel's
Fourier transform (naive inversion), total variation with the best of several weights *for each picture*, and
plug-and-play forward-backward with the averaged denoiser that comes with the package, followed by the projection onto
[0, 1]. The latter is averaged with a fixed point: it converges, and |x_(k+1) - x_k| never grows, in float64 down to
1e-8 of the picture's size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, message
from ..data.pictures import as_tensor, benchmark_files, read_pictures
from ..inverse import ForwardBackward, Problem, solve
from ..linear.blur import Blur
from ..networks.shipped import denoiser_for
from ..report.panels import Curve, Panel, draw_panels
from ..report.picture_panels import Picture
from ..tasks.progress import Progress, silent
from ..tasks.restore import compare, degrade, plug_and_play
from ._folder import once, open_folder, seeded, write_table

SETS = {"set12": 1, "cbsd68": 3}  # channels
COUNT, SIDE, QUICK_SIDE = 8, 192, 64
NOISE, STRENGTH = 0.01, 1.5
TOLERANCE, MOST = 1e-8, 4000
WEIGHTS = tuple(0.0001 * 2**k for k in range(7))  # of the total variation


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: every picture of both sets, the table and the figures.

    Raises:
        InputError: the pictures or Levin's kernels are not on this machine; `data` is given.
    """
    folder = open_folder("deblur", data=data, out=out, quick=quick, settings={"quick": quick, "noise": NOISE})
    all_kernels, rows = kernels(), []
    with seeded(0):
        for name, channels in SETS.items():
            net = denoiser_for(channels).double()
            for i, picture in enumerate(read_pictures(benchmark_files(name)[: 1 if quick else COUNT], net.channels)):
                job = f"{name}, picture {i + 1}"
                kernel = list(all_kernels)[i % len(all_kernels)]
                clean = middle(picture, QUICK_SIDE if quick else SIDE)
                rows.append(
                    once(
                        folder / f"{name}-{i + 1}.json",
                        lambda: deblur(job, clean, kernel, all_kernels[kernel], net, folder, quick, progress),  # noqa: B023
                    )
                )
    means = []
    for name in SETS:
        chosen = [row for row in rows if row["picture"].startswith(name)]
        keys = ("blurred", "naive", "total variation", "plug-and-play", "iterations", "residual", "growth")
        mean = {k: float(np.mean([row[k] for row in chosen])) for k in keys[:5]}
        worst = {k: max(row[k] for row in chosen) for k in keys[5:]}
        means.append({"picture": f"{name}, mean (worst)", "kernel": "", **mean, **worst})
    columns = {
        "picture": "", "kernel": "", "blurred": ".2f", "naive": ".2f", "total variation": ".2f",
        "plug-and-play": ".2f", "iterations": ".0f", "residual": ".1e", "growth": ".6f",
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


@torch.no_grad()
def deblur(
    job: str, clean: np.ndarray, name: str, kernel: np.ndarray, net: Any, folder: Path, quick: bool, progress: Progress
) -> dict[str, Any]:
    """Blur a picture, and undo it in three ways."""
    true = as_tensor(clean, torch.float64)
    blur = Blur(torch.from_numpy(kernel), true.shape[1:])
    problem = Problem(blur, degrade(true, blur, NOISE, seed=0))
    naive = blur.solve_normal(problem.correlation, 1e-12)
    weights = WEIGHTS[2:4] if quick else WEIGHTS
    smooth = [total_variation(problem, w, 50 if quick else 500) for w in weights]
    smoothed = max(smooth, key=lambda x: compare(x, true)["PSNR"])
    most = 300 if quick else MOST
    solution = solve(
        problem,
        plug_and_play(net, STRENGTH * NOISE),
        solver=ForwardBackward(),
        iterations=most,
        tolerance=TOLERANCE,
        on_iteration=lambda k, r: progress(job, k, most, f"residual {float(r.max()):.1e}"),
    )
    progress(job, most, most, f"{solution.iterations} iterations")
    tried = {"blurred": problem.data, "naive": naive, "total variation": smoothed, "plug-and-play": solution.x}
    panels = [Panel(what, [Picture(x[0].numpy())]) for what, x in {"true": true, **tried}.items()]
    draw_panels(panels, folder / f"{job.replace(', picture ', '-')}.png", columns=5, height=2.9)
    size = float(solution.x.norm())
    return {
        "picture": job,
        "kernel": name,
        **{what: compare(x, true)["PSNR"] for what, x in tried.items()},
        "SSIM": {what: compare(x, true).get("SSIM") for what, x in tried.items()},
        "iterations": solution.iterations,
        "residual": float(solution.residuals[-1, 0]) / size,
        "growth": solution.growth,
        "guarantee": solution.certificate.guarantee.name,
        "alpha": solution.certificate.alpha,
        "residuals": (solution.residuals[:, 0] / size).tolist(),
    }


def total_variation(problem: Problem, weight: float, iterations: int) -> Tensor:
    """argmin of |K x - y|^2 / 2 + weight TV(x), isotropic and with the channels together, by a primal-dual method.

    Reference: Condat (2013), Alg. 3.1; Vu (2013). Steps: 1 / tau - sigma |D|^2 >= L / 2 with |D|^2 <= 8.
    """
    sigma = 1.0
    tau = 0.99 / (problem.smoothness / 2 + 8 * sigma)
    x, p = problem.data.clone(), torch.zeros(2, *problem.data.shape, dtype=problem.data.dtype)
    for _ in range(iterations):
        new = x - tau * (problem.gradient(x) - _divergence(p))
        p = p + sigma * _differences(2 * new - x)
        p = p / (p.square().sum((0, 2), keepdim=True).sqrt() / weight).clamp(min=1)
        x = new
    return x


def _differences(x: Tensor) -> Tensor:
    """Forward differences down and across, 0 at the last row and column; (2, *x.shape)."""
    d = torch.zeros(2, *x.shape, dtype=x.dtype)
    d[0, :, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    d[1, :, :, :, :-1] = x[:, :, :, 1:] - x[:, :, :, :-1]
    return d


def _divergence(p: Tensor) -> Tensor:
    """Minus the adjoint of `_differences`."""
    div = torch.zeros_like(p[0])
    div[:, :, :-1] += p[0, :, :, :-1]
    div[:, :, 1:] -= p[0, :, :, :-1]
    div[:, :, :, :-1] += p[1, :, :, :, :-1]
    div[:, :, :, 1:] -= p[1, :, :, :, :-1]
    return div
