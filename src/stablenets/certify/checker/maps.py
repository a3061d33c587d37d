"""The checker's own dense and convolutional matrices: norm proofs, and the constants of the rounding analysis."""

from __future__ import annotations

import abc
import math

import numpy as np

from .norms import OUT, WORK_LIMIT, U, gamma, prove, work
from .strict import Rejected

EXPLICIT_SIDES = (600, 2400)  # convolutions with matrices no larger than this are proved as explicit matrices
MEMORY_LIMIT = 2**28  # entries of an explicit matrix, or of all symbols


class Map(abc.ABC):
    """A linear map with a finite float64 weight (outputs, inputs, ...).

    Attributes:
        input_shape, output_shape: of one sample.
        lengths: of the dot products of A and of A^T.
    """

    def __init__(self, weight: np.ndarray, image_size: tuple[int, ...]) -> None:
        outputs, inputs, *kernel = weight.shape
        self.weight, taps = weight, math.prod(kernel)
        self.input_shape, self.output_shape = (inputs, *image_size), (outputs, *image_size)
        self.lengths = inputs * taps, outputs * taps

    @abc.abstractmethod
    def proves(self, bound: float) -> bool:
        """Whether ||A||_2 <= bound is proved."""

    def absolute(self) -> float:
        """An upper bound of || |A| ||_2: sqrt(||A||_1 ||A||_inf)."""
        size = np.abs(self.weight).reshape(*self.weight.shape[:2], -1).sum(2)
        terms = math.prod(self.weight.shape[2:]) + max(size.shape) + 8
        return math.sqrt(float(size.sum(1).max()) * float(size.sum(0).max())) * (1 + 2 * terms * U)

    def spread(self, bias: np.ndarray) -> float:
        """Norm of the bias (one entry per output feature or channel) spread over all outputs."""
        squares = float(np.square(bias).sum()) * math.prod(self.output_shape[1:])
        return math.sqrt(squares) * (1 + 2 * (bias.size + 8) * U)


def _affordable(count: int, rows: int, columns: int) -> None:
    if count * rows * columns > MEMORY_LIMIT or work(count, rows, columns) > WORK_LIMIT:
        raise Rejected(f"not covered by the checker: a norm proof for {count} matrices of {rows} x {columns}")


class Dense(Map):
    """x -> W x with W (out, in)."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__(weight, ())

    def proves(self, bound: float) -> bool:
        _affordable(1, *self.weight.shape)
        return prove(self.weight[None], bound)


class Conv(Map):
    """'Same' correlation with a kernel (out, in, k, k), k odd, on images of one size padded by zeros or circularly."""

    def __init__(self, weight: np.ndarray, image_size: tuple[int, int], circular: bool) -> None:
        super().__init__(weight, image_size)
        self.circular = circular

    def proves(self, bound: float) -> bool:
        """With the explicit matrix where that is small, else over the frequencies of a torus.

        The torus is the image's own for periodic padding (Sedghi, Gupta & Long 2019). For zero padding it has
        p = (k - 1) / 2 more points each way: the image followed by p zeros sees only zeros across the seam, so the
        map is a compression of the periodic one.
        """
        small, large = sorted((math.prod(self.input_shape), math.prod(self.output_shape)))
        if small <= EXPLICIT_SIDES[0] and large <= EXPLICIT_SIDES[1]:
            return prove(self.matrix()[None], bound)
        symbols, error = self.symbols()
        return prove(symbols, bound, error)

    def matrix(self) -> np.ndarray:
        """The explicit matrix (outputs, inputs)."""
        o, c, k, _ = self.weight.shape
        h, w = self.input_shape[1:]
        full = np.zeros((o, h, w, c, h, w))
        i, j = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
        for s in range(k):
            for t in range(k):
                y, x = i + s - k // 2, j + t - k // 2
                if self.circular:
                    inside, y, x = np.ones_like(y, bool), y % h, x % w
                else:
                    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
                # the indices in the middle go first: (pixels, o, c)
                full[:, i[inside], j[inside], :, y[inside], x[inside]] += self.weight[:, :, s, t]
        return full.reshape(o * h * w, c * h * w)

    def symbols(self) -> tuple[np.ndarray, float]:
        """Real forms [[P, -Q], [Q, P]] of the Fourier symbols P + iQ, one per pair of opposite frequencies.

        They are sums over the k x k taps, not a fast transform. Also returns a bound of their error: cosines and sines
        are within 24 u (six roundings of an angle below 2 pi, and the library's last bits), sums within gamma.
        """
        outputs, inputs, k, _ = self.weight.shape
        margin = 0 if self.circular else k // 2
        n1, n2 = (max(n + margin, k) for n in self.input_shape[1:])
        half = n2 // 2 + 1
        _affordable(n1 * half, 2 * outputs, 2 * inputs)
        turns = 2 * math.pi / (n1 * n2)
        cosine = np.array([math.cos(turns * i) for i in range(n1 * n2)])
        sine = np.array([math.sin(turns * i) for i in range(n1 * n2)])
        f1, f2, s, t = np.ix_(np.arange(n1), np.arange(half), np.arange(k), np.arange(k))
        angle = ((f1 * s * n2 + f2 * t * n1) % (n1 * n2)).reshape(n1 * half, k * k)  # exact, in parts of a turn
        taps = self.weight.reshape(outputs * inputs, k * k).T
        p = (cosine[angle] @ taps).reshape(-1, outputs, inputs)
        q = (sine[angle] @ taps).reshape(-1, outputs, inputs)
        error = 2 * (gamma(k * k) + 25 * U) * self.absolute() * OUT
        return np.block([[p, -q], [q, p]]), error
