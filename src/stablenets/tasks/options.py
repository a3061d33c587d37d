"""What can be chosen when a classifier is trained, attacked and certified. Imports nothing heavy: `--help` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ClassifyConfig:
    """Options of `stablenets classify`, on the command line, in a TOML file and in Python.

    Attributes:
        data: Name of a data set (`stablenets list`), an .npz file with x_train, y_train, x_test, y_test, or a folder
            of images by class.
        network: Name of a network (`stablenets list`).
        out: Folder of the run, which must not exist yet. By default runs/DATA-NETWORK.
        epochs: Passes over the training images.
        batch_size: Images per optimiser step.
        low: Learning rate at the start and at the end of the cycle.
        peak: Highest learning rate of the cycle.
        weight_decay: Weight of half the squared l2 norm of all parameters in the loss.
        loss: Name of a loss (`stablenets list`).
        margin: Lead of the right score that the loss asks for, if it has a margin or an offset. A larger one gives
            larger certified radii and a lower clean accuracy.
        temperature: Temperature of the loss, if it has one.
        train_limit: Train on the first so many training images. By default on all.
        test_limit: Attack the first so many test images; all if there are fewer. Certificates cover all.
        seed: Of the initial weights, the order of the images and the attack.
        patch: Each stage turns patches of so many pixels squared into channels.
        channels: Width of each stage, by appending channels of zeros. By default none are appended.
        blocks: Convolutional blocks of each stage.
        hidden: Hidden channels of the convolutional blocks.
        dense_width: Hidden width of the dense blocks.
        dense_blocks: Number of dense blocks.
        time: Integration time of each block, in as many steps as its weights need. By default one step of the
            largest size that the weights allow.
        shift: Shift training images at random by up to so many pixels.
        flip: Mirror half of the training images left to right, at random.
        evaluate_every: Epochs between two measurements of the accuracy on all test images.
        attack_steps: Gradient steps of the attack at each radius.
        radii: l2 radii of the attack, in units of the pixels in [0, 1].
        precision: Arithmetic of training. auto: bfloat16 where this machine is faster with it. Evaluation and attack
            are in float32, certificates in float64.
        device: Where to train and attack, as in PyTorch: cpu, cuda, cuda:1, ... auto: cuda if there is one.
        threads: CPU threads. By default one per core.
    """

    data: str = "fashion-mnist"
    network: str = "non-expansive-net"
    out: str | None = None
    epochs: int = 30
    batch_size: int = 128
    low: float = 1e-4
    peak: float = 1e-2
    weight_decay: float = 1e-5
    loss: str = "multi-margin"
    margin: float = 0.7
    temperature: float = 0.25
    train_limit: int | None = None
    test_limit: int = 1000
    seed: int = 0
    patch: int = 4
    channels: tuple[int, ...] | None = None
    blocks: tuple[int, ...] = (4,)
    hidden: int = 64
    dense_width: int = 512
    dense_blocks: int = 3
    time: float | None = None
    shift: int = 0
    flip: bool = False
    evaluate_every: int = 1
    attack_steps: int = 100
    radii: tuple[float, ...] = (0.1, 36 / 255, 0.25, 0.35, 0.5, 0.65, 0.8, 0.95)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    threads: int | None = None
