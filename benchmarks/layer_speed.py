"""One 1-Lipschitz 64-to-64 3x3 layer, forward and backward, against a plain convolution and other packages' layers.

    pip install 'stablenets[bench]'
    python benchmarks/layer_speed.py [--rounds 11] [--threads 1]

Batch 128, images of 16 x 16, float32, zero padding unless a name says otherwise; gradients of inputs and weights. Our
gradient layer does two convolutions, an activation and a residual sum, as the SLL blocks do; AOC, Adaptive-SOC, AOL and
RKO are one convolution each and need an activation beside them. In every round each layer runs once, in turn: times are
CPU times, ratios are taken within a round. Prints medians (quartiles) and whether the aims are met.

glibc gives large blocks of memory back to the system and faults them in again, which costs as much as the arithmetic of
small layers and differs from layer to layer by luck; here memory once taken is kept, as other allocators do
(`--default-malloc` leaves it as it is).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import stablenets as sn
from stablenets.fields.base import estimate

CHANNELS, KERNEL, IMAGE, BATCH = 64, 3, 16, 128
OURS, PLAIN, SLL, SOC = "gradient layer (ours)", "plain nn.Conv2d", "orthogonium SLL", "orthogonium Adaptive-SOC"


def keep_memory() -> bool:
    """Ask glibc to keep the memory that it has; whether it is glibc."""
    trim, threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all([mallopt(trim, 2**31 - 1) == 1, mallopt(threshold, 2**30) == 1])


def layers() -> dict[str, nn.Module]:
    """The layers, in training mode."""
    from deel.torchlip import SpectralConv2d
    from orthogonium.layers import AdaptiveOrthoConv2d
    from orthogonium.layers.conv.adaptiveSOC import AdaptiveSOCConv2d
    from orthogonium.layers.conv.AOL.aol import AOLConv2D
    from orthogonium.layers.conv.SLL import SDPBasedLipschitzResBlock

    c, k, p = CHANNELS, KERNEL, KERNEL // 2
    linear, field, euler = sn.linear.Conv2d(c, c, k, IMAGE), sn.fields.ConvexGradient, sn.integrators.Euler()
    return {
        PLAIN: nn.Conv2d(c, c, k, padding=p),
        "two plain nn.Conv2d": nn.Sequential(nn.Conv2d(c, c, k, padding=p), nn.Conv2d(c, c, k, padding=p)),
        OURS: sn.Flow(field(linear), euler, steps=1),
        "SLL step (ours)": sn.Flow(field(sn.linear.AlmostOrthogonal(linear)), euler, steps=1),
        SLL: SDPBasedLipschitzResBlock(cin=c, cout=c, inner_dim_factor=1.0, kernel_size=k),
        SOC: AdaptiveSOCConv2d(c, c, k, padding=3, padding_mode="zeros"),  # its explicit kernel has 7 x 7 taps
        "orthogonium AOC": AdaptiveOrthoConv2d(c, c, k, padding=p, padding_mode="zeros"),
        "orthogonium AOL": AOLConv2D(c, c, k, padding=p),
        "torchlip SpectralConv2d": SpectralConv2d(c, c, k, padding=p),
    }


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--default-malloc", action="store_true")
    parser.add_argument("--json", type=Path, help="write the numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    kept = not arguments.default_malloc and keep_memory()
    x = torch.randn(BATCH, CHANNELS, IMAGE, IMAGE, requires_grad=True)
    g = torch.randn(BATCH, CHANNELS, IMAGE, IMAGE)

    def training_step(layer: nn.Module) -> Callable[[], None]:
        def step() -> None:
            x.grad = None
            layer(x).backward(g)

        return step

    @torch.no_grad()
    def evaluation(layer: nn.Module) -> Tensor:
        return layer(x)

    found = layers()
    flow = found[OURS]
    tasks = {name: training_step(layer) for name, layer in found.items()}
    tasks["norm estimate of ours"] = lambda: estimate(flow.field.linear).backward()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(arguments.rounds + 1):  # the first is for warming up
        for name, task in tasks.items():
            start = time.process_time()
            task()
            if number:
                times[name].append(1e3 * (time.process_time() - start))
    forward: dict[str, list[float]] = {name: [] for name in found}
    for layer in found.values():
        layer.eval()
    for number in range(arguments.rounds + 1):
        for name, layer in found.items():
            start = time.process_time()
            evaluation(layer)
            if number:
                forward[name].append(1e3 * (time.process_time() - start))

    ratios = {n: quartiles([a / b for a, b in zip(t, times[PLAIN], strict=True)]) for n, t in times.items()}
    print(f"{'':28}{'forward + backward':>20}{'x plain (quartiles)':>26}{'evaluation':>14}")
    for name, spent in times.items():
        low, middle, high = ratios[name]
        end = f"{statistics.median(forward[name]):11.1f} ms" if name in forward else ""
        print(f"{name:28}{statistics.median(spent):17.1f} ms{middle:14.2f} ({low:.2f} - {high:.2f}){end}")
    share = statistics.median(times["norm estimate of ours"]) / statistics.median(times[OURS])
    aims = {
        f"ours <= 2.1 x plain ({ratios[OURS][1]:.2f})": ratios[OURS][1] <= 2.1,
        f"ours faster than orthogonium's SLL ({ratios[SLL][1]:.2f})": ratios[OURS][1] < ratios[SLL][1],
        f"ours faster than Adaptive-SOC ({ratios[SOC][1]:.2f})": ratios[OURS][1] < ratios[SOC][1],
        f"power iteration and the norm's gradient <= 5 % of a step ({share:.1%})": share <= 0.05,
    }
    print(f"\n{arguments.rounds} rounds, {arguments.threads} thread(s), memory {'kept' if kept else 'as glibc does'}")
    for aim, met in aims.items():
        print(f"{'met' if met else 'MISSED':8}{aim}")
    if arguments.json:
        numbers = {
            "training_ms": times,
            "evaluation_ms": forward,
            "ratios": ratios,
            "share": share,
            "memory_kept": kept,
        }
        arguments.json.write_text(json.dumps(numbers, indent=1) + "\n")
    return 0 if all(aims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
