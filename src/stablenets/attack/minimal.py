"""Attacks that look for the smallest perturbation."""

from __future__ import annotations

import abc

import torch
from torch import Tensor

from .ball import per_sample
from .base import Attack
from .victim import broken


class MinimalAttack(Attack, abc.ABC):
    """An attack that looks for a point as near as possible (in l2) that breaks a sample; a subclass writes `search`.

    Where it finds none, the point returned is the input itself.
    """


class Nearest:
    """The nearest points found that break each of the samples `x` (batch, ...).

    Attributes:
        points: these points (batch, ...); the samples themselves where none was found.
        distance: how far they are (batch,), inf where none was found.
    """

    def __init__(self, x: Tensor) -> None:
        self.x, self.points = x, x.clone()
        self.distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)

    def offer(self, rows: Tensor, z: Tensor, margin: Tensor) -> Tensor:
        """Points `z` for the samples of index `rows`, with their margins; returns which of them break their sample."""
        success = broken(margin)
        distance = (z - self.x[rows]).flatten(1).norm(dim=1)
        nearer = success & (distance < self.distance[rows])
        self.points[rows[nearer]], self.distance[rows[nearer]] = z[nearer], distance[nearer]
        return success


def unit(gradient: Tensor, generator: torch.Generator) -> Tensor:
    """Gradients (batch, ...) scaled to l2 norm 1; where they vanish, a random direction."""
    largest = gradient.flatten(1).abs().amax(1)
    if bool((largest == 0).any()):
        noise = torch.randn(gradient.shape, generator=generator, dtype=torch.float64).to(gradient)
        gradient = torch.where(per_sample(largest == 0, gradient), noise, gradient)
        largest = gradient.flatten(1).abs().amax(1)
    scaled = gradient / per_sample(largest, gradient)  # squares of tiny entries would underflow
    return scaled / per_sample(scaled.flatten(1).norm(dim=1), scaled)
