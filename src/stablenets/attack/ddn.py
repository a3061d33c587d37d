"""Decoupled direction and norm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .ball import per_sample
from .base import positive
from .minimal import MinimalAttack, Nearest, unit
from .objectives import cross_entropy
from .victim import Victim

FIRST, LAST = 1.0, 0.01  # steps, between them by a cosine
CLOSE = 1e-3  # a point so near (relative) to the certified radius cannot be improved upon


class DDN(MinimalAttack):
    """Gradient steps on a sphere that shrinks while a sample is broken and grows while it is not (Rony et al. 2019).

    The step is along the gradient of the cross-entropy; then the change is scaled to a length that is a factor
    1 - `gamma` shorter than the last one if the last point broke the sample, and 1 + `gamma` longer if not. One run
    gives each sample its own radius, hence the accuracy at every radius.

    Args:
        steps: gradient steps.
        eps: length of the first change, in the units of the network's input.
        gamma: how fast the lengths change.
        box, seed, batch_size: see `Attack`.

    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> net.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> x = torch.tensor([[0.75, 0.5]])
    >>> found = DDN(box=(-1.0, 1.0)).run(net, x, torch.tensor([0]))
    >>> round(float(found.distance), 2)  # the boundary is where the first entry is 0
    0.75
    """

    def __init__(
        self,
        steps: int = 100,
        *,
        eps: float = 1.0,
        gamma: float = 0.05,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(box=box, seed=seed, batch_size=batch_size)
        self.steps, self.eps, self.gamma = steps, eps, gamma
        positive(steps=steps)
        if not (math.isfinite(eps) and eps > 0):
            raise InputError(message(f"eps={eps!r}", "a finite length eps > 0, in the units of the input"))
        if not 0 < gamma < 1:
            raise InputError(message(f"gamma={gamma}", "a number in (0, 1)"))

    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return self.search_beyond(victim, x, y, torch.zeros(len(x), dtype=torch.float64, device=x.device), generator)

    def search_beyond(
        self, victim: Victim, x: Tensor, y: Tensor, certified: Tensor, generator: torch.Generator
    ) -> Tensor:
        best, rows = Nearest(x), torch.arange(len(x), device=x.device)
        floor = certified.clamp(min=0).to(x.dtype)
        length = torch.full_like(floor, self.eps)
        start, z = x, x.clone()
        for k in range(self.steps + 1):
            last = k == self.steps
            m, gradient = (victim.margins(z, y), z) if last else victim.ascent(z, y, cross_entropy)
            success = best.offer(rows, z, m)
            if last:
                break
            length = length * torch.where(success, 1 - self.gamma, 1 + self.gamma)
            z = z + self._step(k) * unit(gradient, generator)
            z = _scaled(start, z, length).clamp_(*self.box)
            done = best.distance[rows] <= (1 + CLOSE) * floor
            if bool(done.any()):
                on = ~done
                rows, start, z, y, length, floor = rows[on], start[on], z[on], y[on], length[on], floor[on]
                if len(rows) == 0:
                    break
        return best.points

    def _step(self, k: int) -> float:
        return LAST + (FIRST - LAST) * (1 + math.cos(math.pi * k / self.steps)) / 2

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(20)


def _scaled(x: Tensor, z: Tensor, length: Tensor) -> Tensor:
    """The points on the rays from `x` through `z` at the given distances (batch,) from `x`."""
    d = z - x
    size = d.flatten(1).norm(dim=1).clamp(min=torch.finfo(d.dtype).tiny)
    return d.mul_(per_sample(length / size, d)).add_(x)
