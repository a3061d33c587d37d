"""Lecture, Fig. 1 and 9: a denoiser that is averaged by construction beside DnCNN, once and again and again.

Three networks are trained on BSDS500, for noise levels 5 to 50: the averaged `EulerDenoiser` on grey and on colour
pictures, and a DnCNN of about the same training time, of which nothing is proved. They are measured on BSD68 and
CBSD68. Then each denoiser is applied to its own result again and again: of an averaged map with a fixed point, the
iterates converge (Krasnosel'skii & Mann), and |x_(k+1) - x_k| never grows. The black picture is a fixed point, since
the network is odd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.errors import InputError, message
from ..core.properties import Averaged
from ..data.pictures import as_tensor, benchmark_files, read_pictures
from ..networks import Denoiser
from ..report.panels import Curve, Panel, draw_panels
from ..report.picture_panels import Picture
from ..tasks import denoise as task
from ..tasks.denoise_options import DenoiseConfig
from ..tasks.progress import Progress, prefixed, silent
from ..tasks.run_folder import Run
from ._folder import once, open_folder, seeded, write_table

NETWORKS = {
    "euler, grey": DenoiseConfig(),
    "euler, colour": DenoiseConfig(steps=4000, colour=True, filters=128),
    "dncnn, colour": DenoiseConfig(steps=5000, colour=True, network="dncnn", depth=8, filters=32),
}
LEVELS = 15.0, 25.0, 50.0
AGAIN, SHOWN, SIDE = 300, (1, 10, 100, 300), 160


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: three trainings, the table, the repeated application.

    Raises:
        InputError: BSDS500 or its benchmarks are not on this machine, or `data` is no folder of pictures.
    """
    if data is not None and not Path(data).is_dir():
        raise InputError(message(f"--data {data}", "a folder of pictures to train with and to measure on"))
    settings = {"quick": quick, "data": data}
    folder = open_folder("denoise", data=None, out=out, quick=quick, settings=settings)
    rows, curves, nets = [], {}, {}
    with seeded(0):
        for name, config in NETWORKS.items():
            net = nets[name] = trained(name, config, data, folder, quick, progress)
            benchmark = pictures(net, data, 2 if quick else None)
            rows.append(
                once(
                    folder / f"{_short(name)}.json",
                    lambda: measure(name, net, benchmark, folder, prefixed(progress, name)),  # noqa: B023 (called now)
                )
            )
        for name, net in nets.items():
            clean = pictures(net, data, 3)[-1][:, :SIDE, :SIDE]
            curves[name] = once(
                folder / f"{_short(name)}-again.json",
                lambda: again(net, clean, 20 if quick else AGAIN, prefixed(progress, name)),  # noqa: B023
            )
    columns = {"network": "", "parameters": ",", "averaged": ".4f", "seconds": ".0f", "pictures": ""}
    write_table(folder / "denoise.md", columns | {f"noise {s:g}": ".2f" for s in LEVELS}, rows)
    draw(folder, nets, curves, data)
    return folder


def trained(
    name: str, config: DenoiseConfig, data: str | None, folder: Path, quick: bool, progress: Progress
) -> Denoiser:
    """The network of that name, trained in a run folder below the study's."""
    path = folder / _short(name)
    if data is not None:
        config = replace(config, data=data)
    if quick:
        config = replace(config, steps=30, filters=16, depth=3)
    run = Run.open(path) if (path / "config.toml").is_file() else task.create(replace(config, out=str(path)))
    task.resume(run, prefixed(progress, name))
    return task.load_denoiser(run.file("model.safetensors"))


def pictures(net: Denoiser, data: str | None, count: int | None) -> list[np.ndarray]:
    """The first pictures of the benchmark for the channels of a network."""
    if data is not None:
        files = task.training_files(data)[1]
    else:
        files = benchmark_files("cbsd68" if net.channels == 3 else "bsd68")
    return read_pictures(files[:count], net.channels)


def measure(
    name: str, net: Denoiser, benchmark: Sequence[np.ndarray], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Mean PSNR on the benchmark, and what is proved."""
    averaged = net.claims().get(Averaged)
    return {
        "network": name,
        "parameters": sum(p.numel() for p in net.parameters()),
        "averaged": None if averaged is None else averaged.alpha,
        "seconds": Run.open(folder / _short(name)).environment["seconds"],
        "pictures": len(benchmark),
        **{f"noise {s:g}": task.mean_psnr(net, benchmark, s / 255, progress) for s in LEVELS},
    }


@torch.no_grad()
def again(net: Denoiser, clean: np.ndarray, count: int, progress: Progress) -> dict[str, list[float]]:
    """x_(k+1) = D(x_k) from a noisy picture: the residuals |x_(k+1) - x_k| and the PSNR of every x_k, k >= 1."""
    sigma = 25 / 255
    true = as_tensor(clean)
    noise = np.random.default_rng(0).standard_normal(true.shape, dtype=np.float32)
    x = true + sigma * torch.from_numpy(noise)
    residuals, values = [], []
    for k in range(count):
        new = net(x, sigma)
        size = float((new - x).norm())
        if not np.isfinite(size) or size > 1e6:
            break
        residuals.append(size)
        values.append(task.psnr(new, true))
        x = new
        progress("applying it again", k + 1, count, f"residual {size:.2e}")
    return {"residuals": residuals, "psnr": values}


@torch.no_grad()
def draw(folder: Path, nets: dict[str, Denoiser], curves: dict[str, Any], data: str | None) -> None:
    """Residuals and PSNR of the repeated application, and the pictures after some applications."""
    panels = [
        Panel("residual", [], x_label="applications", log_y=True),
        Panel("PSNR, dB", [], x_label="applications"),
    ]
    for i, key in enumerate(("residuals", "psnr")):
        marks = [
            Curve(np.arange(1, 1 + len(c[key])), np.array(c[key]), name, j)
            for j, (name, c) in enumerate(curves.items())
        ]
        panels[i] = replace(panels[i], marks=marks)
    draw_panels(panels, folder / "again.svg", columns=2)
    shown = []
    for name, net in nets.items():
        if net.channels != 3:
            continue
        true = as_tensor(pictures(net, data, 3)[-1][:, :SIDE, :SIDE])
        noise = np.random.default_rng(0).standard_normal(true.shape, dtype=np.float32)
        x = true + 25 / 255 * torch.from_numpy(noise)
        shown.append(Panel("noisy", [Picture(x[0].numpy())]))
        for k in range(1, 1 + len(curves[name]["residuals"])):
            x = net(x, 25 / 255)
            if k in SHOWN:
                shown.append(Panel(f"{name.split(',')[0]}, {k} times", [Picture(x[0].numpy())]))
    draw_panels(shown, folder / "again-pictures.png", columns=1 + sum(k <= len(curves[name]["psnr"]) for k in SHOWN))


def _short(name: str) -> str:
    return name.replace(", ", "-")
