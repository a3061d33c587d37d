"""The results of an attack: `attack.json` (the curve) and `samples.npz` (each attacked image)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError, message
from .readers import field, numbers, read_json, read_npz

ARRAYS = ("x", "y", "logits", "certified_radius", "smallest_attack")
STORED = ("x_adv", "adv_index", "adv_radius", "adv_prediction")
GALLERY = ("gallery_x", "gallery_radius", "gallery_prediction", "gallery_index")


@dataclass(frozen=True)
class Attack:
    """What `attack.json` says: one attack, `n` test images, accuracies in [0, 1] at growing `radii`."""

    name: str
    norm: float
    steps: int
    n: int
    clean_accuracy: float
    radii: np.ndarray
    robust_accuracy: np.ndarray
    sandwich_ok: bool


@dataclass(frozen=True)
class Samples:
    """What `samples.npz` says of each of the n attacked test images.

    `x` (n, C, H, W) in [0, 1]; `y` (n,); `logits` (n, K); `certified_radius` (n,), NaN without certificate;
    `smallest_attack` (n,): the smallest attacked radius that changed a right answer, 0 where the clean answer is
    already wrong, inf where no attack succeeded. `adversarial` maps a sample to its (image, radius, prediction);
    `gallery` is one sample attacked at increasing radii: (index, images, radii, predictions).
    """

    x: np.ndarray
    y: np.ndarray
    logits: np.ndarray
    certified_radius: np.ndarray
    smallest_attack: np.ndarray
    adversarial: dict[int, tuple[np.ndarray, float, int]]
    gallery: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None

    @property
    def prediction(self) -> np.ndarray:
        """The network's answers, (n,)."""
        return self.logits.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """Where the network's answer is right, (n,) bool."""
        return self.prediction == self.y

    @property
    def certified(self) -> bool:
        """Whether the radii were proved by a certificate."""
        return not bool(np.isnan(self.certified_radius).any())


def read_attack(path: Path, todo: str) -> Attack:
    """Read `attack.json`; `todo` is what the user can do when that fails.

    Raises:
        InputError: missing, damaged, incomplete, or an attack in another norm than l2.
    """
    table = read_json(path, "the result of an attack", todo)
    how = field(table, "attack", path, todo)
    if not isinstance(how, dict) or how.get("norm") != 2:
        raise InputError(message(f"{path} is not an l2 attack ({how!r:.60})", "norm 2, as the certificate", todo))
    radii = numbers(table, "radii", path, todo)
    robust = numbers(table, "robust_accuracy", path, todo)
    fit = len(radii) == len(robust) > 0 and np.isfinite([radii, robust]).all()
    if not fit or radii[0] < 0 or (np.diff(radii) <= 0).any() or robust.min() < 0 or robust.max() > 1:
        given = f"{path} has radii {radii.tolist()!r:.60} and robust_accuracy {robust.tolist()!r:.60}"
        raise InputError(message(given, "growing radii with one accuracy in [0, 1] each", todo))
    try:
        attack = Attack(
            name=str(how["name"]),
            norm=float(how["norm"]),
            steps=int(how["steps"]),
            n=int(field(table, "n", path, todo)),
            clean_accuracy=float(field(table, "clean_accuracy", path, todo)),
            radii=radii,
            robust_accuracy=robust,
            sandwich_ok=bool(table.get("sandwich_ok", True)),
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        given = f"{path} is incomplete ({type(error).__name__}: {error})"
        raise InputError(message(given, "the attack's name, norm and steps, n and clean_accuracy", todo)) from None
    if not 0 <= attack.clean_accuracy <= 1:
        given = f"clean_accuracy in {path} is {attack.clean_accuracy}"
        raise InputError(message(given, "a number in [0, 1]", todo))
    return attack


def read_samples(path: Path, n: int, classes: int, todo: str) -> Samples:
    """Read `samples.npz` of an attack on `n` images; `todo` is what the user can do when that fails.

    Raises:
        InputError: missing, damaged, or the arrays do not fit `n`, `classes` or each other.
    """
    arrays = read_npz(path, ARRAYS, f"the {n} attacked images of attack.json", todo)
    shapes = {name: arrays[name].shape for name in ARRAYS}
    shapes_ok = len(shapes["x"]) == 4 and shapes["x"][0] == n
    expected = {"logits": (n, classes), "y": (n,), "certified_radius": (n,), "smallest_attack": (n,)}
    wrong = [name for name, shape in expected.items() if shapes[name] != shape] + ["x"] * (not shapes_ok)
    if n < 1 or wrong:
        given = f"{path} does not belong to attack.json" + "".join(f" ({k} is {shapes[k]})" for k in wrong[:1])
        raise InputError(message(given, f"{n} images and {classes} classes", todo))
    if arrays["y"].min() < 0 or arrays["y"].max() >= classes:
        raise InputError(message(f"{path} has labels out of range", f"labels from 0 to {classes - 1}", todo))
    adversarial = _adversarial(arrays, path, todo)
    gallery = _gallery(arrays, path, todo)
    stored = [(index, image, answer) for index, (image, _, answer) in adversarial.items()]
    if gallery is not None:
        index, images, _, answers = gallery
        stored += [(index, image, int(answer)) for image, answer in zip(images, answers, strict=True)]
    for index, image, answer in stored:
        if not (0 <= index < n and 0 <= answer < classes and image.shape == shapes["x"][1:]):
            given = f"{path} stores an attacked image {image.shape} of sample {index} with answer {answer}"
            raise InputError(message(given, f"images {shapes['x'][1:]} of samples 0 to {n - 1}", todo))
    return Samples(
        x=arrays["x"],
        y=arrays["y"],
        logits=arrays["logits"],
        certified_radius=arrays["certified_radius"],
        smallest_attack=arrays["smallest_attack"],
        adversarial=adversarial,
        gallery=gallery,
    )


def _adversarial(arrays: dict[str, np.ndarray], path: Path, todo: str) -> dict[int, tuple[np.ndarray, float, int]]:
    """The stored attacked image of smallest radius for each sample that has one."""
    if "x_adv" not in arrays:
        return {}
    _same_length(arrays, STORED, path, todo)
    best: dict[int, tuple[np.ndarray, float, int]] = {}
    images, index, radius, answer = (arrays[name] for name in STORED)
    for j in np.argsort(-radius, kind="stable"):
        best[int(index[j])] = (images[j], float(radius[j]), int(answer[j]))
    return best


def _gallery(
    arrays: dict[str, np.ndarray], path: Path, todo: str
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray] | None:
    if "gallery_x" not in arrays or not len(arrays["gallery_x"]):
        return None
    _same_length(arrays, GALLERY[:3], path, todo)
    images, radii, answers = (arrays[name] for name in GALLERY[:3])
    return int(arrays.get("gallery_index", 0)), images, radii, answers


def _same_length(arrays: dict[str, np.ndarray], names: tuple[str, ...], path: Path, todo: str) -> None:
    lengths = [len(arrays[name]) if name in arrays else None for name in names]
    if len(set(lengths)) > 1:
        given = f"{path}: {', '.join(names)} have lengths {lengths}"
        raise InputError(message(given, "arrays of one length", todo))
