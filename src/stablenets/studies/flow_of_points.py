"""Lecture "A visual understanding": points of two classes flow through a ResNet, lifted from the plane to R^3.

x' = B(t)^T tanh(A(t) x + b(t)) with weights that are piecewise constant in time, and x(0) = (p, 0): one Euler step for
each piece is a ResNet. The classes are a disc and a ring around it. No flow of the plane brings them apart by a line,
for it would have to tear the ring; a flow of R^3 can. The same network without the lift is trained beside it: where it
succeeds, its Euler steps approximate no flow, since they fold the plane. A determinant of their Jacobians is negative.

Euler steps move points on straight lines, so the animation is what the network does.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.properties import jacobian
from ..fields import PiecewiseConstant, TwoLayerField
from ..integrators import Euler
from ..layers import Affine, Chain, Flow, Lift, load, save
from ..linear import Dense
from ..report.animation import moving_points
from ..report.panels import Decision, Dots, Panel, draw_panels
from ..tasks.progress import Progress, silent
from ..train import minimise
from ._folder import once, open_folder, seeded, told, write_table

PIECES, INTERVAL = 12, 0.5
DIMENSIONS, SEEDS = (3, 2), range(3)
STEPS, QUICK_STEPS, POINTS, DRAWN = 600, 20, 400, 160
VIEW = np.array([[0.80, 0.60, 0.0], [-0.36, 0.48, 0.80]])  # from R^3 to the paper: orthonormal rows


def points(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A disc of radius 1 (class 0) and the ring between the radii 1.4 and 2.2 (class 1), in turns."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    angle, at = 2 * math.pi * torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    radius = torch.where(label == 0, at.sqrt(), 1.4 + 0.8 * at)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), label


def network(dimension: int) -> Chain:
    """Lift, one Euler step for each piece of the weights, and a linear classifier."""
    pieces = [TwoLayerField(Dense(dimension, dimension), Dense(dimension, dimension)) for _ in range(PIECES)]
    flow = Flow(PiecewiseConstant(*pieces, interval=INTERVAL), Euler(), time=PIECES * INTERVAL, steps=PIECES)
    return Chain(Lift(2, dimension), flow, Affine(Dense(dimension, 2)))


@torch.no_grad()
def states(net: Chain, x: Tensor) -> Tensor:
    """The points after 0, 1, ..., PIECES layers, shape (PIECES + 1, batch, dimension)."""
    lift, flow, _ = net.layers
    assert isinstance(flow, Flow)
    found = [lift(x)]
    for i in range(flow.step_count):
        found.append(flow.integrator.step(flow.field, found[-1], flow.step_size, i * flow.step_size))
    return torch.stack(found)


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    """The share of right answers."""
    return float((net(x).argmax(1) == labels).double().mean())


def least_determinant(net: Chain, x: Tensor) -> float:
    """The least determinant of the Jacobian of a layer of the flow at the points that come from `x`; flows have > 0."""
    flow = net.layers[1]
    assert isinstance(flow, Flow)
    least = math.inf
    for i, at in enumerate(states(net, x)[:-1].double()):
        step = functools.partial(flow.integrator.step, flow.double().field, h=flow.step_size, t=i * flow.step_size)
        least = min(least, float(torch.linalg.det(jacobian(step, at).detach()).min()))
    net.float()
    return least


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: networks in R^3 and in the plane, the table, a figure, an animation.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
        TrainingError: a training diverged.
    """
    steps, seeds = (QUICK_STEPS, range(1)) if quick else (STEPS, SEEDS)
    folder = open_folder("flow-of-points", data=data, out=out, quick=quick, settings={"steps": steps})
    rows = []
    for dimension in DIMENSIONS:
        for seed in seeds:
            part = folder / "parts" / f"{dimension}d-{seed}"
            row = once(part.with_suffix(".json"), lambda d=dimension, s=seed, p=part: _train(d, s, steps, p, progress))
            rows.append(row)
    columns = {
        "dimension": "d",
        "seed": "d",
        "training accuracy": ".2%",
        "test accuracy": ".2%",
        "least determinant": ".2f",
    }
    write_table(folder / "flow-of-points.md", columns, rows)
    net = load(folder / "parts" / f"3d-{seeds[0]}.safetensors")
    assert isinstance(net, Chain)
    _draw(net, folder)
    return folder


def _train(dimension: int, seed: int, steps: int, part: Path, progress: Progress) -> dict[str, Any]:
    x, labels = points(POINTS, seed)
    with seeded(seed):
        net = network(dimension)

        def loss(net: nn.Module, step: int) -> Tensor:
            return nn.functional.cross_entropy(net(x), labels)

        minimise(net, loss, steps=steps, peak=3e-2, on_step=told(progress, f"R^{dimension}, seed {seed}"))
    part.parent.mkdir(exist_ok=True)
    save(net, part.with_suffix(".safetensors"))
    test = points(2000, 1000 + seed)
    return {
        "dimension": dimension, "seed": seed, "training accuracy": accuracy(net, x, labels),
        "test accuracy": accuracy(net, *test),
        "least determinant": least_determinant(net, test[0]),
    }  # fmt: skip


def _draw(net: Chain, folder: Path) -> None:
    x, labels = points(DRAWN, 7)
    line = torch.linspace(-2.4, 2.4, 121)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), 2).view(-1, 2)
    with torch.no_grad():
        scores = net(grid)
    decision = Decision(line.numpy(), line.numpy(), (scores[:, 1] - scores[:, 0]).view(121, 121).numpy())
    ways = states(net, x).double().numpy() @ VIEW.T
    panels = [Panel("the plane, and what the network answers", [decision, *_dots(x.numpy(), labels)], equal=True)]
    for layer in (0, PIECES // 3, 2 * PIECES // 3, PIECES):
        panels.append(Panel(f"R³ after {layer} layers", _dots(ways[layer], labels), equal=True))
    draw_panels(panels, folder / "flow-of-points.svg", columns=5)
    title = "Points of two classes flow through the layers of a ResNet in three dimensions"
    moving_points(ways, labels.tolist(), folder / "flow-of-points-animated.svg", title=title)


def _dots(at: np.ndarray, labels: Tensor) -> list[Dots]:
    return [Dots(at[labels.numpy() == label], colour=label) for label in (0, 1)]
