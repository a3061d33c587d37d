"""Maps that keep some pixels: masks (inpainting) and down-sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError, message
from .operator import Operator, check_shape, image_shape_of


class Mask(Operator):
    """Multiplies every pixel by its entry of `mask`: 1 keeps it, 0 forgets it (inpainting).

    Args:
        mask: (height, width), the same for all channels, or (channels, height, width); finite numbers or booleans.
        image_shape: (channels, height, width).

    Raises:
        InputError: a mask of another size, or with an entry that is not finite.

    >>> Mask([[1, 0], [1, 1]], (1, 2, 2))(torch.ones(1, 1, 2, 2)).sum()
    tensor(3.)
    """

    def __init__(self, mask: Tensor | Sequence[Any], image_shape: Sequence[int]) -> None:
        super().__init__()
        shape = image_shape_of(image_shape)
        values = torch.as_tensor(mask, dtype=torch.float64)
        if tuple(values.shape) not in (shape, shape[1:]):
            given = f"a mask of shape {tuple(values.shape)} for images of shape {shape}"
            raise InputError(message(given, f"{shape[1:]} or {shape}"))
        if not torch.isfinite(values).all():
            raise InputError(message("the mask holds NaN or infinite values", "finite numbers, mostly 0 and 1"))
        self.mask, self.image_shape = values.tolist(), shape
        self._hold(values.expand(shape).contiguous(), shape, shape)

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * weight

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        return y * weight

    def normal(self, x: Tensor) -> Tensor:
        check_shape(x, self.input_shape)
        return x * self.weight.square().to(x.dtype)

    def solve_normal(self, z: Tensor, shift: float) -> Tensor:
        """By division."""
        check_shape(z, self.input_shape)
        return z / (self.weight.square() + shift).to(z.dtype)

    @property
    def dot_lengths(self) -> tuple[int, int]:
        return 1, 1

    def norm_bound(self) -> float:
        """The largest entry's size, exactly."""
        return float(self._weight64().abs().max())

    def lower_bound(self) -> float:
        """The smallest entry's size, exactly."""
        return float(self._weight64().abs().min())

    @property
    def norm_theorem(self) -> str:
        return "largest entry of a diagonal matrix"

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls([[1, 0, 1], [1, 1, 0]], (2, 2, 3))
        yield cls([[[0.5, -2.0]], [[0.0, 1.0]], [[1.5, 1.0]]], (3, 1, 2))


class Downsample(Operator):
    """Keeps every `factor`-th pixel of both directions, from the first on.

    To average before (anti-aliasing), compose it with a blur: `Composition(Blur(kernel, shape), Downsample(shape, 2))`.

    Raises:
        InputError: a factor that is not a positive whole number.

    >>> Downsample((1, 4, 5), 2)(torch.ones(1, 1, 4, 5)).shape
    torch.Size([1, 1, 2, 3])
    """

    def __init__(self, image_shape: Sequence[int], factor: int) -> None:
        super().__init__()
        shape = image_shape_of(image_shape)
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
            raise InputError(message(f"factor={factor!r}", "a positive whole number"))
        self.image_shape, self.factor = shape, factor
        self._hold(torch.ones(()), shape, (shape[0], -(-shape[1] // factor), -(-shape[2] // factor)))

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x[..., :: self.factor, :: self.factor] * weight

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        (height, width), s = self.input_shape[1:], self.factor
        spread = y.new_zeros(*y.shape[:2], y.shape[2] * s, y.shape[3] * s)
        spread[..., ::s, ::s] = y * weight
        return F.pad(spread, (0, width - spread.shape[3], 0, height - spread.shape[2]))

    def solve_normal(self, z: Tensor, shift: float) -> Tensor:
        """By division: A^T A keeps the sampled pixels and forgets the others."""
        return z / (self.normal(torch.ones_like(z)) + shift)

    @property
    def dot_lengths(self) -> tuple[int, int]:
        return 1, 1

    def norm_bound(self) -> float:
        """1: the rows are different unit vectors."""
        return float(self._weight64().abs())

    def lower_bound(self) -> float:
        return self.norm_bound() if self.factor == 1 else 0.0

    @property
    def norm_theorem(self) -> str:
        return "the rows are different unit vectors"

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls((2, 4, 6), 2)
        yield cls((1, 5, 7), 3)
