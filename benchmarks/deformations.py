"""ADef on an MNIST CNN with one setting at a time changed; how tight and how fast the balls around deformations are.

    python benchmarks/deformations.py [--images 1000]

One CPU core, two to three minutes. Success counts when norm_T <= 3 pixels, of the images that are answered rightly.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import torch
from torch import Tensor, nn

from stablenets.attack import ADef
from stablenets.certify.deformation import bound, middle
from stablenets.data import load_data
from stablenets.linear import deform

RADII = (0.05, 0.2, 0.5, 1.0, 2.0, 3.0)
FINEST = 256  # pieces: within 1e-5 of the supremum
FEW = 100  # images for the finest


def cnn(x: Tensor, y: Tensor) -> nn.Module:
    """Two convolutions and two linear layers (170,000 parameters), three epochs of Adam."""
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(), nn.Flatten())
    net = nn.Sequential(*convolutions, nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10))
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(3):
        for part in torch.randperm(len(y)).split(128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimiser.step()
    return net.eval()


def attacks(net: nn.Module, x: Tensor, y: Tensor) -> None:
    settings = {
        "default": ADef(),
        "1 candidate": ADef(1),
        "9 candidates": ADef(9),
        "not scaled down": ADef(halvings=0),
        "filter of 1 pixel": ADef(sigma=1.0),
        "steps of any length": ADef(longest_step=math.inf, halvings=0),
    }
    for name, attack in settings.items():
        start = time.process_time()
        found = attack.fields(net, x, y)
        seconds, right = time.process_time() - start, found.size > 0
        size = found.size[right & torch.isfinite(found.size)]
        success, median = len(size) / int(right.sum()), float(size.median())
        changed = float((found.x_adv - x)[found.broken].flatten(1).norm(dim=1).mean())
        print(
            f"  {name:20} success {success:7.2%}, norm_T mean {size.mean():.3f} median {median:.3f} "
            f"largest {size.max():.2f}, l2 {changed:.2f}, {seconds:.1f} s",
            flush=True,
        )


def balls(x: Tensor) -> None:
    few = x[:FEW]
    for r in RADII:
        start = time.process_time()
        around_x = bound(x, r, pieces=16)
        seconds = time.process_time() - start
        c = middle(few, r, pieces=16)
        true, true_c = bound(few, r, pieces=FINEST), bound(few, r, centre=c, pieces=FINEST)
        loose = (float((bound(few, r, pieces=p) / true).mean()) - 1 for p in (8, 16))
        loose_c = (float((bound(few, r, centre=c, pieces=p) / true_c).mean()) - 1 for p in (8, 16))
        print(
            f"  r {r:4}: B {around_x.mean():7.3f}, {1000 * seconds / len(x):.1f} s per 1,000; above the supremum "
            f"{' '.join(f'{v:.2%}' for v in loose)}; around the middle {float((true_c / true).mean()):.3f} of that, "
            f"above {' '.join(f'{v:.2%}' for v in loose_c)}; shifts {float((shifts(few, r) / true).mean()):.3f}",
            flush=True,
        )


def shifts(x: Tensor, r: float) -> Tensor:
    """The largest ||x^tau - x|| of 32 constant fields (batch,)."""
    sizes = []
    for k in range(32):
        way = torch.tensor([math.cos(k * math.pi / 16), math.sin(k * math.pi / 16)], dtype=torch.float64)
        z = deform(x, (r * way).expand(len(x), *x.shape[2:], 2))
        sizes.append((z.double() - x.double()).flatten(1).norm(dim=1))
    return torch.stack(sizes).amax(0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data("mnist")
    x, y = data.x_test[: arguments.images], data.y_test[: arguments.images]
    net = cnn(data.x_train, data.y_train)
    with torch.no_grad():
        accuracy = float((net(data.x_test).argmax(1) == data.y_test).double().mean())
    print(f"ADef on a CNN of test accuracy {accuracy:.2%}, the first {len(y):,} test images")
    attacks(net, x, y)
    print("balls that hold all deformed images; pieces 8 and 16")
    balls(x)
    return 0


if __name__ == "__main__":
    sys.exit(main())
