"""Chapter Fig. 2 and 4: vanishing gradients of a deep MLP, beside a ResNet and a Hamiltonian network.

Two arms of a "Swiss roll" in the plane, put into R^4 by (a, b) -> (a, 0, b, 0), are to be told apart. All layers keep
R^4 and have 36 parameters; a linear map into R^2 ends each network. A layer is

- MLP: B^T tanh(A x + b);
- ResNet: an Euler step x + h B^T tanh(A x + b);
- HamiltonianNet: a step of symplectic Euler along a separable Hamiltonian field (28) (the library moves p first, the
  chapter q: the names are exchanged).

All start from PyTorch's usual weights and train in the same way. Watched are the norms of the Jacobians from layer j to
layer i, j < i, at fixed test points. A symplectic matrix has with each singular value s also 1 / s, so for the
Hamiltonian network each of these norms is at least 1: a theorem, whatever the weights. For the other two it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ..core.properties import Symplectic, jacobian
from ..fields import ConvexGradient, SeparableHamiltonian, Tanh, TwoLayerField
from ..integrators import Euler, SymplecticEuler
from ..layers import Affine, Chain, Flow, claims
from ..linear import Dense
from ..report.panels import Curve, Decision, Dots, Panel, draw_panels
from ..tasks.progress import Progress, silent
from ..train import minimise
from ._folder import once, open_folder, seeded, told, write_table
from ._held_out import spread

TURNS, SIZE = 3.0, 4.0  # of the spirals; SIZE is their outer radius
H, WIDTH, SPLIT_WIDTH = 0.5, 4, 6  # units of A, and of each of the two matrices of a Hamiltonian layer
POINTS, TEST_POINTS, BATCH = 8000, 4000, 1000
STEPS, QUICK_STEPS, PEAK, SEEDS = 5000, 20, 1.5e-2, range(5)
WATCHED = 8  # test points at which Jacobians are taken
SNAPSHOTS = 16  # times at which they are, with the first and the last


class Plain(nn.Module):
    """x -> f(x), a layer without a skip connection."""

    def __init__(self, field: TwoLayerField) -> None:
        super().__init__()
        self.field = field

    def forward(self, x: Tensor) -> Tensor:
        return self.field(x)


def mlp() -> nn.Module:
    """A layer of the MLP."""
    return Plain(TwoLayerField(Dense(4, WIDTH), Dense(4, WIDTH)))


def residual() -> nn.Module:
    """A layer of the ResNet."""
    return Flow(TwoLayerField(Dense(4, WIDTH), Dense(4, WIDTH)), Euler(), h=H)


def hamiltonian() -> nn.Module:
    """A layer of the Hamiltonian network, with as many parameters as the others."""
    kinetic, potential = (ConvexGradient(Dense(2, SPLIT_WIDTH), Tanh()) for _ in range(2))
    return Flow(SeparableHamiltonian(kinetic, potential), SymplecticEuler(), h=H)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "MLP-12": (mlp, 12),
    "MLP-2": (mlp, 2),
    "ResNet-12": (residual, 12),
    "HamiltonianNet-12": (hamiltonian, 12),
}


def network(name: str) -> Chain:
    """That network, with the initial weights and biases of `torch.nn.Linear`.

    Without biases each network is odd, as is the task, and MLP-2 often stays where it began.
    """
    layer, depth = NETWORKS[name]
    net = Chain(*(layer() for _ in range(depth)), Affine(Dense(4, 2)))
    for part in net.modules():
        if isinstance(part, Dense):
            nn.init.kaiming_uniform_(part.weight, a=math.sqrt(5))
        elif isinstance(part, TwoLayerField | ConvexGradient | Affine):
            linear = part.inner if isinstance(part, TwoLayerField) else part.linear
            bound = 1 / math.sqrt(linear.input_shape[0])
            nn.init.uniform_(part.bias, -bound, bound)
    return net


def swiss_roll(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points in R^4 of two spiral arms, half a turn apart, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    radius = (0.04 + 0.96 * torch.rand(count, generator=generator)).sqrt()
    angle = 2 * math.pi * TURNS * radius + math.pi * label
    plane = SIZE * torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return embedded(plane + 0.01 * SIZE * torch.randn(count, 2, generator=generator)), label


def embedded(plane: Tensor) -> Tensor:
    """(a, b) -> (a, 0, b, 0)."""
    return torch.stack([plane[:, 0], torch.zeros(len(plane)), plane[:, 1], torch.zeros(len(plane))], 1)


def jacobian_norms(net: Chain, x: Tensor) -> Tensor:
    """Norms of the Jacobians from layer j to layer i, (depth + 1, depth + 1, batch), float64; NaN unless j < i."""
    x = x.double()
    ones = []
    with torch.no_grad():
        for layer in net.double().layers[:-1]:
            ones.append(jacobian(layer, x))
            x = layer(x)
    net.float()
    depth = len(ones)
    norms = torch.full((depth + 1, depth + 1, len(x)), math.nan, dtype=torch.float64)
    for j in range(depth):
        product = torch.eye(4, dtype=torch.float64)
        for i in range(j, depth):
            product = ones[i] @ product
            norms[i + 1, j] = torch.linalg.matrix_norm(product, 2)
    return norms


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: four networks for each seed, the table and the figure.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
        TrainingError: a training diverged.
    """
    steps, seeds = (QUICK_STEPS, range(1)) if quick else (STEPS, SEEDS)
    settings = {"steps": steps, "seeds": len(seeds)}
    folder = open_folder("vanishing-gradients", data=data, out=out, quick=quick, settings=settings)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in NETWORKS}
    for seed in seeds:
        for name in NETWORKS:
            part = folder / "parts" / f"{name}-{seed}"
            found[name].append(
                once(part.with_suffix(".json"), lambda n=name, s=seed, p=part: _train(n, s, steps, p, progress))
            )
    rows = []
    for name, results in found.items():
        cells = {"test accuracy": spread([100 * r["accuracy"] for r in results], ".1f") + " %"}
        cells["Jacobian, first to last layer, after training"] = spread([r["through"][-1] for r in results], ".1e")
        cells["least Jacobian norm ever, of any product"] = f"{min(r['least'] for r in results):.3g}"
        cells["proved"] = "at least 1" if results[0]["symplectic"] else ""
        rows.append({"network": name, **cells, "seeds": results})
    write_table(folder / "vanishing-gradients.md", dict.fromkeys(("network", *cells), ""), rows)
    _draw(folder, found)
    return folder


def _train(name: str, seed: int, steps: int, part: Path, progress: Progress) -> dict[str, Any]:
    x, labels = swiss_roll(POINTS, seed)
    test, answers = swiss_roll(TEST_POINTS, 1000 + seed)
    times = sorted({round(steps * i / (SNAPSHOTS - 1)) for i in range(SNAPSHOTS)})
    norms: list[Tensor] = []
    with seeded(seed):
        net = network(name)

        def loss(net: nn.Module, step: int) -> Tensor:
            if step in times and len(norms) < len(times) and isinstance(net, Chain):
                norms.append(jacobian_norms(net, test[:WATCHED]))
            batch = torch.randint(POINTS, (BATCH,), generator=torch.Generator().manual_seed(step))
            return nn.functional.cross_entropy(net(x[batch]), labels[batch])

        minimise(net, loss, steps=steps, peak=PEAK, on_step=told(progress, f"{name}, seed {seed}"))
    part.parent.mkdir(exist_ok=True)
    save_file({"weights": parameters_to_vector(net.parameters()).detach()}, part.with_suffix(".safetensors"))
    with torch.no_grad():
        accuracy = float((net(test).argmax(1) == answers).double().mean())
    every = torch.stack(norms)  # (times, to, from, points)
    symplectic = name.startswith("Hamiltonian") and Symplectic() in claims(Chain(*net.layers[:-1]))
    return {
        "accuracy": accuracy, "times": times, "symplectic": symplectic,
        "through": every[:, -1, 0].median(1).values.tolist(), "least": float(every.nan_to_num(math.inf).min()),
        "to the last layer": every[:, -1, :-1, 0].tolist(),
    }  # fmt: skip


def _draw(folder: Path, found: dict[str, list[dict[str, Any]]]) -> None:
    test, labels = swiss_roll(400, 1000)
    line = 1.1 * SIZE * torch.linspace(-1, 1, 121)
    grid = embedded(torch.stack(torch.meshgrid(line, line, indexing="xy"), 2).view(-1, 2))
    above, below = [], []
    for name, results in found.items():
        net = network(name)
        vector_to_parameters(load_file(folder / "parts" / f"{name}-0.safetensors")["weights"], net.parameters())
        with torch.no_grad():
            scores = net(grid)
        values = (scores[:, 1] - scores[:, 0]).view(len(line), len(line)).numpy()
        dots = [Dots(test[labels == c][:, [0, 2]].numpy(), colour=c, size=2) for c in (0, 1)]
        title = f"{name}: {100 * results[0]['accuracy']:.1f} %"
        above.append(Panel(title, [Decision(line.numpy(), line.numpy(), values), *dots], equal=True))
        norms, times = np.array(results[0]["to the last layer"]), np.array(results[0]["times"])
        curves = [
            Curve(times, norms[:, j], f"from layer {j}" if j in (0, norms.shape[1] - 1) else "", j % 6, width=0.9)
            for j in range(norms.shape[1])
        ]
        curves.append(Curve(times, np.ones(len(times)), "1", -1, dashed=True, width=0.8))
        below.append(Panel("Jacobian to the last layer", curves, "training step", log_y=True))
    draw_panels([*above, *below], folder / "figures-2-4-vanishing-gradients.svg", columns=4)
