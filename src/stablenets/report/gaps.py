"""What is proved and what was found of each image, side by side: in the l2 norm, and in pixels of deformation."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError, message
from .readers import field, read_json, read_npz
from .run import Run

DEFORMED = ("index", "y", "prediction", "certified", "found")
SHOWN = ("shown", "shown_x", "shown_tau", "shown_adv", "shown_prediction")
ROUNDING = 1 - 1e-9  # attacks measure their size with rounding errors


@dataclass(frozen=True)
class Example:
    """An image (C, H, W), what an attack made of it, and the class answered then. `tau` (H, W, 2) is in pixels."""

    x: np.ndarray
    x_adv: np.ndarray
    answer: int
    tau: np.ndarray | None = None


@dataclass(frozen=True)
class Gap:
    """Radii of n images that are answered rightly: certified (0 where nothing is) and of the smallest attack found.

    `found` is inf where no attack succeeded, of those that were tried up to `limit`; `attack` names what found it;
    `index` is the place in the test set, `y` the class, and `examples` maps a place among the n to images.
    """

    index: np.ndarray
    y: np.ndarray
    certified: np.ndarray
    found: np.ndarray
    attack: np.ndarray
    limit: float
    examples: dict[int, Example]

    @property
    def wrong(self) -> np.ndarray:
        """Places of images that an attack broke within their certified radius: each refutes the certificate."""
        return np.flatnonzero(self.found < self.certified * ROUNDING)

    @property
    def width(self) -> np.ndarray:
        """Smallest attack found less certified radius (n,)."""
        return self.found - self.certified

    def widest(self, count: int) -> np.ndarray:
        """Places of the `count` images of the widest gap that have an example, the widest first."""
        shown = np.array(sorted(self.examples), dtype=np.int64)
        width = np.where(np.isfinite(self.width), self.width, -np.inf)[shown]
        return shown[np.argsort(-width, kind="stable")][:count]


def l2_gap(run: Run) -> Gap | None:
    """The gap in the l2 norm: samples.npz, and the norms in smallest.npz where there are any; None without proof.

    Raises:
        InputError: smallest.npz is damaged, or not of the attacked images.
    """
    samples, attack = run.samples, run.attack
    if not run.certified or samples is None or attack is None:
        return None
    found, names = samples.smallest_attack.astype(np.float64), np.full(len(samples.y), attack.name, dtype=object)
    if (path := run.path / "smallest.npz").exists():
        todo = f"Attack again: {run.command('attack')}"
        arrays = read_npz(path, ("radius", "attack", "indices"), "radii of attacks", todo)
        radius, at, by = arrays["radius"], arrays["indices"], np.atleast_1d(arrays["attack"])
        fits = radius.shape == at.shape and radius.ndim == 1 and len(by) in (1, len(at))
        if not fits or at.dtype.kind not in "iu" or (len(at) and at.min() < 0):
            raise InputError(message(f"{path} has arrays that do not fit", "a radius for each of its images", todo))
        inside = at < len(found)
        at, radius, by = at[inside], radius[inside], np.broadcast_to(by, at.shape)[inside]
        found[at], names[at] = radius, by.astype(object)
    right = samples.correct & (found > 0)
    places = np.flatnonzero(right)
    examples = {}
    for place, i in enumerate(places.tolist()):
        if i in samples.adversarial and names[i] == attack.name:  # the image shown is what found the radius
            image, _, answer = samples.adversarial[i]
            examples[place] = Example(samples.x[i], image, answer)
    certified = samples.certified_radius[places]
    limit = float(attack.radii[-1])
    return Gap(places, samples.y[places], certified, found[places], names[places], limit, examples)


def pixel_gap(run: Run) -> Gap | None:
    """The gap in pixels of deformation: deformations.npz; None where nothing was deformed.

    Raises:
        InputError: a file is damaged, or holds certified radii without a certificate.
    """
    path = run.path / "deformations.npz"
    if not (run.path / "deformations.json").exists():
        return None
    todo = f"Deform again: stablenets deform {shlex.quote(str(run.path))}"
    arrays = read_npz(path, (*DEFORMED, *SHOWN), "radii of deformations", todo)
    limit = field(read_json(path.with_suffix(".json"), "a summary", todo), "limit", path.with_suffix(".json"), todo)
    index, y, prediction, certified, found = (arrays[name] for name in DEFORMED)
    if len({a.shape for a in (index, y, prediction, certified, found)}) > 1 or index.ndim != 1:
        raise InputError(message(f"{path} has arrays that do not fit", "one number for each image", todo))
    if run.certificate is None and not np.isnan(certified).all():
        raise InputError(message(f"{path} holds certified radii", "the certificate that proves them", todo))
    places = np.flatnonzero((found > 0) & (prediction == y))
    shown, x, tau, x_adv, answers = (arrays[name] for name in SHOWN)
    at = {int(i): k for k, i in enumerate(shown)}
    examples = {
        place: Example(x[at[i]], x_adv[at[i]], int(answers[at[i]]), tau[at[i]])
        for place, i in enumerate(places.tolist())
        if i in at
    }
    proved = np.nan_to_num(certified[places])
    names = np.full(len(places), "ADef", dtype=object)
    return Gap(index[places], y[places], proved, found[places], names, float(limit), examples)
