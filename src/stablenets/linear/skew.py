"""Skew-symmetric maps: A^T = -A, exactly, whatever the parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import InputError, message
from .axis import Axis
from .base import LinearMap
from .bounds import spectral_norm_bound
from .conv import pair
from .convolution import Convolution
from .geometry import Geometry


class SkewDense(LinearMap):
    """x -> x W^T with W = R - R^T, for the free matrix `raw` R (features, features).

    Skew-symmetric in floating point too: R_ij - R_ji and R_ji - R_ij round to opposite numbers.

    >>> a = SkewDense(4)
    >>> bool((a.matrix() + a.matrix().mT == 0).all())
    True
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.input_shape = self.output_shape = (features,)
        # entries of variance 2 / (8 features) and a norm near 1
        self.raw = nn.Parameter(torch.randn(features, features) / (8 * features) ** 0.5)
        self._start()

    @property
    def weight(self) -> Tensor:
        return self.raw - self.raw.mT

    def _weight64(self) -> Tensor:
        raw = self.raw.double()
        return raw - raw.mT

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        return F.linear(y, weight.mT)

    @property
    def dot_lengths(self) -> tuple[int, int]:
        return self.features, self.features

    @torch.no_grad()
    def norm_bound(self) -> float:
        """Largest singular value in float64, with LAPACK's error bound added."""
        return spectral_norm_bound(self._weight64())

    @property
    def norm_theorem(self) -> str:
        return "largest singular value of the matrix (float64 SVD with its backward error)"

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for n in (2, 5, 6):
            a = cls(n)
            a.raw.data *= 3
            yield a


class SkewConv2d(Convolution):
    """Convolution with the kernel K = R - R', where R'[o, c, s, t] = R[c, o, k-1-s, k-1-t] is the adjoint's kernel.

    The entry of the matrix for output pixel i and input pixel j is K[:, :, j - i], and K[:, :, j - i]^T =
    -K[:, :, i - j]: skew-symmetric. Zero padding leaves that entry as it is or drops it, for (i, j) and (j, i) alike
    (both pixels lie inside the image, or not); on a torus that the kernel fits into, no two taps meet. Exact in
    floating point, as for `SkewDense`.

    Args:
        kernel_size: odd; one number, or one for each dimension.
        image_size: H and W (one number for both).
        padding: "zero" or "circular".

    Raises:
        InputError: for an even kernel or reflection, with which no convolution is skew-symmetric in general.

    >>> a = SkewConv2d(2, 3, 5)
    >>> bool((a.matrix() + a.matrix().mT == 0).all())
    True
    """

    def __init__(
        self, channels: int, kernel_size: int | Sequence[int], image_size: int | Sequence[int], padding: str = "zero"
    ) -> None:
        super().__init__()
        self.channels, self.padding = channels, padding
        self.kernel_size, self.image_size = pair(kernel_size), pair(image_size)
        if any(k % 2 == 0 for k in self.kernel_size) or padding == "reflect":
            raise InputError(
                message(
                    f"kernel_size={self.kernel_size}, padding={padding!r}",
                    "odd kernels and 'zero' or 'circular' padding",
                )
            )
        axes = tuple(Axis(n, k, 1, 1, padding) for n, k in zip(self.image_size, self.kernel_size, strict=True))
        self.raw = nn.Parameter(self._set(Geometry(axes), channels, channels) / 2**0.5)
        self._start()

    @property
    def weight(self) -> Tensor:
        return _skew_kernel(self.raw)

    def _weight64(self) -> Tensor:
        return _skew_kernel(self.raw.double())

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for a in (cls(2, 3, (4, 5)), cls(1, (3, 5), (5, 6), "circular"), cls(3, 5, 3)):
            a.raw.data *= 3
            yield a


def _skew_kernel(raw: Tensor) -> Tensor:
    return raw - raw.flip(2, 3).transpose(0, 1)
