"""One plug-and-play iteration against the bare denoiser and two Fourier blurs: processor time, 256 x 256 in colour.

    python benchmarks/plug_and_play.py [--rounds 7] [--batch 1]

The denoiser is `colour` of the package. Rounds alternate in one process; the median counts. Takes about a minute.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from stablenets.inverse import ForwardBackward, Problem, solve
from stablenets.linear import Blur, motion_kernel
from stablenets.networks.shipped import pretrained_denoiser

SHAPE = (3, 256, 256)
ITERATIONS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, blur = pretrained_denoiser("colour").at(0.05), Blur(motion_kernel(15.0, 30.0), SHAPE)
    x = torch.rand(arguments.batch, *SHAPE)
    problem, solver = Problem(blur, blur(x)), ForwardBackward()

    def bare() -> None:
        for _ in range(ITERATIONS):
            net(x)
            blur.adjoint(blur(x))

    marks: list[float] = []

    def whole() -> None:
        marks.clear()
        solve(problem, net, solver=solver, iterations=ITERATIONS + 1, tolerance=0.0, on_iteration=mark)

    def mark(k: int, residual: torch.Tensor) -> None:
        marks.append(time.process_time())

    def timed(job: Callable[[], None]) -> float:
        began = time.process_time()
        with torch.no_grad():
            job()
        return (time.process_time() - began) / ITERATIONS

    ratios, times = [], []
    for _ in range(arguments.rounds):
        a = timed(bare)
        whole()
        b = (marks[-1] - marks[0]) / ITERATIONS  # without the certificate, which is computed once
        ratios.append(b / a)
        times.append((a, b))
    print(f"batch {arguments.batch}: {1e3 * statistics.median(a for a, _ in times):.1f} ms bare,")
    print(f"{1e3 * statistics.median(b for _, b in times):.1f} ms an iteration of plug-and-play;")
    print(f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
