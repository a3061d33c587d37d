"""The Wasserstein-1 distance of point clouds, bounded from below by a 1-Lipschitz critic, beside the exact one.

Kantorovich and Rubinstein: W1 is the largest mean f(x) - mean f(y) over all 1-Lipschitz f. A network that is
L-Lipschitz by construction is trained to make that difference large; divided by the L of its certificate, with the
rounding errors taken off, it is a *certified lower bound* of W1. The exact value, for clouds of equal size, is a
linear assignment.

The critic is a chain of rotations (Cayley steps along skew-symmetric matrices) and absolute values, all of which keep
the norm of gradients, after a lift into more dimensions, one of them constant.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..certify import Certificate, certify
from ..certify.verify import verify
from ..core.errors import ClaimError, InputError, message
from ..fields import SkewLinear
from ..integrators import Cayley
from ..layers import Abs, Chain, Flow, Lift, Normalise, NormalisedHead, save
from ..linear import SkewDense
from ..report.level_sets import level_sets
from ..tasks.progress import Progress, silent

Clouds = tuple[Tensor, Tensor]
CONSTANT = 2.0  # value of the constant dimension: it turns rotations into changes of the origin as well
PEAK = 1e-2  # highest learning rate


@dataclass(frozen=True)
class Case:
    """Two point clouds (n, dimension) in float64, and the critic that they get."""

    clouds: Callable[[], Clouds]
    width: int
    depth: int
    iterations: int


# --- clouds -------------------------------------------------------------------------------------------------------


def clusters() -> Clouds:
    """In the plane, 300 points each: three clusters and three, in turn around a hexagon."""
    random = np.random.default_rng(0)
    angles = np.pi / 3 * (2 * random.integers(3, size=(2, 300)) + np.array([[0], [1]]))
    clouds = (np.stack([np.cos(a), np.sin(a)], 1) + 0.15 * random.standard_normal((300, 2)) for a in angles)
    return _centred(*clouds)


def rings() -> Clouds:
    """Two linked circles in three of ten dimensions, randomly rotated, 300 points each, with noise in all ten."""
    random = np.random.default_rng(0)
    t, zeros = 2 * np.pi * random.random((2, 300)), np.zeros(300)
    x = np.stack([np.cos(t[0]), np.sin(t[0]), zeros], 1)
    y = np.stack([1 + np.cos(t[1]), zeros, np.sin(t[1])], 1)
    rotation, _ = np.linalg.qr(random.standard_normal((10, 10)))
    clouds = (np.pad(c, ((0, 0), (0, 7))) + 0.05 * random.standard_normal((300, 10)) for c in (x, y))
    return _centred(*(c @ rotation for c in clouds))


def digits() -> Clouds:
    """The first 100 threes and the first 100 eights of scikit-learn's digits: 8 x 8 pixels in [0, 1]."""
    images, labels = _import("sklearn.datasets").load_digits(return_X_y=True)
    return _centred(*(images[labels == label][:100] / 16 for label in (3, 8)))


CASES = {
    "clusters-2d": Case(clusters, 32, 4, 1500),
    "rings-10d": Case(rings, 64, 4, 2500),
    "digits-64d": Case(digits, 128, 4, 5000),
}


def _centred(x: np.ndarray, y: np.ndarray) -> Clouds:
    """Both, moved together so that their common mean is about 0: W1 stays."""
    middle = np.concatenate([x, y]).mean(0)
    return torch.from_numpy(x - middle), torch.from_numpy(y - middle)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        todo = "Install it: pip install 'stablenets[demo]'"
        raise InputError(message(f"{name.split('.')[0]} is not installed", "scikit-learn and scipy", todo)) from None


# --- the two numbers ----------------------------------------------------------------------------------------------


def assignment(x: Tensor, y: Tensor) -> tuple[float, np.ndarray]:
    """W1 of two clouds of equal size, up to rounding: the linear program has an assignment as its solution.

    Returns:
        W1, and for each point of `x` the index of the point of `y` that it is moved to.
    """
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    rows, columns = _import("scipy.optimize").linear_sum_assignment(cost)
    return math.fsum(cost[rows, columns]) / len(cost), columns


def critic(dimension: int, width: int, depth: int) -> Chain:
    """A 1-Lipschitz function (batch, dimension) -> (batch, 1)."""
    shift = Normalise((0.0,) * (width - 1) + (-CONSTANT,), (1.0,) * width)  # the last dimension becomes CONSTANT
    layers: list[nn.Module] = [Lift(dimension, width), shift]
    for _ in range(depth):
        layers += [Flow(SkewLinear(SkewDense(width)), Cayley(), h=1.0), Abs()]
    return Chain(*layers, NormalisedHead(width, 1))


def train(net: nn.Module, x: Tensor, y: Tensor, iterations: int, told: Callable[[int, float], None]) -> None:
    """Maximise mean f(x) - mean f(y) by Adam on all points; `told` hears iteration and value. Ends in eval mode."""
    points = torch.cat([x, y]).float()
    optimiser = torch.optim.Adam(net.parameters())
    net.train()
    for i in range(iterations):
        for group in optimiser.param_groups:
            group["lr"] = PEAK * min(1.0, (i + 1) / 50) * (1 - i / iterations)
        values = net(points)[:, 0]
        gain = values[: len(x)].mean() - values[len(x) :].mean()
        optimiser.zero_grad()
        (-gain).backward()
        optimiser.step()
        told(i + 1, float(gain.detach()))
    net.eval()


def lower_bound(proof: Certificate, x: Tensor, y: Tensor) -> float:
    """A proved lower bound of W1: the critic's difference in float64, less its rounding, over its Lipschitz constant.

    Raises:
        ClaimError: a point lies outside of the ball for which rounding errors are bounded.
    """
    farthest = float(torch.cat([x, y]).norm(dim=1).max())
    if not farthest < proof.norm_limit:
        raise ClaimError(message(f"a point of norm {farthest:.3g}", f"norms below {proof.norm_limit:.3g}"))
    means = [math.fsum(proof.logits(cloud)[:, 0].tolist()) / len(cloud) for cloud in (x, y)]
    constant = proof.lipschitz * proof.layers[-1].lipschitz
    return (means[0] - means[1] - 2 * proof.rounding) / constant - 1e-12  # which covers the roundings of this line


# --- the study ----------------------------------------------------------------------------------------------------

HEAD = (
    "| clouds | points | dimension | W1, exact | proved: W1 >= | of the exact value | by means alone | CPU seconds |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: a critic for each pair of clouds, the table, the figure in the plane.

    Raises:
        InputError: `data` is given: the study has clouds of its own; or scikit-learn is not installed.
        ClaimError: a bound is larger than the exact distance.
    """
    if data is not None:
        raise InputError(message(f"--data {data}", "no data set", "This study has point clouds of its own."))
    folder = out or Path(f"runs/wasserstein{'-quick' if quick else ''}")
    rows = []
    for name, case in CASES.items():
        rows.append(_row(name, _case(folder / name, case, case.iterations // (20 if quick else 1), name, progress)))
    (folder / "wasserstein.md").write_text("\n".join([*HEAD, *rows]) + "\n", encoding="utf-8")
    return folder


def _case(folder: Path, case: Case, iterations: int, name: str, progress: Progress) -> dict[str, Any]:
    """What result.json says; trained, certified, verified and drawn if it is not there."""
    result = folder / "result.json"
    if result.is_file():
        return json.loads(result.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    x, y = case.clouds()
    exact, pairs = assignment(x, y)
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, began = critic(x.shape[1], case.width, case.depth), time.process_time()
        train(net, x, y, iterations, lambda i, gain: progress(name, i, iterations, f"{gain / exact:.1%} of W1"))
        seconds = time.process_time() - began
    proof = certify(net, input_shape=tuple(x.shape[1:]))
    bound = lower_bound(proof, x, y)
    if not bound <= exact * (1 + 1e-9):
        given = f"the bound {bound!r} of W1 is above its value {exact!r}"
        raise ClaimError(message(given, "a true proof", "Please report this bug."))
    save(net, folder / "model.safetensors")
    proof.save(folder / "certificate.json")
    verdict = verify(folder / "model.safetensors", folder / "certificate.json")
    if not verdict.ok:
        given = f"the certificate of the critic is not confirmed ({verdict.reason})"
        raise ClaimError(message(given, "a true proof", "Please report this bug."))
    if x.shape[1] == 2:
        _draw(proof, x, y[pairs], folder.parent / "critic-2d.svg")
    found = {
        "points": len(x), "dimension": x.shape[1], "exact": exact, "proved": bound,
        "means": float((x.mean(0) - y.mean(0)).norm()), "iterations": iterations, "seconds": round(seconds, 1),
    }  # fmt: skip
    result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _row(name: str, found: dict[str, Any]) -> str:
    share, means = found["proved"] / found["exact"], found["means"] / found["exact"]
    cells = [name, f"2 x {found['points']}", str(found["dimension"]), f"{found['exact']:.4f}", f"{found['proved']:.4f}"]
    cells += [f"{100 * share:.1f} %", f"{100 * means:.1f} %", f"{found['seconds']:.0f}"]
    return f"| {' | '.join(cells)} |"


def _draw(proof: Certificate, x: Tensor, y: Tensor, path: Path) -> None:
    reach = torch.cat([x, y]).abs().amax(0) * 1.08
    across, up = (torch.linspace(-float(r), float(r), 100, dtype=torch.float64) for r in reach)
    grid = torch.stack(torch.meshgrid(across, up, indexing="xy"), 2)
    values = proof.logits(grid.view(-1, 2)).view(grid.shape[:2])
    level_sets(x.numpy(), y.numpy(), values.numpy(), across.numpy(), up.numpy(), path)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """More are slower for matrices as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
