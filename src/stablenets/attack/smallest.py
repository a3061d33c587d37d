"""The smallest radius at which an attack succeeds, for each sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .ball import Ball
from .base import Attack, positive
from .in_ball import BallAttack
from .minimal import MinimalAttack
from .pgd import PGD
from .victim import Victim, broken


class Smallest(Attack):
    """Bisection on the radius of an attack within a ball, for each sample of its own, in the norm of that attack.

    The first attack has the whole radius `attack.eps`. What is found counts with its own norm, which may be smaller
    than the radius; the next radius lies halfway between that and the largest radius that was proved safe or at which
    the attack failed. Samples leave when the two are within `precision`.

    Args:
        attack: an attack within a ball; its radius is the largest of interest.
        halvings: attacks after the first one, at most.
        precision: relative width at which the search ends.

    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> net.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> found = Smallest(PGD(3.0, box=(-9.0, 9.0))).run(net, torch.tensor([[0.75, 0.5]]), torch.tensor([0]))
    >>> round(float(found.distance), 2)
    0.75
    """

    def __init__(self, attack: BallAttack, *, halvings: int = 10, precision: float = 0.005) -> None:
        if not isinstance(attack, BallAttack):
            given = f"attack: {type(attack).__name__}"
            raise InputError(message(given, "an attack within a ball, such as PGD", "Others look for small changes."))
        super().__init__(box=attack.box, seed=attack.seed, batch_size=attack.batch_size)
        self.attack, self.halvings, self.precision = attack, halvings, precision
        self.norm, self.gradients = attack.norm, attack.gradients
        positive(halvings=halvings)
        if not 0 < precision < 1:
            raise InputError(message(f"precision={precision}", "a number in (0, 1)"))

    @property
    def reach(self) -> float:
        return self.attack.reach

    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return self.search_beyond(victim, x, y, torch.zeros(len(x), dtype=torch.float64, device=x.device), generator)

    def search_beyond(
        self, victim: Victim, x: Tensor, y: Tensor, certified: Tensor, generator: torch.Generator
    ) -> Tensor:
        points = x.clone()
        low = certified.clamp(0, self.attack.eps)
        high = torch.full_like(low, torch.inf)
        radius = torch.full_like(low, self.attack.eps)
        for _ in range(self.halvings + 1):
            rows = (high.isinf() | (high - low > self.precision * high)).nonzero()[:, 0]
            rows = rows[(radius[rows] < high[rows]) & (low[rows] < self.attack.eps)]
            if len(rows) == 0:
                break
            ball = Ball(radius[rows], self.norm, self.box)
            z = ball.project(x[rows], self.attack.within(victim, x[rows], y[rows], ball, generator))
            success = broken(victim.margins(z, y[rows]))
            moved = torch.linalg.vector_norm((z.double() - x[rows].double()).flatten(1), self.norm, 1)
            points[rows[success]], high[rows[success]] = z[success], moved[success]
            low[rows[~success]] = radius[rows[~success]]
            radius = torch.where(high.isfinite(), (low + high) / 2, radius)
        return points

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(PGD(0.5, steps=5), halvings=4)


def smallest(attack: Attack) -> Attack:
    """The attack that searches the smallest perturbation by which `attack` succeeds.

    An attack within a ball is repeated at different radii (`Smallest`); others look for small perturbations already.
    """
    if isinstance(attack, BallAttack):
        return Smallest(attack)
    if isinstance(attack, (MinimalAttack, Smallest)):
        return attack
    raise InputError(message(f"attack: {type(attack).__name__}", "an attack within a ball or of minimal size"))
