"""One kind of error for the user, and one way to word it: what was given, what is needed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StableNetsError(Exception):
    """An error the user can act on. The command line prints it on one line and exits with code 2."""


class InputError(StableNetsError, ValueError):
    """What was given cannot be used: a file, an option, a shape, a name."""


class ClaimError(StableNetsError, ValueError):
    """Something was asked to be proved that does not follow."""


class ConvergenceError(StableNetsError, ArithmeticError):
    """An equation was not solved to rounding; `samples` are the indices in the batch of those it was not solved for."""

    def __init__(self, text: str, samples: Iterable[int] = ()) -> None:
        super().__init__(text)
        self.samples = tuple(samples)


class IntegrationError(StableNetsError, ArithmeticError):
    """A differential equation was not solved for some samples; they are named."""


class TrainingError(StableNetsError, RuntimeError):
    """Training stopped; the last good checkpoint is named."""


def message(given: str, needed: str, todo: str = "") -> str:
    """Word an error: `given`, then what is `needed`, then what to do.

    >>> message("'mnits' is not a data set", "one of digits, mnist", "Did you mean 'mnist'?")
    "'mnits' is not a data set; needed: one of digits, mnist. Did you mean 'mnist'?"
    """
    return f"{given}; needed: {needed}." + (f" {todo}" if todo else "")


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that is not registered, with the nearest valid names.

    >>> str(unknown_name("data set", "mnits", ["digits", "mnist"]))
    "unknown data set 'mnits'; needed: one of digits, mnist. Did you mean 'mnist'?"
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    todo = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return InputError(message(f"unknown {kind} {name!r}", f"one of {', '.join(names)}", todo))
