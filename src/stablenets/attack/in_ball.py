"""Attacks within a ball of given radius."""

from __future__ import annotations

import abc
import math
from typing import Self

import torch
from torch import Tensor

from ..core.component import build, config
from ..core.errors import InputError, message
from .ball import Ball
from .base import Attack
from .victim import Victim


class BallAttack(Attack, abc.ABC):
    """An attack that looks for the largest margin within distance `eps`; a subclass writes `within`.

    Args:
        eps: radius of the ball, in the units of the network's input.
        norm: 2 or `math.inf`.
        box, seed, batch_size: see `Attack`.

    The points returned obey |x_adv - x| <= eps as measured in float64 on the tensor returned, and lie in the box.
    """

    def __init__(
        self,
        eps: float,
        norm: float = 2,
        *,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(box=box, seed=seed, batch_size=batch_size)
        if not (isinstance(eps, (int, float)) and math.isfinite(eps) and eps > 0):
            raise InputError(message(f"eps={eps!r}", "a finite radius eps > 0, in the units of the input"))
        self.eps, self.norm = eps, norm
        self.ball = Ball(float(eps), norm, self.box)

    @property
    def reach(self) -> float:
        return self.eps

    @abc.abstractmethod
    def within(self, victim: Victim, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Tensor:
        """The strongest points found in `ball`, whose radius may differ between the samples; up to rounding errors."""

    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return self.ball.project(x, self.within(victim, x, y, self.ball, generator))

    def at(self, eps: float, *, light: bool = False) -> Self:
        """The same attack at another radius; a cheaper one if `light`, for samples that survived in a larger ball."""
        return build(config(self) | {"eps": eps} | (self.lighter() if light else {}))

    def lighter(self) -> dict[str, int]:
        """Arguments that make the attack cheaper."""
        return {}
