"""Projected gradient ascent on the margin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .ball import Ball
from .base import Attack, positive
from .victim import Victim, broken

LAST_STEP = 0.003  # size of the last step, relative to the first


class PGD(Attack):
    """Steps along the normalised gradient, each followed by a projection on the ball (chapter 6.2; Madry et al. 2018).

    The loss is the margin max_{j != y} z_j - z_y. A sample leaves the batch as soon as it is broken, since only
    whether it can be broken within `eps` matters; for the others the strongest point visited is returned. The first
    start is the input itself, further ones are random points of the ball. Where the gradient vanishes, a random point
    of the ball comes next, and the user is warned.

    Args:
        eps: radius of the ball, in the units of the network's input.
        norm: 2 or `math.inf`.
        steps: gradient steps per start.
        step_size: length of every step. The default starts at `eps`, which breaks most fragile samples within three
            steps (a constant step of 0.1 eps takes about ten), and shrinks geometrically to 0.003 eps, which ends at
            points a little stronger than those of any constant step.
        restarts: number of starts.
        box, seed, batch_size: see `Attack`.

    The points returned obey |x_adv - x| <= eps as measured in float64 on the tensor returned, and lie in the box.

    >>> net = torch.nn.Linear(2, 2)
    >>> x, y = torch.full((1, 2), 0.5), torch.tensor([0])
    >>> float((PGD(0.1)(net, x, y) - x).norm()) <= 0.1
    True
    """

    def __init__(
        self,
        eps: float,
        norm: float = 2,
        steps: int = 100,
        *,
        step_size: float | None = None,
        restarts: int = 1,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(box=box, seed=seed, batch_size=batch_size)
        self.eps, self.norm, self.steps, self.step_size, self.restarts = eps, norm, steps, step_size, restarts
        self.ball = Ball(eps, norm, self.box)
        positive(steps=steps, restarts=restarts)
        if step_size is not None and not (math.isfinite(step_size) and step_size > 0):
            raise InputError(message(f"step_size={step_size}", "a positive, finite length, or None"))

    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        if self.eps == 0:
            return x
        points = x.clone()
        margin = _nothing(x)
        for restart in range(self.restarts):
            rest = (~broken(margin)).nonzero()[:, 0]
            if len(rest) == 0:
                break
            start = x[rest] if restart == 0 else self.ball.random(x[rest], generator)
            reached, size = self._ascend(victim, x[rest], start, y[rest], generator)
            better = ~(size <= margin[rest])
            points[rest[better]], margin[rest[better]] = reached[better], size[better]
        return points

    def _ascend(
        self, victim: Victim, x: Tensor, z: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """One run from `z`: the first point that breaks each sample, or else the strongest one, and its margin."""
        points, margin = z.clone(), _nothing(x)
        live = torch.arange(len(x), device=x.device)
        for k in range(self.steps + 1):
            last = k == self.steps
            m, gradient = (victim.margins(z, y), z) if last else victim.ascent(z, y)
            better = ~(m <= margin[live])
            points[live[better]], margin[live[better]] = z[better], m[better]
            on = ~broken(m)
            if last or not bool(on.any()):
                break
            if not bool(on.all()):
                live, x, y, z, gradient = live[on], x[on], y[on], z[on], gradient[on]
            z = self.ball.project(x, z + self._step(k) * self.ball.ascent(gradient))
            if bool((blind := (gradient == 0).flatten(1).all(1)).any()):
                z[blind] = self.ball.random(x[blind], generator)
        return points, margin

    def _step(self, k: int) -> float:
        return self.eps * LAST_STEP ** (k / self.steps) if self.step_size is None else self.step_size

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.5, steps=10)
        yield cls(0.1, math.inf, steps=10, restarts=2)


def _nothing(x: Tensor) -> Tensor:
    """The margins before anything is found."""
    return torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
