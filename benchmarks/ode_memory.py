"""Memory, time and error of the gradient of a long solve, beside torchdiffeq (pinned for tests).

    python benchmarks/ode_memory.py                         all rows, a process for each; about four minutes
    python benchmarks/ode_memory.py 2000 discrete-adjoint   one row

RK4 with steps of 0.01 along the lecture's network 2-32-2, batch 1,000, float32, loss on the last state; and
Stormer-Verlet along a separable Hamiltonian field with the same numbers. Memory is what one forward and backward pass
adds to the high-water mark of a fresh process, time its CPU time. `errors` compares gradients with those of
backpropagation, 500 steps, in both precisions.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchdiffeq
from torch import Tensor, nn

import stablenets as sn
from stablenets.fields import ConvexGradient, Field, FreeField, SeparableHamiltonian, Tanh
from stablenets.gradients import Backpropagation, Checkpointed, ContinuousAdjoint, DiscreteAdjoint, Gradient, Reversible
from stablenets.integrators import RK4, Integrator, StormerVerlet
from stablenets.linear import Dense

H, BATCH = 0.01, 1000
WAYS: dict[str, Gradient] = {
    "backpropagation": Backpropagation(),
    "checkpointed": Checkpointed(),
    "discrete-adjoint": DiscreteAdjoint(),
    "continuous-adjoint": ContinuousAdjoint(),
    "reversible": Reversible(),
}


class Theirs(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


def problem(way: str) -> tuple[Field, Integrator]:
    torch.manual_seed(0)
    if way == "reversible":
        parts = [ConvexGradient(Dense(1, 16), Tanh()) for _ in range(2)]
        return SeparableHamiltonian(*parts), StormerVerlet()
    return FreeField(nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))), RK4()


def solver(way: str, steps: int, x: Tensor) -> tuple[nn.Module, Callable[[int], Tensor]]:
    """The module with the weights, and the last state after so many steps."""
    field, method = problem(way)
    field = field.to(x.dtype)
    if way.startswith("torchdiffeq"):
        theirs = Theirs(field.module)  # pyright: ignore
        solve = torchdiffeq.odeint_adjoint if way.endswith("adjoint") else torchdiffeq.odeint

        def end(steps: int) -> Tensor:
            times = torch.tensor([0.0, H * steps])
            return solve(theirs, x, times, method="rk4", options={"step_size": H * (1 + 1e-6)})[-1]

        return theirs, end
    return field, lambda steps: sn.integrate(
        field, x, [0.0, H * steps], integrator=method, steps=steps, gradient=WAYS[way]
    ).states[-1]


def peak() -> float:
    """The high-water mark of this process in MB. (`getrusage` starts with that of the parent process.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def level() -> float:
    """Set the high-water mark to the memory that is in use now, and return that."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def row(steps: int, way: str) -> None:
    """One forward and backward pass, after one of ten steps."""
    module, end = solver(way, steps, torch.randn(BATCH, 2))
    for count in (10, 10, steps):
        before, begin = level(), time.process_time()
        module.zero_grad(set_to_none=False)
        end(count).square().mean().backward()
    spent, grown = time.process_time() - begin, peak() - before
    print(f"{steps:5} steps, {way:22} {grown:8.1f} MB, {spent:6.2f} s", flush=True)


def errors() -> None:
    for dtype in (torch.float32, torch.float64):
        for way in ("discrete-adjoint", "continuous-adjoint", "checkpointed"):
            x = torch.randn(100, 2, dtype=dtype)
            found = []
            for name in (way, "backpropagation"):
                module, end = solver(name, 500, x)
                end(500).square().mean().backward()
                found.append(torch.cat([p.grad.flatten() for p in module.parameters()]))  # pyright: ignore
            error = float((found[0] - found[1]).norm() / found[1].norm())
            print(f"{dtype!s:14} {way:22} error of the gradient {error:.1e}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        row(int(sys.argv[1]), sys.argv[2])
    else:
        errors()
        for way in ("discrete-adjoint", "torchdiffeq-adjoint", "continuous-adjoint", "checkpointed", "reversible"):
            for steps in ("500", "2000"):
                subprocess.run([sys.executable, __file__, steps, way], check=True)
        for way in ("backpropagation", "torchdiffeq"):
            subprocess.run([sys.executable, __file__, "500", way], check=True)
