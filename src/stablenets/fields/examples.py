"""Weights for examples."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def large(module: M, scale: float = 2.0, *, seed: int = 0) -> M:
    """`module` with weights and biases as after training: random, and far from a near-isometry.

    Entries of a weight are normal with standard deviation scale / sqrt(inputs per output), those of a bias with 1. They
    depend on nothing but `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        inputs = max(1, parameter.numel() // max(1, len(parameter)))
        parameter.copy_(draw if "bias" in name or parameter.dim() < 2 else draw * scale / inputs**0.5)
    return module
