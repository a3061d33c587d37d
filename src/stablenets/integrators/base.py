"""One step of size h, and the theorem that carries the field's claims to the step."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.component import Component
from ..core.errors import message
from ..fields.base import Field

F = TypeVar("F", bound=Field)


def add_scaled(x: Tensor, slope: Tensor, size: Any) -> Tensor:
    """x + size * slope in one operation; `size` is a number, or a 0-dim tensor when the step has a gradient."""
    return torch.addcmul(x, slope, size) if isinstance(size, Tensor) else torch.add(x, slope, alpha=size)


class Integrator(Component, Generic[F], root=True):
    """A one-step method. A subclass states which fields it accepts, its order, its source and its theorem."""

    needs: ClassVar[type[Field]] = Field
    order: ClassVar[int]
    reference: ClassVar[str]
    solves: ClassVar[bool] = False  # whether a step solves an equation, and may raise a ConvergenceError
    exact_inverse: ClassVar[bool] = False  # whether `inverse` undoes a step, to rounding, whatever the field

    @abc.abstractmethod
    def step(self, f: F, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        """The state after one step of size `h` (a number or a 0-dim tensor) from the states `x` at time `t`."""

    def inverse(self, f: F, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        """The state from which `step(f, ., h, t)` arrives at `x`, by a formula; only where `exact_inverse`.

        Raises:
            TypeError: when the method has no exact inverse.
        """
        raise TypeError(message(f"{type(self).__name__} has no exact inverse", "an integrator with exact_inverse"))

    @abc.abstractmethod
    def transfer(self, field: Claims, h: float) -> Claims:
        """What one step of size `h` is proved to satisfy, given what the field is proved to satisfy."""

    def step_limit(self, field: Claims) -> float | None:
        """The largest h at which the method's structural theorem holds; None when there is no such theorem."""
        return None

    @property
    def theorem(self) -> str:
        """The structural theorem, in one sentence, for certificates."""
        return ""

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()

    @classmethod
    def accepting(cls, field: Field) -> list[str]:
        """Names of the registered integrators that accept `field`."""
        return sorted(n for n, c in Integrator.registry.items() if isinstance(field, c.needs))
