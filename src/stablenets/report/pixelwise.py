"""Accuracy under changes of at most eps in every entry: what attack-linf.json says, and what l2 certificates prove."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError, message
from .readers import field, numbers, read_json
from .run import Run


@dataclass(frozen=True)
class Pixelwise:
    """Accuracies in [0, 1] of `images` test images at growing l-infinity `radii`, attacked by `attack`.

    `proved` is None without a certificate; it is that of the l2 radii, divided by the root of the number of `entries`.
    `wrong`: the attack refuted the certificate.
    """

    name: str
    attack: str
    images: int
    entries: int
    radii: np.ndarray
    attacked: np.ndarray
    proved: np.ndarray | None
    wrong: bool

    @property
    def rows(self) -> list[tuple[float, float | None, float]]:
        """Radius, proved and attacked accuracy."""
        proved = [None] * len(self.radii) if self.proved is None else self.proved.tolist()
        return list(zip(self.radii.tolist(), proved, self.attacked.tolist(), strict=True))


def pixelwise(run: Run) -> Pixelwise | None:
    """What attack-linf.json says of a run; None where there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = run.path / "attack-linf.json"
    if not path.exists():
        return None
    todo = f"Attack again: {run.command('attack')} --norm linf"
    table = read_json(path, "the result of an l-infinity attack", todo)
    radii, attacked = numbers(table, "radii", path, todo), numbers(table, "robust_accuracy", path, todo)
    proved = None if field(table, "certified_accuracy", path, todo) is None else table["certified_accuracy"]
    sure = None if proved is None else numbers(table, "certified_accuracy", path, todo)
    lists = [radii, attacked] if sure is None else [radii, attacked, sure]
    how, counts = field(table, "attack", path, todo), [field(table, key, path, todo) for key in ("n", "entries")]
    good = len({len(values) for values in lists}) == 1 and all(isinstance(n, int) and n > 0 for n in counts)
    if not (good and np.isfinite(lists).all() and isinstance(how, dict) and how.get("norm") == "linf"):
        given = f"{path} holds {how!r:.60} and {len(radii)} radii"
        raise InputError(message(given, "an l-infinity attack, with an accuracy for each radius", todo))
    wrong = not table.get("sandwich_ok", True)
    return Pixelwise(run.name, str(how.get("name")), counts[0], counts[1], radii, attacked, sure, wrong)
