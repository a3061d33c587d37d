"""How often attacks tried to refute a certificate inside its radii: what `stablenets refute` counted."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from ..core.errors import InputError, message
from .readers import field, read_json
from .run import Run


@dataclass(frozen=True)
class Tally:
    """Attempts inside the certified radii of `images` test images; `rows` holds name, attempts and successes of each
    kind of attempt."""

    name: str
    images: int
    rows: tuple[tuple[str, int, int], ...]

    @property
    def tried(self) -> int:
        """All attempts."""
        return sum(row[1] for row in self.rows)

    @property
    def broken(self) -> int:
        """Those that changed a certified answer; each refutes the certificate."""
        return sum(row[2] for row in self.rows)


def tally(run: Run) -> Tally | None:
    """The counts in refuted.json; None where there are none, or none about the present certificate.

    Raises:
        InputError: the file is damaged.
    """
    path = run.path / "refuted.json"
    if run.certificate is None or not path.exists():
        return None
    todo = f"Delete it, then run: stablenets refute {shlex.quote(str(run.path))}"
    table = read_json(path, "counts of attempts", todo)
    if any(field(table, key, path, todo) != run.certificate.get(key) for key in ("weights_sha256", "dtype")):
        return None
    images, attempts = field(table, "n", path, todo), field(table, "attempts", path, todo)
    try:
        rows = tuple((str(name), int(row["tried"]), int(row["broken"])) for name, row in attempts.items())
        return Tally(run.name, int(images), rows)
    except (AttributeError, KeyError, TypeError, ValueError):
        given = f"'attempts' in {path} is {attempts!r:.60}"
        raise InputError(message(given, "for each attack the numbers tried and broken", todo)) from None
