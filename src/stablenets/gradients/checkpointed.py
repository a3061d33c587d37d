"""Backpropagation in pieces: a few states are stored, and every piece is computed again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..core.errors import InputError, message
from .base import Backpropagation, Gradient, Trace
from .moves import Advance


class Checkpointed(Gradient):
    """Stores the states between `pieces` pieces of the composition, and the operations of one piece at a time.

    Exact, with derivatives of any order and the same random numbers in both passes (`torch.utils.checkpoint`). With the
    default, the square root of the number of steps, memory grows as that root, and the backward pass costs one forward
    pass more. Under `torch.func` transforms it is backpropagation.

    Args:
        pieces: their number.

    >>> from stablenets.gradients import Move
    >>> from stablenets.integrators import RK4
    >>> from stablenets.systems import Pendulum
    >>> Checkpointed().run([Move(RK4(), Pendulum(), 0.1)] * 9, torch.zeros(1, 2))
    tensor([[0., 0.]])
    """

    def __init__(self, pieces: int | None = None) -> None:
        super().__init__()
        if pieces is not None and pieces < 1:
            raise InputError(message(f"pieces={pieces}", "at least 1"))
        self.pieces = pieces

    def trace(self, moves: Sequence[Advance], x: Tensor, known: Trace | None = None) -> tuple[Tensor, list[Tensor]]:
        if torch._C._are_functorch_transforms_active() or not torch.is_grad_enabled():
            return Backpropagation().trace(moves, x)
        count = self.pieces or math.isqrt(len(moves))
        length = max(1, math.ceil(len(moves) / max(count, 1)))
        outputs: list[Tensor] = []
        for i in range(0, len(moves), length):
            found: Any = checkpoint(Backpropagation().trace, moves[i : i + length], x, use_reentrant=False)
            x = found[0]
            outputs += found[1]
        return x, outputs
