"""What a check found, and how checks are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Verdict = tuple[bool, str]
Check = tuple[str, Callable[[], Verdict]]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: what was checked.
        ok: whether it holds.
        detail: one sentence: how it was seen to hold, or how badly it is violated.
    """

    check: str
    ok: bool
    detail: str

    def __str__(self) -> str:
        """One line.

        >>> print(Finding("registered", True, "as 'Euler' among the integrators."))
        ok      registered: as 'Euler' among the integrators.
        """
        return f"{'ok' if self.ok else 'FAILED':7} {self.check}: {self.detail}"


def run(checks: Iterable[Check]) -> list[Finding]:
    """Run checks; one that raises has failed, and says how."""
    findings = []
    for name, check in checks:
        try:
            ok, detail = check()
        except Exception as error:  # a stranger's code may raise anything: it is the finding
            ok, detail = False, f"raised {type(error).__name__}: {error}"
        findings.append(Finding(name, ok, detail))
    return findings
