"""What imaging operators share: linear maps whose numbers are given, not learned."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .base import LinearMap
from .bounds import EPS, spectral_norm_bound

EXPLICIT_LIMIT = 600  # maps with no more inputs and outputs are bounded by the SVD of their explicit matrix
PERRON_STEPS = 40


class Operator(LinearMap, abc.ABC):
    """A linear map on images (batch, channels, height, width) of a fixed size and of any floating-point type.

    Its `weight` is a buffer in float64, cast to the type of what it is applied to.
    """

    def _hold(self, weight: Tensor, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        self.input_shape, self.output_shape = inputs, outputs
        self.register_buffer("weight", weight.double(), persistent=False)  # the configuration holds it already
        self._start()

    def forward(self, x: Tensor) -> Tensor:
        """A x for a batch x (batch, *input_shape)."""
        check_shape(x, self.input_shape)
        return self._forward(x, self.weight.to(x.dtype))

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y for a batch y (batch, *output_shape)."""
        check_shape(y, self.output_shape)
        return self._adjoint(y, self.weight.to(y.dtype))


def check_shape(x: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a batch of another shape: norms depend on the size.

    Raises:
        InputError: naming both.
    """
    if x.shape[1:] != shape:
        raise InputError(message(f"a batch of shape {tuple(x.shape)}", f"(batch, {', '.join(map(str, shape))})"))


def image_shape_of(shape: Sequence[int]) -> tuple[int, int, int]:
    """(channels, height, width), checked.

    Raises:
        InputError: unless these are three positive whole numbers.
    """
    if len(shape) != 3 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
        raise InputError(message(f"images of shape {tuple(shape)}", "(channels, height, width)"))
    return shape[0], shape[1], shape[2]


def small(a: LinearMap) -> bool:
    """Whether the explicit matrix of `a` is small enough for an SVD."""
    return max(math.prod(a.input_shape), math.prod(a.output_shape)) <= EXPLICIT_LIMIT


@torch.no_grad()
def explicit_bounds(a: LinearMap) -> tuple[float, float]:
    """A lower bound of the smallest and an upper bound of the largest stretching, by an SVD of the explicit matrix.

    Its entries carry the rounding errors of an evaluation at unit vectors, each at most gamma_n of the exact entry of
    the map with absolute values: where terms cancel, that is far more than of the entry itself.
    """
    matrix = a.matrix()
    eye = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device).view(-1, *a.input_shape)
    entries = sum(a.dot_lengths) * EPS * float(a._forward(eye, a._weight64().abs()).norm())
    upper = spectral_norm_bound(matrix, entries)
    if len(matrix) < matrix.shape[1]:
        return 0.0, upper
    sizes = torch.linalg.svdvals(matrix)
    return max(0.0, float(sizes[-1]) - 32 * max(matrix.shape) * EPS * upper - entries), upper


@torch.no_grad()
def perron_bound(
    forward: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    lengths: tuple[int, int],
    device: torch.device,
    guess: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """An upper bound of the norm of a map A with non-negative entries: for every v > 0,

        ||A||^2 <= max_i (A^T A v)_i / v_i      (Collatz 1942, Wielandt 1950; v = 1 is Schur's test).

    A power iteration brings v near the Perron vector, where both sides meet; it need not converge for the bound to be
    true. No term is negative, so that each entry of A^T A v is computed to a relative error of (n + m) u, n and m being
    the `lengths` of the sums.

    Args:
        forward, adjoint: A and A^T on float64 batches (1, *shape) and back; sums of non-negative terms, no transforms.
        guess: A^T A, nearly, if that is quicker: nothing but v depends on it.

    >>> a = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    >>> round(perron_bound(lambda x: x @ a.mT, lambda y: y @ a, (2,), (2, 2), a.device), 12)
    3.0
    """
    v = torch.ones(1, *shape, dtype=torch.float64, device=device)
    best = math.inf
    if guess is not None:
        for _ in range(PERRON_STEPS):
            u = guess(v).clamp(min=0)
            v = (v + u / u.max().clamp(min=1e-300)) / 2
    for _ in range(PERRON_STEPS if guess is None else 1):
        u = adjoint(forward(v))
        largest = float(u.max())
        if largest == 0:
            return 0.0
        best = min(best, float((u / v).max()))
        v = (v + u / largest) / 2  # stays positive where A^T A v vanishes
    return math.nextafter(math.sqrt(best) * (1 + (sum(lengths) + 8) * EPS), math.inf)


def absolute_perron_bound(a: LinearMap) -> float:
    """`perron_bound` of the map with |weight|, whose entries are at least those of |A|: a bound of ||A|| too."""
    w = a._weight64().abs()
    return perron_bound(lambda x: a._forward(x, w), lambda y: a._adjoint(y, w), a.input_shape, a.dot_lengths, w.device)
