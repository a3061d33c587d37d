"""Train a denoiser on crops of pictures, and measure it on pictures it was not trained on."""

from __future__ import annotations

import functools
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..certify.denoiser import DenoiserCertificate
from ..core.errors import ClaimError, InputError, message
from ..data.pictures import as_tensor, random_crops, read_pictures, training_files
from ..layers import load, save
from ..networks import Denoiser, DnCNN, EulerDenoiser
from ..train import minimise
from ..train.schedule import one_cycle
from . import config as toml
from .build import threads
from .denoise_options import DenoiseConfig
from .progress import Progress, silent
from .run_folder import Run, machine

USUAL = 15.0, 25.0  # the noise levels of the benchmarks
MOST_VALIDATED = 12  # pictures


def run(config: DenoiseConfig, progress: Progress = silent) -> Run:
    """Do the whole job in a new run folder: train, certify, measure.

    Raises:
        InputError: an option or the data cannot be used, or the folder exists.
        TrainingError: the loss is not finite; the last good checkpoint is in the folder.
        KeyboardInterrupt: after Ctrl-C; `resume` goes on from there.
    """
    return resume(create(config), progress)


def create(config: DenoiseConfig) -> Run:
    """A new run folder for `config`; everything that can be checked in advance is checked before it is made."""
    config = toml.check(config)
    if config.steps < 1:
        raise InputError(message(f"--steps {config.steps}", "at least 1"))
    training, validation = training_files(config.data)
    channels = 3 if config.colour else 1
    known = config.data == "bsds500"
    kept = replace(config, data=config.data if known else str(Path(config.data).resolve()), out=None)
    net = build(kept)
    read_pictures([*training, *validation[:MOST_VALIDATED]], channels, config.crop)
    with torch.no_grad():
        net.eval()(torch.zeros(1, channels, config.crop, config.crop), USUAL[0] / 255)  # whether crops are large enough
    environment = machine() | {
        "seconds": 0.0,
        "command": toml.command(kept),
        "pictures": len(training),
        "parameters": sum(p.numel() for p in net.parameters()),
    }
    return Run.create(config.out or f"runs/denoise-{config.network}", kept, environment)


def build(config: DenoiseConfig) -> Denoiser:
    """The denoiser of a config, with the weights that its seed gives. The global random state is left alone."""
    channels = 3 if config.colour else 1
    low, high = noise_range(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.network == "dncnn":
            # A batch has one noise level: statistics of batches would not be those of pictures at another one.
            return DnCNN(channels, depth=config.depth, width=config.filters, normalised=False)
        levels = sorted({low, high, *(s for s in USUAL if low < s < high)})
        if config.levels is not None:
            levels = list(config.levels)
            if not levels or levels != sorted(set(levels)) or not 0 < levels[0] <= levels[-1] < math.inf:
                given = f"--levels {' '.join(map(str, levels))}"
                raise InputError(message(given, "positive numbers, increasing, in units of 1/255"))
        return EulerDenoiser(
            channels,
            steps=config.depth,
            filters=config.filters,
            kernel_size=config.kernel_size,
            stride=config.stride,
            group_size=config.group_size,
            levels=[s / 255 for s in levels],
        )


def noise_range(config: DenoiseConfig) -> tuple[float, float]:
    """The lowest and the highest noise level, in units of 1/255.

    Raises:
        InputError: no one or two positive numbers in order.
    """
    low, high = (config.noise[0], config.noise[-1]) if config.noise else (0.0, 0.0)
    if len(config.noise) > 2 or not 0 < low <= high < math.inf:
        given = f"--noise {' '.join(map(str, config.noise))}"
        raise InputError(message(given, "one positive number, or two: the lowest and the highest level"))
    return low, high


def resume(run: Run, progress: Progress = silent) -> Run:
    """Do what is missing in a run folder, from the last checkpoint on; nothing if nothing is missing.

    Raises:
        InputError: a file in the folder cannot be used, or the data have changed.
        ClaimError: the certificate in the folder is not that of the model.
    """
    config = toml.read(run.file("config.toml"), DenoiseConfig)
    with run.work(), threads(config):
        files = training_files(config.data)
        channels = 3 if config.colour else 1
        validation = read_pictures(files[1][:MOST_VALIDATED], channels, config.crop)
        if not run.has("model.safetensors"):
            progress("reading pictures", 0, len(files[0]), "")
            pictures = read_pictures(files[0], channels, config.crop)
            progress("reading pictures", len(files[0]), len(files[0]), "")
            _train(run, config, pictures, validation, progress)
        net = load_denoiser(run.file("model.safetensors"))
        if not run.has("certificate.json") and not run.has("uncertified.txt"):
            try:
                DenoiserCertificate.of(net).save(run.file("certificate.json"))
            except ClaimError as error:
                run.write_text("uncertified.txt", f"{error}\n")
        elif run.has("certificate.json"):
            DenoiserCertificate.load(run.file("certificate.json")).check(net)
        if not run.has("result.json"):
            low, high = noise_range(config)
            levels = sorted({low, high, *(s for s in USUAL if low < s < high)})
            rows = [{"noise": s, "psnr": mean_psnr(net, validation, s / 255, progress)} for s in levels]
            run.write_json("result.json", {"pictures": len(validation), "validation": rows})
    return run


def _train(
    run: Run, config: DenoiseConfig, pictures: list[np.ndarray], validation: list[np.ndarray], progress: Progress
) -> None:
    net, (low, high) = build(config), noise_range(config)
    lines: list[str] = []
    every = max(1, config.steps // 40)

    def loss(net: nn.Module, step: int) -> Tensor:
        random = np.random.default_rng((config.seed, step))
        sigma = math.exp(random.uniform(math.log(low), math.log(high))) / 255
        clean = random_crops(pictures, config.crop, config.batch_size, random)
        noise = torch.from_numpy(random.standard_normal(clean.shape, dtype=np.float32))
        return (net(clean + sigma * noise, sigma) - clean).square().mean() / sigma**2

    def on_step(step: int, total: int, value: float) -> None:
        if not lines and step > 1 and run.has("metrics.jsonl"):  # resumed: keep what is older than the checkpoint
            old = run.file("metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            lines.extend(line for line in old if json.loads(line)["step"] < step)
        note = f"loss {value:.3f}"
        if step % every == 0 or step == total:
            middle = math.sqrt(low * high) if not low < USUAL[1] < high else USUAL[1]
            net.eval()
            reached = mean_psnr(net, validation[:4], middle / 255)
            net.train()
            lines.append(json.dumps({"step": step, "loss": value, "noise": middle, "psnr": reached}) + "\n")
            run.write_text("metrics.jsonl", "".join(lines))
            note += f", {reached:.2f} dB at noise {middle:.3g}"
        progress("training", step, total, note)

    minimise(
        net, loss, steps=config.steps, peak=config.peak or (1e-2 if config.network == "euler" else 1e-3),
        schedule=functools.partial(one_cycle, low=1e-5, warmup=0.1),
        checkpoint=run.file("checkpoint.safetensors"), resume=True,
        settings={"config": toml.text(config), "pictures": fingerprint(pictures)}, on_step=on_step,
    )  # fmt: skip
    save(net, run.file("model.safetensors"))


def fingerprint(pictures: Sequence[np.ndarray]) -> str:
    """A short text that differs where the pictures differ."""
    crc = 0
    for picture in pictures:
        crc = zlib.crc32(picture.data.cast("B"), crc)
    return f"{len(pictures)} pictures, crc32 {crc:08x}"


def load_denoiser(path: Path) -> Denoiser:
    """The denoiser in a model file.

    Raises:
        InputError: there is none.
    """
    net = load(path)
    if not isinstance(net, Denoiser):
        raise InputError(message(f"{path} holds a {type(net).__name__}", "a denoiser", "Train one: stablenets denoise"))
    return net


@torch.no_grad()
def mean_psnr(
    net: Any, pictures: Sequence[np.ndarray], sigma: float, progress: Progress = silent, *, seed: int = 0
) -> float:
    """The mean PSNR in dB over pictures with seeded noise of that level, not rounded and not cut off at 0 and 1."""
    values = []
    for i, picture in enumerate(pictures):
        clean = as_tensor(picture)
        noise = np.random.default_rng((seed, i)).standard_normal(clean.shape, dtype=np.float32)
        found = net(clean + sigma * torch.from_numpy(noise), sigma)
        values.append(psnr(found, clean))
        progress(f"measuring at noise {255 * sigma:.3g}", i + 1, len(pictures), "")
    return float(np.mean(values))


def psnr(found: Tensor, true: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of a picture with values in [0, 1], cut off there first."""
    from torchmetrics.functional.image import peak_signal_noise_ratio  # here: it takes seconds to import

    return float(peak_signal_noise_ratio(found.clamp(0, 1), true, data_range=1.0))


def results(run: Run) -> dict[str, Any]:
    """What result.json says.

    Raises:
        InputError: it is missing or damaged.
    """
    path = run.file("result.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = [{"noise": float(row["noise"]), "psnr": float(row["psnr"])} for row in found["validation"]]
        return {"pictures": int(found["pictures"]), "validation": rows}
    except (OSError, ValueError, LookupError, TypeError) as error:
        todo = "Delete it, and resume the run: it is measured again."
        raise InputError(message(f"{path} is not readable ({error})", "the file as written", todo)) from None
