"""What the gradient of the step size is worth: the same training with and without it.

    python benchmarks/norm_gradient.py [--epochs 6] [--train 30000] [--seeds 1]

A step of the largest size that the weights allow, h = 2 / ||A||^2, depends on the weights; it is easy to treat the norm
as a constant when differentiating. Prints clean accuracy and certified accuracy at 36/255 on the 10,000 test images of
Fashion-MNIST.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from stablenets.certify import certify
from stablenets.data import DeviceLoader, ImageData, load_data
from stablenets.fields.base import estimate
from stablenets.layers import flow
from stablenets.networks import NonExpansiveNet
from stablenets.train import OffsetCrossEntropy, fit


def accuracies(data: ImageData, epochs: int, seed: int, norm: Callable) -> tuple[float, float]:
    flow.estimate = norm
    torch.manual_seed(seed)
    net = NonExpansiveNet(data.image_shape, len(data.classes))
    loss = OffsetCrossEntropy(0.42, 0.2)
    fit(net, loss, DeviceLoader(data.x_train, data.y_train, 128, seed=seed), epochs=epochs, weight_decay=1e-5)
    cert = certify(net)
    right = cert.logits(data.x_test).argmax(1) == data.y_test
    return float(right.double().mean()), float((right & (cert.radius(data.x_test) > 36 / 255)).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--train", type=int, default=30_000)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data("fashion-mnist").subset(train=arguments.train)
    for seed in range(arguments.seeds):
        for name, norm in (("with", estimate), ("without", lambda linear: estimate(linear).detach())):
            clean, proved = accuracies(data, arguments.epochs, seed, norm)
            print(f"seed {seed}, {name} the gradient: clean {clean:.2%}, certified at 36/255 {proved:.2%}", flush=True)


if __name__ == "__main__":
    main()
