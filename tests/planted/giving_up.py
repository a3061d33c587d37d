"""Errors in giving samples up, and in attempts against certificates."""

from __future__ import annotations

from .mutant import Mutant

GIVEN_UP = ("test_giving_up.py", "-x", "-k", "step or steep or vanished or infinity or 2")

MUTANTS = [
    Mutant(
        "giving up: far too early",
        "attack/pgd.py",
        "STEEPER = 2  #",
        "STEEPER = 0.2  #",
        GIVEN_UP,
    ),
    Mutant(
        "giving up: where the gradient vanishes, too",
        "attack/pgd.py",
        "on &= (slope == 0) | (-m <=",
        "on &= (-m <=",
        GIVEN_UP,
    ),
    Mutant(
        "giving up: the norm of the step in place of its dual",
        "attack/ball.py",
        "2 if self.norm == 2 else 1, 1)",
        "2 if self.norm == 2 else math.inf, 1)",
        GIVEN_UP,
    ),
    Mutant(
        "refute: nothing counts as broken",
        "testing/radii.py",
        "self.done += Attempts(len(which), int(broken.sum()), 1.0)",
        "self.done += Attempts(len(which), 0, 1.0)",
        ("test_refute_radii.py", "-k", "teeth"),
    ),
    Mutant(
        "refute: scores that are not finite answer as before",
        "testing/radii.py",
        "| ~scores.isfinite().all(1)",
        "| False",
        ("test_refute_radii.py", "-k", "not_finite"),
    ),
    Mutant(
        "refute: other attempts replace a success",
        "commands/refute.py",
        "if any(broken for _, broken in rows):",
        "if False:",
        ("test_refute_radii.py", "-k", "neither_forgotten"),
    ),
]
