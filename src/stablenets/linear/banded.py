"""Norms of convolutions on images of moderate size, with any padding, by a banded Cholesky factorisation.

Cut the image into rows. Then A consists of blocks: block (i, j) is the sum of M_t over the taps t at which output row i
sees input row j, where M_t applies row t of the kernel along a row of the image. A^T A is banded (and so is A A^T,
which is taken where it is smaller), and so is the Cholesky factor of t I - A^T A: where it exists, ||A||^2 <= t.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .axis import Axis
from .bounds import EPS, check_finite
from .geometry import Geometry

LANCZOS_STEPS = 40
EXCESS = 1.01  # of t over the estimated ||A||^2; after 40 steps Lanczos is usually closer than that


@dataclass(frozen=True)
class Layout:
    """How the Gram matrix falls into blocks.

    Attributes:
        of_rows: whether it is A A^T, otherwise A^T A.
        side, count: of the blocks.
        pairs: by block (i, j), i >= j, the pairs of taps (s, t) whose products M_s^T M_t (or M_s M_t^T) add up to it.
    """

    of_rows: bool
    side: int
    count: int
    pairs: dict[tuple[int, int], tuple[tuple[int, int], ...]]

    @property
    def band(self) -> int:
        """Largest i - j of a block, at least 1."""
        return max([1, *(i - j for i, j in self.pairs)])

    @property
    def work(self) -> float:
        """Floating-point operations of a factorisation, roughly."""
        return self.count * (1 / 3 + self.band + 2 * self.band**2) * self.side**3


def layout(out: int, channels: int, geometry: Geometry) -> Layout:
    """The cheaper of the two Gram matrices of one group, cut along the first axis."""
    first, *rest = geometry.axes
    inputs, outputs = (math.prod(getattr(a, name) for a in rest) for name in ("size", "outputs"))
    choices = [(False, channels * inputs, first.size), (True, out * outputs, first.outputs)]
    of_rows, side, count = min(choices, key=lambda c: c[1] * c[2])
    return Layout(of_rows, side, count, _pairs(first, of_rows))


def _pairs(axis: Axis, of_rows: bool) -> dict[tuple[int, int], tuple[tuple[int, int], ...]]:
    meeting: dict[int, list[tuple[int, int]]] = defaultdict(list)  # which blocks meet where, each with its tap
    for i in range(axis.outputs):
        for t in range(axis.kernel):
            if (j := axis.source(i, t)) is not None:
                meeting[j if of_rows else i].append((i if of_rows else j, t))
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for met in meeting.values():
        for i, s in met:
            for j, t in met:
                if i >= j:
                    pairs[i, j].append((s, t))
    return {block: tuple(sorted(taps)) for block, taps in pairs.items()}


def cholesky_bound(weight: Tensor, geometry: Geometry) -> float:
    """An upper bound of the norm of one group with float64 `weight` (out, in, *kernel), usually within half a per cent.

    Rounding: a factorisation that succeeds proves that t I - A^T A >= -2 s^2 u t, where s bounds the nonzeros of a row
    of the factor (Higham 2002, Thm 10.3; its entries are below sqrt t); forming the blocks costs less than that, with s
    the length of the dot products. We take 32 s^2 u off t. `verify` proves the number afresh with computed residuals.

    Raises:
        ClaimError: when the weights are not finite.
    """
    check_finite(weight)
    scale = float(weight.abs().max())
    if scale == 0:
        return 0.0
    w, grid = weight / scale, layout(weight.shape[0], weight.shape[1], geometry)
    rest = Geometry(geometry.axes[1:])
    taps = [_along_a_row(w[:, :, t], rest) for t in range(geometry.axes[0].kernel)]
    taps = [m.mT if grid.of_rows else m for m in taps]
    slack = 16 * EPS * (max(*taps[0].shape) * (grid.band + len(taps))) ** 2
    largest, excess = max(_largest_estimate(w, geometry), 1e-30), EXCESS  # a kernel may miss a tiny image altogether
    while not _factorises(grid, taps, largest * excess * (1 - slack)):
        excess *= excess
    return math.nextafter(math.sqrt(largest * excess) * scale * (1 + 4 * EPS), math.inf)


def _along_a_row(kernel: Tensor, rest: Geometry) -> Tensor:
    """The matrix of a convolution along the remaining axes, if any."""
    if not rest.axes:
        return kernel
    columns = kernel.shape[1] * math.prod(rest.size)
    eye = torch.eye(columns, dtype=kernel.dtype, device=kernel.device).view(columns, -1, *rest.size)
    return rest.apply(eye, kernel).reshape(columns, -1).mT


def _factorises(grid: Layout, taps: list[Tensor], shift: float) -> bool:
    """Whether shift I - Gram has a Cholesky factor. Block columns are made, used and forgotten one after the other."""
    side, width = grid.side, grid.band * grid.side

    @functools.cache  # inner blocks are all alike
    def product(pairs: tuple[tuple[int, int], ...]) -> Tensor:
        return sum((taps[s].mT @ taps[t] for s, t in pairs), taps[0].new_zeros(side, side))

    carry = taps[0].new_zeros(width, width)  # what earlier columns take off the next ones
    for j in range(grid.count):
        panel = torch.cat([product(grid.pairs.get((j + d, j), ())) for d in range(grid.band + 1)]).neg()
        panel[:side].diagonal().add_(shift)
        panel[:width] -= carry[:, :side]
        lower, info = torch.linalg.cholesky_ex(panel[:side])
        if info != 0:
            return False
        x = torch.linalg.solve_triangular(lower.mT, panel[side:], upper=True, left=False)
        carry = F.pad(carry[side:, side:], (0, side, 0, side)) + x @ x.mT
    return True


def _largest_estimate(weight: Tensor, geometry: Geometry) -> float:
    """An estimate of ||A||^2 from below, by Lanczos' method from a fixed start."""
    start = torch.randn(1, weight.shape[1], *geometry.size, generator=torch.Generator().manual_seed(0))
    v = (start / start.norm()).to(weight)
    before, beta, diagonal, off = torch.zeros_like(v), 0.0, [], []
    for _ in range(min(LANCZOS_STEPS, v.numel())):
        u = geometry.adjoint(geometry.apply(v, weight), weight) - beta * before
        diagonal.append(float((u * v).sum()))
        u = u - diagonal[-1] * v
        beta = float(u.norm())
        if beta <= 1e-12 * diagonal[0]:
            break
        off.append(beta)
        before, v = v, u / beta
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for i, b in enumerate(off[: len(diagonal) - 1]):
        matrix[i, i + 1] = matrix[i + 1, i] = b
    return float(torch.linalg.eigvalsh(matrix)[-1])
