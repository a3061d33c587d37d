"""Does any attack succeed inside a certified radius, and do the attempts have teeth beyond it?

    python benchmarks/soundness_of_radii.py RUN ... [--limit 1000] [--steps 4] [--inflate 4]

The attempts of `stablenets refute`, with radii multiplied by --inflate: in l2 and in pixels of deformation. Exit code 1
if one changes an answer, as it must where radii are inflated.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

import stablenets as sn
from stablenets.certify import certify
from stablenets.tasks.build import read_data
from stablenets.tasks.run_folder import Run
from stablenets.testing.boundary import SMALLEST, Attempts
from stablenets.testing.radii import trials


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=1000, help="test images of each run")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--inflate", type=float, default=1.0, help="multiply the radii: attacks must succeed then")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    total = Attempts(0, 0, 1.0)
    for path in arguments.runs:
        run = Run.open(path)
        net, x = sn.load(run.file("model.safetensors")), read_data(run.config).x_test[: arguments.limit]
        proof = certify(net)
        radius = proof.radius(x)
        x, radius = x[radius > SMALLEST], radius[radius > SMALLEST]
        print(f"{path.name}: {len(x):,} images have a certified radius, of median {radius.median():.3f}", flush=True)
        for name, trial in trials(net, proof, x, radius, steps=arguments.steps, inflate=arguments.inflate).items():
            start = time.process_time()
            done = trial()
            total += done
            seconds = time.process_time() - start
            print(f"  {name:34}{done.tried:10,} attempts {done.broken:6} broken {seconds:8.1f} s", flush=True)
    print(f"{total.tried:,} attempts, {total.broken} broken")
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main())
