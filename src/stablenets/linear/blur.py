"""Blurs: every channel of an image convolved with one given kernel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .axis import Axis
from .bounds import EPS
from .fourier import Circle, circles
from .geometry import Geometry
from .kernels import gaussian_kernel, motion_kernel
from .operator import EXPLICIT_LIMIT, Operator, check_shape, explicit_bounds, image_shape_of, perron_bound

DIRECT = 25  # taps of a kernel up to which a direct convolution is faster than transforms of a padded image
ROUNDINGS = 8.0  # of a Fourier transform, for each halving: far above what is ever observed


class Transfer(NamedTuple):
    """The kernel's Fourier transform on a grid that holds the padded image, and its squared absolute values."""

    symbol: Tensor
    power: Tensor


class Blur(Operator):
    """y(i) = sum over t of kernel(t) x(i + c - t), for each channel, with the kernel's centre c = its size // 2.

    Computed by Fourier transforms, of the image with its padding where that is not circular; for small kernels with
    such a padding by a direct convolution.

    Args:
        kernel: (rows, columns), finite numbers; `gaussian_kernel` and `motion_kernel` make some.
        image_shape: (channels, height, width).
        padding: what lies beyond the border: "circular" (the image repeated), "zero", or "reflect" (the image mirrored
            at its outermost pixels).

    Raises:
        InputError: a kernel that is larger than the image, or holds NaN or infinite values.

    >>> blur = Blur(gaussian_kernel(1.0), (3, 16, 16))
    >>> blur(torch.ones(2, 3, 16, 16)).shape
    torch.Size([2, 3, 16, 16])
    >>> round(blur.norm_bound(), 9)
    1.0
    """

    def __init__(
        self, kernel: Tensor | Sequence[Sequence[float]], image_shape: Sequence[int], padding: str = "circular"
    ) -> None:
        super().__init__()
        shape, values = image_shape_of(image_shape), torch.as_tensor(kernel, dtype=torch.float64)
        if values.dim() != 2 or not values.numel():
            raise InputError(message(f"a kernel of shape {tuple(values.shape)}", "(rows, columns)"))
        if not torch.isfinite(values).all():
            raise InputError(message("the kernel holds NaN or infinite values", "finite numbers"))
        if any(k > n for k, n in zip(values.shape, shape[1:], strict=True)):
            sizes = [" x ".join(map(str, s)) for s in (values.shape, shape[1:])]
            given = f"a kernel of {sizes[0]} for images of {sizes[1]}"
            raise InputError(message(given, "a kernel no larger than the image", "Crop the kernel or its zeros."))
        self.kernel, self.image_shape, self.padding = values.tolist(), shape, padding
        axes = (Axis(n, k, 1, 1, padding) for n, k in zip(shape[1:], values.shape, strict=True))
        self.geometry = Geometry(tuple(axes))  # of a single channel: the others are further samples
        self._transfer: tuple[Tensor, int, torch.dtype, Transfer] | None = None
        self._hold(values.flip(0, 1)[None, None].contiguous(), shape, shape)

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.geometry.apply(x.flatten(0, 1).unsqueeze(1), weight).view_as(x)

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        return self.geometry.adjoint(y.flatten(0, 1).unsqueeze(1), weight).view_as(y)

    def forward(self, x: Tensor) -> Tensor:
        check_shape(x, self.input_shape)
        if self.padding == "circular":
            return self._filter(x, self.transfer(x).symbol)
        if self.geometry.taps <= DIRECT:
            return super().forward(x)
        spectrum = torch.fft.rfft2(self.geometry.extend(x), s=self.grid)
        rows, columns = self.input_shape[1:]
        return torch.fft.irfft2(spectrum * self.transfer(x).symbol, s=self.grid)[..., :rows, :columns]

    def adjoint(self, y: Tensor) -> Tensor:
        check_shape(y, self.output_shape)
        if self.padding == "circular":
            return self._filter(y, self.transfer(y).symbol.conj())
        if self.geometry.taps <= DIRECT:
            return super().adjoint(y)
        spectrum = torch.fft.rfft2(y, s=self.grid) * self.transfer(y).symbol.conj()
        rows, columns = (a.size + a.reach for a in self.geometry.axes)
        return self.geometry.fold(torch.fft.irfft2(spectrum, s=self.grid)[..., :rows, :columns])

    @property
    def grid(self) -> tuple[int, int]:
        """Of the transforms: the image, or no smaller than the padded image and quick to transform."""
        if self.padding == "circular":
            return self.input_shape[1], self.input_shape[2]
        rows, columns = (smooth(a.size + a.reach) for a in self.geometry.axes)
        return rows, columns

    def normal(self, x: Tensor) -> Tensor:
        """A^T A x: with circular padding, one transform and its inverse."""
        check_shape(x, self.input_shape)
        return self._filter(x, self.transfer(x).power) if self.padding == "circular" else super().normal(x)

    def solve_normal(self, z: Tensor, shift: float) -> Tensor:
        """By division in Fourier space with circular padding, otherwise by conjugate gradients."""
        check_shape(z, self.input_shape)
        if self.padding != "circular":
            return super().solve_normal(z, shift)
        return self._filter(z, 1 / (self.transfer(z).power + shift))

    def transfer(self, x: Tensor) -> Transfer:
        """The transfer function for images like `x`, computed in float64 when it is first needed."""
        w, held = self.weight, self._transfer
        if held is None or held[0] is not w or held[1:3] != (w._version, x.dtype):
            grid = w.new_zeros(self.grid, dtype=torch.float64)
            rows, columns = w.shape[2:]
            grid[:rows, :columns] = w.double()[0, 0].flip(0, 1)
            axes = self.geometry.axes
            # output i sees the inputs i - before to i + after; a padded image starts `before` points earlier
            after = [a.after if self.padding == "circular" else a.reach for a in axes]
            symbol = torch.fft.rfft2(grid.roll((-after[0], -after[1]), (0, 1)))
            power = symbol.real.square() + symbol.imag.square()
            kind = torch.complex64 if x.dtype == torch.float32 else torch.complex128
            transfer = Transfer(symbol.to(kind), power.to(x.dtype))
            held = self._transfer = (w, w._version, x.dtype, transfer)
        return held[3]

    @staticmethod
    def _filter(x: Tensor, symbol: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * symbol, s=x.shape[-2:])

    @property
    def dot_lengths(self) -> tuple[int, int]:
        """Of the direct convolution; Fourier transforms round as sums of this many terms do, at most."""
        taps = self.geometry.taps
        copies = math.prod(a.copies for a in self.geometry.axes)
        if self.padding == "circular" or taps > DIRECT:
            transforms = math.ceil(3 * ROUNDINGS * math.log2(math.prod(self.grid) + 1))
            return max(taps, transforms), max(taps, transforms) * copies
        return taps, taps * copies

    # --- norms ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def norm_bound(self) -> float:
        """The smallest of the bounds that `norm_theorem` names."""
        weight, one = self._weight64(), self._one_channel()
        if one is not None:
            return explicit_bounds(one)[1]
        extended = math.prod(a.copies for a in self.geometry.axes)
        tori = itertools.product(*(circles(axis) for axis in self.geometry.axes))
        bound = min(symbol_bounds(weight[0, 0], self.geometry, torus)[1] for torus in tori)
        bound = bound if extended == 1 else math.nextafter(bound * math.sqrt(extended) * (1 + 4 * EPS), math.inf)
        if self.padding == "circular" or bool((weight < 0).any()):
            return bound
        lengths = self.geometry.taps, self.geometry.taps * extended
        shape = (1, *self.input_shape[1:])
        one = Blur(weight[0, 0].flip(0, 1), shape, self.padding).to(weight.device)
        maps = self._partial(weight), self._partial(weight, 1)
        return min(bound, perron_bound(*maps, shape, lengths, weight.device, guess=one.normal))

    def _partial(self, weight: Tensor, adjoint: int = 0) -> Any:
        apply = self.geometry.adjoint if adjoint else self.geometry.apply
        return lambda x: apply(x, weight)

    @torch.no_grad()
    def lower_bound(self) -> float:
        """The smallest symbol with circular padding; 0 for others, unless the image is small."""
        one = self._one_channel()
        if one is not None:
            return explicit_bounds(one)[0]
        if self.padding != "circular":
            return 0.0
        return symbol_bounds(self._weight64()[0, 0], self.geometry, tuple(circles(a)[0] for a in self.geometry.axes))[0]

    def _one_channel(self) -> Blur | None:
        """This map on one channel, if an SVD of its matrix is cheap: the channels are blocks of equal norm."""
        size = self.input_shape[1:]
        if math.prod(size) > EXPLICIT_LIMIT or self.padding == "circular":
            return None
        return Blur(self._weight64()[0, 0].flip(0, 1), (1, *size), self.padding)

    @property
    def norm_theorem(self) -> str:
        if self._one_channel() is not None:
            return "largest singular value of the explicit matrix (float64 SVD with its backward error)"
        if self.padding == "circular":
            return "largest absolute value of the kernel's Fourier transform, with the rounding errors of its sums"
        theorem = "a compression of a convolution on a (twisted) torus: largest absolute value over the Fourier grid"
        if self.padding == "reflect":
            theorem = f"reflection has norm sqrt(c), where c counts copies of one pixel; then {theorem}"
        nonnegative = not bool((self.weight < 0).any())
        perron = "||A||^2 <= max (A^T A v)_i / v_i for v > 0 (Collatz & Wielandt): the kernel is non-negative"
        return f"the smaller of: {theorem}; {perron}" if nonnegative else theorem

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(motion_kernel(2.5, 30.0), (2, 6, 7))
        yield cls([[0.5, -1.0], [2.0, 0.25], [0.0, 1.0]], (1, 5, 6))
        yield cls(gaussian_kernel(0.6), (1, 6, 5), "zero")
        yield cls([[0.1, 0.6, 0.3], [0.0, 1.0, -0.5]], (2, 4, 5), "reflect")


def smooth(n: int) -> int:
    """The least number from n on without prime factors above 5.

    >>> [smooth(n) for n in (7, 60, 251)]
    [8, 60, 256]
    """
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 1


def symbol_bounds(kernel: Tensor, geometry: Geometry, torus: tuple[Circle, ...]) -> tuple[float, float]:
    """A lower bound of the smallest and an upper bound of the largest |symbol| of a float64 kernel on a torus.

    The symbol is E_1 K E_2^T with phases E: two products of matrices. Phases are off by at most 20 u, and sums of m
    complex products by sqrt(2) gamma_(m + 2) relative to the sum of absolute values; we take four times as much, with
    2 u for u.
    """
    phases = []
    for axis, circle in zip(geometry.axes, torus, strict=True):
        n = circle.points
        turns = (2 * torch.arange(n, device=kernel.device)[:, None] + circle.twist) * torch.arange(
            axis.kernel, device=kernel.device
        )
        angle = (turns % (2 * n)).double() * (math.pi / n)
        phases.append(torch.polar(torch.ones_like(angle), angle))
    size = float(kernel.abs().max())
    if size == 0:
        return 0.0, 0.0
    sizes = (phases[0] @ (kernel / size).to(phases[0].dtype) @ phases[1].mT).abs()
    error = 4 * (sum(kernel.shape) + 48) * EPS * float((kernel / size).abs().sum())
    low, high = float(sizes.min()) - error, float(sizes.max()) + error
    return max(0.0, low * size * (1 - 4 * EPS)), math.nextafter(high * size * (1 + 4 * EPS), math.inf)
