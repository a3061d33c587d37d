"""ADef 3 (Fig. 2): a Neural ODE and a CNN of its size on MNIST, under perturbations and under deformations.

Beside them a classifier that ends in a contracting flow (chapter 5.2), and a non-expansive network, whose radii are
proved. The first test images are attacked by the fast gradient sign method, by projected gradients, by box-constrained
L-BFGS (the smallest perturbation) and by ADef (the smallest deformation, at most 3 pixels). Sizes are those of the
images that an attack broke, among those that the network answers rightly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..attack import FGSM, PGD, ADef, Attack, Szegedy
from ..core.properties import Lipschitz
from ..layers import load
from ..networks import Network
from ..report.deformed import Deformed, deformed_images
from ..report.panels import Curve, Panel, draw_panels
from ..tasks import config
from ..tasks.build import read_data, threads
from ..tasks.options import ClassifyConfig
from ..tasks.processes import finish_all
from ..tasks.progress import Progress, silent
from ..tasks.recipes import find
from ..tasks.run_folder import Run
from ._compare import open_run
from ._folder import once, write_table

IMAGES, QUICK_IMAGES = 500, 20
SLOW_IMAGES = 200  # for L-BFGS, which takes some twenty times as long as all others together
SHOWN = 8  # images in the figure
QUICK = {"train_limit": 500, "test_limit": 20, "epochs": 1, "attack_steps": 2}
COMMON = {"test_limit": 500, "attack_steps": 20, "radii": (0.25, 0.5, 1.0, 1.5, 2.0, 3.0), "threads": 1}
SLOW = "L-BFGS"
COLUMNS = ("parameters", "test error", "proved Lipschitz constant")
NORMS = ("l2", "l_inf", "norm_T")


def configs() -> dict[str, ClassifyConfig]:
    """The four networks."""
    recipes = {
        "neural-ode": "neural-ode-mnist",
        "cnn": "cnn-mnist",
        "contracting": "contracting-mnist",
        "non-expansive": "certified-mnist",
    }
    return {name: replace(config.read(find(recipe)), **COMMON) for name, recipe in recipes.items()}


def attacks(quick: bool) -> dict[str, Attack]:
    """The attacks."""
    steps = 3 if quick else 40
    return {
        "FGSM, l-infinity 0.1": FGSM(0.1),
        "FGSM, l-infinity 0.2": FGSM(0.2),
        "PGD, l-infinity 0.1": PGD(0.1, math.inf, steps=steps),
        "PGD, l2 1.5": PGD(1.5, 2, steps=steps),
        SLOW: Szegedy(3, 3) if quick else Szegedy(),
        "ADef": ADef(steps=10) if quick else ADef(),
    }


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder."""
    own = "" if data is None else f"-{Path(data).stem}"
    folder = out or Path(f"runs/deformations{own}{'-quick' if quick else ''}")
    runs: dict[str, Run] = {}
    for name, options in configs().items():
        runs[name] = open_run(folder / name, replace(options, data=data or options.data, **(QUICK if quick else {})))
    finish_all(runs, progress)
    found = {}
    for i, (name, one) in enumerate(runs.items()):
        progress("attacking", i, len(runs), name)
        found[name] = once(one.file("attacks.json"), lambda one=one: attacked(one, quick))
        progress("attacking", i + 1, len(runs), name)
    write_table(folder / "networks.md", {"network": "", **dict.fromkeys(COLUMNS, "")}, networks(found))
    columns = {
        "attack": "",
        "network": "",
        "images": "",
        "broken": ".1%",
        **{f"median {norm}": ".3g" for norm in NORMS},
    }
    write_table(folder / "deformations.md", columns, table(found))
    curves(found, folder / "sizes.svg")
    figure(runs["neural-ode"], quick, folder / "figure-2-deformations.svg")
    return folder


def attacked(run: Run, quick: bool) -> dict[str, Any]:
    """What the attacks do to one network: for every image that it answers rightly its sizes, None where unbroken."""
    options = run.config
    images = read_data(options)
    count = QUICK_IMAGES if quick else IMAGES
    with run.work(), threads(options):
        net = load(run.file("model.safetensors"))
        assert isinstance(net, Network)
        x, y = images.x_test[:count], images.y_test[:count]
        with torch.no_grad():
            right = net(x).argmax(1) == y
        x, y = x[right], y[right]
        bound = net.claims().get(Lipschitz)
        return {
            "parameters": sum(p.numel() for p in net.parameters()),
            "test_error": 1 - json.loads(run.file("metrics.jsonl").read_text().splitlines()[-1])["test_accuracy"],
            "lipschitz": None if bound is None else bound.bound,
            "attacks": {
                name: sizes(attack, net, *((x[:SLOW_IMAGES], y[:SLOW_IMAGES]) if name == SLOW else (x, y)))
                for name, attack in attacks(quick).items()
            },
        }


def sizes(attack: Attack, net: Network, x: Tensor, y: Tensor) -> dict[str, list[float | None]]:
    """For each image (n, ...) the l2 norm, the l-infinity norm and norm_T of what broke it; None where nothing did."""
    if isinstance(attack, ADef):
        fields = attack.fields(net, x, y)
        x_adv, broken, field = fields.x_adv, fields.broken, fields.size
    else:
        found = attack.run(net, x, y)
        x_adv, broken, field = found.x_adv, found.broken, None
    change = (x_adv.double() - x.double()).flatten(1)
    measured = {"l2": change.norm(dim=1), "l_inf": change.abs().amax(1)}
    if field is not None:
        measured["norm_T"] = field
    return {
        norm: [float(v) if b else None for v, b in zip(values, broken, strict=True)]
        for norm, values in measured.items()
    }


def table(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each attack on each network."""
    rows = []
    for attack in next(iter(found.values()))["attacks"]:
        for name, one in found.items():
            measured = one["attacks"][attack]
            broken = [v for v in measured["l2"] if v is not None]
            row: dict[str, Any] = {"attack": attack, "network": name, "images": len(measured["l2"])}
            row["broken"] = len(broken) / max(1, row["images"])
            for norm in NORMS:
                values = [v for v in measured.get(norm, ()) if v is not None]
                row[f"median {norm}"] = float(np.median(values)) if values else None
            rows.append(row)
    return rows


def networks(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each network."""
    return [
        {
            "network": name,
            "parameters": f"{one['parameters']:,}",
            "test error": f"{one['test_error']:.2%}",
            "proved Lipschitz constant": "none" if one["lipschitz"] is None else f"{one['lipschitz']:.3g}",
        }
        for name, one in found.items()
    ]


def curves(found: Mapping[str, Any], path: Path) -> Path:
    """Draw the share of images, of those answered rightly, that withstand all perturbations up to a size."""
    shown = ((SLOW, "l2", "ℓ₂ norm of the perturbation"), ("ADef", "norm_T", "norm_T of the deformation (pixels)"))
    panels = []
    for attack, norm, label in shown:
        lines = []
        for i, (name, one) in enumerate(found.items()):
            values = one["attacks"][attack][norm]
            broken = np.sort([v for v in values if v is not None])
            left = 1 - np.arange(len(broken) + 1) / max(1, len(values))
            lines.append(Curve(np.concatenate([[0.0], broken]), left, name, i))
        panels.append(Panel(attack, lines, label, "share that withstands"))
    return draw_panels(panels, path, columns=2, height=3.0)


def figure(run: Run, quick: bool, path: Path) -> Path:
    """Draw the first test images, one of each class while they last, that ADef deforms for one network."""
    options = run.config
    images, adef = read_data(options), attacks(quick)["ADef"]
    assert isinstance(adef, ADef)
    with threads(options):
        net = load(run.file("model.safetensors"))
        with torch.no_grad():
            right = (net(images.x_test[:200]).argmax(1) == images.y_test[:200]).nonzero()[:, 0]
        labels = images.y_test[right].tolist()
        first = [labels.index(label) for label in sorted(set(labels))][:SHOWN]
        x, y = images.x_test[right[first]], images.y_test[right[first]]
        found = adef.fields(net, x, y)
        with torch.no_grad():
            answers = net(found.x_adv).argmax(1)
    name = images.classes
    shown = [
        Deformed(x[i].numpy(), found.x_adv[i].numpy(), found.tau[i].numpy(), name[int(y[i])], name[int(answers[i])])
        for i in found.broken.nonzero()[:, 0].tolist()
    ]
    return deformed_images(shown, path)
