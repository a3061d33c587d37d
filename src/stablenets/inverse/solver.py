"""What a solver is: an iteration, the claims that it needs, and what they prove about it."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import ClassVar

from torch import Tensor

from ..core.claims import Claims
from ..core.component import Component
from ..core.errors import ClaimError, InputError, message
from ..core.properties import Averaged, Lipschitz, Property, rounded
from .problem import Problem

Denoiser = Callable[[Tensor], Tensor]


class Solver(Component, root=True):
    """An iteration z_(k+1) = T(z_k) made of a data-fidelity term f and a denoiser D.

    Attributes:
        step: h, in units of 1 / L; None is 1 / L for the L of the problem, from its proved norm.
        needs: the claims that its theorem asks of the denoiser, in words.
        reference: of the theorem.
    """

    step: float | None
    needs: ClassVar[str]
    reference: ClassVar[str]

    def _set_step(self, step: float | None) -> None:
        if step is not None and not 0 < step < math.inf:
            raise InputError(message(f"step={step}", "a positive, finite step"))
        self.step = step

    def step_limit(self, problem: Problem) -> float:
        """The least step that no theorem covers; infinite where any step will do."""
        return math.inf

    def step_size(self, problem: Problem) -> float:
        """The step for a problem.

        Raises:
            ClaimError: a step outside the theorem; its limit is named.
        """
        limit = self.step_limit(problem)
        if self.step is None:
            return min(1 / max(problem.smoothness, 1e-30), math.nextafter(limit, 0.0))
        step = self.step
        if not step < limit:
            given = f"step {step!r} for an L of {problem.smoothness!r} ({problem.operator.norm_theorem})"
            raise ClaimError(message(given, f"a step below {limit!r}", f"{type(self).__name__} may diverge with it."))
        return step

    @abc.abstractmethod
    def claims(self, problem: Problem, step: float, denoiser: Claims) -> Claims:
        """What is proved of T, given what is proved of the denoiser."""

    @abc.abstractmethod
    def iterates(self, problem: Problem, denoiser: Denoiser, step: float, x: Tensor) -> Iterator[Tensor]:
        """z_1, z_2, ... from z_0 = x."""

    def solution(self, problem: Problem, step: float, z: Tensor) -> Tensor:
        """The image that belongs to z."""
        return z

    def error(self, problem: Problem, denoiser_error: Callable[[Tensor], Tensor], step: float, z: Tensor) -> Tensor:
        """Bounds (batch,) of the rounding error of one evaluation of T at `z`, given those of the denoiser."""
        raise NotImplementedError(f"{type(self).__name__} is no contraction")

    def shrink(self, problem: Problem, step: float) -> float:
        """A Lipschitz constant of `solution` as a function of z."""
        return 1.0

    def solution_error(self, problem: Problem, step: float, z: Tensor) -> float | Tensor:
        """Bounds (batch,) of the rounding error of `solution` at `z`."""
        return 0.0


def gradient_step(problem: Problem, h: float) -> Claims:
    """Claims of x - h grad f(x), where the Hessian of f is constant with eigenvalues in [mu, L].

    It is max(|1 - h mu|, |1 - h L|)-Lipschitz, and (h L / 2)-averaged for 0 < h < 2 / L (lecture, "averaged maps";
    Bauschke & Combettes, Prop. 4.39).
    """
    step, mu, smooth = Fraction(h), Fraction(problem.convexity), Fraction(problem.smoothness)
    found: list[Property] = [Lipschitz(up(max(abs(1 - step * mu), abs(1 - step * smooth))))]
    alpha = up(step * smooth / 2)
    return Claims([*found, Averaged(alpha)] if 0 < alpha < 1 else found)


def proximal_step(problem: Problem, h: float) -> Claims:
    """Claims of the proximal map of h f: 1/2-averaged, and 1 / (1 + h mu)-Lipschitz.

    Reference: Bauschke & Combettes, Prop. 12.28 and 23.13.
    """
    return Claims([Averaged(0.5), Lipschitz(up(1 / (1 + Fraction(h) * Fraction(problem.convexity))))])


def up(x: Fraction) -> float:
    """The least float that is not below x."""
    return rounded(x, math.inf)
