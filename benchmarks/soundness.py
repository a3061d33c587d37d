"""Does anything that is proved turn out to be wrong? Four attacks in one table.

    pip install 'stablenets[bench]'                       # the peers' layers; without them their rows are left out
    python benchmarks/soundness.py --runs runs/A runs/B [--attempts 100000]

1. Layers: each is trained for 300 steps of Adam (learning rate 1e-2) to expand as much as it can; every ten steps the
   explicit norm of its Jacobian is taken (float64, SVD). Ours, and layers that other packages ship as 1-Lipschitz.
2. Certificates: gradient ascent with restarts inside the certified balls of test images of trained networks, and points
   at the very edge moved by single roundings. Beside the runs a linear classifier, whose certified radii are the true
   ones, so that attacks come as near the boundary as numbers allow.
3. The same with float32 evaluation, of points certified for float32.
4. The published way: the step 2 / s^2 with s from power iterations in place of a bound. The explicit norm of the worst
   gradient step of each run.

Each point that is evaluated inside a certified ball counts as an attempt. Exit code 1 if anything of ours is refuted.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import stablenets as sn
from stablenets.certify import certify
from stablenets.core.properties import Lipschitz
from stablenets.data import load_data
from stablenets.fields import ConvexGradient, SkewLinear
from stablenets.integrators import Cayley, Euler, Exponential
from stablenets.layers import Affine, Flow, GroupSort, Householder, Hybrid, Layer, NormalisedHead
from stablenets.linear import AlmostOrthogonal, Conv2d, Dense, LinearMap, SkewConv2d, SkewDense
from stablenets.tasks.build import read_data
from stablenets.tasks.run_folder import Run
from stablenets.testing.boundary import NONE, Attempts, attack_certified, search_rounding
from stablenets.testing.expansion import expand, expansion

IMAGE = (8, 8, 8)
TOLERANCE = 1e-12
EVERY = 10

# --- 1. layers ----------------------------------------------------------------------------------------------------


def gradient(linear: LinearMap, **step: Any) -> Flow:
    return Flow(ConvexGradient(linear), Euler(), **(step or {"steps": 1}))


def our_layers() -> Iterator[tuple[str, Layer, tuple[int, ...]]]:
    """Layers large enough for a norm to hide in."""
    yield "gradient step, dense", gradient(Dense(32, 64)), (32,)
    yield "gradient step, zero padding", gradient(Conv2d(8, 16, 3, 8)), IMAGE
    yield "gradient step, circular", gradient(Conv2d(8, 16, 3, 8, "circular")), IMAGE
    yield "gradient step, reflected", gradient(Conv2d(8, 8, 3, 8, "reflect")), IMAGE
    yield "gradient steps of time 1", gradient(Dense(32, 64), time=1.0), (32,)
    yield "SLL step, dense", gradient(AlmostOrthogonal(Dense(32, 64))), (32,)
    yield "SLL step, zero padding", gradient(AlmostOrthogonal(Conv2d(8, 16, 3, 8))), IMAGE
    yield "almost orthogonal, dense", Affine(AlmostOrthogonal(Dense(32, 32))), (32,)
    yield "almost orthogonal, zero padding", Affine(AlmostOrthogonal(Conv2d(8, 8, 3, 8))), IMAGE
    yield "skew step, Cayley", Flow(SkewLinear(SkewDense(32)), Cayley(), h=1.0), (32,)
    yield "skew step, Cayley, circular", Flow(SkewLinear(SkewConv2d(8, 3, 8, "circular")), Cayley(), h=1.0), IMAGE
    yield "skew step, exponential, dense", Flow(SkewLinear(SkewDense(32)), Exponential(), time=1.0), (32,)
    yield "skew step, exponential, zero padding", Flow(SkewLinear(SkewConv2d(8, 3, 8)), Exponential(), time=1.0), IMAGE
    yield "hybrid", Hybrid(ConvexGradient(Dense(32, 64)), SkewLinear(SkewDense(32)), Cayley()), (32,)
    yield "Householder activation", Householder(32), (32,)
    yield "GroupSort", GroupSort(4), (32,)
    yield "normalised head", NormalisedHead(32, 10), (32,)


def peers() -> Iterator[tuple[str, nn.Module, tuple[int, ...]]]:
    """Layers that other packages ship as 1-Lipschitz, if they are installed. All are affine."""
    try:
        from deel.torchlip import SpectralConv2d, SpectralLinear
        from orthogonium.layers import AdaptiveOrthoConv2d
        from orthogonium.layers.conv.adaptiveSOC import AdaptiveSOCConv2d
    except ImportError:
        return
    yield "torchlip SpectralLinear, no Bjorck", SpectralLinear(64, 64, eps_bjorck=None), (64,)  # type: ignore[arg-type]
    yield "torchlip SpectralConv2d, no Bjorck", SpectralConv2d(8, 8, 3, padding=1, eps_bjorck=None), IMAGE  # type: ignore[arg-type]
    yield "torchlip SpectralConv2d", SpectralConv2d(8, 8, 3, padding=1), IMAGE
    yield "orthogonium Adaptive-SOC", AdaptiveSOCConv2d(8, 8, 3, padding=3, padding_mode="zeros"), IMAGE
    yield "orthogonium AOC", AdaptiveOrthoConv2d(8, 8, 3, padding=1, padding_mode="zeros"), IMAGE


@torch.no_grad()
def affine_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """The norm of an affine layer in evaluation mode; some of the peers' cannot be converted to float64."""
    frozen = copy.deepcopy(layer).eval()
    eye = torch.eye(math.prod(shape)).view(-1, *shape)
    return float(torch.linalg.matrix_norm((frozen(eye) - frozen(torch.zeros(1, *shape))).flatten(1).double(), 2))


def layers(steps: int) -> Iterator[dict[str, Any]]:
    for name, layer, shape in our_layers():
        worst, claimed = 0.0, 1.0
        for step in expand(layer, shape, steps=steps):
            if step % EVERY == EVERY - 1:
                found, claim = expansion(layer, shape), copy.deepcopy(layer).eval().claims().get(Lipschitz)
                assert claim is not None
                if found / claim.bound > worst / claimed:
                    worst, claimed = found, claim.bound
        yield {"what": name, "ours": True, "norm": worst, "claimed": claimed, "ok": worst <= claimed * (1 + TOLERANCE)}
    for name, layer, shape in peers():
        worst = max(affine_norm(layer, shape) for _ in expand(layer, shape, steps=steps))
        yield {"what": name, "ours": False, "norm": worst, "claimed": 1.0, "ok": worst <= 1 + 1e-5}  # float32


# --- 2. and 3. certificates ---------------------------------------------------------------------------------------


def linear_classifier() -> tuple[nn.Module, Tensor]:
    """A head alone, trained on the digits: its certified radii are the distances to the boundary."""
    data, net = load_data("digits"), nn.Sequential(nn.Flatten(), NormalisedHead(64, 10))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.multi_margin_loss(4 * net(data.x_train), data.y_train).backward()
        optimiser.step()
    return net.eval(), data.x_test


def certificates(runs: list[Path], attempts: int) -> Iterator[dict[str, Any]]:
    """About `attempts` attempts, divided evenly over networks and the two dtypes."""
    found = [("linear classifier, digits", *linear_classifier())]
    for path in runs:
        run = Run.open(path)
        found.append((path.name, sn.load(run.file("model.safetensors")), read_data(run.config).x_test))
    share = math.ceil(attempts / (2 * len(found)))
    for dtype in ("float64", "float32"):
        for name, net, x in found:
            proof = certify(net, dtype=dtype, input_shape=tuple(x.shape[1:]))
            tried, seed = NONE, 0
            while tried.tried < share:
                part = x[(100 * seed) % len(x) :][:100]
                tried += attack_certified(net, proof, part, steps=20, restarts=2, seed=seed)
                tried += search_rounding(net, proof, part, tries=10, seed=seed)
                seed += 1
            yield {"what": f"{name}, certified for {dtype}", "ours": True, **asdict(tried), "ok": tried.broken == 0}


# --- 4. the published way -----------------------------------------------------------------------------------------


@torch.no_grad()
def power_iterations(runs: list[Path]) -> Iterator[dict[str, Any]]:
    """For 1 warm and 100 cold iterations: the gradient step of the largest explicit norm, every unit active."""
    for path in runs:
        flows = [m for m in sn.load(path / "model.safetensors").modules() if isinstance(m, Flow)]
        linears = [f.field.linear.double() for f in flows if isinstance(f.field, ConvexGradient)]
        true = [float(torch.linalg.matrix_norm(a.matrix(), 2)) for a in linears]
        for count, warm in ((1, True), (100, False)):
            norms = []
            for i, (a, size) in enumerate(zip(linears, true, strict=True)):
                if not warm:
                    generator = torch.Generator().manual_seed(i)
                    a.singular_vector.copy_(torch.randn(a.singular_vector.shape, generator=generator))
                norms.append(max(2 * (size / a.norm_estimate(count)) ** 2 - 1, 1.0))  # of I - 2 A^T A / s^2
            what = f"{path.name}, step from {count} {'warm' if warm else 'cold'} power iteration{'s' * (count > 1)}"
            yield {
                "what": what, "ours": False, "norm": max(norms), "claimed": 1.0,
                "ok": max(norms) <= 1 + TOLERANCE, "product": math.prod(norms), "layers": len(norms),
            }  # fmt: skip


# --- the table ----------------------------------------------------------------------------------------------------


def line(row: dict[str, Any]) -> str:
    verdict = "holds" if row["ok"] else "REFUTED" if row["ours"] else "does not hold"
    if "tried" in row:
        found = f"{row['tried']:10,} tried{row['broken']:6} broken, lead left {row['nearest']:8.1e}"
        return f"{row['what']:58}{found}  {verdict}"
    end = f", product of {row['layers']} layers {row['product']:.4f}" if "product" in row else ""
    over = f"{row['norm'] / row['claimed'] - 1:+.1e}"
    return f"{row['what']:58}norm {row['norm']:.6f}, claimed {row['claimed']:.6f} ({over})  {verdict}{end}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run folders of certified networks")
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=300, help="Adam steps against each layer")
    parser.add_argument("--json", type=Path, help="write the numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    parts = {
        "layers trained to expand": layers(arguments.steps),
        "certified points": certificates(arguments.runs, arguments.attempts),
        "steps from power iterations": power_iterations(arguments.runs),
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    for title, part in parts.items():
        print(f"\n{title}", flush=True)
        rows[title] = []
        for row in part:
            rows[title].append(row)
            print("  " + line(row), flush=True)
    total = sum((Attempts(r["tried"], r["broken"], 1.0) for r in rows["certified points"]), NONE)
    ours = [row for part in rows.values() for row in part if row["ours"]]
    print(f"\n{total.tried:,} attempts on certified points, {total.broken} broken")
    print(f"{sum(not r['ok'] for r in ours)} of {len(ours)} claims of ours refuted")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(row["ok"] for row in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
