"""The first attack: box-constrained L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .ball import per_sample
from .base import positive
from .bounded_lbfgs import minimise
from .minimal import MinimalAttack, Nearest
from .objectives import Objective, cross_entropy, escape
from .victim import Victim


class Szegedy(MinimalAttack):
    """min |r|^2 + w J(x + r), x + r in the box, by L-BFGS with a line search on w (Szegedy et al. 2014, 4.1; ADef 3).

    For a target l, J = -log p_l; without one, J = -log(1 - p_y), the same for "any class but y". The source writes
    c |r| + J with the largest c at which x + r is still answered by l; squaring |r| makes the problem smooth, and its
    minimisers are the same points for other weights. For each sample w is multiplied by 10 until the attack succeeds,
    then the interval between the largest w that failed and the smallest that succeeded is halved on the logarithmic
    scale. The nearest point of all that were evaluated is kept.

    Args:
        steps: steps of L-BFGS for each w.
        searches: how many w are tried for each sample.
        first: the first w.
        box, seed, batch_size: see `Attack`.

    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> net.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> found = Szegedy(box=(-1.0, 1.0)).run(net, torch.tensor([[0.75, 0.5]]), torch.tensor([0]))
    >>> round(float(found.distance), 2)
    0.75
    """

    def __init__(
        self,
        steps: int = 30,
        searches: int = 10,
        *,
        first: float = 0.1,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(box=box, seed=seed, batch_size=batch_size)
        self.steps, self.searches, self.first = steps, searches, first
        positive(steps=steps, searches=searches)
        if not (math.isfinite(first) and first > 0):
            raise InputError(message(f"first={first}", "a positive, finite weight"))

    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        best = Nearest(x)
        weight = torch.full((len(x),), self.first, dtype=torch.float64, device=x.device)
        low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        for _ in range(self.searches):
            success = self._minimise(victim, x, y, weight, best)
            high, low = torch.where(success, weight, high), torch.where(success, low, weight)
            between = torch.where(low > 0, (low * high).sqrt(), high / 10)
            weight = torch.where(high.isfinite(), between, 10 * weight)
        return best.points

    def _minimise(self, victim: Victim, x: Tensor, y: Tensor, weight: Tensor, best: Nearest) -> Tensor:
        """One minimisation for the given w (batch,); returns which samples its result breaks."""
        objective: Objective = cross_entropy if victim.targeted else escape
        centre = x.double()

        def function(z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            z_in = z.to(x.dtype)
            m, gain, gradient = victim.climb(z_in, y[rows], objective)
            best.offer(rows, z_in, m)
            d, w = z - centre[rows], weight[rows]
            return d.flatten(1).square().sum(1) - w * gain, 2 * d - per_sample(w, d) * gradient.double()

        z = minimise(function, x, self.box, self.steps).to(x.dtype)
        return best.offer(torch.arange(len(x), device=x.device), z, victim.margins(z, y))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(5, 4)
