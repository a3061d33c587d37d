"""What can be chosen when a picture is restored. Imports nothing heavy: `--help` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RestoreConfig:
    """Options of `stablenets restore`, on the command line and in Python.

    Attributes:
        blur: Undo this blur. motion: a straight one, of --length and --angle. gaussian: of --spread.
        kernel: Undo the blur with this kernel: an .npy file, an .npz file (FILE:NAME, if it holds several arrays), or a
            picture of the kernel.
        denoise: Only remove noise.
        inpaint: Fill in the black pixels of this picture of a mask, which has the size of the image.
        noise: Standard deviation of the noise in the image, in units of its range: 0.03 is 7.65 of 255.
        length: Of the motion, in pixels.
        angle: Of the motion, in degrees, anticlockwise from the right.
        spread: Standard deviation of the Gaussian blur, in pixels.
        padding: What the blur saw beyond the border. reflect: the image mirrored, for photographs. circular: the image
            repeated. zero: black.
        simulate: The image is a sharp one: blur it or mask it, and add the noise, before it is restored.
        truth: The true picture, to compare with.
        model: A denoiser: grey, grey-15, colour, a model file or a run folder. By default grey or colour, as the
            image is.
        strength: Noise level of the denoiser, as a multiple of --noise, when it is applied in each iteration. By
            default 0.3 for blurs and 1 for masks, what is best on training pictures.
        out: New folder for the results; by default runs/IMAGE-restored.
        iterations: Most iterations.
        tolerance: Stop when an iteration changes the picture by less than this, relative to its size.
        seed: Of the simulated noise.
        threads: CPU threads.
    """

    blur: Literal["none", "motion", "gaussian"] = "none"
    kernel: str | None = None
    denoise: bool = False
    inpaint: str | None = None
    noise: float = 0.03
    length: float = 15.0
    angle: float = 30.0
    spread: float = 1.6
    padding: Literal["reflect", "circular", "zero"] = "reflect"
    simulate: bool = False
    truth: str | None = None
    model: str | None = None
    strength: float | None = None
    out: str | None = None
    iterations: int = 300
    tolerance: float = 1e-5
    seed: int = 0
    threads: int = 1
