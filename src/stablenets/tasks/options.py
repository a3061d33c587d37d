"""What can be chosen when classifiers are trained or dynamics are learned. Imports nothing heavy: `--help` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .denoise_options import DenoiseConfig
from .restore_options import RestoreConfig


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
        schedule: Course of the learning rate. one-cycle: by cosine from low up to peak, and back to low. triangular: by
            straight lines from 0 to peak, to a twentieth of it and to 0, after 40, 80 and 100 % of the steps.
        low: Learning rate at the start and at the end of one-cycle.
        peak: Highest learning rate.
        weight_decay: Weight of half the squared l2 norm of all parameters in the loss.
        loss: Name of a loss (`stablenets list`).
        margin: Lead of the right score that the loss asks for, if it has a margin or an offset. A larger one gives
            larger certified radii and a lower clean accuracy. This and the next four: by default the loss's own.
        temperature: Temperature of the loss, if it has one.
        radius: l2 radius that the loss asks for (emma).
        gamma: Worth of a unit of certified radius (certificate-regularised).
        beta: How sharply the loss lets go of large margins (logit-annealing).
        train_limit: Train on the first so many training images. By default on all.
        test_limit: Attack the first so many test images; all if there are fewer. Certificates cover all.
        seed: Of the initial weights, the order of the images and the attack.
        patch: Each stage turns patches of so many pixels squared into channels (convex-potential-net: adds them up).
            This and all sizes below: by default the network's own.
        channels: Width of each stage, by appending channels of zeros (ode-net, conv-net, contracting-net: widths of the
            strided convolutions).
        blocks: Convolutional blocks of each stage.
        hidden: Hidden channels of the convolutional blocks.
        dense_width: Hidden width of the dense blocks.
        dense_blocks: Number of dense blocks.
        time: Integration time of each block, in as many steps as its weights need. By default one step of the
            largest size that the weights allow. ode-net, contracting-net: length of the flow.
        depth: Number of 3 x 3 convolutions of conv-net.
        flow_steps: Steps of RK4 in the flow of ode-net.
        rate: At which states approach each other in the flow of contracting-net.
        mean: Subtracted from the images, a number for each channel.
        truncated_head: The first features are the scores, in place of a normalised head (convex-potential-net).
        plain: Full steps and ordinary initial weights (res-net).
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
    schedule: Literal["one-cycle", "triangular"] = "one-cycle"
    low: float = 1e-4
    peak: float = 1e-2
    weight_decay: float = 1e-5
    loss: str = "multi-margin"
    margin: float | None = None
    temperature: float | None = None
    radius: float | None = None
    gamma: float | None = None
    beta: float | None = None
    train_limit: int | None = None
    test_limit: int = 1000
    seed: int = 0
    patch: int | None = None
    channels: tuple[int, ...] | None = None
    blocks: tuple[int, ...] | None = None
    hidden: int | None = None
    dense_width: int | None = None
    dense_blocks: int | None = None
    time: float | None = None
    rate: float | None = None
    depth: int | None = None
    flow_steps: int | None = None
    mean: tuple[float, ...] | None = None
    truncated_head: bool | None = None
    plain: bool | None = None
    shift: int = 0
    flip: bool = False
    evaluate_every: int = 1
    attack_steps: int = 100
    radii: tuple[float, ...] = (0.1, 36 / 255, 0.25, 0.35, 0.5, 0.65, 0.8, 0.95)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class SimulateConfig:
    """Options of `stablenets simulate`, on the command line, in a TOML file and in Python.

    Attributes:
        data: File of trajectories, .csv or .npz (see the help of the command).
        structure: What the learned dynamics keep. free: nothing. hamiltonian, separable-hamiltonian, mechanical:
            symplectic, the entries being positions, then momenta. energy: an energy, exactly. port-hamiltonian,
            gradient: an energy never increases. mass: the sum of the entries. positive-mass: that, and their signs.
            norm. volume. stable: a Lyapunov function falls. contracting: solutions approach each other.
        out: Folder of the run, which must not exist yet; by default runs/DATA-STRUCTURE. With --model, the CSV file to
            write.
        width: Width of the networks.
        equilibrium: The state that all solutions approach (stable), a number for each entry. By default the origin.
        horizon: Intervals between observed states that are integrated at a stretch in training.
        noisy: The states are noisy: learn the states from which a stretch starts as well.
        steps: Steps of Adam.
        peak: Its highest learning rate.
        refine: Iterations of L-BFGS afterwards, at most.
        test: Share of the data to predict: of the trajectories where there are five or more, else of the time.
        step: Longest step of the integrator in predictions, in the units of the data. By default a small part of the
            time in which the states change.
        seed: Of the initial weights.
        threads: CPU threads.
    """

    data: str = ""
    structure: str = "free"
    out: str | None = None
    width: int = 32
    equilibrium: tuple[float, ...] | None = None
    horizon: int = 5
    noisy: bool = False
    steps: int = 2000
    peak: float = 1e-2
    refine: int = 200
    test: float = 0.2
    step: float | None = None
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class GenerateConfig:
    """Options of `stablenets generate`, on the command line, in a TOML file and in Python.

    Attributes:
        data: Name of a distribution on the plane (eight-gaussians, checkerboard, moons, spirals), digits, or a .csv
            file of points.
        out: Folder of the run, which must not exist yet; by default runs/DATA-flow. With --model, the CSV file to
            write.
        points: How many points of a named distribution to learn from.
        width: Width of the network.
        depth: Its hidden layers.
        steps: Steps of Adam on the flow matching loss, which solves no equation.
        likelihood: Steps of Adam on the likelihood afterwards: exact, and about a hundred times slower. With --steps 0
            the likelihood alone.
        batch_size: Points per step.
        peak: Highest learning rate of flow matching; that of the likelihood is half of it.
        solver_steps: Steps of RK4 from noise to data in learning by likelihood. Afterwards steps are adaptive.
        probes: Estimate the divergence by so many random directions (Hutchinson), in learning by likelihood. By default
            it is exact.
        test: Share of the points of a file to measure the likelihood on; named distributions draw new ones.
        samples: How many samples to draw at the end.
        seed: Of the initial weights, the batches and the samples.
        threads: CPU threads.
    """

    data: str = ""
    out: str | None = None
    points: int = 20_000
    width: int = 64
    depth: int = 3
    steps: int = 6000
    likelihood: int = 0
    batch_size: int = 512
    peak: float = 3e-3
    solver_steps: int = 10
    probes: int | None = None
    test: float = 0.2
    samples: int = 1000
    seed: int = 0
    threads: int = 1


Config = ClassifyConfig | SimulateConfig | GenerateConfig | DenoiseConfig | RestoreConfig
KINDS = {
    "classify": ClassifyConfig,
    "simulate": SimulateConfig,
    "generate": GenerateConfig,
    "denoise": DenoiseConfig,
    "restore": RestoreConfig,
}  # `kind` in TOML files
