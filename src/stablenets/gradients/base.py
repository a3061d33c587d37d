"""The interface, and the default: PyTorch's own backpropagation."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from ..core.component import Component
from ..integrators import Integrator
from .moves import Advance


@dataclass(frozen=True)
class Trace:
    """A composition of steps that has been computed: the states before each step, those at the end, the outputs."""

    starts: list[Tensor]
    end: Tensor
    outputs: list[Tensor]


class Gradient(Component, root=True):
    """A way to differentiate a composition of steps. All ways give the same states."""

    def check(self, integrator: Integrator[Any], name: str) -> None:
        """Refuse steps that this way cannot differentiate.

        Raises:
            TypeError: naming the layer `name`.
        """
        return None

    @abc.abstractmethod
    def trace(self, moves: Sequence[Advance], x: Tensor, known: Trace | None = None) -> tuple[Tensor, list[Tensor]]:
        """The states after all `moves`, one after the other, from the states `x` (batch, ...), and all outputs.

        `known` is the same, computed before without gradients; whoever can use it need not compute it again.
        """

    def run(self, moves: Sequence[Advance], x: Tensor) -> Tensor:
        """The states after all `moves`."""
        return self.trace(moves, x)[0]

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()


class Backpropagation(Gradient):
    """Every operation's input is stored: exact, differentiable any number of times, memory proportional to depth.

    >>> from stablenets.gradients import Move
    >>> from stablenets.integrators import RK4
    >>> from stablenets.systems import Pendulum
    >>> import torch
    >>> Backpropagation().run([Move(RK4(), Pendulum(), 0.1)] * 3, torch.zeros(1, 2))
    tensor([[0., 0.]])
    """

    def trace(self, moves: Sequence[Advance], x: Tensor, known: Trace | None = None) -> tuple[Tensor, list[Tensor]]:
        outputs = []
        for move in moves:
            x, output = move.advance(x)
            if output is not None:
                outputs.append(output)
        return x, outputs
