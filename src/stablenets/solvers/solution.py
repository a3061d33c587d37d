"""What a solve returns: states, how each sample ended, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor


class Status(IntEnum):
    """How the solve of a sample ended."""

    DONE = 0
    STEP_LIMIT = 1
    """The integrator's `max_steps` were used up."""
    NON_FINITE = 2
    """States or slopes were not finite, or steps fell below the rounding of the time: a singularity."""
    UNSOLVED = 3
    """The equation of an implicit step was not solved."""


@dataclass(frozen=True)
class Stats:
    """What a solve took, sample by sample, each (batch,).

    Attributes:
        evaluations: of the field; None for methods that do not know it (implicit ones).
        accepted, rejected: steps.
    """

    evaluations: Tensor | None
    accepted: Tensor
    rejected: Tensor


@dataclass(frozen=True)
class Solution:
    """The solution of an initial value problem at the requested times.

    Attributes:
        states: (times, batch, ...). Where a sample was not solved: NaN from there on, and constants before.
        status: (batch,), values of `Status`.
        stats: what it took.
    """

    states: Tensor
    status: Tensor
    stats: Stats

    @property
    def done(self) -> Tensor:
        """Which samples reached the last time, (batch,)."""
        return self.status == Status.DONE
