"""Three InvNets trained together against the chapter's loop written plainly: processor time per Adam step.

    python benchmarks/inv_net_training.py [--rounds 5] [--steps 300]

The plain loop is that of the chapter's snippets: modules, automatic differentiation, `torch.optim.Adam`, one power
iteration per layer and step; one network after the other. Both start from the same weights, those that 2,000 steps of
training lead to, so that both take the same Euler steps. Rounds alternate in one process; the median counts. Takes
about a minute.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time

import torch
from torch import Tensor, nn

from stablenets.networks import InvNet
from stablenets.studies.inverse_2d import sample
from stablenets.train.together import fit_together


class Block(nn.Module):
    """The chapter's snippet 1, with the weight where it has its transpose: rows of states need A, not A^T."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.lin = nn.Linear(10, 10)
        self.lin.weight.data.copy_(field.linear.weight.data)
        self.lin.bias.data.copy_(field.bias.data)
        self.vector = torch.ones(10)

    @torch.no_grad()
    def norm(self) -> float:
        v = self.lin.weight.T @ (self.lin.weight @ self.vector)
        size = v.norm()
        self.vector = v / size
        return math.sqrt(size.item())

    def forward(self, x: Tensor, n_steps: int) -> Tensor:
        for _ in range(n_steps):
            x = x - (1.0 / n_steps) * torch.relu(self.lin(x)) @ self.lin.weight
        return x


class Plain(nn.Module):
    """The chapter's InvNet."""

    def __init__(self, net: InvNet) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(flow.field) for flow in net.body.layers[1:-2])
        self.limit, self.c = net.lipschitz, nn.Parameter(net.body.layers[-1].factor.detach().clone())
        for _ in range(100):
            self.n_steps = self.count()

    def count(self) -> list[int]:
        return [max(1, math.ceil(block.norm() ** 2 / 2)) for block in self.blocks]

    def forward(self, y: Tensor) -> Tensor:
        x = torch.cat([y, torch.zeros(len(y), 8)], 1)
        for block, n_steps in zip(self.blocks, self.n_steps, strict=True):
            x = block(x, n_steps)
        return self.c.clamp(-self.limit, self.limit) * x[:, :2]


def plainly(nets: list[InvNet], y: Tensor, x: Tensor, steps: int) -> list[float]:
    losses = []
    for net in nets:
        plain = Plain(net)
        adam = torch.optim.Adam(plain.parameters(), lr=1e-3)
        for _ in range(steps):
            adam.zero_grad()
            loss = (plain(y) - x).square().sum(1).mean()
            loss.backward()
            adam.step()
            plain.n_steps = plain.count()
        losses.append(loss.item())
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = (v.float() for v in sample(100, seed=0))
    nets = [InvNet(2, bound) for bound in (0.9, 2.7, 8.1)]
    fit_together(nets, y, x, steps=2000)
    print("Euler steps:", [[flow.step_count for flow in net.body.layers[1:-2]] for net in nets])
    times: dict[str, list[float]] = {"plain": [], "together": []}
    for _ in range(arguments.rounds):
        began = time.process_time()
        plain = plainly(nets, y, x, arguments.steps)
        times["plain"].append((time.process_time() - began) / arguments.steps)
        began = time.process_time()
        together = fit_together(copy.deepcopy(nets), y, x, steps=arguments.steps)[-1].tolist()
        times["together"].append((time.process_time() - began) / arguments.steps)
        assert all(abs(a - b) < 0.2 * b for a, b in zip(together, plain, strict=True)), (together, plain)
    ratios = [p / t for p, t in zip(times["plain"], times["together"], strict=True)]
    for name, found in times.items():
        print(f"{name}: {1e3 * statistics.median(found):.3f} ms per step of all three networks")
    print(f"together is {statistics.median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
