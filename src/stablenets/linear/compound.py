"""Linear maps made of linear maps: one after the other, and added up."""

from __future__ import annotations

import abc
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..core.errors import InputError, message
from ..core.properties import outwards
from .base import LinearMap
from .blur import Blur
from .bounds import EPS
from .dense import Dense
from .kernels import motion_kernel
from .operator import absolute_perron_bound, check_shape, explicit_bounds, small
from .sampling import Downsample, Mask


class Compound(LinearMap, abc.ABC):
    """A map made of `maps`; its weight is those of its parts, one after the other in a vector."""

    maps: nn.ModuleList

    def _hold_maps(self, maps: tuple[LinearMap, ...]) -> None:
        if not maps:
            raise InputError(message(f"{type(self).__name__}()", "at least one linear map"))
        self.maps = nn.ModuleList(maps)
        self.input_shape, self.output_shape = maps[0].input_shape, maps[-1].output_shape
        self._start()

    def parts(self) -> list[LinearMap]:
        """The maps."""
        maps: Any = self.maps
        return list(maps)

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return torch.cat([a.weight.flatten() for a in self.parts()])

    def _weight64(self) -> Tensor:
        return torch.cat([a._weight64().flatten() for a in self.parts()])

    def _split(self, weight: Tensor) -> list[Tensor]:
        shapes = [a.weight.shape for a in self.parts()]
        pieces = weight.split([s.numel() for s in shapes])
        return [w.view(s) for w, s in zip(pieces, shapes, strict=True)]

    @abc.abstractmethod
    def _product_bound(self) -> float:
        """An upper bound of the norm by those of the parts."""

    @torch.no_grad()
    def norm_bound(self) -> float:
        """The smallest of the bounds that `norm_theorem` names."""
        if small(self):
            return explicit_bounds(self)[1]
        return min(self._product_bound(), absolute_perron_bound(self))

    @property
    def norm_theorem(self) -> str:
        if small(self):
            return "largest singular value of the explicit matrix (float64 SVD with its backward error)"
        parts = f"the {self._rule} of the norms of the parts ({'; '.join(a.norm_theorem for a in self.parts())})"
        return f"the smaller of: {parts}; ||A||^2 <= max (B^T B v)_i / v_i for v > 0, B >= |A| (Collatz & Wielandt)"

    _rule: str


class Composition(Compound):
    """The maps one after the other, the first one first.

    Raises:
        InputError: when the output of one is not the input of the next.

    >>> a = Composition(Blur(motion_kernel(3.0), (1, 8, 8)), Downsample((1, 8, 8), 2))
    >>> a(torch.ones(1, 1, 8, 8)).shape
    torch.Size([1, 1, 4, 4])
    """

    _rule = "product"

    def __init__(self, *maps: LinearMap) -> None:
        super().__init__()
        for first, later in itertools.pairwise(maps):
            if first.output_shape != later.input_shape:
                given = f"{type(later).__name__} on {later.input_shape} after a map to {first.output_shape}"
                raise InputError(message(given, "the output of one map as the input of the next"))
        self._hold_maps(maps)

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        for a, w in zip(self.parts(), self._split(weight), strict=True):
            x = a._forward(x, w)
        return x

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        for a, w in reversed(list(zip(self.parts(), self._split(weight), strict=True))):
            y = a._adjoint(y, w)
        return y

    def forward(self, x: Tensor) -> Tensor:
        check_shape(x, self.input_shape)
        return functools.reduce(lambda state, a: a(state), self.parts(), x)

    def adjoint(self, y: Tensor) -> Tensor:
        check_shape(y, self.output_shape)
        return functools.reduce(lambda state, a: a.adjoint(state), reversed(self.parts()), y)

    @property
    def dot_lengths(self) -> tuple[int, int]:
        lengths = [a.dot_lengths for a in self.parts()]
        return sum(n for n, _ in lengths), sum(m for _, m in lengths)

    def _product_bound(self) -> float:
        return functools.reduce(lambda p, a: outwards(p, a.norm_bound(), math.inf), self.parts(), 1.0)

    @torch.no_grad()
    def lower_bound(self) -> float:
        """By the explicit matrix if it is small, else the product of the parts' bounds."""
        if small(self):
            return explicit_bounds(self)[0]
        return functools.reduce(lambda p, a: outwards(p, a.lower_bound(), 0.0), self.parts(), 1.0)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(Blur(motion_kernel(2.0, 45.0), (2, 6, 6)), Downsample((2, 6, 6), 2))
        yield cls(*[a for a in Dense.examples() if a.in_features == 4])


class Sum(Compound):
    """The sum of the maps.

    Raises:
        InputError: maps between different spaces.

    >>> shape = (1, 8, 8)
    >>> Sum(Blur(motion_kernel(3.0), shape), Mask([[1.0] * 8] * 8, shape))(torch.ones(1, *shape)).mean()
    tensor(2.)
    """

    _rule = "sum"

    def __init__(self, *maps: LinearMap) -> None:
        super().__init__()
        for a in maps:
            if (a.input_shape, a.output_shape) != (maps[0].input_shape, maps[0].output_shape):
                given = f"{type(a).__name__} from {a.input_shape} to {a.output_shape}"
                raise InputError(message(given, f"maps from {maps[0].input_shape} to {maps[0].output_shape}"))
        self._hold_maps(maps)

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return sum((a._forward(x, w) for a, w in zip(self.parts(), self._split(weight), strict=True)), x.new_zeros(()))

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        return sum((a._adjoint(y, w) for a, w in zip(self.parts(), self._split(weight), strict=True)), y.new_zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        check_shape(x, self.input_shape)
        return sum((a(x) for a in self.parts()), x.new_zeros(()))

    def adjoint(self, y: Tensor) -> Tensor:
        check_shape(y, self.output_shape)
        return sum((a.adjoint(y) for a in self.parts()), y.new_zeros(()))

    @property
    def dot_lengths(self) -> tuple[int, int]:
        lengths = [a.dot_lengths for a in self.parts()]
        return max(n for n, _ in lengths) + len(lengths), max(m for _, m in lengths) + len(lengths)

    def _product_bound(self) -> float:
        return sum(a.norm_bound() for a in self.parts()) * (1 + len(self.maps) * EPS)

    @torch.no_grad()
    def lower_bound(self) -> float:
        """By the explicit matrix if it is small, else 0."""
        return explicit_bounds(self)[0] if small(self) else 0.0

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(Blur(motion_kernel(2.0, 45.0), (1, 5, 4)), Mask([[1.0, 0.5, 0.0, 2.0]] * 5, (1, 5, 4)))
        yield cls(*[Dense(3, 5) for _ in range(2)])
