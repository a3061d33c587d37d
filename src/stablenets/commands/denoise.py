"""Train denoisers, and restore pictures."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ..tasks.denoise_options import DenoiseConfig
from ..tasks.restore_options import RestoreConfig
from .shared import Show, resumable

denoise = App(name="denoise", help="Train a denoiser on pictures.")


@denoise.command
def train(
    *,
    resume: Path | None = None,
    progress: Show = "bars",
    options: Annotated[DenoiseConfig | None, Parameter(name="*")] = None,
) -> None:
    """Train a denoiser on random crops of pictures, certify it, and measure it on other pictures.

    For example:

        stablenets denoise train
        stablenets denoise train --colour --data my/pictures
        stablenets denoise train --noise 25 --steps 20000
        stablenets denoise train --resume runs/denoise-euler

    Args:
        resume: Run folder to go on with; its options are those of its config.toml.
        progress: How to show progress.
    """
    from ..console import say, shown
    from ..core.errors import InputError, message
    from ..tasks import denoise as task
    from ..tasks.run_folder import Run

    if resume is not None and options is not None:
        raise InputError(message("--resume beside other options", "--resume RUN alone", "A run keeps its options."))
    with shown(progress) as show:
        run = task.create(options or DenoiseConfig()) if resume is None else Run.open(resume)
        with resumable(f"stablenets denoise train --resume {shlex.quote(str(run.path))}"):
            task.resume(run, show)
    if progress != "json":
        result = task.results(run)
        for row in result["validation"]:
            say(f"Noise {row['noise']:g}: {row['psnr']:.2f} dB, mean of {result['pictures']} pictures not trained on.")
        proof = "certificate.json" if run.has("certificate.json") else "uncertified.txt"
        say(f"The model: {run.file('model.safetensors')}; what is proved: {run.file(proof)}")
        say(f"Use it: stablenets restore PICTURE --denoise --model {shlex.quote(str(run.path))}")


def restore(
    image: Path,
    /,
    *,
    progress: Show = "bars",
    options: Annotated[RestoreConfig | None, Parameter(name="*")] = None,
) -> None:
    """Restore a picture: remove noise, undo a blur, or fill in pixels, and say what is proved about the result.

    For example:

        stablenets restore photo.jpg --denoise --noise 0.05
        stablenets restore photo.png --blur motion --length 15 --angle 30 --noise 0.01
        stablenets restore photo.png --kernel levin09.npz:k03 --noise 0.03
        stablenets restore photo.png --inpaint mask.png --noise 0.02
        stablenets restore sharp.png --blur gaussian --simulate

    Args:
        image: PNG or JPEG picture of any size, grey or colour.
        progress: How to show progress.
    """
    from ..console import say, shown
    from ..report.restore import build_restoration
    from ..tasks import restore as task

    with shown(progress) as show:
        folder = task.run(image, options or RestoreConfig(), show, build_restoration)
    if progress != "json":
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        say(result["statement"])
        for name, value in result["measures"].items():
            number = "infinite" if value is None else f"{value:.4g}"
            say(f"{name}: {number}{' dB' if name.startswith('PSNR') else ''}")
        say(f"The picture: {folder / 'restored.png'}\nBefore and after: {folder / 'report.html'}")
