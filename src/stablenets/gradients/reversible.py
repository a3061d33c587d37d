"""Memory that does not grow with depth: states are computed again by inverting the steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import ConvergenceError, InputError, message
from ..core.properties import norm, positive
from ..integrators import Integrator
from .base import Backpropagation, Gradient, Trace
from .inputs import Inputs, Sweep, again
from .moves import Advance, Move


class Reversible(Gradient):
    """Stores the last state and `anchors` earlier ones; the others are found again, last to first, by inverse steps.

    The memory for states is that of `anchors` + 1 of them and of one step, whatever the depth (Gomez, Ren, Urtasun &
    Grosse 2017, "RevNet"; Chang et al. 2018). A backward pass costs one inverse and one step more than backpropagation.
    It needs integrators with `exact_inverse`: symplectic splittings, `ShearSplitting`, `Cayley`.

    Rounding errors of the inverses grow where a step contracts, and a gradient at wrong states is wrong. So at every
    anchor the state found is compared with the one stored, and goes on from the latter. Beyond `tolerance` the backward
    pass stops with an error instead of returning a gradient. Dropout, autocast, or weights that change between the
    forward and the backward pass show in the same way.

    With `create_graph=True`, and under `torch.func` transforms, it is backpropagation: those need all states anyway.

    Args:
        anchors: stored states, evenly spaced; the first state is always one.
        tolerance: of a state that is found again, relative to its norm and that of the next state, sample by sample
            (default eps^(2/3): 2e-5 in float32, 4e-11 in float64).

    Raises:
        TypeError: for an integrator without an exact inverse, with the name of its layer.
        ConvergenceError: in the backward pass, when inverting the steps does not lead back to a stored state.

    >>> from stablenets.gradients import Move
    >>> from stablenets.integrators import StormerVerlet
    >>> from stablenets.systems import Pendulum
    >>> x = torch.tensor([[1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    >>> y = Reversible().run([Move(StormerVerlet(), Pendulum(), 0.1)] * 1000, x)
    >>> torch.autograd.grad(y.sum(), x)[0].shape
    torch.Size([1, 2])
    """

    def __init__(self, anchors: int = 16, *, tolerance: float | None = None) -> None:
        super().__init__()
        if anchors < 1:
            raise InputError(message(f"anchors={anchors}", "at least 1"))
        if tolerance is not None and not 0 < tolerance < math.inf:
            raise InputError(message(f"tolerance={tolerance}", "a positive number"))
        self.anchors, self.tolerance = anchors, tolerance

    def check(self, integrator: Integrator[Any], name: str) -> None:
        if not integrator.exact_inverse:
            able = ", ".join(sorted(n for n, c in Integrator.registry.items() if c.exact_inverse))
            raise TypeError(
                message(f"{name}: {type(integrator).__name__} has no exact inverse", f"one of {able}")
                + " Or store the states: gradient=Backpropagation()."
            )

    def trace(self, moves: Sequence[Advance], x: Tensor, known: Trace | None = None) -> tuple[Tensor, list[Tensor]]:
        for move in moves:
            self.check(move.integrator, move.name)
        if torch._C._are_functorch_transforms_active():
            return Backpropagation().trace(moves, x)
        outputs = []
        saved = [i + 1 for i, move in enumerate(moves) if isinstance(move, Move) and move.saved]
        anchors = {i * len(moves) // self.anchors for i in range(self.anchors + 1)}
        for start, end in itertools.pairwise(sorted({0, *anchors, *saved})):  # outputs are stored anyway
            inputs = Inputs(moves[start:end])
            x = _Inverted.apply(inputs, start, self.tolerance, x, *inputs.all)  # pyright: ignore[reportAssignmentType]
            if end in saved:
                outputs.append(x)
        return x, outputs


class _Inverted(torch.autograd.Function):
    """The steps between two stored states as one operation: weights get their gradients part by part."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Inputs, first: int, tolerance: float | None, start: Tensor, *weights: Tensor
    ) -> Tensor:
        end, _ = Backpropagation().trace(inputs.moves, start)
        ctx.inputs, ctx.first = inputs, first
        ctx.tolerance = torch.finfo(start.dtype).eps ** (2 / 3) if tolerance is None else tolerance
        ctx.save_for_backward(start, end, *weights)  # an error if weights are changed in place before backward
        return end

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        stored, x = ctx.saved_tensors[:2]
        weights: list[Tensor] = ctx.inputs.all
        if torch.is_grad_enabled():  # create_graph=True: the gradient must have derivatives itself
            return None, None, None, *again(ctx.inputs, stored, weights, [gradient])
        sweep, slope = Sweep(ctx.inputs, weights), gradient
        for i, move in reversed(list(enumerate(ctx.inputs.moves))):
            after, x = x, move.integrator.inverse(move.field, x, move.h, move.t)
            if i == 0:
                _compare(x, stored, after, ctx.tolerance, ctx.first, move)
                x = stored
            slope = sweep.back(slice(i, i + 1), x, slope)
        return None, None, None, slope, *sweep.totals


def _compare(found: Tensor, stored: Tensor, after: Tensor, tolerance: float, i: int, move: Advance) -> None:
    """Refuse states that the inverse steps have not found again."""
    error = norm(found - stored) / positive(norm(stored) + norm(after))
    if not bool((error <= tolerance).all()):  # NaN is refused as well
        worst = float(error.nan_to_num(nan=math.inf).max())
        raise ConvergenceError(
            message(
                f"inverting the steps back to step {i} ({move.name}) misses the stored state by {worst:.1g} "
                "(relative): the gradient would be wrong",
                f"at most {tolerance:.1g}",
                "Steps that contract, autocast, dropout, or weights changed since the forward pass do this. Take more "
                "anchors, float64, or gradient=Backpropagation().",
            )
        )
