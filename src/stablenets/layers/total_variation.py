"""Total variation as a denoiser, by an iteration that knows how far it is from the end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor

from ..core.errors import ClaimError, InputError, message
from .proximal import Proximal

SPREAD = 8.0  # |D|^2 is at most this: (a - b)^2 <= 2 (a^2 + b^2), and a pixel is in at most four differences
LOOK = 10  # iterations between two looks at the gap
MOST = 20_000
STEP = 1e-4  # of the central differences, relative to the image


class TotalVariation(Proximal):
    """The proximal map of g(z) = weight TV(z), where TV sums |(D z)_i| over the pixels i (Rudin, Osher & Fatemi 1992).

    (D z)_i are the differences to the pixels below and to the right in all channels, 0 at the border. |.| is the
    Euclidean norm, so that edges of the channels attract each other.

    **What is proved.** The exact map is firmly non-expansive, which is the claim. Computed is x = y - D^T p with
    |p_i| <= weight, from the dual problem by accelerated projected gradients with restarts. The duality gap
    G = weight TV(x) - <p, D x> encloses the result: the primal objective is 1-strongly convex, and so is the dual
    one in D^T p, hence

        G = (P(x) - min P) + (max Q - Q(p)) >= |x - x*|^2 / 2 + |x - x*|^2 / 2.

    The iteration ends when sqrt(G) <= tolerance |y|. So the *computed* map is non-expansive up to that:
    |F(y) - F(z)| <= |y - z| + tolerance (|y| + |z|). Averagedness is not claimed of it. G is a sum of differences of
    nearly equal numbers, and what their rounding may hide is added to it (`gap`): about 1e-7 is the least tolerance
    that it can confirm, and a smaller one is never taken for reached. Derivatives are central differences.

    Args:
        weight: of the total variation.
        tolerance: largest distance from the exact result, relative to the norm of the image.

    Raises:
        InputError: numbers that are not positive; what are no images.
        ClaimError: the tolerance is not reached, or the images are not finite.

    Reference: Chambolle (2004); Beck & Teboulle (2009), IEEE TIP 18, for the accelerated dual iteration; O'Donoghue &
    Candes (2015) for the restarts.

    >>> x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    >>> x[..., :4] = 1.0
    >>> TotalVariation(0.2)(x)[0, 0, 0].round(decimals=4)  # the edge of 8 pixels loses 2 weight 8 / 32
    tensor([0.9500, 0.9500, 0.9500, 0.9500, 0.0500, 0.0500, 0.0500, 0.0500],
           dtype=torch.float64)
    """

    roundings = 4.0  # on top of the tolerance

    def __init__(self, weight: float, *, tolerance: float = 1e-5) -> None:
        super().__init__()
        if not (0 < weight < math.inf and 0 < tolerance < math.inf):
            raise InputError(message(f"weight={weight}, tolerance={tolerance}", "positive, finite numbers"))
        self.weight, self.tolerance, self.accuracy = weight, tolerance, tolerance
        self.input_shape = (1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise InputError(message(f"a batch of shape {tuple(x.shape)}", "(batch, channels, height, width)"))
        return _Minimiser.apply(x, self.weight, self.tolerance)  # pyright: ignore[reportReturnType]

    def error(self, x: Tensor) -> Tensor:
        return super().error(x) + self.tolerance * x.flatten(1).norm(dim=1).double()

    def penalty(self, x: Tensor) -> Tensor:
        return self.weight * _sizes(differences(x)).flatten(1).sum(1)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.05, tolerance=2e-7)


class _Minimiser(torch.autograd.Function):
    """The minimiser, with its derivative by central differences: the Jacobian J of a proximal map is symmetric, so that
    J^T v is the derivative along v."""

    @staticmethod
    def forward(x: Tensor, weight: float, tolerance: float) -> Tensor:
        return minimiser(x.detach().double(), weight, tolerance).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.options = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (v,) = ctx.saved_tensors, grad_outputs
        step = STEP * x.norm().clamp(min=1e-20) / v.norm().clamp(min=1e-20)  # finite in float32, for v = 0 too
        ends = [_Minimiser.apply(x + s * v, *ctx.options) for s in (step, -step)]
        return (ends[0] - ends[1]) / (2 * step), None, None  # pyright: ignore[reportOperatorIssue]

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], x: Tensor, *options: float) -> tuple[Any, int]:
        assert dims[0] is not None
        images = x.movedim(dims[0], 0)
        found: Any = _Minimiser.apply(images.flatten(0, 1), *options)
        return found.view_as(images), 0


def minimiser(y: Tensor, weight: float, tolerance: float) -> Tensor:
    """argmin over x of |x - y|^2 / 2 + weight TV(x) for float64 images, within tolerance |y|: see `TotalVariation`."""
    enough = (tolerance * y.flatten(1).norm(dim=1)).square()
    p, shape = y.new_zeros(2, *y.shape), (-1, 1, 1, 1)
    ahead, momentum, found, excess = p, y.new_ones(len(y)), y, gap(y, p, weight)
    if not torch.isfinite(excess).all():
        raise ClaimError(message("the images hold NaN or infinite values", "finite images"))
    done = torch.zeros_like(excess, dtype=torch.bool)
    for k in range(MOST):
        if k % LOOK == 0:
            now = y + divergence(p)
            excess = torch.where(done, excess, gap(now, p, weight))
            found = torch.where(done.view(shape), found, now)  # so that no sample depends on the others
            done = excess <= enough
            if bool(done.all()):
                return found
        new = ahead + differences(y + divergence(ahead)) / SPREAD
        new = new / (_sizes(new) / weight).clamp(min=1)
        uphill = ((ahead - new) * (new - p)).sum((0, 2, 3, 4)) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        later = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        ahead = torch.addcmul(new, new - p, ((momentum - 1) / later).view(shape))
        p, momentum = new, later
    far = float((excess / enough).max()) ** 0.5 * tolerance
    given = f"after {MOST} iterations the result is within {far:.2g} |x|"
    raise ClaimError(message(given, f"{tolerance:g} |x|", "Give a larger tolerance."))


def gap(x: Tensor, p: Tensor, weight: float) -> Tensor:
    """An upper bound (batch,) of the duality gap at x = y - D^T p, for |p_i| <= weight up to rounding.

    The gap is the sum over the pixels of weight |d_i| - <p_i, d_i> >= 0, d = D x. Rounding moves each of them by fewer
    than 8 + 2 channels machine epsilons of weight |d_i|, which are added: otherwise a gap that has rounded to nothing
    would confirm every tolerance.
    """
    d = differences(x)
    sizes = weight * _sizes(d)
    rounding = (8 + 2 * x.shape[1]) * torch.finfo(x.dtype).eps * sizes
    return ((sizes - (p * d).sum((0, 2)).unsqueeze(1)).clamp(min=0) + rounding).flatten(1).sum(1)


def _sizes(p: Tensor) -> Tensor:
    """|p_i| of fields (2, batch, channels, height, width): (batch, 1, height, width)."""
    return p.square().sum((0, 2), keepdim=True).sqrt()[0]


def differences(x: Tensor) -> Tensor:
    """D x: differences to the pixels below and to the right, 0 at the last row and column; (2, *x.shape)."""
    d = x.new_zeros(2, *x.shape)
    d[0, :, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    d[1, ..., :-1] = x[..., 1:] - x[..., :-1]
    return d


def divergence(p: Tensor) -> Tensor:
    """-D^T p, the adjoint of `differences` with a minus sign."""
    div = torch.zeros_like(p[0])
    div[:, :, :-1] += p[0, :, :, :-1]
    div[:, :, 1:] -= p[0, :, :, :-1]
    div[..., :-1] += p[1, ..., :-1]
    div[..., 1:] -= p[1, ..., :-1]
    return div
