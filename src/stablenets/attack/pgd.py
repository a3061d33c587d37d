"""Projected gradient ascent on the margin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .ball import Ball
from .base import positive
from .in_ball import BallAttack
from .objectives import cross_entropy as loss
from .objectives import margin as lead
from .victim import Victim, broken

LAST_STEP = 0.003  # size of the last step, relative to the first
LIGHTER = 10  # a light attack takes steps / LIGHTER
STEEPER = 2  # a sample is given up if its margin, were it so many times as steep as it is, could not reach 0 any more


class PGD(BallAttack):
    """Steps along the normalised gradient, each followed by a projection on the ball (chapter 6.2; Madry et al. 2018).

    The loss is the margin max_{j != y} z_j - z_y. A sample leaves the batch as soon as it is broken, since only
    whether it can be broken within `eps` matters; for the others the strongest point visited is returned. In the second
    half of the steps a sample also leaves when the steps that remain, together, are too short to break it, even if the
    margin grew twice as fast as its gradient says. The first start is the input itself, further ones are random points
    of the ball. Where the gradient vanishes, a random point of the ball comes next, and the user is warned.

    Args:
        eps: radius of the ball, in the units of the network's input.
        norm: 2 or `math.inf`.
        steps: gradient steps per start.
        step_size: length of the first step. The default, `eps`, breaks most fragile samples within three steps (a
            constant step of 0.1 eps takes about ten).
        decay: length of the last step relative to the first; steps shrink geometrically. By default 0.003, which ends
            at points a little stronger than those of any constant step; and 1, constant steps, if `step_size` is given.
        momentum: weight of the earlier directions in each step (Dong et al. 2018, (6)); 0: none.
        restarts: number of starts.
        cross_entropy: climb -log p_y in place of the margin, as most libraries do: weaker where it saturates, so only
            to compare with them.
        patient: take every step with every sample that is not broken; always so with the cross-entropy, whose gradient
            does not tell how fast the margin grows.
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
        decay: float | None = None,
        momentum: float = 0.0,
        restarts: int = 1,
        cross_entropy: bool = False,
        patient: bool = False,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(eps, norm, box=box, seed=seed, batch_size=batch_size)
        self.steps, self.step_size, self.decay = steps, step_size, decay
        self.momentum, self.restarts = momentum, restarts
        self.cross_entropy, self.patient = cross_entropy, patient
        positive(steps=steps, restarts=restarts)
        if step_size is not None and not (math.isfinite(step_size) and step_size > 0):
            raise InputError(message(f"step_size={step_size}", "a positive, finite length, or None"))
        if decay is not None and not 0 < decay <= 1:
            raise InputError(message(f"decay={decay}", "a number in (0, 1], or None"))
        if not 0 <= momentum < 1:
            raise InputError(message(f"momentum={momentum}", "a number in [0, 1)"))

    def within(self, victim: Victim, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Tensor:
        points = x.clone()
        margin = _nothing(x)
        for restart in range(self.restarts):
            rest = (~broken(margin)).nonzero()[:, 0]
            if len(rest) == 0:
                break
            near = ball.rows(rest)
            start = x[rest] if restart == 0 else near.random(x[rest], generator)
            reached, size = self._ascend(victim, x[rest], start, y[rest], near, generator)
            better = ~(size <= margin[rest])
            points[rest[better]], margin[rest[better]] = reached[better], size[better]
        return points

    def _ascend(
        self, victim: Victim, x: Tensor, z: Tensor, y: Tensor, ball: Ball, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """One run from `z`: the first point that breaks each sample, or else the strongest one, and its margin."""
        points, margin = z.clone(), _nothing(x)
        live = torch.arange(len(x), device=x.device)
        velocity = torch.zeros_like(x) if self.momentum else None
        objective = loss if self.cross_entropy else lead
        for k in range(self.steps + 1):
            last = k == self.steps
            m, gradient = (victim.margins(z, y), z) if last else victim.ascent(z, y, objective)
            better = ~(m <= margin[live])
            points[live[better]], margin[live[better]] = z[better], m[better]
            on = ~broken(m)
            if not (last or self.patient or self.cross_entropy) and 2 * k >= self.steps:
                slope, ahead = ball.steepness(gradient), sum(map(self._length, range(k, self.steps)))
                on &= (slope == 0) | (-m <= STEEPER * ahead * slope * torch.as_tensor(ball.eps, device=x.device))
            if last or not bool(on.any()):
                break
            if not bool(on.all()):
                live, x, y, z, gradient, ball = live[on], x[on], y[on], z[on], gradient[on], ball.rows(on)
                velocity = None if velocity is None else velocity[on]
            direction = ball.ascent(gradient)
            if velocity is not None:
                velocity = self.momentum * velocity + direction
                direction = ball.ascent(velocity)
            z = ball.approach(x, z + self._length(k) * ball.radius(x) * direction)
            if bool((blind := gradient.flatten(1).abs().amax(1) == 0).any()):
                z[blind] = ball.rows(blind).random(x[blind], generator)
        return points, margin

    def _length(self, k: int) -> float:
        """The length of step k, relative to the radius."""
        first = 1.0 if self.step_size is None else self.step_size / self.eps
        decay = (LAST_STEP if self.step_size is None else 1.0) if self.decay is None else self.decay
        return first * decay ** (k / self.steps)

    def lighter(self) -> dict[str, int]:
        return {"steps": math.ceil(self.steps / LIGHTER)}

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.5, steps=10)
        yield cls(0.1, math.inf, steps=10, restarts=2)
        yield cls(0.3, steps=10, momentum=0.7, step_size=0.1, decay=0.1)
        yield cls(0.3, steps=10, step_size=0.1, cross_entropy=True)


def _nothing(x: Tensor) -> Tensor:
    """The margins before anything is found."""
    return torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
