"""The fast gradient method."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from .ball import Ball
from .in_ball import BallAttack
from .objectives import cross_entropy
from .victim import Victim


class FGSM(BallAttack):
    """One step to the surface of the ball along the gradient of the cross-entropy (Goodfellow et al. 2015; ADef 3).

    r = eps sign(grad J) maximises the linearised loss J over the cube |r|_inf <= eps; for `norm` 2 it is
    r = eps grad J / |grad J|, over the ball. The result is clipped to the box.

    Args:
        eps: length of the step, in the units of the network's input.
        norm: `math.inf` or 2.
        box, seed, batch_size: see `Attack`.

    >>> net = torch.nn.Linear(2, 2)
    >>> x, y = torch.full((1, 2), 0.5), net(torch.full((1, 2), 0.5)).argmax(1)
    >>> (FGSM(0.25)(net, x, y) - x).abs()
    tensor([[0.2500, 0.2500]])
    """

    def __init__(
        self,
        eps: float,
        norm: float = math.inf,
        *,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(eps, norm, box=box, seed=seed, batch_size=batch_size)

    def within(self, victim: Victim, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Tensor:
        _, gradient = victim.ascent(x, y, cross_entropy)
        return ball.approach(x, x + ball.radius(x) * ball.ascent(gradient))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.1)
        yield cls(0.5, 2)
