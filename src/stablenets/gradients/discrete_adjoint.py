"""Exact gradients from the states alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .base import Backpropagation, Gradient, Trace
from .inputs import Inputs, Sweep, again
from .moves import Advance


class DiscreteAdjoint(Gradient):
    """Stores states between the steps, and nothing else; the backward pass takes the steps again.

    With x_(k+1) = step_k(x_k) it computes a_k = (d step_k / dx)^T a_(k+1) from the last step to the first, and adds up
    (d step_k / d theta)^T a_(k+1): the gradient of what was computed, the same as backpropagation's to rounding. (The
    discrete counterpart of `ContinuousAdjoint`; Hairer, Lubich & Wanner, VI.9.) It needs the memory of one state for
    every `together` steps and of the operations of so many steps, and the time of one forward pass more than
    backpropagation.

    With `create_graph=True`, and under `torch.func` transforms, it is backpropagation: those need all operations. A
    field with random numbers (dropout) gets others in the backward pass, which then belongs to another function.

    Args:
        together: steps that are differentiated at a time; 1 where the field is so large that its operations count.

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

    def __init__(self, together: int = 8) -> None:
        super().__init__()
        if together < 1:
            raise InputError(message(f"together={together}", "at least 1"))
        self.together = together

    def trace(self, moves: Sequence[Advance], x: Tensor, known: Trace | None = None) -> tuple[Tensor, list[Tensor]]:
        if torch._C._are_functorch_transforms_active():
            return Backpropagation().trace(moves, x)
        inputs = Inputs(moves)
        end, *outputs = _Stored.apply(inputs, self.together, known, x, *inputs.all)  # pyright: ignore[reportGeneralTypeIssues]
        return end, outputs


class _Stored(torch.autograd.Function):
    """All steps as one operation: the end, and the outputs."""

    @staticmethod
    def forward(ctx: Any, inputs: Inputs, together: int, known: Trace | None, x: Tensor, *weights: Tensor) -> Any:
        if known is None:
            starts, end, outputs = _run(inputs.moves, x, together)
        else:
            starts, end, outputs = known.starts[together::together], known.end, known.outputs
        ctx.inputs, ctx.together, ctx.starts = inputs, together, starts  # not x itself: it is checked for changes
        ctx.has_output = [move.gives_output() for move in inputs.moves]
        ctx.save_for_backward(x, *weights)
        ctx.set_materialize_grads(False)
        # detached: what is stored must not refer to what is returned
        return end.detach(), *(v.detach() for v in outputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *of_outputs: Tensor | None) -> Any:
        x, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the gradient must have derivatives itself
            return None, None, None, *again(ctx.inputs, x, weights, [gradient, *of_outputs])
        sweep, left = Sweep(ctx.inputs, weights), list(of_outputs)
        for i, start in reversed(list(enumerate([x, *ctx.starts]))):
            part = slice(i * ctx.together, (i + 1) * ctx.together)
            count = sum(ctx.has_output[part])
            own, left = left[len(left) - count :], left[: len(left) - count]
            gradient = sweep.back(part, start, gradient, own)
        return None, None, None, gradient, *sweep.totals


def _run(moves: Sequence[Advance], x: Tensor, together: int) -> tuple[Sequence[Tensor], Tensor, list[Tensor]]:
    """The states before every `together` steps but the first, those at the end, and the outputs.

    The former lie in one block of memory: small ones between large ones that come and go would leave gaps that nothing
    else fits into, many times their own size.
    """
    starts, outputs = x.new_empty(max(0, -(-len(moves) // together) - 1), *x.shape), []
    for i, move in enumerate(moves):
        if i and i % together == 0:
            starts[i // together - 1].copy_(x)
        x, output = move.advance(x)
        if output is not None:
            outputs.append(output)
    return list(starts), x, outputs
