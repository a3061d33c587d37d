"""The perturbations an attack may make: a ball of the l2 or the l-infinity norm, intersected with a box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InputError, message

INSIDE = 1 - 1e-14  # scaling onto the sphere rounds: stay this much (relative) inside
NEARLY = 1 - 1e-6  # the same in float32


@dataclass(frozen=True)
class Ball:
    """All z with |z - x| <= eps in `box`, for a centre x in the box.

    Args:
        eps: radius, in the units of the network's input; one for all samples, or one for each (batch,), float64.
        norm: 2 or `math.inf`.
        box: smallest and largest value an entry may take; (-inf, inf) for no box.

    Raises:
        InputError: for a radius that is negative or not finite, another norm, or an empty box.

    >>> Ball(1.0, 2, (-9.0, 9.0)).project(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """

    eps: float | Tensor
    norm: float
    box: tuple[float, float]

    def __post_init__(self) -> None:
        sizes = torch.as_tensor(self.eps)
        if not bool((sizes.isfinite() & (sizes >= 0)).all()):
            raise InputError(message(f"eps={self.eps}", "a finite radius eps >= 0, in the units of the input"))
        if self.norm not in (2, math.inf):
            raise InputError(message(f"norm={self.norm!r}", "2 or math.inf"))
        if not self.box[0] < self.box[1]:
            raise InputError(message(f"box={self.box}", "a box (low, high) with low < high"))

    def rows(self, chosen: Tensor) -> Ball:
        """The balls of some samples (indices, or True for those chosen)."""
        return Ball(self.eps[chosen], self.norm, self.box) if isinstance(self.eps, Tensor) else self

    def radius(self, like: Tensor) -> Tensor:
        """eps in the dtype and a shape that multiplies samples `like` (batch, ...)."""
        eps = torch.as_tensor(self.eps, dtype=like.dtype, device=like.device)
        return per_sample(eps, like) if eps.dim() else eps

    def project(self, x: Tensor, z: Tensor) -> Tensor:
        """The points of the ball around `x` (batch, ...) nearest to `z`, in the dtype of `x`.

        |result - x| <= eps holds for the rounded result, as float64 measures it. Clipping to the box after projecting
        on the ball keeps the point in the ball, because x is in the box.
        """
        centre = x.double()
        d = z.double() - centre
        eps = self.radius(d)
        if self.norm == 2:
            size = per_sample(d.flatten(1).norm(dim=1).clamp(min=1e-300), d)
            d = d * torch.where(size > eps, eps * INSIDE / size, 1.0)
        else:
            d = d.clamp(-eps, eps)
        result = (centre + d).to(x.dtype)
        # Where rounding moved an entry away from x, take the neighbouring number on the other side.
        outside = (result.double() - centre).abs() > d.abs()
        return torch.where(outside, torch.nextafter(result, x), result).clamp(*self.box)

    def approach(self, x: Tensor, z: Tensor) -> Tensor:
        """As `project`, ten times as fast and up to rounding errors: for the steps of a search, not for its result."""
        eps = self.radius(x)
        if self.norm == 2:
            d = z - x
            size = per_sample(d.flatten(1).norm(dim=1).clamp(min=torch.finfo(d.dtype).tiny), d)
            return d.mul_((eps * NEARLY / size).clamp_(max=1.0)).add_(x).clamp_(*self.box)
        return z.clamp(x - eps, x + eps).clamp_(*self.box)

    def ascent(self, gradient: Tensor) -> Tensor:
        """The direction of norm 1 along which a function with this gradient (batch, ...) grows fastest; 0 for 0."""
        if self.norm != 2:
            return gradient.sign()
        size = gradient.flatten(1).norm(dim=1)
        if bool(((size > 1e-12) & (size < 1e12)).all()):
            return gradient / per_sample(size, gradient)
        largest = gradient.flatten(1).abs().amax(1)
        scaled = gradient / per_sample(torch.where(largest > 0, largest, 1.0), gradient)  # squares may underflow
        return scaled / per_sample(scaled.flatten(1).norm(dim=1).clamp(min=1.0), scaled)

    def steepness(self, gradient: Tensor) -> Tensor:
        """How much a function with this gradient (batch, ...) grows per length of a step, at most (batch,), float64."""
        return torch.linalg.vector_norm(gradient.flatten(1).double(), 2 if self.norm == 2 else 1, 1)

    def random(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """One point per sample of `x`, uniform in the ball and clipped to the box."""
        if self.norm == 2:
            d = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            u = torch.rand(len(x), generator=generator, dtype=torch.float64)
            d = d * per_sample(u ** (1 / math.prod(x.shape[1:])) / d.flatten(1).norm(dim=1), d)
        else:
            d = 2 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1
        d = d.to(x.device)
        return self.project(x, x.double() + self.radius(d) * d)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """`values` (batch,) in a shape that multiplies `like` (batch, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))
