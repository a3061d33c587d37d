"""Divergence-free fields whose every entry is driven by the others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.properties import DivergenceFree, Lipschitz
from ..linear.bounds import spectral_norm_bound
from .activations import Activation, Tanh
from .base import Norm, ShearField, upper_bound
from .examples import large


class BlockShears(ShearField):
    """Blocks x_1, x_2, ... of the entries of a vector, with x_i' = B_i^T sigma(A_i x + b_i) where A_i ignores x_i.

    The divergence is zero since no block drives itself (lecture: the splitting with two blocks). Each block moved in
    turn is a shear, whose composition preserves volume.

    Args:
        blocks: the sizes of the blocks, at least two; (1, 1, ..., 1) for single entries.
        width: hidden units per block.
        activation: sigma (default tanh).

    >>> f = BlockShears((1, 1, 2), 8)
    >>> f(torch.zeros(5, 4)).shape
    torch.Size([5, 4])
    """

    def __init__(self, blocks: tuple[int, ...], width: int, *, activation: Activation | None = None) -> None:
        super().__init__()
        if len(blocks) < 2 or min(blocks) < 1:
            raise InputError(message(f"blocks={blocks}", "two or more positive sizes"))
        self.blocks, self.width, self.activation = tuple(blocks), width, activation or Tanh()
        d = sum(blocks)
        self.state_shape = (d,)
        self.inner = nn.ParameterList(torch.randn(width, d - n) / (d - n) ** 0.5 for n in blocks)
        self.outer = nn.ParameterList(torch.randn(n, width) / width**0.5 for n in blocks)
        self.biases = nn.ParameterList(torch.zeros(width) for _ in blocks)

    def rate(self, i: int, others: tuple[Tensor, ...], t: float = 0.0) -> Tensor:
        return self.activation(torch.cat(others, 1) @ self.inner[i].mT + self.biases[i]) @ self.outer[i].mT

    def claims(self, norm: Norm = upper_bound) -> Claims:
        claims: list[Property] = [DivergenceFree()]
        rates = [
            spectral_norm_bound(a.detach().double()) * spectral_norm_bound(b.detach().double())
            for a, b in zip(self.inner, self.outer, strict=True)
        ]
        bound = self.activation.slope[1] * math.sqrt(sum(r * r for r in rates)) * (1 + 1e-13)
        if bound < math.inf:
            claims.append(Lipschitz(bound))
        return Claims(claims)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls((1, 1, 1), 5))
        yield large(cls((2, 1, 2), 4))
