"""Balls that contain every deformation of an image by at most r pixels.

A deformed image x^tau(u) = x(u + tau(u)) with |tau(u)|_2 <= r for every pixel u has there a value x(v) with v in the
disc of radius r around u, and every pixel may choose its v by itself. So the smallest ball around an image c that
holds them all has the radius R with R^2 = sum_u max_v |x(v) - c(u)|^2, |.| over the channels. Between four pixels
x(v) - c(u) is affine along rows and along columns; so its norm is convex along them, and largest at pixels inside the
disc or on the circle. There it is bounded by its values at some angles and its curvature in between: that is all that
keeps `radius` from being the supremum itself. The proof is in docs/deformations.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError, message

UP = 1 + 1e-12
APART = 1e-9  # circles keep this distance (relative) from pixels, so that it is clear which cells they cut


def bound(x: Tensor, r: Tensor | float, *, centre: Tensor | None = None, pieces: int = 8) -> Tensor:
    """R(x, r, c) >= ||deform(x, tau) - c||_2 for all fields with |tau(u)|_2 <= r at every pixel u (batch,), float64.

    Rounding is allowed for: that of this function, and that of `deform` to the dtype of `x`.

    Args:
        x: images (batch, channels, height, width).
        r: one radius in pixels, or one for each image (batch,).
        centre: c, of the shape of `x`; by default x itself, which gives a bound B(x, r) of ||x^tau - x||_2.
        pieces: each arc between two lines of the pixel grid is divided into so many; more make the bound tighter:
            with 8 it is about 1 % above the supremum for r < 1, and twice as many leave a quarter of that.

    Raises:
        InputError: for inputs that are no images or not finite, and radii that are negative or not finite.

    >>> x = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])
    >>> f"{float(bound(x, 0.5, pieces=100)):.4f}"  # half of the step at each of four pixels
    '1.0000'
    """
    images(x)
    c = x if centre is None else centre
    if c.shape != x.shape or not bool(torch.isfinite(c).all()):
        raise InputError(message(f"a centre of shape {tuple(c.shape)}", f"finite images of shape {tuple(x.shape)}"))
    exact, c = x.cpu().double(), c.cpu().double()
    farthest = _farthest(exact, r, c, pieces)
    # `deform` rounds an entry twice; a distance is off by less than 1e-12 of the largest entry, if r < 100.
    largest = torch.maximum(exact.abs(), c.abs()).flatten(1).amax(1)
    rounding = (torch.finfo(x.dtype).eps + 1e-12) * largest * math.sqrt(math.prod(x.shape[1:]))
    return (farthest.flatten(1).norm(dim=1) * UP + rounding) * UP


def middle(x: Tensor, r: Tensor | float, *, pieces: int = 8) -> Tensor:
    """The image c (batch, channels, height, width), float64, halfway between the extreme values of each entry.

    Around it the ball is much smaller than around x: at a thin line, say, all that a deformation can do is darken. No
    proof needs c to be exact, for `bound` holds for every centre.

    >>> x = torch.tensor([[[[0.0, 0.0, 1.0, 0.0, 0.0]]]])
    >>> [round(value, 6) for value in middle(x, 0.5).flatten().tolist()]
    [0.0, 0.25, 0.75, 0.25, 0.0]
    """
    images(x)
    exact = x.cpu().double()
    low, high = exact.clone(), exact.clone()
    for which, radius in _groups(x, r, pieces):
        for values, _ in _disc(exact[which], radius, pieces):
            low[which] = torch.minimum(low[which], values.amin(1))
            high[which] = torch.maximum(high[which], values.amax(1))
    return (low + high) / 2


def images(x: Tensor) -> None:
    """Check that `x` is a batch of images."""
    if x.dim() != 4 or not x.is_floating_point() or not bool(torch.isfinite(x).all()):
        given = f"{x.dtype} inputs of shape {tuple(x.shape)}"
        raise InputError(message(given, "finite images (batch, channels, height, width)"))


def _farthest(x: Tensor, r: Tensor | float, c: Tensor, pieces: int) -> Tensor:
    """For each pixel u (batch, height, width), the largest |x(v) - c(u)| with |v - u| <= r, or a little more."""
    farthest = torch.zeros_like(x[:, 0])
    for which, radius in _groups(x, r, pieces):
        for values, remainder in _disc(x[which], radius, pieces):
            sizes = (values - c[which, None]).norm(dim=2).amax(1) + remainder
            farthest[which] = torch.maximum(farthest[which], sizes)
    return farthest


def _groups(x: Tensor, r: Tensor | float, pieces: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images whose circles cut the same cells in the same order, and their radii, rounded up."""
    radius = torch.as_tensor(r, dtype=torch.float64, device="cpu").expand(len(x))
    if not (bool(torch.isfinite(radius).all()) and bool((radius >= 0).all())):
        raise InputError(message("radii that are negative or not finite", "radii r >= 0 in pixels"))
    if not (isinstance(pieces, int) and pieces >= 1):
        raise InputError(message(f"pieces={pieces!r}", "an integer of at least 1"))
    radius = radius * UP + 2.0**-51 * (max(x.shape[2:]) + radius)  # the coordinates of `deform` are rounded
    reach = int(radius.max()) + 2 if len(x) else 0
    distances = sorted({math.hypot(i, j) for i, j in product(range(reach), repeat=2)})
    for distance in distances:
        near = (radius >= distance * (1 - APART)) & (radius <= distance * (1 + APART))
        radius = torch.where(near, distance * (1 + APART), radius)
    kind = torch.searchsorted(torch.tensor(distances, dtype=torch.float64), radius)
    for each in kind.unique():
        which = (kind == each).nonzero()[:, 0]
        yield which, radius[which]


def _disc(x: Tensor, r: Tensor, pieces: int) -> Iterator[tuple[Tensor, Tensor | float]]:
    """Values x(v) (batch, points, channels, height, width) in the discs of radius r (batch,) around every pixel u.

    Every other value is as far as one of them from any number, up to the remainder (batch, height, width).
    """
    reach = int(r.max()) + 1  # the cells that a circle cuts end here
    wide = F.pad(x, (reach,) * 4, mode="replicate")  # x continued constantly is bilinear there too

    def seen(down: int, right: int) -> Tensor:
        """x(u + (down, right)) for all pixels u."""
        top, left = reach + down, reach + right
        return wide[..., top : top + x.shape[2], left : left + x.shape[3]]

    for down, right in product(range(-reach, reach + 1), repeat=2):
        if math.hypot(down, right) <= float(r.max()):
            yield seen(down, right)[:, None], 0.0
    for start, end, (i, j) in _arcs(r):
        for up, left in product((1, -1), repeat=2):  # the four quadrants
            corners = [seen(up * (i + a), left * (j + b)) for a, b in product((0, 1), repeat=2)]
            yield _on_arc(corners, (i, j), r, start, end, pieces)


def _on_arc(
    corners: list[Tensor], cell: tuple[int, int], r: Tensor, start: Tensor, end: Tensor, pieces: int
) -> tuple[Tensor, Tensor]:
    """Values on the arc of angles from `start` to `end` (batch,) in one cell, and the remainder.

    g = x(v) - c(u) is bilinear in (p, q) = r (cos, sin). Between two angles that are delta apart it is its linear
    interpolation up to delta^2 / 8 sup |g''| (derivatives by the angle), and the norm of a linear interpolation is
    largest at an end. g'' = -(b p + c q + 4 d p q), with b, c, d the coefficients of p, q, p q in g.
    """
    near, beside, below, across = corners
    i, j = cell
    angles = start[:, None] + (end - start)[:, None] * torch.linspace(0, 1, pieces + 1, dtype=torch.float64)
    s, t = (r[:, None] * angles.cos() - i).clamp(0, 1), (r[:, None] * angles.sin() - j).clamp(0, 1)
    weights = torch.stack([(1 - s) * (1 - t), (1 - s) * t, s * (1 - t), s * t], 2)
    values = (weights @ torch.stack(corners, 1).flatten(2)).view(len(r), pieces + 1, *near.shape[1:])
    p, q = (r * start.cos()).view(-1, 1, 1), (r * end.sin()).view(-1, 1, 1)  # the largest on the arc
    slope, other, twist = below - near, beside - near, across - below - beside + near
    curvature = slope.norm(dim=1) * p + other.norm(dim=1) * q + twist.norm(dim=1) * (4 * p * q - j * p - i * q)
    return values, ((end - start).view(-1, 1, 1) / pieces) ** 2 / 8 * curvature * UP


def _arcs(r: Tensor) -> Iterator[tuple[Tensor, Tensor, tuple[int, int]]]:
    """The parts of a quarter circle between lines of the grid, as angles (batch,), and the cell that each lies in.

    The circles have the same pixels inside, so they cross the lines in the same order.
    """
    lines = torch.arange(1, math.ceil(float(r.min())), dtype=torch.float64)
    ends = torch.tensor([0.0, math.pi / 2], dtype=torch.float64).expand(len(r), 2)
    ratio = lines / r[:, None]
    angles = torch.cat([ratio.acos(), ratio.asin(), ends], 1).sort(1).values
    for start, end in pairwise(angles.unbind(1)):
        longest = int((end - start).argmax())
        angle, radius = float((start + end)[longest]) / 2, float(r[longest])
        yield start, end, (int(radius * math.cos(angle)), int(radius * math.sin(angle)))
