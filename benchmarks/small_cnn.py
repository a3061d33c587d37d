"""The network of the attack benchmarks: two convolutions of 16 channels and a linear layer, trained on MNIST."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablenets.data import load_data


def small_cnn(images: int = 1000, epochs: int = 1) -> tuple[nn.Module, Tensor, Tensor]:
    """The trained network (about 20 s on one core) and the first test images that it answers rightly."""
    data = load_data("mnist")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(16 * 784, 10),
        )  # fmt: skip
        optimiser = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(epochs):
            for part in torch.randperm(len(data.x_train)).split(128):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(data.x_train[part]), data.y_train[part]).backward()
                optimiser.step()
    net.eval().requires_grad_(True)
    x, y = data.x_test[: images + 200], data.y_test[: images + 200]
    with torch.no_grad():
        right = net(x).argmax(1) == y
    return net, x[right][:images], y[right][:images]
