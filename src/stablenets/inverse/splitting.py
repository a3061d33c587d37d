"""Solvers that invert the data-fidelity term instead of following its gradient: no limit on the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import Averaged, Lipschitz, Property
from .problem import Problem
from .solver import Denoiser, Solver, proximal_step, up


class HalfQuadraticSplitting(Solver):
    """x+ = D(prox_hf(x)), with one h throughout.

    prox_hf is 1/2-averaged and 1 / (1 + h mu)-Lipschitz: a contraction if mu > 0 and D is 1-Lipschitz; averaged, for
    every h, if D is.

    Args:
        step: h, any positive number; None is 1 / L.
    """

    needs = "f strongly convex and a 1-Lipschitz denoiser, or f convex and an averaged denoiser"
    reference = "Geman & Yang 1995; Bauschke & Combettes, Thm 5.15"

    def __init__(self, step: float | None = None) -> None:
        super().__init__()
        self._set_step(step)

    def claims(self, problem: Problem, step: float, denoiser: Claims) -> Claims:
        return denoiser.after(proximal_step(problem, step))

    def iterates(self, problem: Problem, denoiser: Denoiser, step: float, x: Tensor) -> Iterator[Tensor]:
        while True:
            x = denoiser(problem.prox(x, step))
            yield x

    def error(self, problem: Problem, denoiser_error: Callable[[Tensor], Tensor], step: float, z: Tensor) -> Tensor:
        moved = problem.prox(z, step)
        return problem.prox_error(z, moved, step) + denoiser_error(moved)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(2.0)


class ADMM(Solver):
    """The alternating direction method of multipliers, as the Douglas-Rachford splitting that it is (Gabay 1983):

        u = prox_hf(z),  z+ = z + D(2 u - z) - u,  with u as the solution.

    Needs a *firmly* non-expansive D (1/2-averaged: 2 D - I non-expansive); an averaged one is not enough. The iteration
    is then 1/2-averaged, and if mu > 0 a contraction with factor (1 + d) / 2, where
    d = max(|1 - h mu| / (1 + h mu), |1 - h L| / (1 + h L)) is the Lipschitz constant of 2 prox_hf - I.

    Args:
        step: h, any positive number; None is 1 / L.
    """

    needs = "f convex and a firmly non-expansive (1/2-averaged) denoiser"
    reference = "Lions & Mercier 1979; Giselsson & Boyd 2017, Thm 2"

    def __init__(self, step: float | None = None) -> None:
        super().__init__()
        self._set_step(step)

    def claims(self, problem: Problem, step: float, denoiser: Claims) -> Claims:
        averaged = denoiser.get(Averaged)
        if averaged is None or averaged.alpha > 0.5:
            return Claims()
        found: list[Property] = [Averaged(0.5)]
        ends = [Fraction(step) * Fraction(v) for v in (problem.convexity, problem.smoothness)]
        reflected = max(abs(1 - e) / (1 + e) for e in ends)
        return Claims([*found, Lipschitz(up((1 + reflected) / 2))])

    def iterates(self, problem: Problem, denoiser: Denoiser, step: float, x: Tensor) -> Iterator[Tensor]:
        z = x
        while True:
            u = problem.prox(z, step)
            z = z + denoiser(2 * u - z) - u
            yield z

    def solution(self, problem: Problem, step: float, z: Tensor) -> Tensor:
        return problem.prox(z, step)

    def shrink(self, problem: Problem, step: float) -> float:
        return up(1 / (1 + Fraction(step) * Fraction(problem.convexity)))

    def solution_error(self, problem: Problem, step: float, z: Tensor) -> Tensor:
        return problem.prox_error(z, problem.prox(z, step), step)

    def error(self, problem: Problem, denoiser_error: Callable[[Tensor], Tensor], step: float, z: Tensor) -> Tensor:
        u = problem.prox(z, step)
        # D(2 u - z) is off by at most twice the error of u, since D is non-expansive
        sizes = sum(v.flatten(1).norm(dim=1).double() for v in (z, u)) * 8 * torch.finfo(z.dtype).eps
        return 3 * problem.prox_error(z, u, step) + denoiser_error(2 * u - z) + sizes

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()
        yield cls(2.0)
