"""What an error to plant is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One planted error: in `file`, `old` becomes `new`; `tests` are pytest's arguments, relative to tests/."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def claims(keyword: str) -> tuple[str, ...]:
    return ("test_claims.py", "-k", keyword)
