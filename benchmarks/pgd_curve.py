"""The robustness curve against plain PGD runs, side by side: speed (ratios of CPU time) and accuracies.

    python benchmarks/pgd_curve.py --run runs/NAME     # a trained network and its attacked samples
    python benchmarks/pgd_curve.py                     # a small CNN trained on the digits in a few seconds

Plain is chapter 6.2's procedure as its notebook would write it: for every radius, all samples, all steps, NCHW fp32,
`loss.backward()`, a constant step. The images are divided over the rounds; in each round both sides attack the same
images, taking turns to go first. Ratios are per round (plain / ours), so their spread is that of the machine and of
the images; accuracies are over all images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import stablenets
import stablenets.networks
from stablenets.attack import robust_curve

RADII = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
TARGET, POINTS = 3.5, 0.3


def plain_pgd(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, step: float) -> Tensor:
    """Whether each sample is still classified correctly after `steps` steps of length `step` in the eps-ball."""
    delta = torch.zeros_like(x, requires_grad=True)
    for _ in range(steps):
        scores = net(x + delta)
        others = scores.scatter(1, y[:, None], -float("inf")).max(1).values
        loss = (others - scores.gather(1, y[:, None])[:, 0]).sum()
        loss.backward()
        with torch.no_grad():
            gradient = delta.grad
            assert gradient is not None
            delta += step * gradient / (gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-12)
            delta *= (eps / (delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-12)).clamp(max=1)
            delta.copy_((x + delta).clamp(0, 1) - x)
            gradient.zero_()
    with torch.no_grad():
        return net(x + delta).argmax(1) == y


def plain_curve(net: nn.Module, x: Tensor, y: Tensor, steps: int, step: float) -> Tensor:
    """Correctness (radii, n) by one plain run per radius; `step` is relative to the radius."""
    return torch.stack([plain_pgd(net, x, y, eps, steps, step * eps) for eps in RADII])


def timed(task: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    return task(), time.process_time() - cpu, time.perf_counter() - wall


def digits() -> tuple[nn.Module, Tensor, Tensor, None]:
    """A CNN trained on scikit-learn's digits for a few seconds, with the test images."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 64, 10),
    )  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(4):
        for part in torch.randperm(797).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimiser.step()
    return net.eval(), x[797:], y[797:], None


def run_folder(path: Path, use_certificate: bool) -> tuple[nn.Module, Tensor, Tensor, Tensor | None]:
    """The network of a run folder and the samples it was attacked on, with their certified radii if wanted."""
    samples = np.load(path / "samples.npz")
    certified = torch.from_numpy(samples["certified_radius"]) if use_certificate else None
    return (
        stablenets.load(path / "model.safetensors"),
        torch.from_numpy(samples["x"]),
        torch.from_numpy(samples["y"]),
        None if certified is None or bool(certified.isnan().any()) else certified,
    )


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="run folder: model.safetensors and samples.npz")
    parser.add_argument("--no-certificate", action="store_true", help="attack certified samples, too")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--plain-step", type=float, help="plain's step relative to the radius (default 2.5 / steps)")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)  # two OpenMP threads beside another busy process spin
    net, x, y, certified = run_folder(args.run, not args.no_certificate) if args.run else digits()
    x, y = x[: args.images], y[: args.images]
    step = 2.5 / args.steps if args.plain_step is None else args.plain_step
    ours, plain = torch.ones(len(RADII), len(x), dtype=torch.bool), torch.ones(len(RADII), len(x), dtype=torch.bool)
    cpu: list[float] = []
    wall: list[float] = []
    for number, part in enumerate(torch.arange(len(x)).chunk(args.rounds)):
        proved = None if certified is None else certified[part]

        def curve(part: Tensor = part, proved: Tensor | None = proved) -> Tensor:
            smallest = robust_curve(net, x[part], y[part], RADII, steps=args.steps, certified=proved).smallest
            return torch.stack([smallest > r for r in RADII])

        def baseline(part: Tensor = part) -> Tensor:
            return plain_curve(net, x[part], y[part], args.steps, step)

        order = [curve, baseline] if number % 2 == 0 else [baseline, curve]
        results = {task: timed(task) for task in order}
        ours[:, part], plain[:, part] = results[curve][0], results[baseline][0]
        cpu.append(results[baseline][1] / results[curve][1])
        wall.append(results[baseline][2] / results[curve][2])
        print(f"round {number + 1}: plain {results[baseline][1]:.1f} s CPU, ours {results[curve][1]:.1f} s", flush=True)

    print(f"\n{len(x)} images, {args.steps} steps, certified radii {'used' if certified is not None else 'not used'}")
    print("radius       " + "".join(f"{r:8.2f}" for r in RADII))
    points = [100 * row.double().mean(1) for row in (plain, ours)]
    print("plain  %     " + "".join(f"{float(a):8.2f}" for a in points[0]))
    print("ours   %     " + "".join(f"{float(a):8.2f}" for a in points[1]))
    worst, best = float((points[1] - points[0]).max()), float((points[1] - points[0]).min())
    missed = (ours & ~plain).sum(1).tolist()
    print(f"ours - plain: {best:+.2f} to {worst:+.2f} points; broken by plain only: {missed} images")
    print(f"plain / ours, median (quartiles) of {args.rounds} rounds: CPU {quartiles(cpu)}, wall {quartiles(wall)}")
    ok = statistics.median(cpu) >= TARGET and worst <= POINTS
    print(f"target (CPU ratio >= {TARGET}, never more than {POINTS} points above plain): {'met' if ok else 'MISSED'}")
    if args.out:
        numbers = {
            "images": len(x), "steps": args.steps, "certified": certified is not None, "radii": RADII,
            "plain": points[0].tolist(), "ours": points[1].tolist(), "missed": missed, "cpu": cpu, "wall": wall,
        }  # fmt: skip
        args.out.write_text(json.dumps(numbers, indent=1) + "\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
