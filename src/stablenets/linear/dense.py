"""A dense matrix as a linear map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import LinearMap
from .bounds import EPS, spectral_norm_bound


class Dense(LinearMap):
    """x (batch, in_features) -> x W^T (batch, out_features), with `weight` W (out_features, in_features).

    The initial weight is random with spectral norm close to 1.

    >>> a = Dense(3, 5)
    >>> a.norm_bound() >= float(torch.linalg.matrix_norm(a.matrix(), 2))
    True
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.input_shape, self.output_shape = (in_features,), (out_features,)
        # E ||W|| = sqrt(in) + sqrt(out) for standard normal entries (Gordon)
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / (in_features**0.5 + out_features**0.5))
        self._start()

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        return F.linear(y, weight.mT)

    @property
    def dot_lengths(self) -> tuple[int, int]:
        return self.in_features, self.out_features

    @torch.no_grad()
    def norm_bound(self) -> float:
        """Largest singular value in float64, with LAPACK's error bound added."""
        return spectral_norm_bound(self._weight64())

    @torch.no_grad()
    def lower_bound(self) -> float:
        """Smallest singular value in float64, less LAPACK's error bound; 0 for a map into fewer dimensions."""
        w = self._weight64()
        if len(w) < w.shape[1]:
            return 0.0
        return max(0.0, float(torch.linalg.svdvals(w)[-1]) - 32 * max(w.shape) * EPS * spectral_norm_bound(w))

    @torch.no_grad()
    def solve_normal(self, z: Tensor, shift: float) -> Tensor:
        """By a Cholesky factorisation in float64."""
        w = self._weight64()
        gram = w.mT @ w
        gram.diagonal().add_(shift)
        return torch.cholesky_solve(z.double().mT, torch.linalg.cholesky(gram)).mT.to(z.dtype)

    @property
    def norm_theorem(self) -> str:
        return "largest singular value of the matrix (float64 SVD with its backward error)"

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for shape in ((4, 4), (4, 9), (6, 3)):
            a = cls(*shape)
            a.weight.data *= 3  # far from the near-isometry it starts as
            yield a
