"""Gradient ascent that halves its own steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from .ball import Ball, per_sample
from .base import positive
from .in_ball import BallAttack
from .victim import Victim, broken

FIRST = 2.0  # length of the first steps, relative to eps
MOMENTUM = 0.75  # share of the new point in each step
ENOUGH = 0.75  # share of steps that must climb
LONGEST, SHORTER, SHORTEST = 0.22, 0.03, 0.06  # intervals between looks, relative to all steps


class APGD(BallAttack):
    """Projected gradient steps with momentum, halved where they stop to climb (Croce & Hein 2020, algorithm 1).

    The loss is the margin. Steps begin at 2 eps; at set times each sample's step is halved, and its best point taken
    up again, when fewer than three quarters of the steps climbed, or when nothing was gained since the last look at
    the same step. A sample leaves the batch as soon as it is broken.

    Args:
        eps: radius of the ball, in the units of the network's input.
        norm: 2 or `math.inf`.
        steps: gradient steps.
        random_start: begin at a random point of the ball, not at the input.
        box, seed, batch_size: see `Attack`.

    >>> net = torch.nn.Linear(2, 2)
    >>> x, y = torch.full((1, 2), 0.5), torch.tensor([0])
    >>> float((APGD(0.1)(net, x, y) - x).norm()) <= 0.1
    True
    """

    def __init__(
        self,
        eps: float,
        norm: float = 2,
        steps: int = 100,
        *,
        random_start: bool = True,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(eps, norm, box=box, seed=seed, batch_size=batch_size)
        self.steps, self.random_start = steps, random_start
        positive(steps=steps)

    def within(self, victim: Victim, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Tensor:
        points = x.clone()
        z = ball.random(x, generator) if self.random_start else x
        m, gradient = victim.ascent(z, y)
        rows, none = torch.arange(len(x), device=x.device), torch.zeros_like(m)
        climb = _Climb(rows, x, y, z, z, z, m, m, gradient, gradient, torch.ones_like(m), m, none, none > 0)
        last_look, looks = 0, _looks(self.steps)
        for k in range(self.steps):
            points[climb.rows] = climb.best
            on = ~broken(climb.best_m)
            if not bool(on.any()):
                break
            if not bool(on.all()):
                climb, ball = climb.keep(on), ball.rows(on)
            z = climb.step(ball, 1.0 if k == 0 else MOMENTUM)
            if bool((blind := climb.gradient.flatten(1).abs().amax(1) == 0).any()):
                z[blind] = ball.rows(blind).random(climb.x[blind], generator)
            climb.arrive(z, *victim.ascent(z, climb.y))
            if k + 1 in looks:
                climb.look(k + 1 - last_look)
                last_look = k + 1
        points[climb.rows] = climb.best
        return points

    def lighter(self) -> dict[str, int]:
        return {"steps": max(self.steps // 10, 1)}

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.5, steps=10)
        yield cls(0.1, float("inf"), steps=10, random_start=False)


def _looks(steps: int) -> set[int]:
    """The steps after which the size of the steps is reconsidered (section 3.1 of the paper)."""
    times, interval = [0.0, LONGEST], LONGEST
    while times[-1] < 1:
        interval = max(interval - SHORTER, SHORTEST)
        times.append(times[-1] + interval)
    return {-int(-steps * t // 1) for t in times[1:] if t <= 1}


@dataclass
class _Climb:
    """The samples that are still climbing, one row each."""

    rows: Tensor
    x: Tensor
    y: Tensor
    z: Tensor
    before: Tensor
    best: Tensor
    m: Tensor
    best_m: Tensor
    gradient: Tensor
    best_gradient: Tensor
    size: Tensor  # of the steps, relative to the first
    best_m_at_look: Tensor
    climbed: Tensor  # how many steps climbed since the last look
    halved: Tensor  # whether the last look halved the steps

    def keep(self, on: Tensor) -> _Climb:
        return _Climb(**{name: value[on] for name, value in vars(self).items()})

    def step(self, ball: Ball, share: float) -> Tensor:
        """The next points: a projected step of length 2 eps * size, averaged with the last move."""
        length = FIRST * ball.radius(self.z) * per_sample(self.size.to(self.z.dtype), self.z)
        z = ball.approach(self.x, self.z + length * ball.ascent(self.gradient))
        return ball.approach(self.x, self.z + share * (z - self.z) + (1 - share) * (self.z - self.before))

    def arrive(self, z: Tensor, m: Tensor, gradient: Tensor) -> None:
        self.climbed = self.climbed + (m > self.m)
        self.before, self.z, self.m, self.gradient = self.z, z, m, gradient
        better = ~(m <= self.best_m)
        self.best = torch.where(per_sample(better, z), z, self.best)
        self.best_m = torch.where(better, m, self.best_m)
        self.best_gradient = torch.where(per_sample(better, z), gradient, self.best_gradient)

    def look(self, interval: int) -> None:
        """Halve the steps of the samples that do not get on, and take up their best points again."""
        stuck = ~self.halved & (self.best_m <= self.best_m_at_look)
        self.halved = stuck | (self.climbed < ENOUGH * interval)
        self.size = torch.where(self.halved, self.size / 2, self.size)
        self.best_m_at_look, self.climbed = self.best_m, torch.zeros_like(self.climbed)
        back = per_sample(self.halved, self.z)
        self.z, self.before = torch.where(back, self.best, self.z), torch.where(back, self.best, self.before)
        self.m = torch.where(self.halved, self.best_m, self.m)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)
