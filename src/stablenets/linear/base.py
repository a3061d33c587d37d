"""Linear maps that know how large they are: a fast estimate to train with, a proved bound to certify with."""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import torch
from torch import Tensor

from ..core.component import Component
from ..core.linalg import conjugate_gradients


class LinearMap(Component, root=True):
    """A linear map x -> A x on batches. Call it to apply it; it has no bias.

    A map is written as two functions of a batch and a weight, `_forward` and `_adjoint`; everything else follows from
    them. The weight may be a parameter, or a property computed from other parameters (with `_weight64` to match).

    Attributes:
        weight: the numbers that A is made of, of a shape that each map states.
        input_shape, output_shape: shapes of one sample.
        guaranteed_norm: an upper bound of ||A||_2 that the construction guarantees for all parameters, if it does.
    """

    guaranteed_norm: ClassVar[float | None] = None
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
    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """A x for a batch x (batch, *input_shape), where `weight` stands for `self.weight`, in whatever dtype."""

    @abc.abstractmethod
    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """A^T y for a batch y (batch, *output_shape), where `weight` stands for `self.weight`."""

    def _weight64(self) -> Tensor:
        """The weight in float64, computed in float64 from the stored parameters: what certificates are about."""
        return self.weight.double()

    def forward(self, x: Tensor) -> Tensor:
        """A x for a batch x (batch, *input_shape)."""
        return self._forward(x, self.weight)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y for a batch y (batch, *output_shape)."""
        return self._adjoint(y, self.weight)

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
        """An upper bound of || |A| ||_2 by the Schur test: sqrt of largest row sum times largest column sum.

        The sums are those of the map with |weight| in place of the weight, whose matrix is at least |A| entrywise.
        """
        w = self._weight64().abs()
        ones = [
            torch.ones(1, *shape, dtype=w.dtype, device=w.device) for shape in (self.input_shape, self.output_shape)
        ]
        rows, columns = self._forward(ones[0], w), self._adjoint(ones[1], w)
        return math.sqrt(float(rows.max()) * float(columns.max())) * (1 + 1e-9)

    def lower_bound(self) -> float:
        """A rigorous lower bound of the smallest ||A x|| / ||x||; 0 where nothing better is proved."""
        return 0.0

    def normal(self, x: Tensor) -> Tensor:
        """A^T A x; a map may have a cheaper way than one after the other."""
        return self.adjoint(self(x))

    def solve_normal(self, z: Tensor, shift: float) -> Tensor:
        """(A^T A + shift I)^-1 z for a batch z (batch, *input_shape) and shift > 0.

        By conjugate gradients until rounding ends their progress; a map may know a closed form.
        """
        return conjugate_gradients(lambda x: self.normal(x) + shift * x, z)

    @torch.no_grad()
    def norm_estimate(self, iterations: int = 1) -> float:
        """An estimate of ||A||_2 *from below* by warm-started power iteration (chapter (31)).

        Every call continues from the singular vector that the last one reached, so that one iteration per
        optimiser step follows a slowly changing weight. Never a bound: certificates use `norm_bound`.
        """
        v, w, size = self.singular_vector, self.weight, 0.0
        v = v / v.norm()  # a change of dtype may have made it longer than 1
        for _ in range(iterations):
            v = self._adjoint(self._forward(v, w), w)
            size = float(v.norm())
            if not size > 0 or not math.isfinite(size):
                return 0.0 if size == 0 else math.inf
            v = v / size
        self.singular_vector.copy_(v)
        return math.sqrt(size)

    def training_norm(self) -> Tensor:
        """||A v|| after one warm-started power iteration for v: from below, and differentiable in the weights."""
        self.norm_estimate()
        return self(self.singular_vector.clone()).norm()

    @torch.no_grad()
    def matrix(self) -> Tensor:
        """The explicit matrix (out, in) in float64, by applying the map to the identity. For tests and small maps."""
        d = math.prod(self.input_shape)
        eye = torch.eye(d, dtype=torch.float64, device=self.weight.device).reshape(d, *self.input_shape)
        return self._forward(eye, self._weight64()).reshape(d, -1).mT


def rescale_(weight: Tensor, norm: float, target: float = 1.0) -> None:
    """Scale initial weights to norm `target`: a fresh Flow of time 1 then needs a single step."""
    with torch.no_grad():
        weight.mul_(target / norm)
