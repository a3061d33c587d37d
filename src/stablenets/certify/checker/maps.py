"""The checker's own linear maps: norm proofs, and the constants of the rounding analysis."""

from __future__ import annotations

import abc
import math

import numpy as np

from .norms import WORK_LIMIT, U, prove, work
from .strict import Rejected

MEMORY_LIMIT = 2**28  # entries of an explicit matrix, or of all symbols


class Map(abc.ABC):
    """A linear map with a finite float64 weight (outputs, inputs, ...).

    Attributes:
        weight: as recomputed here.
        deviation: by what factor, at most, the output rows of the evaluated matrix may exceed those of the exact one.
        input_shape, output_shape: of one sample.
        lengths: of the dot products of A and of A^T.
    """

    weight: np.ndarray
    deviation: float
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    lengths: tuple[int, int]

    @abc.abstractmethod
    def proves(self, bound: float) -> bool:
        """Whether ||A||_2 <= bound is proved."""

    @abc.abstractmethod
    def sums(self) -> tuple[float, float]:
        """The largest sums of |A| over a row and over a column, or more."""

    def absolute(self) -> float:
        """An upper bound of || |A| ||_2: sqrt(||A||_1 ||A||_inf)."""
        rows, columns = self.sums()
        terms = self.weight.size + 8  # each sum has fewer
        return math.sqrt(rows * columns) * (1 + 2 * terms * U) * (1 + self.deviation)

    def spread(self, bias: np.ndarray) -> float:
        """Norm of the bias (one entry per output feature or channel) spread over all outputs."""
        squares = float(np.square(bias).sum()) * math.prod(self.output_shape[1:])
        return math.sqrt(squares) * (1 + 2 * (bias.size + 8) * U)

    def _within(self, bound: float) -> float:
        """What the matrix of `weight` must stay below for the evaluated one to stay below `bound`."""
        return bound / (1 + self.deviation) * (1 - 2 * U) if self.deviation else bound


def affordable(count: int, rows: int, columns: int) -> None:
    """Raise Rejected when a proof for so many matrices of this size would take too long."""
    if count * rows * columns > MEMORY_LIMIT or work(count, rows, columns) > WORK_LIMIT:
        raise Rejected(f"not covered by the checker: a norm proof for {count} matrices of {rows} x {columns}")


class Dense(Map):
    """x -> W x with W (out, in)."""

    def __init__(self, weight: np.ndarray, deviation: float = 0.0) -> None:
        self.weight, self.deviation = weight, deviation
        self.input_shape, self.output_shape = (weight.shape[1],), (weight.shape[0],)
        self.lengths = weight.shape[1], weight.shape[0]

    def proves(self, bound: float) -> bool:
        affordable(1, *self.weight.shape)
        return prove(self.weight[None], self._within(bound))

    def sums(self) -> tuple[float, float]:
        size = np.abs(self.weight)
        return float(size.sum(1).max()), float(size.sum(0).max())
