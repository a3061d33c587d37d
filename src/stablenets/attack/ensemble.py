"""Several attacks of different kinds, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .apgd import APGD
from .ball import Ball
from .in_ball import BallAttack
from .pgd import PGD
from .square_attack import SquareAttack
from .victim import Victim, broken


class Ensemble(BallAttack):
    """PGD, APGD, APGD towards each of the likeliest wrong classes, and random squares (after Croce & Hein 2020).

    Each attack sees only the samples that the earlier ones left. Ascent on the margin may run to a class that is not
    the easiest; a target for each start mends that. The squares need no gradients.

    Args:
        eps: radius of the ball, in the units of the network's input.
        norm: 2 or `math.inf`.
        steps: gradient steps of each of the attacks by gradients.
        targets: how many wrong classes are tried, those with the largest scores.
        queries: calls of the network by the random search for each sample.
        box, seed, batch_size: see `Attack`.

    >>> net = torch.nn.Linear(2, 2)
    >>> x, y = torch.full((1, 2), 0.5), torch.tensor([0])
    >>> float((Ensemble(0.1)(net, x, y) - x).norm()) <= 0.1
    True
    """

    def __init__(
        self,
        eps: float,
        norm: float = 2,
        steps: int = 100,
        *,
        targets: int = 9,
        queries: int = 1000,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(eps, norm, box=box, seed=seed, batch_size=batch_size)
        self.steps, self.targets, self.queries = steps, targets, queries
        if not (isinstance(targets, int) and targets >= 0):
            raise InputError(message(f"targets={targets!r}", "a number of classes >= 0"))
        self._from_input = PGD(eps, norm, steps, box=box, seed=seed, batch_size=batch_size)
        self._from_random = APGD(eps, norm, steps, box=box, seed=seed, batch_size=batch_size)
        self._blind = SquareAttack(eps, norm, queries, box=box, seed=seed, batch_size=batch_size)

    def within(self, victim: Victim, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Tensor:
        points, margin = x.clone(), victim.margins(x, y)

        def attempt(attack: BallAttack, victim_of_attack: Victim, goal: Tensor) -> None:
            rest = (~broken(margin)).nonzero()[:, 0]
            if len(rest):
                z = attack.within(victim_of_attack, x[rest], goal[rest], ball.rows(rest), generator)
                m = victim.margins(z, y[rest])
                better = ~(m <= margin[rest])
                points[rest[better]], margin[rest[better]] = z[better], m[better]

        attempt(self._from_input, victim, y)
        attempt(self._from_random, victim, y)
        if not victim.targeted:
            others = victim.scores(x).scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
            for target in others.T[: self.targets]:
                attempt(self._from_random, victim.towards(), target)
        attempt(self._blind, victim, y)
        return points

    def lighter(self) -> dict[str, int]:
        return self._from_input.lighter() | {"targets": 0, "queries": max(self.queries // 10, 1)}

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.5, steps=5, targets=2, queries=10)
