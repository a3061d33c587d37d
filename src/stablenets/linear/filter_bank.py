"""Filters on images of any size, closed under mirror images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ClaimError, InputError, message
from .axis import Axis
from .base import LinearMap
from .fourier import fourier_bound
from .geometry import Geometry
from .mirror import Mirror

GRID = 128  # frequencies per direction at which the norm is computed
STRIDES = 1, 2


class FilterBank(LinearMap):
    """A: images (batch, channels, H, W) of any size -> responses (batch, filters, blocks down, blocks across).

    A quarter of the filters are free; the others are their mirror images, left to right, upside down, and both. An
    image goes on beyond its borders as its own mirror image, so nothing dark or flat is made up there.

    **The norm, for every image size.** Extend an n x m image x to a periodic signal Ex with periods 2n and 2m that is
    its own mirror image. The response of a filter to Ex at a block is that of the mirrored filter at the mirror image
    of the block. The bank is closed under mirror images, so the squares of all responses to Ex over the torus add up
    to four times those of the blocks that meet the image, where a block that straddles an edge, being its own mirror
    image, counts half: hence its weight 1/sqrt(2). And |Ex|^2 = 4 |x|^2. So ||A|| is at most the norm of the same
    filters on the torus, and this is at most the supremum of ||symbol(w)|| over all frequencies w. For a vector v,
    |symbol(w) v|^2 is a real trigonometric polynomial of degree kernel_size - 1 in each direction, and one of degree m
    exceeds its largest value on N > 2 m equidistant points at most by the factor 1 / cos(pi m / N) (M. Riesz 1914; once
    for each direction). Large images attain the supremum.

    Args:
        channels: of the images.
        filters: a multiple of 4.
        kernel_size: blocks that a filter sees in each direction, an odd number below 32.
        stride: side of a block in pixels, 1 or 2: responses are taken once per block.
        offset: how many pixels of the first block lie above and to the left of the image.
        image_size: that of `matrix`, `adjoint` and the power iteration. Any other may be applied.

    Raises:
        InputError: sizes that do not fit, or an image smaller than what a filter sees beyond the border.

    >>> bank = FilterBank(1, 8, 3, stride=2)
    >>> bank(torch.rand(2, 1, 21, 30)).shape
    torch.Size([2, 8, 11, 15])
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: int = 3,
        *,
        stride: int = 2,
        offset: tuple[int, int] = (0, 0),
        image_size: tuple[int, int] = (24, 24),
    ) -> None:
        super().__init__()
        if channels < 1 or filters < 4 or filters % 4:
            raise InputError(message(f"{channels} channels, {filters} filters", "channels, and filters in fours"))
        if not 1 <= kernel_size <= GRID // 4 or kernel_size % 2 == 0:  # Riesz: below GRID / 2, where it is poor
            raise InputError(message(f"kernel_size={kernel_size}", f"an odd number below {GRID // 4}"))
        if stride not in STRIDES or any(o not in (0, stride // 2) for o in offset):
            raise InputError(message(f"stride={stride}, offset={offset}", "stride 1 or 2, offsets 0 or stride // 2"))
        self.channels, self.filters, self.kernel_size = channels, filters, kernel_size
        self.stride, self.offset, self.image_size = stride, tuple(offset), tuple(image_size)
        rows, columns = self._axes(*self.image_size)
        self.input_shape, self.output_shape = (channels, *self.image_size), (filters, rows.blocks, columns.blocks)
        side = kernel_size * stride
        window = torch.cos(torch.linspace(-1, 1, side + 2)[1:-1] * math.pi / 2)
        weight = torch.randn(filters // 4, channels, side, side) * torch.outer(window, window)
        if side > 1:
            weight -= weight.mean((2, 3), keepdim=True)  # a constant image is left alone
        size = weight.std() if weight.numel() > 1 else weight.abs().amax()
        self.weight = nn.Parameter(weight / size)  # entries near 1, of the size that optimisers expect
        self._start()

    def _axes(self, height: int, width: int) -> tuple[Mirror, Mirror]:
        down, across = self.offset
        shared = self.kernel_size, self.stride
        return Mirror(height, *shared, down), Mirror(width, *shared, across)

    def bank(self, weight: Tensor) -> Tensor:
        """All filters (filters, channels, side, side), where side = kernel_size stride pixels."""
        return torch.cat([weight, weight.flip(3), weight.flip(2), weight.flip(2, 3)])

    def windows(self, x: Tensor) -> Tensor:
        """What the filters see of the images `x`: (channels side^2, batch * blocks), block after block.

        A product with the filters as rows of a matrix gives all responses. On a CPU this is faster than convolutions.
        A block that straddles an edge is weighed here, once for all filters.
        """
        if x.dim() != 4 or x.shape[1] != self.channels:
            given = f"a batch of shape {tuple(x.shape)}"
            raise InputError(message(given, f"(batch, {self.channels}, height, width)"))
        rows, columns = self._axes(*x.shape[2:])
        extended = columns.extend(rows.extend(x, 2), 3)
        seen = F.unfold(extended, self.kernel_size * self.stride, stride=self.stride)
        return self._weigh(seen, rows, columns).transpose(0, 1).flatten(1)

    def gather(self, seen: Tensor, size: tuple[int, int]) -> Tensor:
        """The adjoint of `windows` for images of that size."""
        rows, columns = self._axes(*size)
        seen = seen.unflatten(1, (-1, rows.blocks * columns.blocks)).transpose(0, 1)
        side = self.kernel_size * self.stride
        height, width = (axis.size + sum(axis.margins) for axis in (rows, columns))
        summed = F.fold(self._weigh(seen, rows, columns), (height, width), side, stride=self.stride)
        return rows.fold(columns.fold(summed, 3), 2)

    @staticmethod
    def _weigh(seen: Tensor, rows: Mirror, columns: Mirror) -> Tensor:
        if not rows.straddled and not columns.straddled:
            return seen
        return seen * torch.outer(rows.weights(seen), columns.weights(seen)).flatten()

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        responses = self.bank(weight).flatten(1) @ self.windows(x)
        rows, columns = self._axes(*x.shape[2:])
        return responses.unflatten(1, (len(x), rows.blocks, columns.blocks)).transpose(0, 1)

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        seen = self.bank(weight).flatten(1).T @ y.transpose(0, 1).flatten(1)
        return self.gather(seen, (self.image_size[0], self.image_size[1]))

    @property
    def dot_lengths(self) -> tuple[int, int]:
        side = self.kernel_size * self.stride
        return self.channels * side**2, 4 * self.filters * self.kernel_size**2  # a pixel may occur four times

    @torch.no_grad()
    def norm_bound(self) -> float:
        """An upper bound of the norm on images of every size: see the class."""
        axis = Axis(GRID * self.stride, self.kernel_size * self.stride, self.stride, 1, "circular")
        riesz = math.cos(math.pi * (self.kernel_size - 1) / GRID)  # of the squares, in two directions
        on_grid = fourier_bound(self.bank(self._weight64()), Geometry((axis, axis)))
        return math.nextafter(on_grid / riesz * (1 + 1e-14), math.inf)

    def training_norm(self) -> Tensor:
        """The largest norm of the symbol on a coarse grid: from below, differentiable, and not by iteration."""
        n = 2 * self.kernel_size + 1
        blocks = F.pixel_unshuffle(self.bank(self.weight), self.stride)
        symbols = torch.fft.rfft2(blocks, s=(n, n)).permute(2, 3, 0, 1)
        gram = symbols.mH @ symbols
        try:
            return torch.linalg.eigvalsh(gram)[..., -1].max().sqrt()
        except torch.linalg.LinAlgError as error:
            raise ClaimError(message(f"the filters have no norm ({error})", "finite filters, no larger")) from None

    @property
    def norm_theorem(self) -> str:
        return (
            "filters closed under mirror images, on mirrored images of any size: the supremum of the symbol's norm, by "
            f"its largest norm at {GRID} x {GRID} frequencies and Riesz's bound for trigonometric polynomials"
        )

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for bank in (
            cls(1, 4, 3, stride=1, image_size=(24, 20)),
            cls(1, 8, 3, offset=(1, 0), image_size=(19, 24)),
            cls(2, 4, 3, offset=(0, 1), image_size=(16, 17)),
        ):
            bank.weight.data *= 3
            yield bank
