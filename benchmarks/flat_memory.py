"""Memory and time of training a deep Hamiltonian network by inverted steps, beside backpropagation.

python benchmarks/flat_memory.py            20 and 2,000 layers of width 64, batch 256, float32; a process for each row
python benchmarks/flat_memory.py 2000 reversible      one row
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch

from stablenets.fields import ConvexGradient, SeparableHamiltonian, Tanh
from stablenets.gradients import Backpropagation, Reversible
from stablenets.integrators import StormerVerlet
from stablenets.layers import Chain, Flow
from stablenets.linear import Dense

WIDTH, BATCH = 64, 256


def peak() -> float:
    """The high-water mark of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def row(depth: int, way: str) -> None:
    """Two training steps; the memory counted starts with the network, its gradients and Adam's moments in place."""
    flows = []
    for _ in range(depth):
        parts = [ConvexGradient(Dense(WIDTH // 2, WIDTH // 2), Tanh()) for _ in range(2)]
        flows.append(Flow(SeparableHamiltonian(*parts), StormerVerlet(), h=0.1))
    net = Chain(*flows, gradient=Reversible() if way == "reversible" else Backpropagation())
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for batch in (1, 1, BATCH, BATCH):
        if batch == BATCH and optimiser.param_groups[0]["lr"] == 1e-3:
            optimiser.param_groups[0]["lr"], before, begin = 1e-4, peak(), time.process_time()
        optimiser.zero_grad(set_to_none=False)
        net(torch.randn(batch, WIDTH)).square().mean().backward()
        optimiser.step()
    took = (time.process_time() - begin) / 2
    print(f"{depth:5} layers, {way:15} {peak() - before:8.1f} MB, {took:6.2f} s per step", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if len(sys.argv) == 3:
        row(int(sys.argv[1]), sys.argv[2])
    else:
        for way in ("reversible", "backpropagation"):
            for depth in ("20", "2000"):
                subprocess.run([sys.executable, __file__, depth, way], check=True)
