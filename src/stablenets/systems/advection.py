"""The linear advection equation on a periodic grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.properties import DivergenceFree, EnergyForm, FirstIntegral, Lipschitz, OneSidedLipschitz
from ..fields.base import EnergyField, Norm, upper_bound
from ..fields.invariants import MASS, SQUARED_NORM, squared_norm


class LinearAdvection(EnergyField):
    """u_t + speed u_x = 0 on [0, length), periodic, with central differences on `points` points: u' = D u, D skew.

    So |u| and the sum of u are constant.

    >>> f = LinearAdvection(8)
    >>> u = torch.randn(3, 8)
    >>> bool((f(u) * u).sum(1).abs().max() < 1e-5)
    True
    """

    def __init__(self, points: int = 32, *, speed: float = 1.0, length: float = 1.0) -> None:
        super().__init__()
        self.points, self.speed, self.length = points, speed, length
        self.state_shape = (points,)

    def grid(self) -> Tensor:
        """The places x_i = i length / points, float64."""
        return torch.arange(self.points, dtype=torch.float64) * (self.length / self.points)

    @property
    def rate(self) -> float:
        """speed / (2 dx), the entries of D."""
        return self.speed * self.points / (2 * self.length)

    def energy(self, x: Tensor) -> Tensor:
        """|u|^2, shape (batch,)."""
        return squared_norm(x)

    def energy_gradient(self, x: Tensor) -> Tensor:
        return 2 * x

    def structure(self, x: Tensor, v: Tensor, t: float = 0.0) -> Tensor:
        return self.rate / 2 * (v.roll(1, 1) - v.roll(-1, 1))

    def solution(self, x: Tensor, time: float) -> Tensor:
        """The exact state of the discretised equation after `time`: every Fourier mode turns."""
        angles = 2 * math.pi * torch.arange(self.points // 2 + 1, dtype=torch.float64, device=x.device) / self.points
        turn = torch.polar(torch.ones_like(angles), -2 * self.rate * time * torch.sin(angles))
        return torch.fft.irfft(torch.fft.rfft(x.double()) * turn, n=self.points).to(x.dtype)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims(
            [
                EnergyForm(SQUARED_NORM, conserved=True),
                FirstIntegral(MASS),
                DivergenceFree(),
                Lipschitz(2 * abs(self.rate) * (1 + 1e-15)),
                OneSidedLipschitz(0.0),
            ]
        )

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(8)
        yield cls(5, speed=-0.7, length=2.0)
