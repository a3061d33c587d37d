"""A training step of the study's network against the chapter's own scheme written plainly, side by side in one run.

    python benchmarks/train_step.py [--rounds 15]

Plain: fp32, NCHW, `conv_transpose2d` for the adjoint, a DataLoader, Adam as it comes, one power iteration per layer
and optimiser step (chapter 6). Ours: the library's network and loader. Equal architecture, batch and number of Euler
steps; ours also differentiates the step size. Prints medians and quartiles of the ratio over interleaved rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stablenets.data import DeviceLoader
from stablenets.layers import Flow, NormalisedHead
from stablenets.linear import Conv2d
from stablenets.networks import NonExpansiveNet
from stablenets.train.losses import MultiMargin

BATCH = 128


class PlainBlock(nn.Module):
    """The chapter's snippet 1, dense or convolutional, with its power method (31)."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        linear = flow.field.linear
        self.convolutional = isinstance(linear, Conv2d)
        self.weight = nn.Parameter(linear.weight.detach().clone(memory_format=torch.contiguous_format))
        self.bias = nn.Parameter(flow.field.bias.detach().clone())
        self.u = linear.singular_vector.clone()
        self.steps = flow.step_count

    def apply_a(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, self.weight, bias, padding=1) if self.convolutional else F.linear(x, self.weight, bias)

    def apply_at(self, y: Tensor) -> Tensor:
        return F.conv_transpose2d(y, self.weight, padding=1) if self.convolutional else y @ self.weight

    @torch.no_grad()
    def power_iteration(self) -> float:
        v = self.apply_at(self.apply_a(self.u))
        size = v.norm()
        self.u = v / size
        return float(size)

    def forward(self, x: Tensor) -> Tensor:
        h = 2 / self.squared_norm
        for _ in range(self.steps):
            x = x - h / self.steps * self.apply_at(torch.relu(self.apply_a(x, self.bias)))
        return x


class PlainNet(nn.Module):
    def __init__(self, net: NonExpansiveNet) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PlainBlock(m) if isinstance(m, Flow) else m for m in net.body.layers)

    def update_norms(self) -> None:
        for layer in self.layers:
            if isinstance(layer, PlainBlock):
                layer.squared_norm = layer.power_iteration()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if isinstance(layer, NormalisedHead):
                x = x @ F.normalize(layer.weight, dim=1).T + layer.bias
            else:
                x = layer(x)
        return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="training steps per round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n = BATCH * arguments.steps
    x, y = torch.rand(n, 1, 28, 28), torch.randint(0, 10, (n,))
    net = NonExpansiveNet((1, 28, 28), 10)
    plain = PlainNet(NonExpansiveNet((1, 28, 28), 10))

    plain_loader = DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True)
    plain_optimiser = torch.optim.Adam(plain.parameters(), lr=1e-4, weight_decay=1e-5)

    def plain_round() -> None:
        for xb, yb in plain_loader:
            plain.update_norms()
            plain_optimiser.zero_grad()
            F.multi_margin_loss(plain(xb), yb, margin=0.7).backward()
            plain_optimiser.step()

    loader = DeviceLoader(x, y, BATCH, seed=0)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4, weight_decay=1e-5, fused=True)
    loss = MultiMargin(0.7)

    def our_round() -> None:
        for _, (xb, yb) in loader.epoch(0):
            optimiser.zero_grad()
            loss(net(xb), yb).backward()
            optimiser.step()

    def timed(run) -> float:
        start = time.process_time()
        run()
        return (time.process_time() - start) / arguments.steps * 1e3

    timed(plain_round), timed(our_round)
    rows = [(timed(plain_round), timed(our_round)) for _ in range(arguments.rounds)]
    ratios = sorted(p / o for p, o in rows)
    quartiles = statistics.quantiles(ratios, n=4)
    print(f"plain  {statistics.median(p for p, _ in rows):7.1f} ms a step")
    print(f"ours   {statistics.median(o for _, o in rows):7.1f} ms a step")
    print(f"plain / ours: {quartiles[1]:.2f} (quartiles {quartiles[0]:.2f} - {quartiles[2]:.2f}, {len(rows)} rounds)")


if __name__ == "__main__":
    main()
