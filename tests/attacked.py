"""What the tests of attacks share: a small trained network, affine classifiers, one attack of each kind."""

from __future__ import annotations

import functools
import math

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from stablenets.attack import (
    APGD,
    DDN,
    FGSM,
    PGD,
    Attack,
    CarliniWagner,
    DeepFool,
    Ensemble,
    Smallest,
    SquareAttack,
    Szegedy,
)

EVERYWHERE = (-10.0, 10.0)
BALL: dict[str, Attack] = {
    "fgsm": FGSM(0.1),
    "fgm": FGSM(0.8, 2),
    "pgd": PGD(0.8, steps=20),
    "pgd, momentum": PGD(0.8, steps=20, momentum=0.5, step_size=0.2, decay=0.1, restarts=2),
    "pgd, infinity": PGD(0.1, math.inf, 20),
    "apgd": APGD(0.8, steps=20),
    "apgd, infinity": APGD(0.1, math.inf, 20),
    "square": SquareAttack(1.2, queries=100),
    "square, infinity": SquareAttack(0.1, math.inf, 100),
    "ensemble": Ensemble(0.8, steps=10, targets=3, queries=30),
}
MINIMAL: dict[str, Attack] = {
    "ddn": DDN(60),
    "deepfool": DeepFool(),
    "carlini-wagner": CarliniWagner(60, 6, step_size=0.03, first=0.05),
    "szegedy": Szegedy(15, 7),
    "smallest": Smallest(PGD(3.0, steps=30)),
}
ALL = BALL | MINIMAL


@functools.cache
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network trained on scikit-learn's digits, and 200 of the other digits, rightly answered ones first."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
        optimiser = torch.optim.Adam(net.parameters(), 2e-2)
        for _ in range(100):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[:1000]), y[:1000]).backward()
            optimiser.step()
    net.eval().zero_grad()
    return net, x[1000:1200], y[1000:1200]


def affine(dimension: int = 6, classes: int = 3) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """An affine classifier in float64, inputs, its answers, and their exact l2 distances to a boundary."""
    g = torch.Generator().manual_seed(dimension)
    net = nn.Linear(dimension, classes).double().requires_grad_(False)
    net.weight.copy_(torch.randn(classes, dimension, generator=g))
    net.bias.copy_(torch.randn(classes, generator=g))
    x = torch.randn(20, dimension, generator=g).double()
    z = net(x)
    y = z.argmax(1)
    gaps = z.gather(1, y[:, None]) - z
    lengths = (net.weight[y][:, None] - net.weight[None]).norm(dim=2)
    return net, x, y, (gaps / lengths).scatter(1, y[:, None], math.inf).amin(1)


def answers(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x).argmax(1)


def moved(x_adv: Tensor, x: Tensor, norm: float = 2) -> Tensor:
    return torch.linalg.vector_norm((x_adv.double() - x.double()).flatten(1), norm, 1)
