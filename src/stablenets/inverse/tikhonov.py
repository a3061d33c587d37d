"""Tikhonov regularisation in closed form, its Lipschitz constant, and the search for its parameter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Lipschitz
from ..layers.base import Layer
from ..linear import Dense, LinearMap
from ..linear.bounds import EPS


class Tikhonov(Layer):
    """y -> (A^T A + tau I)^-1 A^T y, the minimiser of |A x - y|^2 + tau |x|^2 (chapter (33)).

    Its Lipschitz constant is the largest of s / (s^2 + tau) over the singular values s of A (chapter (34)). Claimed is
    the largest over proved intervals: around each singular value of a `Dense` A, else from the least to the largest.

    Raises:
        InputError: a tau that is not positive.

    >>> a = Dense(2, 2)
    >>> a.weight.data = torch.tensor([[1.25, 1.0], [1.0, 1.25]])
    >>> Tikhonov(a, 0.0625).claims()
    Claims(Lipschitz(bound=2.0000000000...))
    """

    def __init__(self, operator: LinearMap, tau: float) -> None:
        super().__init__()
        if not 0 < tau < math.inf:
            raise InputError(message(f"tau={tau}", "a positive, finite number"))
        self.operator, self.tau = operator, tau
        self.input_shape = operator.output_shape

    def forward(self, y: Tensor) -> Tensor:
        return self.operator.solve_normal(self.operator.adjoint(y), self.tau)

    @torch.no_grad()
    def claims(self) -> Claims:
        a, room = self.operator, 0.0
        ranges = [(a.lower_bound(), a.norm_bound())]
        if isinstance(a, Dense):
            w = a._weight64()
            room = 32 * max(w.shape) * EPS * ranges[0][1]
            ranges = [(s - room, s + room) for s in torch.linalg.svdvals(w).tolist()]
        return Claims([Lipschitz(max(_largest(max(0.0, low), high, self.tau) for low, high in ranges) * (1 + 8 * EPS))])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for a in Dense.examples():
            yield cls(a, 0.3)


def _largest(low: float, high: float, tau: float) -> float:
    """The maximum of s / (s^2 + tau) over [low, high]: it rises to s = sqrt(tau), and falls from there."""
    s = min(max(math.sqrt(tau), low), high)
    return s / (s * s + tau)


def lipschitz(singular_values: Sequence[float], tau: float) -> float:
    """L(tau) = max s / (s^2 + tau) (chapter (34)).

    >>> lipschitz((2.25, 0.25), 0.0625)
    2.0
    """
    return max(s / (s * s + tau) for s in singular_values)


def grid_search(operator: LinearMap, x: Tensor, y: Tensor, taus: Sequence[float]) -> tuple[float, list[float]]:
    """The tau with the least mean of |Tikhonov(y) - x|^2 over a training set, and the means for all taus.

    Raises:
        InputError: no taus, or as many x as y are not given.

    >>> a = Dense(2, 2).double()
    >>> x = torch.randn(50, 2, dtype=torch.float64)
    >>> grid_search(a, x, a(x).detach(), (1e-6, 1e-3, 1.0))[0]
    1e-06
    """
    if not len(taus) or len(x) != len(y):
        raise InputError(message(f"{len(taus)} taus, {len(x)} x and {len(y)} y", "taus, and pairs of x and y"))
    with torch.no_grad():
        errors = [float((Tikhonov(operator, t)(y) - x).flatten(1).square().sum(1).mean()) for t in taus]
    return taus[min(range(len(taus)), key=errors.__getitem__)], errors
