"""Two-dimensional convolution as a linear map on images of a fixed size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import InputError, message
from .base import LinearMap
from .bounds import EPS, spectral_norm_bound

EXPLICIT_LIMIT = 600  # maps with a side no longer than this are bounded by the SVD of their explicit matrix


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


class Conv2d(LinearMap):
    """'Same' convolution x (batch, in_channels, H, W) -> (batch, out_channels, H, W), stride 1, odd kernel.

    Args:
        image_size: H and W (one number for both): the norm of a convolution depends on it.
        padding: "zero" or "circular".

    `norm_bound` takes the explicit matrix where it is small. Otherwise it uses Fourier analysis: a circular
    convolution is block-diagonal in the Fourier basis, so its norm is the largest over the frequencies of the image's
    grid (Sedghi, Gupta & Long 2019, Thm 6). A zero-padded one with kernel 2p+1 is a compression of the circular one on
    any grid N >= n + p: write the image followed by p zeros on the torus, convolve, crop.

    >>> a = Conv2d(1, 2, 3, 5)
    >>> a(torch.ones(1, 1, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        image_size: int | tuple[int, int],
        padding: str = "zero",
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0 or kernel_size < 1:
            raise InputError(message(f"kernel_size={kernel_size}", "an odd kernel size", "Take 1, 3, 5 or 7."))
        if padding not in ("zero", "circular"):
            raise InputError(message(f"padding={padding!r}", "'zero' or 'circular'"))
        size = pair(image_size)
        if padding == "circular" and min(size) < kernel_size:
            raise InputError(
                message(
                    f"a circular kernel of size {kernel_size} on an image of {size}",
                    "image_size >= kernel_size",
                )
            )
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.image_size, self.padding = size, padding
        self.input_shape, self.output_shape = (in_channels, *size), (out_channels, *size)
        weight = torch.randn(out_channels, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(weight / (kernel_size * (in_channels**0.5 + out_channels**0.5)))
        self._start()

    def _convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        p = self.kernel_size // 2
        if self.padding == "circular":
            return F.conv2d(F.pad(x, (p, p, p, p), mode="circular"), kernel)
        return F.conv2d(x, kernel, padding=p)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x, self.input_shape)
        return self._convolve(x, self.weight)

    @staticmethod
    def _check(x: Tensor, shape: tuple[int, ...]) -> None:
        # the norm depends on the image size: another size would void every claim without a sound
        if x.shape[1:] != shape:
            raise InputError(message(f"a batch of shape {tuple(x.shape)}", f"(batch, {', '.join(map(str, shape))})"))

    def adjoint(self, y: Tensor) -> Tensor:
        self._check(y, self.output_shape)
        # the transposed map is the convolution with the flipped, transposed kernel: faster than conv_transpose2d
        return self._convolve(y, self.weight.flip(2, 3).transpose(0, 1))

    def _apply64(self, x: Tensor) -> Tensor:
        return self._convolve(x.double(), self.weight.double())

    @property
    def dot_lengths(self) -> tuple[int, int]:
        taps = self.kernel_size**2
        return self.in_channels * taps, self.out_channels * taps

    def _small(self) -> bool:
        pixels = self.image_size[0] * self.image_size[1]
        return max(self.in_channels, self.out_channels) * pixels <= 4 * EXPLICIT_LIMIT and (
            min(self.in_channels, self.out_channels) * pixels <= EXPLICIT_LIMIT
        )

    @torch.no_grad()
    def norm_bound(self) -> float:
        """Explicit SVD where the matrix is small, Fourier bound otherwise; see the class."""
        if self._small():
            return spectral_norm_bound(self.matrix())
        symbols, error = self._symbols()
        return spectral_norm_bound(symbols, entry_error=error)

    def _symbols(self) -> tuple[Tensor, float]:
        """The Fourier symbols (frequencies, out, in) on the grid, and a bound of the rounding error in each.

        Real kernels have conjugate symbols at opposite frequencies, so half of the grid is enough.
        """
        p = self.kernel_size // 2 if self.padding == "zero" else 0
        grid = [max(n + p, self.kernel_size) for n in self.image_size]
        kernel = self.weight.double()
        symbols = torch.fft.rfft2(kernel, s=grid).flatten(2).permute(2, 0, 1)
        # |fft error| <= c log2(N) u |x|_2 for each of the out * in transforms (Higham, Thm 24.2), with c = 16
        n = grid[0] * grid[1]
        error = 16 * max(1, n).bit_length() * EPS * n**0.5 * float(kernel.detach().norm())
        return symbols, error

    @property
    def norm_theorem(self) -> str:
        if self._small():
            return "largest singular value of the explicit matrix (float64 SVD with its backward error)"
        if self.padding == "circular":
            return "largest singular value over the Fourier grid (Sedghi, Gupta & Long 2019, Thm 6)"
        return (
            "zero padding with kernel 2p+1 is a compression of the circular convolution on the grid n + p: "
            "largest singular value over that grid's frequencies"
        )

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for c_in, c_out, k, size, padding in ((2, 3, 3, (4, 4), "zero"), (2, 2, 3, (4, 5), "circular")):
            a = cls(c_in, c_out, k, size, padding)
            a.weight.data *= 3
            yield a
