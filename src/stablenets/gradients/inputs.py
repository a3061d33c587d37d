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
    """From the last step to the first: every step is computed again, with its derivatives, and gradients add up."""

    def __init__(self, inputs: Inputs, weights: Sequence[Tensor]) -> None:
        self.inputs, self.weights = inputs, weights
        self.totals: list[Tensor | None] = [None] * len(weights)
        self._seen: set[nn.Module] = set()

    def back(self, i: int, x: Tensor, gradient: Tensor | None, of_outputs: Tensor | None = None) -> Tensor | None:
        """The gradient at the states `x` before step `i`, from those after it and of its outputs."""
        if gradient is None and of_outputs is None:
            return None
        move, places = self.inputs.moves[i], self.inputs.of_move[i]
        own = self.inputs.of_field[move.field]
        with torch.enable_grad():
            start = x.detach().requires_grad_()
            times = {name: self.weights[j].detach().requires_grad_() for name, j in places.items()}
            end, outputs = move.at(**times).advance(start)
            leaves = [start, *(self.weights[j] for j in own), *times.values()]
            if move.field not in self._seen:
                self._seen.add(move.field)
                complete([end] if outputs is None else [end, outputs], leaves, [self.weights[j] for j in own], move)
            given = [(end, gradient), (outputs, of_outputs)]
            roots = [(v, g) for v, g in given if v is not None and g is not None and v.requires_grad]
            if not roots:
                return torch.zeros_like(x)
            ends, given = zip(*roots, strict=True)
            slopes = torch.autograd.grad(ends, leaves, given, allow_unused=True)
        for j, slope in zip([*own, *places.values()], slopes[1:], strict=True):
            total = self.totals[j]
            self.totals[j] = slope if total is None else total if slope is None else total + slope
        return slopes[0]


def again(inputs: Inputs, x: Tensor, weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Any]:
    """The gradients of `x` and all weights by backpropagation, with derivatives of their own (`create_graph=True`)."""
    end, outputs = Backpropagation().trace(inputs.moves, x)
    roots = [(v, g) for v, g in zip([end, *outputs], gradients, strict=True) if g is not None and v.requires_grad]
    wanted = [x, *weights]
    leaves = [t for t in wanted if t.requires_grad]
    ends, given = zip(*roots, strict=True)
    found = iter(torch.autograd.grad(ends, leaves, given, create_graph=True, allow_unused=True))
    return [next(found) if t.requires_grad else None for t in wanted]


def complete(ends: Sequence[Tensor], leaves: Sequence[Tensor], weights: Sequence[Tensor], move: Advance) -> None:
    """Refuse a step that depends on a tensor whose gradient would be lost, as it is no parameter of the field."""
    present = [p for p in move.field.parameters() if p.requires_grad]
    strange: list[Any] = [p for p in present if not any(p is w for w in weights)]
    known, seen = {id(leaf) for leaf in leaves}, set()
    queue: list[Any] = [end.grad_fn for end in ends]
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
