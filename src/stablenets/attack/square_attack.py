"""Random search without gradients."""

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
from .victim import Victim, broken

SHRINK = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: then the area of the squares is halved


class SquareAttack(BallAttack):
    """Random squares of constant change, kept where they raise the margin (after Andriushchenko et al. 2020).

    No gradient is used, so that networks which hide theirs are attacked as well. For the l-infinity norm a proposal
    sets a square of the change to +-eps in each channel; for l2 it adds a square of random sign, scales back to the
    sphere, and so moves the change's weight into the square (the paper redistributes it by a window; the schedule of
    sizes is the same). Samples that are no images (batch, channels, height, width) are seen as one row each.

    Args:
        eps: radius of the ball, in the units of the network's input.
        norm: 2 or `math.inf`.
        queries: calls of the network for each sample.
        share: of the area, taken by the first squares.
        box, seed, batch_size: see `Attack`.

    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> net.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> found = SquareAttack(0.6, box=(-1.0, 1.0)).run(net, torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
    >>> bool(found.broken)
    True
    """

    gradients = False

    def __init__(
        self,
        eps: float,
        norm: float = 2,
        queries: int = 1000,
        *,
        share: float = 0.3,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(eps, norm, box=box, seed=seed, batch_size=batch_size)
        self.queries, self.share = queries, share
        positive(queries=queries)
        if not 0 < share <= 1:
            raise InputError(message(f"share={share}", "a share of the area in (0, 1]"))

    def within(self, victim: Victim, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Tensor:
        points, rows = x.clone(), torch.arange(len(x), device=x.device)
        best = ball.approach(x, x + ball.radius(x) * ball.ascent(_stripes(x, generator)))
        best_m = victim.margins(best, y)
        for k in range(1, self.queries):
            points[rows] = best
            on = ~broken(best_m)
            if not bool(on.any()):
                break
            if not bool(on.all()):
                rows, x, y, best, best_m, ball = rows[on], x[on], y[on], best[on], best_m[on], ball.rows(on)
            z = self._propose(x, best, ball, self._area(k), generator)
            m = victim.margins(z, y)
            better = ~(m <= best_m)
            best[better], best_m[better] = z[better], m[better]
        points[rows] = best
        return points

    def _area(self, k: int) -> float:
        """The share of the area that squares take at query k."""
        passed = 10_000 * k / self.queries
        return self.share / 2 ** sum(passed > t for t in SHRINK)

    def _propose(self, x: Tensor, z: Tensor, ball: Ball, area: float, generator: torch.Generator) -> Tensor:
        square = _squares(x, area, generator)
        if self.norm == 2:
            return ball.approach(x, z + 2 * ball.radius(x) * ball.ascent(square))
        return torch.where(square != 0, (x + ball.radius(x) * square).clamp(*self.box), z)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.5, queries=20)
        yield cls(0.1, math.inf, 20)


def _as_images(shape: torch.Size) -> tuple[int, int, int, int]:
    return (shape[0], shape[1], shape[2], shape[3]) if len(shape) == 4 else (shape[0], 1, 1, math.prod(shape[1:]))


def _signs(*shape: int, generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(2, shape, generator=generator) - 1


def _stripes(x: Tensor, generator: torch.Generator) -> Tensor:
    """Vertical stripes of random sign, one pixel wide: the first change."""
    n, channels, height, width = _as_images(x.shape)
    stripes = _signs(n, channels, 1, width, generator=generator).expand(n, channels, height, width)
    return stripes.reshape(x.shape).to(x)


def _squares(x: Tensor, area: float, generator: torch.Generator) -> Tensor:
    """One square per sample at a random place, a random sign in each channel, zero elsewhere."""
    n, channels, height, width = _as_images(x.shape)
    side = max(round(math.sqrt(area * height * width)), 1)
    tall = min(side, height)
    wide = min(max(round(area * height * width / tall), 1), width)
    top = torch.randint(height - tall + 1, (n, 1, 1, 1), generator=generator)
    left = torch.randint(width - wide + 1, (n, 1, 1, 1), generator=generator)
    row, column = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    inside = (row >= top) & (row < top + tall) & (column >= left) & (column < left + wide)
    return (inside * _signs(n, channels, 1, 1, generator=generator)).reshape(x.shape).to(x)
