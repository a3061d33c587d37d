"""Success rates and median norms of the attacks beside foolbox's, on a small CNN on MNIST (`small_cnn.py`).

    python benchmarks/attacks_against_peers.py [--images 200] [--out FILE]

Two attacks with equal settings pass when their success rates are within one point and their median norms within 3 %.
Where the settings differ, ours must be at most that much worse. Where foolbox's Carlini-Wagner attack finds nothing it
returns a black image, which is misclassified, too: that is not counted as a success.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import foolbox
import torch
from small_cnn import small_cnn

from stablenets.attack import DDN, FGSM, PGD, CarliniWagner, DeepFool, Ensemble, Szegedy, smallest

Row = tuple[Any, Any, float | None]
EQUAL: dict[str, Row] = {  # the same steps, sizes, loss and start
    "FGSM, eps 0.1": (FGSM(0.1), foolbox.attacks.LinfFastGradientAttack(), 0.1),
    "FGM, eps 1": (FGSM(1.0, 2), foolbox.attacks.L2FastGradientAttack(), 1.0),
    "PGD on the cross-entropy, eps 1": (
        PGD(1.0, step_size=0.025, cross_entropy=True),
        foolbox.attacks.L2PGD(steps=100, rel_stepsize=0.025, random_start=False),
        1.0,
    ),
    "the same, l-infinity, eps 0.1": (
        PGD(0.1, math.inf, step_size=0.0025, cross_entropy=True),
        foolbox.attacks.LinfPGD(steps=100, rel_stepsize=0.025, random_start=False),
        0.1,
    ),
    "DDN": (DDN(), foolbox.attacks.DDNAttack(steps=100), None),
    "DeepFool": (DeepFool(), foolbox.attacks.L2DeepFoolAttack(), None),
    "Carlini-Wagner": (
        CarliniWagner(100, 5, first=0.1, step_size=0.02),
        foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=5, steps=100, stepsize=0.02, initial_const=0.1),
        None,
    ),
}
OURS: dict[str, Row] = {  # other settings, or another attack
    "PGD, eps 1": (PGD(1.0), foolbox.attacks.L2PGD(steps=100, rel_stepsize=0.025, random_start=False), 1.0),
    "PGD, l-infinity, eps 0.1": (
        PGD(0.1, math.inf),
        foolbox.attacks.LinfPGD(steps=100, rel_stepsize=0.025, random_start=False),
        0.1,
    ),
    "Szegedy, beside DDN": (Szegedy(), foolbox.attacks.DDNAttack(steps=100), None),
    "smallest PGD, beside DDN": (smallest(PGD(4.0)), foolbox.attacks.DDNAttack(steps=100), None),
    "ensemble, eps 1, beside PGD": (Ensemble(1.0, steps=50, queries=200), foolbox.attacks.L2PGD(steps=100), 1.0),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # foolbox draws from the global generator
    net, x, y = small_cnn(args.images)
    model = foolbox.PyTorchModel(net, bounds=(0, 1))
    rows, passed = {}, True
    for name, (ours, theirs, eps) in (EQUAL | OURS).items():
        _, x_adv, success = theirs(model, x, y, epsilons=eps)
        success &= x_adv.flatten(1).any(1)
        norm = (x_adv - x).double().flatten(1).norm(dim=1)[success].median()
        found = ours.run(net, x, y)
        ratio = float(found.distance[found.broken].median() / norm) if eps is None else 1.0
        rates = float(found.broken.double().mean()), float(success.double().mean())
        good = rates[0] >= rates[1] - 0.01 and ratio <= 1.03
        if name in EQUAL:
            good &= rates[0] <= rates[1] + 0.01 and ratio >= 0.97
        passed &= good
        rows[name] = {"equal": name in EQUAL, "rate": rates[0], "peer": rates[1], "median norm / peer's": ratio}
        print(
            f"{name:32s} {rates[0]:7.1%} beside {rates[1]:7.1%}, norm ratio {ratio:.3f} {'' if good else 'MISSED'}",
            flush=True,
        )
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
