"""Does any attack succeed inside a certified radius? Every registered attack, in l2 and in pixels of deformation.

    python benchmarks/soundness_of_radii.py RUN ... [--limit 10000] [--steps 20] [--json FILE]

For each run folder with a certificate, and the test images whose certified radius is positive:

1. Every attack of `Attack.registry` (its examples; those with a radius get the certified ones, in a few groups, those
   with steps get --steps) attacks the answers. What it returns is an attempt where it lies in the certified l2 ball,
   and once more pulled back to the edge of the ball where it lies outside.
2. Deformations within the certified radius in pixels: the fields of ADef scaled down to it, the same shift of all
   pixels in eight directions, fields with a random direction at every pixel, and fields in which every pixel climbs by
   itself (stablenets.testing.deformations), with whatever the proof allows.

Every attempt is judged by the certificate's own evaluation (float64). Exit code 1 if one changes an answer. To see
that the attempts have teeth: --inflate 4.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import stablenets as sn
from stablenets.attack import ADef, Attack, MaskingWarning
from stablenets.certify import Certificate, certify, deformation_radius
from stablenets.core.component import build, config
from stablenets.linear import deform
from stablenets.tasks.build import read_data
from stablenets.tasks.run_folder import Run
from stablenets.testing.deformations import attack_pixels

INSIDE = 1 - 1e-6
GROUPS = 4  # of certified radii, each with an attack of its own radius
BATCH = 500


class Judge:
    """Counts attempts on the images `x` and how many change the answer."""

    def __init__(self, proof: Certificate, x: Tensor) -> None:
        self.proof, self.x = proof, x
        self.answer = proof.logits(x).argmax(1)
        self.tried = self.broken = 0

    def __call__(self, z: Tensor, which: Tensor) -> None:
        """Points for the images `which`."""
        if len(which):
            self.tried += len(which)
            self.broken += int((self.proof.logits(z).argmax(1) != self.answer[which]).sum())


def variants(cls: type[Attack], radii: Tensor, entries: int, steps: int) -> Iterator[tuple[Attack, Tensor]]:
    """The examples of an attack, made stronger, and the places of the images that each is to attack."""
    everything = torch.arange(len(radii))
    for example in cls.examples():
        settings: dict[str, Any] = config(example)
        if isinstance(settings.get("steps"), int):
            settings["steps"] = steps
        if not isinstance(settings.get("eps"), float):
            yield build(settings), everything
            continue
        for group in radii.argsort().tensor_split(GROUPS):
            if len(group):
                norm = settings.get("norm", 2)
                across = math.sqrt(entries) if norm == math.inf else 1.0
                yield build(settings | {"eps": float(radii[group].max()) / across}), group


def l2_attacks(net: nn.Module, proof: Certificate, x: Tensor, radii: Tensor, steps: int) -> Iterator[dict[str, Any]]:
    for name, cls in sorted(Attack.registry.items()):
        judge, start = Judge(proof, x), time.process_time()
        for attack, which in variants(cls, radii, x[0].numel(), steps):
            for part in which.split(BATCH):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", MaskingWarning)
                    found = attack.run(net, x[part], judge.answer[part]).x_adv
                d = (found - x[part]).double()
                length, radius = d.flatten(1).norm(dim=1), radii[part] * INSIDE
                inside = (length > 0) & (length <= radius)
                judge(found[inside], part[inside])
                outside = length > radius
                scale = (radius / length)[outside].view(-1, *[1] * (x.dim() - 1))
                judge(x[part][outside].double() + scale * d[outside], part[outside])
        yield row(name, judge, start)


def deformations(net: nn.Module, proof: Certificate, x: Tensor, pixels: Tensor, steps: int) -> Iterator[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    judge, start = Judge(proof, x), time.process_time()
    for part in torch.arange(len(x)).split(BATCH):
        found = ADef().fields(net, x[part], judge.answer[part])
        some = torch.isfinite(found.size) & (found.size > 0)
        shrink = torch.clamp(pixels[part] * INSIDE / found.size, max=1.0)[some]
        judge(deform(x[part][some], shrink.view(-1, 1, 1, 1) * found.tau[some]), part[some])
    yield row("ADef's fields, within the pixels", judge, start)
    judge, start = Judge(proof, x), time.process_time()
    for part in torch.arange(len(x)).split(BATCH):
        shape, size = (len(part), *x.shape[2:]), pixels[part].view(-1, 1, 1, 1) * INSIDE
        for k in range(8):
            angle = torch.full(shape, 2 * math.pi * k / 8, dtype=torch.float64)
            judge(deform(x[part], size * torch.stack([angle.cos(), angle.sin()], 3)), part)
        angle = 2 * math.pi * torch.rand(shape, generator=generator, dtype=torch.float64)
        judge(deform(x[part], size * torch.stack([angle.cos(), angle.sin()], 3)), part)
    yield row("shifts and random fields", judge, start)
    judge, start = Judge(proof, x), time.process_time()
    for part in torch.arange(len(x)).split(BATCH):
        tried = attack_pixels(net, proof, x[part], pixels[part], steps=max(steps // 5, 2), starts=2)
        judge.tried, judge.broken = judge.tried + tried.tried, judge.broken + tried.broken
    yield row("every pixel climbs by itself", judge, start)


def row(what: str, judge: Judge, start: float) -> dict[str, Any]:
    return {"what": what, "tried": judge.tried, "broken": judge.broken, "seconds": time.process_time() - start}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=10_000, help="test images of each run")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--inflate", type=float, default=1.0, help="multiply the radii: attacks must succeed then")
    parser.add_argument("--json", type=Path, help="write the numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in arguments.runs:
        run = Run.open(path)
        net, x = sn.load(run.file("model.safetensors")), read_data(run.config).x_test[: arguments.limit]
        proof = certify(net)
        radii = proof.radius(x)
        x, radii = x[radii > 1e-5], radii[radii > 1e-5]
        start = time.process_time()
        pixels = deformation_radius(proof, x, radius=radii)
        took = f"{time.process_time() - start:.1f} s of CPU"
        print(f"{path.name}: {len(x):,} images have a certified radius, of median {radii.median():.3f};")
        print(f"in pixels of deformation, median {pixels.median():.3f} ({took})", flush=True)
        rows[path.name] = []
        parts = (
            f(net, proof, x, arguments.inflate * r, arguments.steps)
            for f, r in ((l2_attacks, radii), (deformations, pixels))
        )
        for line in chain.from_iterable(parts):
            rows[path.name].append(line)
            counts = f"{line['tried']:10,} attempts {line['broken']:6} broken {line['seconds']:8.1f} s"
            print(f"  {line['what']:34}{counts}", flush=True)
    everything = [line for part in rows.values() for line in part]
    tried, broken = (sum(line[key] for line in everything) for key in ("tried", "broken"))
    print(f"{tried:,} attempts inside certified radii, {broken} broken")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
