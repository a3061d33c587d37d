"""Linear systems, whose phase portraits are the chapter's Figure 5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.properties import DivergenceFree, FirstIntegral, Lipschitz, OneSidedLipschitz, SymmetricJacobian
from ..fields.base import Field, Norm, upper_bound
from ..fields.invariants import SQUARED_NORM

UP = 1e-13  # far more than the rounding errors, relative to the norm, of the eigenvalues of small matrices


class LinearSystem(Field):
    """x' = A x. The origin is asymptotically stable when all eigenvalues of A have negative real parts (Exercise 10).

    Args:
        matrix: the rows of A.

    >>> LinearSystem([[0.0, 1.0], [-1.0, 0.0]])(torch.tensor([[1.0, 0.0]]))
    tensor([[ 0., -1.]])
    """

    def __init__(self, matrix: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.matrix = tuple(tuple(float(a) for a in row) for row in matrix)
        if not self.matrix or any(len(row) != len(self.matrix) for row in self.matrix):
            raise InputError(message(f"rows of {[len(r) for r in self.matrix]} numbers", "a square matrix"))
        self.state_shape = (len(self.matrix),)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return x @ x.new_tensor(self.matrix).mT

    def solution(self, x: Tensor, time: float) -> Tensor:
        """exp(A time) x."""
        return x @ torch.linalg.matrix_exp(time * x.new_tensor(self.matrix)).mT

    def eigenvalues(self) -> list[complex]:
        """The eigenvalues of A."""
        return [complex(z) for z in np.linalg.eigvals(np.array(self.matrix))]

    def claims(self, norm: Norm = upper_bound) -> Claims:
        a = np.array(self.matrix)
        size = float(np.linalg.norm(a, 2)) * (1 + UP)
        symmetric = (a + a.T) / 2
        skew = not symmetric.any()
        nu = 0.0 if skew else float(np.linalg.eigvalsh(symmetric)[-1]) + UP * size
        claims: list[Property] = [Lipschitz(size), OneSidedLipschitz(nu)]
        if skew:
            claims.append(FirstIntegral(SQUARED_NORM))
        if np.trace(a) == 0:
            claims.append(DivergenceFree())
        if (a == a.T).all():
            claims.append(SymmetricJacobian())
        return Claims(claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls([[-1.0, 2.0], [-2.0, -0.5]])  # asymptotically stable
        yield cls([[1.0, 0.5], [0.5, -1.0]])  # a saddle: unstable
        yield cls([[0.0, 1.5], [-1.5, 0.0]])  # a centre: stable, not asymptotically
