"""Restore a picture: remove noise, undo a blur or fill in pixels, with what is proved about it."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..core.errors import ClaimError, InputError, message
from ..core.properties import Averaged
from ..data.kernel_files import read_kernel, read_mask
from ..data.pictures import as_bytes, as_tensor, read_picture
from ..inverse import ConvergenceCertificate, ForwardBackward, Problem, solve
from ..layers import Chain
from ..layers.proximal import Box
from ..linear import LinearMap
from ..linear.blur import Blur
from ..linear.kernels import gaussian_kernel, motion_kernel
from ..linear.sampling import Mask
from ..networks import Denoiser
from ..networks.shipped import denoiser_for, pretrained_denoiser
from . import config as toml
from .build import threads
from .progress import Progress, silent
from .restore_options import RestoreConfig

KNOWN_ALREADY = "Take another folder by --out."


@dataclass(frozen=True)
class Restoration:
    """A restored picture.

    Attributes:
        before, after, truth: pictures as bytes (channels, height, width); truth None where it is not known.
        statement: what is proved, in words.
        certificate: of the iteration; None where the denoiser was applied once.
        residuals: |x_(k+1) - x_k| of every iteration.
        measures: PSNR and SSIM before and after, where the truth is known.
    """

    before: np.ndarray
    after: np.ndarray
    truth: np.ndarray | None
    statement: str
    certificate: ConvergenceCertificate | None
    residuals: np.ndarray
    measures: dict[str, float]


def run(
    image: Path,
    config: RestoreConfig,
    progress: Progress = silent,
    finish: Callable[[Path], object] = lambda folder: None,
) -> Path:
    """Restore the picture, and write the folder with restored.png, pictures.npz and result.json, all at once.

    Args:
        image: a PNG or JPEG file.
        config: the options.
        progress: is told about the iterations.
        finish: adds to the folder, such as its report, before it appears under its name.

    Returns:
        the folder.

    Raises:
        InputError: a file or an option cannot be used, or the folder exists; nothing is written then.
    """
    config = toml.check(config)
    folder = Path(config.out or f"runs/{image.stem}-restored")
    if folder.exists():
        raise InputError(message(f"{folder} exists", "a new folder", KNOWN_ALREADY))
    with threads(config):
        found = restore(image, config, progress)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InputError(message(f"{folder} cannot be made ({error.strerror})", "a writable place")) from None
    try:
        write(found, image, config, temporary)
        finish(temporary)
        temporary.chmod(0o755)
        os.rename(temporary, folder)
    except OSError as error:
        raise InputError(message(f"{folder} cannot be written ({error.strerror})", "a writable, new folder")) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def restore(image: Path, config: RestoreConfig, progress: Progress = silent) -> Restoration:
    """Restore the picture in a file."""
    jobs = [config.denoise, config.inpaint is not None, config.blur != "none", config.kernel is not None]
    if sum(jobs) != 1:
        todo = "Give --denoise, or --inpaint MASK, or --blur KIND, or --kernel FILE."
        raise InputError(message(f"{sum(jobs)} of --denoise, --inpaint, --blur and --kernel", "one of them", todo))
    if config.denoise and config.strength is not None:
        given = f"--strength {config.strength} with --denoise"
        raise InputError(message(given, "--noise alone: the denoiser is applied once, at that noise level"))
    strength = strength_of(config)
    if not (0 < config.noise < math.inf and 0 < strength < math.inf):
        given = f"--noise {config.noise} --strength {strength}"
        raise InputError(message(given, "positive numbers"))
    given = read_picture(image)
    net = denoiser_for(len(given)) if config.model is None else pretrained_denoiser(config.model)
    if net.channels != len(given):
        given = read_picture(image, net.channels)
    truth = given if config.simulate else None
    if config.truth is not None:
        truth = read_picture(Path(config.truth), net.channels)
        if truth.shape != given.shape:
            sizes = [f"{p.shape[2]} x {p.shape[1]}" for p in (truth, given)]
            raise InputError(message(f"a true picture of {sizes[0]} pixels", f"{sizes[1]}, the size of the image"))
    operator = None if config.denoise else _operator(config, given.shape)
    x = as_tensor(given, torch.float64)
    if config.simulate:
        x = degrade(x, operator, config.noise, config.seed)
    net = net.double()
    with torch.no_grad():
        if operator is None:
            return _denoised(x, truth, net, config)
        return _solved(x, truth, operator, net, config, progress)


def _operator(config: RestoreConfig, shape: tuple[int, ...]) -> LinearMap:
    if config.inpaint is not None:
        return Mask(torch.from_numpy(read_mask(Path(config.inpaint), (shape[1], shape[2]))), shape)
    if config.kernel is not None:
        kernel = torch.from_numpy(read_kernel(config.kernel))
    elif config.blur == "motion":
        kernel = motion_kernel(config.length, config.angle)
    else:
        kernel = gaussian_kernel(config.spread)
    return Blur(kernel, shape, config.padding)


def degrade(x: Tensor, operator: LinearMap | None, noise: float, seed: int) -> Tensor:
    """The data that the operator makes of the pictures, with seeded noise (masked pixels stay black)."""
    y = x if operator is None else operator(x)
    white = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(y.shape))).to(y.dtype)
    return y + noise * (operator(white) if isinstance(operator, Mask) else white)


def strength_of(config: RestoreConfig) -> float:
    """Noise level of the denoiser in each iteration, as a multiple of that of the picture."""
    if config.strength is not None:
        return config.strength
    return 0.3 if config.inpaint is None else 1.0


def plug_and_play(net: Denoiser, sigma: float) -> nn.Module:
    """The denoiser at a noise level, and then the box [0, 1], with which a fixed point exists (Brouwer)."""
    return Chain(net.at(sigma), Box(0.0, 1.0)).eval()


def _denoised(x: Tensor, truth: np.ndarray | None, net: Denoiser, config: RestoreConfig) -> Restoration:
    sigma = config.noise
    after, claim = net(x, sigma), net.claims(sigma).get(Averaged)
    statement = f"Nothing is proved of this {type(net).__name__}."
    if claim is not None:
        statement = (
            f"The denoiser is {claim.alpha:.4f}-averaged on images of every size, hence 1-Lipschitz: if the image "
            "changes by some amount (Euclidean norm), the result changes by no more."
        )
    return _finished(x, after, truth, statement, None, np.zeros(0))


def _solved(
    x: Tensor, truth: np.ndarray | None, operator: LinearMap, net: Denoiser, config: RestoreConfig, progress: Progress
) -> Restoration:
    def told(done: int, residuals: Tensor) -> None:
        progress("restoring", done, config.iterations, f"residual {float(residuals.max()):.2e}")

    solution = solve(
        Problem(operator, x),
        plug_and_play(net, config.noise * strength_of(config)),
        solver=ForwardBackward(),
        iterations=config.iterations,
        tolerance=config.tolerance,
        on_iteration=told,
    )
    progress("restoring", config.iterations, config.iterations, f"{solution.iterations} iterations")
    state = "The tolerance was reached" if bool(solution.converged.all()) else "The tolerance was not reached"
    statement = f"{solution.certificate}\n{state} after {solution.iterations} iterations."
    return _finished(x, solution.x, truth, statement, solution.certificate, solution.residuals[:, 0].cpu().numpy())


def _finished(
    x: Tensor,
    after: Tensor,
    truth: np.ndarray | None,
    statement: str,
    certificate: ConvergenceCertificate | None,
    residuals: np.ndarray,
) -> Restoration:
    if not torch.isfinite(after).all():
        raise ClaimError(message("the restored picture is not finite", "a denoiser that does not blow up"))
    measures: dict[str, float] = {}
    if truth is not None:
        for name, picture in (("before", x), ("after", after)):
            measures |= {f"{k} {name}": v for k, v in compare(picture, as_tensor(truth, torch.float64)).items()}
    return Restoration(as_bytes(x), as_bytes(after), truth, statement, certificate, residuals, measures)


def compare(found: Tensor, true: Tensor) -> dict[str, float]:
    """PSNR in dB and SSIM (by torchmetrics) of pictures with values in [0, 1], cut off there first."""
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    found = found.clamp(0, 1)
    values = {"PSNR": float(peak_signal_noise_ratio(found, true, data_range=1.0))}
    if min(true.shape[2:]) >= 11:  # the window of SSIM
        similarity: Any = structural_similarity_index_measure(found, true, data_range=1.0)
        values["SSIM"] = float(similarity)
    return values


def write(found: Restoration, image: Path, config: RestoreConfig, folder: Path) -> None:
    """Write the results into a folder."""
    for name, picture in (("restored", found.after), ("degraded", found.before)):
        if name == "restored" or config.simulate:
            pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
            Image.fromarray(pixels).save(folder / f"{name}.png")
    arrays: Any = {"before": found.before, "after": found.after, "residuals": found.residuals}
    if found.truth is not None:
        arrays["truth"] = found.truth
    np.savez_compressed(folder / "pictures.npz", **arrays)
    result = {
        "image": image.name,
        "options": {k: v for k, v in asdict(config).items() if v is not None and k != "out"},
        "statement": found.statement,
        "certificate": None if found.certificate is None else found.certificate.to_dict(),
        "iterations": len(found.residuals),
        "measures": {k: v if math.isfinite(v) else None for k, v in found.measures.items()},  # None: equal pictures
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
