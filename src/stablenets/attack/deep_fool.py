"""DeepFool."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .ball import per_sample
from .base import positive
from .minimal import MinimalAttack, Nearest
from .victim import Victim, broken

BEYOND = 1e-4  # how far each step goes beyond the boundary of the linearised network


class DeepFool(MinimalAttack):
    """Steps to the nearest decision boundary of the linearised network (Moosavi-Dezfooli et al. 2016, algorithm 2).

    Between the class y and a class k the linearised boundary is |z_k - z_y| / |grad (z_k - z_y)| away; the step leads
    to the nearest of them. Steps are added up, lengthened by the `overshoot`, until the answer changes. With targets,
    the boundary is that of the margin of the target.

    Args:
        steps: steps at most.
        overshoot: by which fraction the sum of the steps is lengthened.
        candidates: how many classes are looked at, those with the largest scores at the input.
        box, seed, batch_size: see `Attack`.

    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> net.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> found = DeepFool(box=(-1.0, 1.0)).run(net, torch.tensor([[0.75, 0.5]]), torch.tensor([0]))
    >>> round(float(found.distance) / 1.02, 3)
    0.75
    """

    def __init__(
        self,
        steps: int = 50,
        *,
        overshoot: float = 0.02,
        candidates: int = 10,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(box=box, seed=seed, batch_size=batch_size)
        self.steps, self.overshoot, self.candidates = steps, overshoot, candidates
        positive(steps=steps)
        if not (isinstance(candidates, int) and candidates >= 2):
            raise InputError(message(f"candidates={candidates!r}", "at least 2 classes, the label among them"))
        if not (math.isfinite(overshoot) and overshoot >= 0):
            raise InputError(message(f"overshoot={overshoot}", "a finite fraction >= 0"))

    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        best, rows = Nearest(x), torch.arange(len(x), device=x.device)
        z, moved = x, torch.zeros_like(x)
        order = victim.scores(x).scatter(1, y[:, None], torch.inf).argsort(1, descending=True)
        others = order[:, 1 : self.candidates]  # the label comes first
        for _ in range(self.steps):
            moved = moved + (_margin_step(victim, z, y) if victim.targeted else _nearest_step(victim, z, y, others))
            z = (best.x[rows] + (1 + self.overshoot) * moved).clamp(*self.box)
            m = victim.margins(z, y)
            best.offer(rows, z, m)
            on = ~broken(m)
            rows, z, moved, y, others = rows[on], z[on], moved[on], y[on], others[on]
            if len(rows) == 0:
                break
        return best.points

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(10)


def _nearest_step(victim: Victim, z: Tensor, y: Tensor, classes: Tensor) -> Tensor:
    """The step to the nearest of the boundaries between `y` and the `classes` (batch, count)."""
    gaps, gradients = victim.gradients_of(z, y, classes)
    sizes = gradients.flatten(2).norm(dim=2).double() + 1e-8
    distances, nearest = (gaps.abs() / sizes).min(1)
    everyone = torch.arange(len(z), device=z.device)
    factor = (distances + BEYOND) / sizes[everyone, nearest]
    return per_sample(factor.to(z.dtype), z) * gradients[everyone, nearest]


def _margin_step(victim: Victim, z: Tensor, y: Tensor) -> Tensor:
    m, gradient = victim.ascent(z, y)
    size = gradient.flatten(1).norm(dim=1).double() + 1e-8
    return per_sample(((m.abs() / size + BEYOND) / size).to(z.dtype), z) * gradient
