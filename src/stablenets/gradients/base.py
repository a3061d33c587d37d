"""The interface, and the default: PyTorch's own backpropagation."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from ..core.component import Component
from ..fields import Field
from ..integrators import Integrator


@dataclass(frozen=True)
class Move:
    """One step of size `h` along `field` from time `t`, as a map of the state. `name` says whose it is."""

    integrator: Integrator[Any]
    field: Field
    h: Any
    t: float = 0.0
    name: str = "the flow"

    def __call__(self, x: Tensor) -> Tensor:
        return self.integrator.step(self.field, x, self.h, self.t)


class Gradient(Component, root=True):
    """A way to differentiate a composition of steps. All ways give the same states and, to rounding, derivatives."""

    def check(self, integrator: Integrator[Any], name: str) -> None:
        """Refuse steps that this way cannot differentiate.

        Raises:
            TypeError: naming the layer `name`.
        """
        return None

    @abc.abstractmethod
    def run(self, moves: Sequence[Move], x: Tensor) -> Tensor:
        """The state after all `moves`, one after the other, from the states `x` (batch, ...)."""

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()


class Backpropagation(Gradient):
    """Every operation's input is stored: exact, differentiable any number of times, memory proportional to depth.

    >>> from stablenets.integrators import RK4
    >>> from stablenets.systems import Pendulum
    >>> import torch
    >>> Backpropagation().run([Move(RK4(), Pendulum(), 0.1)] * 3, torch.zeros(1, 2))
    tensor([[0., 0.]])
    """

    def run(self, moves: Sequence[Move], x: Tensor) -> Tensor:
        for move in moves:
            x = move(x)
        return x
