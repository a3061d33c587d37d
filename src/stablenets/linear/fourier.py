"""Norms of convolutions by Fourier analysis on a torus, twisted or not.

On a torus of N points a convolution is block diagonal: its norm is the largest norm of its symbol over the frequencies
(2 pi k + theta) / N, k = 0 ... N - 1, where theta = 0 for periodic signals, x(j + N) = x(j), and theta = pi for
antiperiodic ones, x(j + N) = -x(j). A zero-padded convolution is a compression of each of these: write the signal of n
points, then N - n zeros, convolve, keep n points. No output sees the signal across the seam as long as N >= n + a,
where a counts the zeros that the padding puts on the longer side. So the smallest of several bounds counts, for both
twists and two values of N. It matters: the symbol of a smooth kernel peaks at frequency 0, which the antiperiodic torus
avoids, and no signal on n points is that smooth. (For the kernel 1, 1, 1 in one dimension that bound is exact.)

With stride s, N is a multiple of s and the outputs are every s-th: frequencies that differ by 2 pi / s fall together,
and their s symbols, side by side and divided by sqrt(s), are the symbol of the strided map (polyphase decomposition).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .axis import Axis
from .bounds import EPS, check_finite, many_norms_bound
from .geometry import Geometry

CHUNK = 2**22  # entries of the symbols that are held at a time
GUESS_STEPS = 3


class Circle(NamedTuple):
    """One dimension of a torus: its number of points, and its twist theta in units of pi."""

    points: int
    twist: int


def circles(axis: Axis) -> list[Circle]:
    """The circles on which the convolution along this axis is bounded."""
    if axis.padding == "circular":
        return [Circle(axis.size, 0)]
    if not axis.reach:
        return [Circle(axis.stride, 0)]  # one tap: the symbol is the same at every frequency
    margin = axis.after if axis.padding == "zero" else axis.reach
    points = -(-(axis.size + margin) // axis.stride) * axis.stride
    return [Circle(n, twist) for n in (points, points + axis.stride) for twist in (0, 1)]


def fourier_bound(weight: Tensor, geometry: Geometry) -> float:
    """An upper bound of the norm of one group with float64 `weight` (out, in, *kernel).

    Circular: exact but for rounding (Sedghi, Gupta & Long 2019, Thm 6). Zero: the compression above. Reflect: the
    padding has norm sqrt(c), where c counts the copies of one input in the padded signal, and what follows it sees a
    signal of n + reach points, and zeros beyond.

    Raises:
        ClaimError: when the weights are not finite.
    """
    check_finite(weight)
    scale = float(weight.abs().max())
    if scale == 0:
        return 0.0
    w = weight / scale
    # the phases of an axis are off by at most 20 u, a sum of `taps` products by gamma_taps, and both are complex;
    # sum_t |K_t| <= sqrt(taps) |K| in every norm
    error = (geometry.taps + 32) * EPS * math.sqrt(geometry.taps) * float(w.norm())
    bound = max(many_norms_bound(s, error) for s in _symbols(w, geometry, _best_torus(w, geometry)))
    copies = math.prod(a.copies for a in geometry.axes)
    return math.nextafter(bound * math.sqrt(copies) * (1 + 8 * EPS) * scale, math.inf)  # `scale` may be subnormal


def _phases(axis: Axis, circle: Circle, *, half: bool) -> Tensor:
    """exp(i frequency t dilation), of shape (classes, stride, taps): the frequencies of a class fall together.

    `half`: one of each pair of opposite classes, where real kernels have conjugate symbols.
    """
    n, classes = circle.points, circle.points // axis.stride
    k = torch.arange((classes + 2 - circle.twist) // 2 if half else classes)[:, None, None]
    k = k + classes * torch.arange(axis.stride)[:, None]
    turns = (2 * k + circle.twist) * axis.dilation * torch.arange(axis.kernel) % (2 * n)  # exact; of half a turn / n
    angle = turns.double() * (math.pi / n)
    return torch.polar(torch.ones_like(angle), angle)


def _all_phases(geometry: Geometry, torus: tuple[Circle, ...], *, half: bool) -> Tensor:
    """The products of the phases of all axes, (classes, aliases, taps); `half` concerns the last axis."""
    phases = torch.ones(1, 1, 1, dtype=torch.complex128)
    for i, (axis, circle) in enumerate(zip(geometry.axes, torus, strict=True), 1):
        more = _phases(axis, circle, half=half and i == len(torus))
        phases = torch.einsum("fat,gbs->fgabts", phases, more)
        phases = phases.flatten(0, 1).flatten(1, 2).flatten(2, 3)
    return phases


def _symbols(weight: Tensor, geometry: Geometry, torus: tuple[Circle, ...]) -> Iterator[Tensor]:
    """The symbols (classes, out, aliases * in), some at a time."""
    phases = _all_phases(geometry, torus, half=True).to(weight.device)
    aliases = phases.shape[1]
    phases = phases / math.sqrt(aliases)
    out, channels = weight.shape[:2]
    kernel = weight.flatten(2).permute(2, 0, 1).flatten(1)
    for part in phases.split(max(1, CHUNK // (aliases * out * channels))):
        sums = torch.complex(part.real @ kernel, part.imag @ kernel).unflatten(2, (out, channels))
        yield sums.transpose(1, 2).flatten(2)


def _best_torus(weight: Tensor, geometry: Geometry) -> tuple[Circle, ...]:
    """The torus that promises the smallest bound. Any would do: only the tightness is at stake.

    A power iteration on a coarse grid finds the largest symbol and its leading vector; the symbols of all tori are
    compared on that vector alone.
    """
    choices = [circles(a) for a in geometry.axes]
    torus = tuple(c[0] for c in choices)
    if all(len(c) == 1 for c in choices):
        return torus
    # a symbol is a trigonometric polynomial with `kernel` terms: four times as many points show its peaks
    coarse = [min(c.points, 4 * a.kernel * a.stride) for c, a in zip(torus, geometry.axes, strict=True)]
    best, leading = -1.0, torch.zeros(0)
    for symbols in _symbols(weight, geometry, tuple(Circle(n, 0) for n in coarse)):
        v = (symbols.mT @ symbols.sum(2, keepdim=True).conj()).conj()
        for _ in range(GUESS_STEPS):
            v = symbols @ (v / v.norm(dim=1, keepdim=True).clamp(min=1e-300))
            v = (symbols.mT @ v.conj()).conj()  # conjugating the vectors copies less than conjugating the symbols
        sizes = v.norm(dim=(1, 2))
        if float(sizes.max()) > best:
            best, leading = float(sizes.max()), v[sizes.argmax(), :, 0] / sizes.max().clamp(min=1e-300)
    parts = leading.unflatten(0, (-1, weight.shape[1]))  # (aliases, in)
    images = torch.einsum("oct,ac->ato", weight.flatten(2).to(parts.dtype), parts).flatten(0, 1)

    def promise(torus: tuple[Circle, ...]) -> float:
        phases = _all_phases(geometry, torus, half=False).to(weight.device).flatten(1)
        parts = phases.split(max(1, CHUNK // len(weight)))
        return max(float(torch.view_as_real(p @ images).square().sum((1, 2)).max()) for p in parts)

    for i, circle in enumerate(choices):  # near a peak the losses of the axes add up: one axis after the other
        torus = min(((*torus[:i], c, *torus[i + 1 :]) for c in circle), key=promise)
    return torus
