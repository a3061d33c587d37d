"""Gradient steps on the data-fidelity term, with a denoiser after each or without: plug-and-play, ISTA, FISTA."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from .problem import Problem
from .solver import Denoiser, Solver, gradient_step


class ForwardBackward(Solver):
    """x+ = D(x - h grad f(x)): proximal gradient descent, and with any denoiser for D the plug-and-play method.

    - f strongly convex (mu > 0) and D 1-Lipschitz: a contraction with factor max(|1 - h mu|, |1 - h L|) for h < 2 / L.
    - f convex and D alpha-averaged: with a = h L / 2, T is (a + alpha - 2 a alpha) / (1 - a alpha)-averaged,
      |x_(k+1) - x_k| never grows, and the iterates converge if there is a fixed point (lecture, "Convergence under
      convexity"; Ogura & Yamada 2002 for the constant).

    With `SoftThreshold(h * weight)` it is ISTA for f + weight |x|_1; without a denoiser, gradient descent.

    Args:
        step: h < 2 / L; None is 1 / L.

    >>> from stablenets.inverse import solve
    >>> from stablenets.linear import Mask
    >>> problem = Problem(Mask([[1.0, 0.5]], (1, 1, 2)), torch.ones(1, 1, 1, 2, dtype=torch.float64))
    >>> solve(problem, solver=ForwardBackward(1.5)).x
    tensor([[[[1.0000, 2.0000]]]], dtype=torch.float64)
    """

    needs = "f strongly convex and a 1-Lipschitz denoiser, or f convex and an averaged denoiser"
    reference = "Combettes & Wajs 2005; lecture, 'The Plug-and-Play Method'"

    def __init__(self, step: float | None = None) -> None:
        super().__init__()
        self._set_step(step)

    def step_limit(self, problem: Problem) -> float:
        return math.nextafter(2 / problem.smoothness, 0.0) if problem.smoothness > 0 else math.inf

    def claims(self, problem: Problem, step: float, denoiser: Claims) -> Claims:
        return denoiser.after(gradient_step(problem, step))

    def iterates(self, problem: Problem, denoiser: Denoiser, step: float, x: Tensor) -> Iterator[Tensor]:
        while True:
            x = denoiser(torch.add(x, problem.gradient(x), alpha=-step))
            yield x

    def error(self, problem: Problem, denoiser_error: Callable[[Tensor], Tensor], step: float, z: Tensor) -> Tensor:
        moved = torch.add(z, problem.gradient(z), alpha=-step)
        sizes = (z.flatten(1).norm(dim=1) + moved.flatten(1).norm(dim=1)).double() * 2 * torch.finfo(z.dtype).eps
        return step * problem.gradient_error(z) + sizes + denoiser_error(moved)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(0.5)


class FISTA(Solver):
    """ForwardBackward with Nesterov's momentum, for a denoiser that is the proximal map of some g (after scaling by h).

    F(x_k) - min F <= 2 |x_0 - x*|^2 / (h (k + 1)^2) for F = f + g / h and h <= 1 / L. A claim about the objective: the
    iteration is not non-expansive, and residuals may grow. Nothing is known for denoisers that are no proximal maps.

    Args:
        step: h <= 1 / L; None is 1 / L.
    """

    needs = "f convex and a denoiser that is a proximal map"
    reference = "Beck & Teboulle 2009, Thm 4.4"

    def __init__(self, step: float | None = None) -> None:
        super().__init__()
        self._set_step(step)

    def step_limit(self, problem: Problem) -> float:
        if not problem.smoothness > 0:
            return math.inf
        largest = 1 / problem.smoothness  # itself allowed, if it is not rounded up
        exact = Fraction(largest) * Fraction(problem.smoothness) <= 1
        return math.nextafter(largest, math.inf) if exact else largest

    def claims(self, problem: Problem, step: float, denoiser: Claims) -> Claims:
        return Claims()

    def iterates(self, problem: Problem, denoiser: Denoiser, step: float, x: Tensor) -> Iterator[Tensor]:
        y, t = x, 1.0
        while True:
            new = denoiser(torch.add(y, problem.gradient(y), alpha=-step))
            yield new
            later = (1 + math.sqrt(1 + 4 * t * t)) / 2
            y, x, t = torch.add(new, new - x, alpha=(t - 1) / later), new, later

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
