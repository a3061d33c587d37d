"""What can be chosen when a denoiser is trained. Imports nothing heavy: `--help` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DenoiseConfig:
    """Options of `stablenets denoise train`, on the command line and in Python.

    Attributes:
        data: bsds500 (its 400 pictures for training and testing segmentation; the CBSD68 benchmark is not among them),
            or a folder of PNG or JPEG pictures.
        network: euler: the averaged denoiser. dncnn: the unconstrained baseline.
        out: Folder of the run, which must not exist yet; by default runs/denoise-NETWORK.
        colour: Colour pictures; by default grey ones.
        noise: Range of the noise levels to train for, in units of 1/255; one number for that level alone.
        levels: Noise levels, in units of 1/255, for which widths and step sizes are learned (euler). By default the
            ends of the range, and 15 and 25 if they lie within.
        depth: Euler steps (euler), or convolutions (dncnn).
        filters: Filters of each step (euler), or channels (dncnn).
        kernel_size: Blocks that a filter sees in each direction (euler).
        stride: Side of the blocks in pixels (euler).
        group_size: Filters that are cut off together by the length of their responses (euler).
        steps: Steps of Adam.
        batch_size: Crops per step.
        crop: Side of the crops in pixels.
        peak: Highest learning rate; by default 0.01 (euler) or 0.001 (dncnn).
        seed: Of the initial weights, the crops and the noise.
        threads: CPU threads.
    """

    data: str = "bsds500"
    network: Literal["euler", "dncnn"] = "euler"
    out: str | None = None
    colour: bool = False
    noise: tuple[float, ...] = (5.0, 50.0)
    levels: tuple[float, ...] | None = None
    depth: int = 6
    filters: int = 256
    kernel_size: int = 3
    stride: int = 2
    group_size: int = 4
    steps: int = 9000
    batch_size: int = 8
    crop: int = 48
    peak: float | None = None
    seed: int = 0
    threads: int = 1
