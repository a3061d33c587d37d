"""How many samples a processor evaluates best at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

USUAL, LEAST, MOST = 100, 8, 500  # samples at a time: where nothing is known, and limits
FITTING = 640_000  # entries of a state of all samples: larger ones leave the caches, smaller ones waste calls


def fitting(net: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """The number of samples whose states, between the layers of `net`, still fit a processor's caches.

    It depends on the sizes of what is stored for a derivative, and on no measured time, so that it is the same in
    every run. Weights are stored, too: they are what does not grow with the number of samples. Networks about which
    this says nothing, or that cannot be asked, get the usual number: those that use `torch.func.grad`, which refuses
    to tell what it stores, or that take no two samples.

    Args:
        x: a sample (1, ...).
    """
    try:
        one, two = _stored(net, x), _stored(net, x.repeat_interleave(2, 0))
    except (RuntimeError, ValueError):
        return USUAL
    if len(one) != len(two):
        return USUAL
    largest = max((b - a for a, b in zip(one, two, strict=True)), default=0)
    return min(max(FITTING // largest, LEAST), MOST) if largest > 0 else USUAL


def _stored(net: Callable[[Tensor], Tensor], x: Tensor) -> list[int]:
    """Sizes of the tensors that are stored to differentiate `net` at the samples `x`."""
    sizes: list[int] = []

    def store(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
        net(x.detach().requires_grad_())
    return sizes
