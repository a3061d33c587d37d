"""Speed of the attacks beside foolbox and torchattacks, in one process: CPU time, interleaved.

    python benchmarks/attack_speed.py [--images 1000] [--steps 100] [--parts 5] [--out FILE]

A small CNN on MNIST (`small_cnn.py`), l2, the same images, radii and steps for all. The images are divided into parts,
and in each part the sides take turns; ratios are those of the summed CPU times. The peers get the images of a part in
one batch, as their users call them, and again in batches of 50, the size at which a CPU is quickest.

Our PGD climbs the margin and is stronger than the peers', which climb the cross-entropy. So it runs three times: with
all steps; on the cross-entropy with the peers' steps, which gives their accuracy; and with a third of the steps. Then
with few steps: the last line says how many reach the peers' accuracy (within 0.3 points), and how fast.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import foolbox
import torch
import torchattacks
from small_cnn import small_cnn
from torch import Tensor, nn

from stablenets.attack import DDN, PGD, attack_curve, robust_curve


def by_foolbox(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    attack = foolbox.attacks.L2PGD(steps=steps, rel_stepsize=2.5 / steps, random_start=False)
    return ~attack(foolbox.PyTorchModel(net, bounds=(0, 1)), x, y, epsilons=eps)[2]


def by_torchattacks(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    attack = torchattacks.PGDL2(net, eps=eps, alpha=2.5 * eps / steps, steps=steps, random_start=False)
    x_adv = attack(x, y)
    with torch.no_grad():
        return net(x_adv).argmax(1) == y


FEW = (4, 6, 8, 10, 12, 16, 20)
PEERS = {"foolbox": by_foolbox, "torchattacks": by_torchattacks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument(
        "--curve", action="store_true", help="the peers' curves at ten radii, too (about 20 times longer)"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    net, x, y = small_cnn(args.images)
    sizes = DDN().run(net, x[:300], y[:300]).distance
    easy, hard = (float(sizes.quantile(1 - accuracy)) for accuracy in (0.83, 0.09))
    radii = [hard * k / 10 for k in range(1, 11)]
    steps = args.steps
    tasks: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    attacks: dict[str, PGD] = {}
    for name, peer in PEERS.items():
        for batch in (len(x), 50):
            for eps in radii if args.curve else [easy, hard]:

                def task(a: Tensor, b: Tensor, peer: Callable = peer, eps: float = eps, batch: int = batch) -> Tensor:
                    return torch.cat(
                        [peer(net, *part, eps, steps) for part in zip(a.split(batch), b.split(batch), strict=True)]
                    )

                tasks[f"{name}, batch {batch}, eps {eps:.3f}"] = task
    for eps in (easy, hard):
        attacks = {
            "PGD": PGD(eps, steps=steps),
            "PGD, cross-entropy": PGD(eps, steps=steps, step_size=2.5 * eps / steps, cross_entropy=True),
            "PGD, a third": PGD(eps, steps=steps // 3),
        } | {f"PGD, {n} steps": PGD(eps, steps=n) for n in FEW}
        for name, attack in attacks.items():
            tasks[f"{name}, eps {eps:.3f}"] = lambda a, b, attack=attack: ~attack.run(net, a, b).broken
    tasks["curve"] = lambda a, b: robust_curve(net, a, b, radii, steps=steps).smallest
    tasks["DDN"] = lambda a, b: attack_curve(DDN(steps), net, a, b, radii).smallest
    seconds, results = dict.fromkeys(tasks, 0.0), {name: [] for name in tasks}
    for number, part in enumerate(torch.arange(len(x)).chunk(args.parts)):
        order = list(tasks) if number % 2 == 0 else list(tasks)[::-1]
        for name in order:
            began = time.process_time()
            results[name].append(tasks[name](x[part], y[part]))
            seconds[name] += time.process_time() - began
    report = {}
    for name in tasks:
        found = torch.cat(results[name]).double()
        shown = [float((found > r).double().mean()) for r in radii] if name in ("curve", "DDN") else float(found.mean())
        report[name] = {"seconds": round(seconds[name], 2), "accuracy": shown}
        print(f"{name:40s} {seconds[name]:8.2f} s  {shown}", flush=True)
    at = radii if args.curve else [easy, hard]
    for peer in PEERS:
        for batch in (len(x), 50):
            rows = [seconds[f"{peer}, batch {batch}, eps {eps:.3f}"] for eps in at]
            ten = sum(rows) * 10 / len(rows)
            print(f"{peer}, batch {batch}: curve {ten / seconds['curve']:.1f}, DDN {ten / seconds['DDN']:.1f} times;")
            for name in list(attacks)[:3]:
                first = rows[0] / seconds[f"{name}, eps {easy:.3f}"]  # a peer's time does not depend on the radius
                last = rows[-1] / seconds[f"{name}, eps {hard:.3f}"]
                print(f"    single radius, {name}: {first:.2f} and {last:.2f} times")
            for i, eps in enumerate((easy, hard)):
                aim = report[f"{peer}, batch {batch}, eps {eps:.3f}"]["accuracy"] + 0.003
                fits = [n for n in FEW if report[f"PGD, {n} steps, eps {eps:.3f}"]["accuracy"] <= aim]
                if fits:
                    ratio = rows[-i] / seconds[f"PGD, {fits[0]} steps, eps {eps:.3f}"]
                    left = report[f"PGD, {fits[0]} steps, eps {eps:.3f}"]["accuracy"]
                    print(f"    its accuracy, {aim - 0.003:.1%}: {fits[0]} steps leave {left:.1%}, {ratio:.1f} times")
    if args.out:
        args.out.write_text(json.dumps({"radii": radii, "tasks": report}, indent=1) + "\n")


if __name__ == "__main__":
    main()
