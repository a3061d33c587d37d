"""One dimension of an image that goes on as its own mirror image, cut into blocks of `stride` pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InputError, message


@dataclass(frozen=True)
class Mirror:
    """Pixels 0 ... n-1, mirrored at the outer edges of the first and of the last one: ... 1 0 | 0 1 ... n-1 | n-1 ...

    Block j starts at pixel j stride - offset; there are as many as meet the image. A filter sees `kernel` blocks, which
    is an odd number. `extend` puts in front and behind what the filters of all blocks see, `fold` is its adjoint.

    >>> axis = Mirror(5, 3, 2, 1)
    >>> axis.blocks, axis.margins
    (3, (3, 2))
    >>> axis.extend(torch.arange(5), 0)
    tensor([2, 1, 0, 0, 1, 2, 3, 4, 4, 3])
    """

    size: int
    kernel: int
    stride: int
    offset: int

    def __post_init__(self) -> None:
        least = max(self.margins)
        if self.size < least:
            given = f"an image with a side of {self.size} pixels"
            raise InputError(message(given, f"at least {least}, what the filters see beyond the border"))

    @property
    def blocks(self) -> int:
        return -(-(self.size + self.offset) // self.stride)

    @property
    def margins(self) -> tuple[int, int]:
        """Pixels that `extend` puts in front and behind."""
        reach = self.kernel // 2 * self.stride
        return reach + self.offset, reach + -(self.size + self.offset) % self.stride

    def extend(self, x: Tensor, dim: int) -> Tensor:
        """The pixels with their mirror images on both sides, along dimension `dim`."""
        left, right = self.margins
        parts = [x.narrow(dim, 0, left).flip(dim), x, x.narrow(dim, self.size - right, right).flip(dim)]
        return torch.cat([p for p in parts if p.shape[dim]], dim)

    def fold(self, y: Tensor, dim: int) -> Tensor:
        """The adjoint of `extend`."""
        left, right = self.margins
        x = y.narrow(dim, left, self.size).clone()
        x.narrow(dim, 0, left).add_(y.narrow(dim, 0, left).flip(dim))
        x.narrow(dim, self.size - right, right).add_(y.narrow(dim, left + self.size, right).flip(dim))
        return x

    @property
    def straddled(self) -> bool:
        """Whether a block lies on both sides of an edge."""
        return self.offset > 0 or (self.size + self.offset) % self.stride > 0

    def weights(self, like: Tensor) -> Tensor:
        """1 for every block, but 1/sqrt(2) for one that straddles an edge: it is its own mirror image."""
        weights = torch.ones(self.blocks, dtype=like.dtype, device=like.device)
        if self.offset:
            weights[0] *= 0.5**0.5
        if (self.size + self.offset) % self.stride:
            weights[-1] *= 0.5**0.5
        return weights
