"""Images deformed by vector fields: x^tau(u) = x(u + tau(u)), linear in the image."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import InputError, message


def deform(x: Tensor, tau: Tensor) -> Tensor:
    """The images x^tau(u) = x(u + tau(u)), x between its pixels interpolated bilinearly and continued constantly.

    Coordinates, weights and sums are float64; the result is rounded once, to the dtype of `x`. So it does not depend
    on what else is in the batch, and a field reproduces its image to the last bit.

    Args:
        x: images (batch, channels, height, width).
        tau: fields (batch, height, width, 2) in pixels: how far down and how far to the right each pixel looks.

    Returns:
        Images of the shape and dtype of `x`, with values between the smallest and the largest of each channel.

    Raises:
        InputError: for shapes that do not fit, or fields that are not finite.

    Reference: Alaifari, Alberti, Gauksson, ADef, ICLR 2019, eq. (2).

    >>> x = torch.tensor([[[[0.0, 4.0, 8.0]]]])
    >>> right, left = torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2)
    >>> right[..., 1], left[..., 1] = 0.5, -1.0
    >>> deform(x, right).flatten().tolist(), deform(x, left).flatten().tolist()
    ([2.0, 6.0, 8.0], [0.0, 0.0, 4.0])
    """
    if x.dim() != 4 or tau.shape != (len(x), *x.shape[2:], 2):
        given = f"images of shape {tuple(x.shape)} and fields of shape {tuple(tau.shape)}"
        raise InputError(message(given, "(batch, channels, height, width) and (batch, height, width, 2)"))
    if not bool(torch.isfinite(tau).all()):
        raise InputError(message("a field that is not finite", "finite shifts in pixels"))
    height, width = x.shape[2:]
    top, bottom, down = _cells(tau[..., 0].double(), torch.arange(height, device=x.device)[:, None], height)
    left, right, across = _cells(tau[..., 1].double(), torch.arange(width, device=x.device), width)
    pixels = x.flatten(2).double()

    def corner(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).flatten(1)[:, None].expand(-1, x.shape[1], -1)
        return pixels.gather(2, index).view_as(x)

    across, down = across[:, None], down[:, None]
    above = between(corner(top, left), corner(top, right), across)
    below = between(corner(bottom, left), corner(bottom, right), across)
    return between(above, below, down).to(x.dtype)


def size(tau: Tensor) -> Tensor:
    """norm_T: the largest shift of a pixel, max_u |tau(u)|_2, in pixels (batch,), float64.

    >>> size(torch.tensor([[[[3.0, 4.0], [0.0, 1.0]]]]))
    tensor([5.], dtype=torch.float64)
    """
    return tau.double().norm(dim=-1).flatten(1).amax(1)


def between(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """(1 - t) a + t b, never outside of the interval from a to b."""
    return torch.clamp((1 - t) * a + t * b, torch.minimum(a, b), torch.maximum(a, b))


def _cells(shift: Tensor, place: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after each coordinate, and how far it is from the first to the second."""
    coordinate = (place + shift).clamp(0, n - 1)
    first = coordinate.floor()
    after = (first + 1).clamp(max=n - 1)
    return first.long(), after.long(), coordinate - first
