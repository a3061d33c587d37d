"""Energy errors over long runs, and what an implicit step costs.

python benchmarks/long_runs.py            the pendulum, h = 0.1, 20,000 steps in float64 (some minutes)
python benchmarks/long_runs.py cost       implicit against explicit midpoint, a batch of 500
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import nn

from stablenets.fields import FreeField
from stablenets.integrators import (
    RK4,
    BlanesMoan4,
    DiscreteGradient,
    ImplicitMidpoint,
    Integrator,
    Midpoint,
    StormerVerlet,
    Suzuki4,
    Yoshida4,
)
from stablenets.systems import Pendulum


def energy(integrator: Integrator, steps: int = 20_000, h: float = 0.1) -> tuple[float, float]:
    """The largest energy errors in both halves of the run from 1.5 radians."""
    f, x = Pendulum(), torch.tensor([[1.5, 0.0]], dtype=torch.float64)
    start, halves = float(f.energy(x)), [0.0, 0.0]
    for i in range(steps):
        x = integrator.step(f, x, h)
        halves[2 * i // steps] = max(halves[2 * i // steps], abs(float(f.energy(x)) - start))
    return halves[0], halves[1]


def cost(repeats: int = 9) -> None:
    """Ten steps of size 0.1 for 500 samples; medians of the process's time, the two methods in turn."""
    net = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 2)).double()
    for name, f in (("network of width 64", FreeField(net)), ("pendulum", Pendulum())):
        times: dict[str, list[float]] = {}
        x = torch.randn(500, 2, dtype=torch.float64)
        for _ in range(repeats + 1):
            for integrator in (Midpoint(), ImplicitMidpoint()):
                begin, y = time.process_time(), x
                for _ in range(10):
                    y = integrator.step(f, y, 0.1)
                times.setdefault(type(integrator).__name__, []).append(time.process_time() - begin)
        explicit, implicit = (1e3 * statistics.median(v[1:]) for v in times.values())
        middle = f((x + (y := ImplicitMidpoint().step(f, x, 0.1))) / 2)
        residual = float(((y - x - 0.1 * middle).norm(dim=1) / x.norm(dim=1)).max()) / torch.finfo(x.dtype).eps
        print(
            f"{name}: explicit {explicit:.2f} ms, implicit {implicit:.2f} ms, ratio {implicit / explicit:.1f}; ", end=""
        )
        print(f"largest residual {residual:.1f} eps |x|")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        if "cost" in sys.argv:
            cost()
        else:
            for method in (StormerVerlet(), Yoshida4(), Suzuki4(), BlanesMoan4(), RK4(), DiscreteGradient()):
                first, second = energy(method)
                print(f"{type(method).__name__:18} first half {first:.2e}, second half {second:.2e}", flush=True)
