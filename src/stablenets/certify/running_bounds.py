"""What a running error analysis is made of: balls around inputs, and bounds that are affine in their radius.

A bound is a tensor (batch, 2): its value at rho = 0 and its slope in rho. Float64 states serve as the centres. They
obey the same analysis with errors 2^-29 times smaller, which `UP` covers, together with the roundings of the analysis
itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

U = 2.0**-24  # unit roundoff of float32
UP = 1 + 2.0**-24
TINY = 2.0**-120  # more than a few operations lose below the normal numbers, relative to 1 plus what they multiply
HUGE = 1e30  # sums of at most this and slopes of at most this do not overflow in balls of radius below 1e6


@dataclass(frozen=True)
class Balls:
    """Bounds on the states, at some layer, of all points of the balls of radius rho around a batch of inputs.

    Attributes:
        center: float64 states (batch, ...) of the centres.
        error: (batch, 2), of the distance between the float32 state of a point and its exact state.
        reach: Lipschitz constant of the layers so far: exact states lie within reach * rho of the centre's.
    """

    center: Tensor
    error: Tensor
    reach: float

    @property
    def spread(self) -> Tensor:
        """Bound (batch, 2) of the distance between the float32 state of any point and the centre's."""
        return (self.error + self.error.new_tensor([0.0, self.reach])) * UP

    @property
    def size(self) -> Tensor:
        """Bound (batch, 2) of the norm of the float32 state of any point."""
        return norms(self.center) + self.spread


def gamma(m: int) -> float:
    """Relative error of m roundings, and of a dot product of length m in any order (Higham 2002, section 3.1)."""
    return m * U / (1 - m * U) if m * U < 1 else math.inf


def norms(x: Tensor) -> Tensor:
    """The norms of a batch, which do not depend on the radius, as a bound (batch, 2)."""
    size = x.flatten(1).norm(dim=1)
    return torch.stack([size, torch.zeros_like(size)], -1)


def relative(m: int, size: Tensor) -> Tensor:
    """The error of m roundings of something of this size; infinite where a number might overflow."""
    return gamma(m) * size + torch.where(size > HUGE, math.inf, 0.0)


def product(m: int, terms: Tensor, absolute: float | Tensor, x: Tensor, spread: Tensor, outputs: int = 1) -> Tensor:
    """The error of A y + b at every point y within `spread` of a centre, where A x + b is evaluated as it stands.

    Args:
        m: number of terms of the longest sum, b included.
        terms: norm of |A| |c| + |b| at the centre c.
        absolute: a bound of || |A| ||.
        x: norm of the centre.
        outputs: number of entries of b.
    """
    underflow = TINY * m * outputs * (1 + absolute + x + spread)
    return relative(m, terms + absolute * spread) + underflow
