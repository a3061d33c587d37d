"""What an implicit step costs: implicit against explicit midpoint steps of the pendulum, 500 samples, float64.

    python benchmarks/implicit_midpoint.py [--rounds 31]

Processor time of one thread, the two taken in turn, median of rounds. Prints the ratio for the bare step (h = 0.1,
every sample solved to rounding) and for step and gradient with respect to the state, the evaluations of the field, and
the largest residual |x+ - x - h f((x + x+) / 2)| in rounding errors eps (|x| + |x+| (1 + h)), measured afresh.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from stablenets.fields.base import Field
from stablenets.integrators import ImplicitMidpoint, Midpoint
from stablenets.systems import Pendulum

H, SAMPLES, STEPS = 0.1, 500, 20


def seconds(run: Callable[[], object]) -> float:
    """Processor time of one of `STEPS` runs."""
    began = time.process_time()
    for _ in range(STEPS):
        run()
    return (time.process_time() - began) / STEPS


def residual(f: Field, x: Tensor) -> float:
    y = ImplicitMidpoint().step(f, x, H)
    left = (y - x - H * f((x + y) / 2)).norm(dim=1)
    return float((left / (x.norm(dim=1) + y.norm(dim=1) * (1 + H))).max()) / torch.finfo(x.dtype).eps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    f, x = Pendulum(), torch.randn(SAMPLES, 2, dtype=torch.float64)
    evaluations: list[None] = []
    handle = f.register_forward_hook(lambda *_: evaluations.append(None))
    ImplicitMidpoint().step(f, x, H)
    handle.remove()
    print(f"{len(evaluations)} evaluations of the field; largest residual {residual(f, x):.2f} rounding errors")

    def gradient(method: Midpoint | ImplicitMidpoint) -> Tensor:
        start = x.clone().requires_grad_()
        return torch.autograd.grad(method.step(f, start, H).square().sum(), start)[0]

    tasks: dict[str, Callable[[Midpoint | ImplicitMidpoint], Tensor]] = {
        "step": lambda m: m.step(f, x, H),
        "step and gradient": gradient,
    }
    for name, run in tasks.items():
        explicit, implicit = [], []
        for _ in range(rounds):
            explicit.append(seconds(lambda r=run: r(Midpoint())))
            implicit.append(seconds(lambda r=run: r(ImplicitMidpoint())))
        ratio = median(b / a for a, b in zip(explicit, implicit, strict=True))
        print(
            f"{name}: explicit {1e6 * median(explicit):.0f} us, implicit {1e6 * median(implicit):.0f} us, x {ratio:.1f}"
        )


if __name__ == "__main__":
    main()
