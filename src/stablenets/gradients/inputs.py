"""What a composition of steps depends on, for gradients that are put together step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import message
from .base import Backpropagation
from .moves import Advance


class Inputs:
    """The tensors besides the state: each once, and where each step has its own."""

    def __init__(self, moves: Sequence[Advance]) -> None:
        self.moves = moves
        self.all: list[Tensor] = []
        self.of_field: dict[nn.Module, list[int]] = {}
        self._index: dict[int, int] = {}
        for field in {m.field: None for m in moves}:
            self.of_field[field] = [self._place(p) for p in field.parameters() if p.requires_grad]
        self.of_move = [{name: self._place(v) for name, v in m.times().items()} for m in moves]

    def _place(self, tensor: Tensor) -> int:
        if id(tensor) not in self._index:
            self._index[id(tensor)] = len(self.all)
            self.all.append(tensor)
        return self._index[id(tensor)]


class Sweep:
    """From the last steps to the first: they are computed again, with their derivatives, and gradients add up."""

    def __init__(self, inputs: Inputs, weights: Sequence[Tensor]) -> None:
        self.inputs, self.weights = inputs, weights
        self.totals: list[Tensor | None] = [None] * len(weights)
        self._seen: set[nn.Module] = set()

    def back(
        self, part: slice, x: Tensor, gradient: Tensor | None, of_outputs: Sequence[Tensor | None] = ()
    ) -> Tensor | None:
        """The gradient at the states `x` before some steps, from those after them and of their outputs."""
        if gradient is None and all(g is None for g in of_outputs):
            return None
        moves, places = self.inputs.moves[part], self.inputs.of_move[part]
        fields = {move.field: move for move in moves}
        own = list(dict.fromkeys(j for f in fields for j in self.inputs.of_field[f]))
        with torch.enable_grad():
            start = x.detach().requires_grad_()
            times = {j: self.weights[j].detach().requires_grad_() for place in places for j in place.values()}
            moves = [m.at(**{n: times[j] for n, j in place.items()}) for m, place in zip(moves, places, strict=True)]
            end, outputs = Backpropagation().trace(moves, start)
            leaves = [start, *(self.weights[j] for j in own), *times.values()]
            new = [move for f, move in fields.items() if f not in self._seen]
            if new:
                self._seen.update(m.field for m in new)
                for move in new:
                    same_parameters(move, [self.weights[j] for j in self.inputs.of_field[move.field]])
                complete([end, *outputs], leaves, new[0])
            given = zip([end, *outputs], [gradient, *of_outputs], strict=False)  # no gradients, no outputs wanted
            roots = [(v, g) for v, g in given if g is not None and v.requires_grad]
            if not roots:
                return torch.zeros_like(x)
            ends, slopes = zip(*roots, strict=True)
            slopes = torch.autograd.grad(ends, leaves, slopes, allow_unused=True)
        for j, slope in zip([*own, *times], slopes[1:], strict=True):
            total = self.totals[j]
            self.totals[j] = slope if total is None else total if slope is None else total + slope
        return slopes[0]


def again(inputs: Inputs, x: Tensor, weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Any]:
    """The gradients of `x` and all weights by backpropagation, with derivatives of their own (`create_graph=True`)."""
    x = x.clone()
    # clones, since the time of a step may be computed from its size, whose own gradient must not lead through it
    times = {j: weights[j].clone() for place in inputs.of_move for j in place.values()}
    places = [{name: times[j] for name, j in place.items()} for place in inputs.of_move]
    moves = [move.at(**place) for move, place in zip(inputs.moves, places, strict=True)]
    end, outputs = Backpropagation().trace(moves, x)
    roots = [(v, g) for v, g in zip([end, *outputs], gradients, strict=False) if g is not None and v.requires_grad]
    wanted = [x, *(times.get(j, w) for j, w in enumerate(weights))]
    leaves = [t for t in wanted if t.requires_grad]
    ends, given = zip(*roots, strict=True)
    found = iter(torch.autograd.grad(ends, leaves, given, create_graph=True, allow_unused=True))
    slopes = [next(found) if t.requires_grad else None for t in wanted]
    _less_what_leads_through_times(slopes, times, weights)
    return slopes


def _less_what_leads_through_times(slopes: list[Any], times: dict[int, Tensor], weights: Sequence[Tensor]) -> None:
    """Where sizes follow the weights, a gradient of the weights by backpropagation has their share in it already."""
    roots = [(weights[j], slopes[1 + j]) for j in times if weights[j].grad_fn is not None and slopes[1 + j] is not None]
    leaves = [j for j, w in enumerate(weights) if j not in times and slopes[1 + j] is not None]
    if roots and leaves:
        ends, given = zip(*roots, strict=True)
        inner = [weights[j] for j in leaves]
        shares = torch.autograd.grad(ends, inner, given, create_graph=True, allow_unused=True)
        for j, share in zip(leaves, shares, strict=True):
            slopes[1 + j] = slopes[1 + j] if share is None else slopes[1 + j] - share


def same_parameters(move: Advance, weights: Sequence[Tensor]) -> None:
    """Refuse a field that has not the parameters it had."""
    present = [p for p in move.field.parameters() if p.requires_grad]
    strange = [p for p in present if not any(p is w for w in weights)]
    if strange or len(present) != len(weights):
        raise _lost(move, tuple(strange[0].shape) if strange else "of the forward pass")


def complete(ends: Sequence[Tensor], leaves: Sequence[Tensor], move: Advance) -> None:
    """Refuse steps that depend on a tensor whose gradient would be lost, as it is no parameter of their fields."""
    known, seen = {id(leaf) for leaf in leaves}, set()
    queue: list[Any] = [end.grad_fn for end in ends]
    while queue:
        node: Any = queue.pop()
        if node is not None and node not in seen:
            seen.add(node)
            queue += [following for following, _ in node.next_functions]
            leaf = getattr(node, "variable", None)  # of the nodes that stand for leaves
            if leaf is not None and id(leaf) not in known:
                raise _lost(move, tuple(leaf.shape))


def _lost(move: Advance, shape: Any) -> TypeError:
    return TypeError(
        message(
            f"{move.name}: its step depends on a tensor {shape} that was no parameter of its field before",
            f"the same {type(move.field).__name__}, with all tensors that need a gradient among its parameters",
            "Or store the states: gradient=Backpropagation().",
        )
    )
