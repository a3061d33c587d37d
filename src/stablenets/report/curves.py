"""The numbers behind the pictures: certified and attacked accuracy against the l2 radius of the perturbation."""

from __future__ import annotations

import numpy as np

from .results import Attack, Samples
from .run import Run

# The radius most papers on l2 certificates report: 36 grey levels of 255 in one pixel.
USUAL_RADIUS = 36 / 255


def certified_accuracy(samples: Samples, radii: np.ndarray) -> np.ndarray:
    """The fraction of samples that are right and whose certified radius is *greater* than each of `radii`.

    Exact: a step function of the radius, counted, not interpolated. Shape as `radii`, values in [0, 1].
    """
    proved = np.sort(samples.certified_radius[samples.correct])
    return (len(proved) - np.searchsorted(proved, radii, side="right")) / len(samples.y)


def attacked(attack: Attack) -> tuple[np.ndarray, np.ndarray]:
    """Radii and accuracies of the attack, starting at radius 0 with the clean accuracy."""
    if attack.radii[0] == 0:
        return attack.radii, attack.robust_accuracy
    return np.append(0.0, attack.radii), np.append(attack.clean_accuracy, attack.robust_accuracy)


def attacked_at(attack: Attack, radius: float) -> float | None:
    """Accuracy under the attack at a radius that was attacked (to 1e-9), else None."""
    radii, accuracy = attacked(attack)
    nearest = int(np.abs(radii - radius).argmin())
    return float(accuracy[nearest]) if abs(radii[nearest] - radius) < 1e-9 else None


def contradictions(samples: Samples) -> int:
    """How many right answers were broken by an attack inside their certified radius: must be 0."""
    if not samples.certified:
        return 0
    return int((samples.correct & (samples.smallest_attack < samples.certified_radius)).sum())


def all_radii(runs: list[Run]) -> np.ndarray:
    """Every radius at which one of the runs was attacked, growing, with 0."""
    radii = [attacked(run.attack)[0] for run in runs if run.attack is not None]
    return np.unique(np.concatenate([np.zeros(1), *radii]))


def headline_radius(runs: list[Run]) -> float:
    """The attacked radius nearest to 36/255 that most runs share; 36/255 itself where nothing was attacked."""
    attacks = [run.attack for run in runs if run.attack is not None]
    radii = [r for r in all_radii(runs) if r > 0]
    if not radii:
        return USUAL_RADIUS
    shared = [sum(attacked_at(attack, r) is not None for attack in attacks) for r in radii]
    candidates = [r for r, count in zip(radii, shared, strict=True) if count == max(shared)]
    return float(min(candidates, key=lambda r: abs(r - USUAL_RADIUS)))
