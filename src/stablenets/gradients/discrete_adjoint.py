"""Exact gradients from the states alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .base import Backpropagation, Gradient, Trace
from .inputs import Inputs, Sweep, again
from .moves import Advance


class DiscreteAdjoint(Gradient):
    """Stores the states between the steps, and nothing else; the backward pass takes every step again.

    With x_(k+1) = step_k(x_k) it computes a_k = (d step_k / dx)^T a_(k+1) from the last step to the first, and adds up
    (d step_k / d theta)^T a_(k+1): the gradient of what was computed, the same as backpropagation's to rounding. (The
    discrete counterpart of `ContinuousAdjoint`; Hairer, Lubich & Wanner, VI.9.) It needs the memory of one state per
    step, and the time of one forward pass more than backpropagation.

    With `create_graph=True`, and under `torch.func` transforms, it is backpropagation: those need all operations.
    A field with random numbers (dropout) gets others in the backward pass, which then belongs to another function.

    Raises:
        TypeError: in the backward pass, when a step depends on a tensor that is no parameter of its field.

    >>> from stablenets.gradients import Move
    >>> from stablenets.integrators import RK4
    >>> from stablenets.systems import Pendulum
    >>> x = torch.tensor([[1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    >>> y = DiscreteAdjoint().run([Move(RK4(), Pendulum(), 0.1)] * 1000, x)
    >>> torch.autograd.grad(y.sum(), x)[0].shape
    torch.Size([1, 2])
    """

    def trace(self, moves: Sequence[Advance], x: Tensor, known: Trace | None = None) -> tuple[Tensor, list[Tensor]]:
        if torch._C._are_functorch_transforms_active():
            return Backpropagation().trace(moves, x)
        inputs = Inputs(moves)
        end, *outputs = _Stored.apply(inputs, known, x, *inputs.all)  # pyright: ignore[reportGeneralTypeIssues]
        return end, outputs


class _Stored(torch.autograd.Function):
    """All steps as one operation: the end, and the outputs."""

    @staticmethod
    def forward(ctx: Any, inputs: Inputs, known: Trace | None, x: Tensor, *weights: Tensor) -> Any:
        found = _run(inputs.moves, x) if known is None else known
        ctx.inputs, ctx.starts = inputs, found.starts[1:]  # not x itself, which is checked for changes in place
        ctx.has_output = [move.gives_output() for move in inputs.moves]
        ctx.save_for_backward(x, *weights)
        ctx.set_materialize_grads(False)
        # detached: what is stored must not refer to what is returned
        return found.end.detach(), *(v.detach() for v in found.outputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *of_outputs: Tensor | None) -> Any:
        x, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the gradient must have derivatives itself
            return None, None, *again(ctx.inputs, x, weights, [gradient, *of_outputs])
        starts, sweep, left = [x, *ctx.starts], Sweep(ctx.inputs, weights), list(of_outputs)
        for i in reversed(range(len(starts))):
            gradient = sweep.back(i, starts[i], gradient, left.pop() if ctx.has_output[i] else None)
        return None, None, gradient, *sweep.totals


def _run(moves: Sequence[Advance], x: Tensor) -> Trace:
    starts, outputs = [], []
    for move in moves:
        starts.append(x)
        x, output = move.advance(x)
        if output is not None:
            outputs.append(output)
    return Trace(starts, x, outputs)
