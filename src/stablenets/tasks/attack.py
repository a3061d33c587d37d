"""Attack a trained network at several radii and set the results beside what is proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from ..attack import PGD, Attack, BallAttack, Curve, Smallest, attack_curve
from ..certify import Certificate
from ..core.component import arguments, by_name, kebab
from ..core.component import config as settings
from ..core.errors import ClaimError, InputError, message
from ..data import ImageData
from ..layers import load
from .options import ClassifyConfig
from .progress import Progress
from .run_folder import Run

BATCH = 500
GALLERY = 6  # most images in the gallery


def find(name: str, config: ClassifyConfig, norm: float = 2) -> Attack:
    """The attack of a name (as `stablenets list` spells it, or in kebab case), with the run's steps and seed.

    Args:
        norm: 2 or `math.inf`, in which the radii of `config` are measured.

    Raises:
        InputError: there is no such attack, or none in this norm.
    """
    cls = by_name("attack", Attack.registry, name)
    options: dict[str, Any] = {"steps": config.attack_steps, "seed": config.seed}
    if cls is Smallest:
        return Smallest(PGD(max(config.radii), norm, **options))
    if issubclass(cls, BallAttack):
        options |= {"eps": max(config.radii), "norm": norm}
    elif norm != 2:
        balls = sorted(kebab(n) for n, c in Attack.registry.items() if issubclass(c, BallAttack) or c is Smallest)
        given = f"the attack {name!r} in the l-infinity norm"
        raise InputError(message(given, f"one of {', '.join(balls)}", "The others look for small l2 changes."))
    return cls(**{k: v for k, v in options.items() if k in arguments(cls)})


def attack(
    run: Run, config: ClassifyConfig, data: ImageData, device: torch.device, progress: Progress, name: str = "PGD"
) -> None:
    """Write samples.npz, attack.json and smallest.npz. Without certificate.json the certified radii are NaN.

    smallest.npz keeps what earlier attacks on the run found, where it is smaller.

    Args:
        name: of the attack, see `find`.

    Raises:
        InputError: the model, the certificate or smallest.npz cannot be used, or the certificate belongs to other
            weights.
        ClaimError: an attack succeeded within a certified radius. The files are written all the same.
    """
    by = find(name, config)
    net = load(run.file("model.safetensors"))
    proof = Certificate.load(run.file("certificate.json"), net) if run.has("certificate.json") else None
    x, y = data.x_test[: config.test_limit], data.y_test[: config.test_limit]
    radius = None if proof is None else proof.radius(x)
    logits = scores(net, x) if proof is None else proof.logits(x)
    task, note = "attacking", f"{len(y)} images at {len(config.radii)} radii"
    progress(task, 0, 0, note)
    net.to(device)
    curve = attack_curve(by, net, x.to(device), y.to(device), config.radii, certified=radius)
    refuted: list[int] = []
    if proof is not None and radius is not None:
        refuted, curve = judged(proof, x, radius, curve)
    arrays = {
        "x": x,
        "y": y,
        "logits": logits,
        "certified_radius": torch.full((len(y),), torch.nan, dtype=torch.float64) if radius is None else radius,
        "smallest_attack": curve.smallest,
        "x_adv": curve.x_adv,
        "adv_index": curve.index,
        "adv_radius": curve.smallest[curve.index],
        "adv_prediction": curve.predictions,
    } | gallery(net, x, y, logits, curve, config, device)
    right = logits.argmax(1) == y
    known = smallest(x, curve, type(by).__name__)
    if run.has("smallest.npz"):
        known = merged(run.file("smallest.npz"), known)
    run.remove("attack.json")  # while samples.npz is another one's
    run.write_arrays("samples.npz", {name: np.asarray(value.cpu()) for name, value in arrays.items()})
    run.write_arrays("smallest.npz", known)
    run.write_json(
        "attack.json",
        {
            "attack": described(by),
            "n": len(y),
            "clean_accuracy": curve.accuracy[0],
            "radii": list(curve.radii),
            "robust_accuracy": list(curve.accuracy),
            "certified_accuracy": None if radius is None else proved_accuracy(right, radius, curve.radii),
            "sandwich_ok": not refuted,
        },
    )
    progress(task, 1, 1, note)
    uphold(refuted)


def proved_accuracy(right: Tensor, radius: Tensor, radii: Sequence[float]) -> list[float]:
    """For each of the radii, the fraction of images that are answered rightly and certified beyond it."""
    return [float((right & (radius > r)).double().mean()) for r in radii]


def uphold(refuted: list[int], by: str = "the attack") -> None:
    """Raise ClaimError when the certificates of images, given by their indices, are refuted."""
    if refuted:
        given = f"{by} refutes the certificate of {len(refuted)} test images, the first of index {refuted[0]}"
        raise ClaimError(message(given, "no successful attack within a certified radius", "Please report this bug."))


@torch.no_grad()
def scores(net: nn.Module, x: Tensor) -> Tensor:
    """Scores (n, classes) of a network on the CPU, as float64."""
    return torch.cat([net(part) for part in x.split(BATCH)]).double()


def described(by: Attack) -> dict[str, Any]:
    """What attack.json says of the attack: at least its name, norm, steps, step_size and seed."""
    options = {k: v for k, v in settings(by).items() if k not in ("type", "eps", "box", "batch_size", "attack")}
    inner = {"seed": by.attack.seed, "steps": settings(by.attack)["steps"]} if isinstance(by, Smallest) else {}
    return {"name": type(by).__name__, "norm": 2, "steps": 1, "step_size": None} | options | inner


def smallest(x: Tensor, curve: Curve, name: str) -> dict[str, np.ndarray]:
    """The arrays of smallest.npz: what the attack `name` found, for each of the attacked test images (n,).

    `radius`: the l2 norm of the smallest perturbation found that changes the right answer, float64, measured on the
    stored image; 0 where the clean answer is wrong, inf where none was found. `indices`: places in the test set.
    `attack`: what found it.
    """
    radius = torch.where(curve.smallest > 0, torch.inf, 0.0).double()
    moved = curve.x_adv.cpu().double() - x[curve.index].double()
    radius[curve.index] = moved.flatten(1).norm(dim=1)
    return {"radius": radius.numpy(), "attack": np.full(len(x), name), "indices": np.arange(len(x))}


def merged(path: Path, new: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of each image the smaller of what smallest.npz holds and what was found now, and the attack that found it.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            old = {key: archive[key] for key in new}
        size = 1 + int(max(old["indices"].max(initial=-1), new["indices"].max(initial=-1)))
        radius, attack = np.full(size, np.nan), np.full(size, "", dtype=object)
        for part in (old, new):
            at = part["indices"]
            nearer = ~(radius[at] <= part["radius"])
            radius[at[nearer]] = part["radius"][nearer]
            attack[at[nearer]] = np.broadcast_to(part["attack"], at.shape)[nearer]
    except (OSError, ValueError, KeyError, IndexError, EOFError, BadZipFile) as error:
        given = f"{path} cannot be read ({error})"
        raise InputError(message(given, "radii of attacks", "Delete it and attack again.")) from None
    indices = np.flatnonzero(~np.isnan(radius))
    return {"radius": radius[indices], "attack": attack[indices].astype(str), "indices": indices}


def judged(proof: Certificate, x: Tensor, radius: Tensor, curve: Curve) -> tuple[list[int], Curve]:
    """The images whose certificate is refuted, and the curve without what the certificate does not speak of.

    The arithmetic of the certificate counts: a change of at most the certified `radius` (n,), measured in float64,
    that alters its answer refutes it. One that alters only the answer in another arithmetic, such as the float32 in
    which networks are attacked, lies between the two by rounding errors, and is no attack.
    """
    x_adv = curve.x_adv.cpu()
    distance = (x_adv.double() - x[curve.index].double()).flatten(1).norm(dim=1)
    inside = distance <= radius[curve.index]
    near = curve.index[inside]
    if len(near) == 0:
        return [], curve
    changed = proof.logits(x_adv[inside]).argmax(1) != proof.logits(x[near]).argmax(1)
    kept = torch.ones_like(inside)
    kept[inside] = changed
    found = curve.smallest.clone()
    found[near[~changed]] = torch.inf
    accuracy = tuple(float((found > r).double().mean()) for r in curve.radii)
    left = kept.to(curve.x_adv.device)
    curve = replace(
        curve,
        accuracy=accuracy,
        smallest=found,
        index=curve.index[kept],
        x_adv=curve.x_adv[left],
        predictions=curve.predictions[left],
    )
    return near[changed].tolist(), curve


def gallery(
    net: nn.Module, x: Tensor, y: Tensor, logits: Tensor, curve: Curve, config: ClassifyConfig, device: torch.device
) -> dict[str, Tensor]:
    """One image attacked at growing radii: the first that is answered rightly."""
    right = (logits.argmax(1) == y).nonzero()[:, 0]
    if len(right) == 0:
        return {}
    index = right[:1]
    sizes = [r for r in curve.radii if r > 0]
    radii = [0.0] + [sizes[round(k)] for k in np.linspace(0, len(sizes) - 1, min(len(sizes), GALLERY - 1))]
    original, label = x[index].to(device), y[index].to(device)
    images = torch.cat(
        [
            PGD(r, steps=config.attack_steps, seed=config.seed)(net, original, label) if r > 0 else original
            for r in radii
        ]
    )
    with torch.no_grad():
        answers = net(images).argmax(1)
    return {
        "gallery_x": images,
        "gallery_radius": torch.tensor(radii, dtype=torch.float64),
        "gallery_prediction": answers,
        "gallery_index": index[0],
    }
