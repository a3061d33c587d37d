"""Time of solving and differentiating neural ODEs, beside torchdiffeq (pinned for tests).

    python benchmarks/ode_speed.py                  adaptive and fixed steps, about two minutes
    python benchmarks/ode_speed.py --compiled       also RK4 compiled whole by torch.compile: some more minutes
    python benchmarks/ode_speed.py --memory-saving  also torchdiffeq's adjoint: one more minute

The lecture's problem: 1,000 points in the plane, 50 times in [0, 2 pi], a network 2-32-2 with tanh, float32, tolerances
1e-7 and 1e-9 (torchdiffeq's defaults); forward and backward pass of the mean square. Then RK4 with one step between any
two of 51 times, batch 16 and 1,000. CPU times; in every round each solver runs once, in turn, and ratios are taken
within a round. Prints medians (quartiles) and whether the aims are met.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torchdiffeq
from torch import Tensor, nn

import stablenets as sn
from stablenets.gradients import DiscreteAdjoint
from stablenets.integrators import RK4, Dopri5, Tsit5


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))


class Theirs(nn.Module):
    """The same field in torchdiffeq's form."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


def measure(tasks: dict[str, Callable[[], Tensor]], base: str, rounds: int, repeats: int = 1) -> dict[str, float]:
    """Median ratio of each task to `base`; each is a forward pass, followed by its backward pass."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):  # the first is for warming up
        for name, task in tasks.items():
            begin = time.process_time()
            for _ in range(repeats):
                task().square().mean().backward()
            if number:
                times[name].append(1e3 * (time.process_time() - begin) / repeats)
    found = {}
    for name, spent in times.items():
        low, middle, high = statistics.quantiles(
            [a / b for a, b in zip(spent, times[base], strict=True)], n=4, method="inclusive"
        )
        found[name] = middle
        print(f"  {name:42}{statistics.median(spent):9.1f} ms{middle:9.2f} ({low:.2f} - {high:.2f})", flush=True)
    return found


def adaptive(rounds: int, adjoint: bool) -> dict[str, bool]:
    print("the lecture's problem, adaptive steps, batch 1,000 (evaluations of the field):")
    net = network()
    theirs, field = Theirs(net), sn.fields.FreeField(net)
    x, times = torch.randn(1000, 2), torch.linspace(0, 2 * math.pi, 50)
    numbers = times.tolist()

    def ours(method: type[Dopri5 | Tsit5], joint: bool = True, saving: bool = False) -> Callable[[], Tensor]:
        gradient = DiscreteAdjoint() if saving else None
        integrator = method(1e-7, 1e-9, joint=joint)
        return lambda: sn.integrate(field, x, numbers, integrator=integrator, gradient=gradient).states

    def peer(solve: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: solve(theirs, x, times)

    tasks = {
        "torchdiffeq odeint": peer(torchdiffeq.odeint),
        "Dopri5": ours(Dopri5),
        "Dopri5, discrete adjoint": ours(Dopri5, saving=True),
        "Tsit5": ours(Tsit5),
        "Dopri5, a step for each sample": ours(Dopri5, joint=False),
    }
    found = measure(tasks, "torchdiffeq odeint", rounds)
    saving = found["Dopri5, discrete adjoint"] / found["Dopri5"]
    aims = {
        f"Dopri5 <= 0.8 x torchdiffeq odeint ({found['Dopri5']:.2f})": found["Dopri5"] <= 0.8,
        f"discrete adjoint <= 2 x backpropagation ({saving:.2f})": saving <= 2,
    }
    if adjoint:
        pair = {k: tasks[k] for k in ("Dopri5, discrete adjoint",)}
        share = measure(
            {"odeint_adjoint": peer(torchdiffeq.odeint_adjoint), **pair}, "odeint_adjoint", max(3, rounds // 4)
        )["Dopri5, discrete adjoint"]
        aims[f"discrete adjoint <= 1/6 of odeint_adjoint ({share:.3f})"] = share <= 1 / 6
    return aims


def fixed(batch: int, rounds: int, compiled: bool) -> dict[str, bool]:
    print(f"RK4, 50 steps, batch {batch:,}:")
    net = network()
    theirs, field = Theirs(net), sn.fields.FreeField(net)
    x, times = torch.randn(batch, 2), torch.linspace(0, 2 * math.pi, 51)
    numbers = times.tolist()

    def ours(x: Tensor) -> Tensor:
        return sn.integrate(field, x, numbers, integrator=RK4(), steps=1).states

    tasks = {
        "torchdiffeq rk4": lambda: torchdiffeq.odeint(theirs, x, times, method="rk4"),
        "RK4": lambda: ours(x),
    }
    if compiled:
        whole = torch.compile(ours, fullgraph=True)
        begin = time.time()
        whole(x).square().mean().backward()
        print(f"  compiled in {time.time() - begin:.0f} s")
        tasks["RK4, compiled"] = lambda: whole(x)
    found = measure(tasks, "torchdiffeq rk4", rounds, repeats=1 if batch > 100 else 4)
    limit = 0.8 if batch <= 100 else 0.9
    aims = {f"RK4, batch {batch} <= {limit} x torchdiffeq ({found['RK4']:.2f})": found["RK4"] <= limit}
    if compiled:
        ratio = found["RK4, compiled"]
        aims[f"RK4, batch {batch}, compiled <= 0.35 x torchdiffeq ({ratio:.2f})"] = ratio <= 0.35
    return aims


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--memory-saving", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    aims = adaptive(arguments.rounds, arguments.memory_saving)
    aims |= fixed(16, arguments.rounds, arguments.compiled) | fixed(1000, arguments.rounds, False)
    for aim, met in aims.items():
        print(f"{'met' if met else 'MISSED':8}{aim}")
    return 0 if all(aims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
