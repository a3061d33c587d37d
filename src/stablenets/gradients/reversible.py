"""Memory that does not grow with depth: states are computed again by inverting the steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ConvergenceError, InputError, message
from ..core.properties import norm, positive
from ..integrators import Integrator
from .base import Backpropagation, Gradient, Move


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

    def run(self, moves: Sequence[Move], x: Tensor) -> Tensor:
        for move in moves:
            self.check(move.integrator, move.name)
        if torch._C._are_functorch_transforms_active():
            return Backpropagation().run(moves, x)
        ends = [i * len(moves) // self.anchors for i in range(self.anchors + 1)]
        for start, end in itertools.pairwise(ends):
            if start < end:
                inputs = _Inputs(moves[start:end])
                x = _Inverted.apply(inputs, start, self.tolerance, x, *inputs.all)  # pyright: ignore[reportAssignmentType]
        return x


class _Inputs:
    """What a composition of steps depends on besides the state: each tensor once, and where each step has its own."""

    def __init__(self, moves: Sequence[Move]) -> None:
        self.moves = moves
        self.all: list[Tensor] = []
        self.of_field: dict[nn.Module, list[int]] = {}
        self.index: dict[int, int] = {}
        for field in {m.field: None for m in moves}:
            self.of_field[field] = [self._place(p) for p in field.parameters() if p.requires_grad]
        self.of_h = [self._place(m.h) if isinstance(m.h, Tensor) and m.h.requires_grad else None for m in moves]

    def _place(self, tensor: Tensor) -> int:
        if id(tensor) not in self.index:
            self.index[id(tensor)] = len(self.all)
            self.all.append(tensor)
        return self.index[id(tensor)]


class _Inverted(torch.autograd.Function):
    """The steps between two stored states as one operation: weights get their gradients part by part."""

    @staticmethod
    def forward(
        ctx: Any, inputs: _Inputs, first: int, tolerance: float | None, start: Tensor, *weights: Tensor
    ) -> Tensor:
        end = Backpropagation().run(inputs.moves, start)
        ctx.inputs, ctx.first = inputs, first
        ctx.tolerance = torch.finfo(start.dtype).eps ** (2 / 3) if tolerance is None else tolerance
        ctx.save_for_backward(start, end, *weights)  # an error if weights are changed in place before backward
        return end

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        stored, x = ctx.saved_tensors[:2]
        weights: list[Tensor] = ctx.inputs.all
        if torch.is_grad_enabled():  # create_graph=True: the gradient must have derivatives itself
            end, inputs = Backpropagation().run(ctx.inputs.moves, stored), [stored, *weights]
            leaves = [t for t in inputs if t.requires_grad]
            found = iter(torch.autograd.grad(end, leaves, gradient, create_graph=True, allow_unused=True))
            return None, None, None, *(next(found) if t.requires_grad else None for t in inputs)
        totals: list[Tensor | None] = [None] * len(weights)
        seen: set[nn.Module] = set()
        for i, move in reversed(list(enumerate(ctx.inputs.moves))):
            after, x = x, move.integrator.inverse(move.field, x, move.h, move.t)
            if i == 0:
                _compare(x, stored, after, ctx.tolerance, ctx.first, move)
                x = stored
            own: list[int] = ctx.inputs.of_field[move.field]
            place: int | None = ctx.inputs.of_h[i]
            with torch.enable_grad():
                start = x.detach().requires_grad_()
                h = move.h if place is None else move.h.detach().requires_grad_()
                end = move.integrator.step(move.field, start, h, move.t)
                leaves = [start, *(weights[j] for j in own), *([] if place is None else [h])]
                if move.field not in seen:
                    seen.add(move.field)
                    _complete(end, leaves, [weights[j] for j in own], move)
                slopes = torch.autograd.grad(end, leaves, gradient, allow_unused=True)
            gradient = slopes[0]
            places = own if place is None else [*own, place]
            for j, slope in zip(places, slopes[1:], strict=True):
                total = totals[j]
                totals[j] = slope if total is None else total if slope is None else total + slope
        return None, None, None, gradient, *totals


def _compare(found: Tensor, stored: Tensor, after: Tensor, tolerance: float, i: int, move: Move) -> None:
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


def _complete(end: Tensor, leaves: Sequence[Tensor], weights: Sequence[Tensor], move: Move) -> None:
    """Refuse a step that depends on a tensor whose gradient would be lost, as it is no parameter of the field."""
    present = [p for p in move.field.parameters() if p.requires_grad]
    strange: list[Any] = [p for p in present if not any(p is w for w in weights)]
    known, seen, queue = {id(leaf) for leaf in leaves}, set(), [end.grad_fn]
    while queue:
        node: Any = queue.pop()
        if node is not None and node not in seen:
            seen.add(node)
            queue += [following for following, _ in node.next_functions]
            leaf = getattr(node, "variable", None)  # of the nodes that stand for leaves
            strange += [leaf] if leaf is not None and id(leaf) not in known else []
    if strange or len(present) != len(weights):
        shape = tuple(strange[0].shape) if strange else "of the forward pass"
        raise TypeError(
            message(
                f"{move.name}: its step depends on a tensor {shape} that was no parameter of its field before",
                f"the same {type(move.field).__name__}, with all tensors that need a gradient among its parameters",
                "Or store the states: gradient=Backpropagation().",
            )
        )
