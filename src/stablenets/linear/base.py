"""Linear maps that know how large they are: a fast estimate to train with, a proved bound to certify with."""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor

from ..core.component import Component


class LinearMap(Component, root=True):
    """A linear map x -> A x on batches. Call it to apply it; it has no bias.

    Attributes:
        weight: the parameters, of a shape that each map states.
        input_shape, output_shape: shapes of one sample.
    """

    weight: Tensor
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    singular_vector: Tensor  # the current guess of the leading right singular vector, kept between estimates

    def _start(self) -> None:
        """Draw the first guess of the leading singular vector. Seeded by the shape: no global random state."""
        generator = torch.Generator().manual_seed(math.prod(self.input_shape))
        guess = torch.randn(1, *self.input_shape, generator=generator, dtype=self.weight.dtype)
        self.register_buffer("singular_vector", guess / guess.norm())

    @abc.abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y for a batch y (batch, *output_shape)."""

    @abc.abstractmethod
    def norm_bound(self) -> float:
        """A rigorous upper bound of ||A||_2, computed in float64 with its rounding error (what `certify` uses)."""

    @property
    @abc.abstractmethod
    def norm_theorem(self) -> str:
        """The theorem behind `norm_bound`, in one sentence."""

    @property
    @abc.abstractmethod
    def dot_lengths(self) -> tuple[int, int]:
        """Lengths of the longest dot products in an evaluation of A x and of A^T y (for the rounding analysis)."""

    @torch.no_grad()
    def absolute_bound(self) -> float:
        """An upper bound of || |A| ||_2 by the Schur test: sqrt of largest row sum times largest column sum."""
        w = self.weight.detach().double().abs()
        dims = tuple(range(2, w.dim()))
        w = w.sum(dims) if dims else w  # the sum over a kernel bounds the sums over every position
        return math.sqrt(float(w.sum(0).max()) * float(w.sum(1).max())) * (1 + 1e-9)

    @torch.no_grad()
    def norm_estimate(self, iterations: int = 1) -> float:
        """An estimate of ||A||_2 *from below* by warm-started power iteration (chapter (31)).

        Every call continues from the singular vector that the last one reached, so that one iteration per
        optimiser step follows a slowly changing weight. Never a bound: certificates use `norm_bound`.
        """
        v, size = self.singular_vector, 0.0
        for _ in range(iterations):
            v = self.adjoint(self(v))
            size = float(v.norm())
            if not size > 0 or not math.isfinite(size):
                return 0.0 if size == 0 else math.inf
            v = v / size
        self.singular_vector.copy_(v)
        return math.sqrt(size)

    @torch.no_grad()
    def matrix(self) -> Tensor:
        """The explicit matrix (out, in) in float64, by applying the map to the identity. For tests and small maps."""
        d = math.prod(self.input_shape)
        eye = torch.eye(d, dtype=torch.float64, device=self.weight.device).reshape(d, *self.input_shape)
        return self._apply64(eye).reshape(d, -1).mT

    @abc.abstractmethod
    def _apply64(self, x: Tensor) -> Tensor:
        """A x in float64, whatever the dtype of the weights."""


def rescale_(weight: Tensor, norm: float, target: float = 1.0) -> None:
    """Scale initial weights to norm `target`: a fresh Flow of time 1 then needs a single step."""
    with torch.no_grad():
        weight.mul_(target / norm)
