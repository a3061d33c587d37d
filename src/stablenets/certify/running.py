"""Running error analysis: how far float32 scores are from the exact ones, for the input at hand (docs/certificates.md).

A bound that holds for all inputs is useless in float32: it takes every sum to be as large as its factors allow. Here
the sums |A| |y| + |b| that rounding errors are proportional to are evaluated for each input, in float64, and norms
bound what changes in a ball around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.errors import ClaimError, message
from ..layers import Abs, Affine, Flow, GroupSort, Householder, Lift, Normalise, NormalisedHead, TruncatedHead
from .layer import FlowCertificate, LayerCertificate
from .running_bounds import HUGE, TINY, UP, Balls, norms, product, relative
from .running_flow import flow
from .running_map import EvaluatedMap

NORMAL = (1e-10, 1e10)  # rows of a NormalisedHead with norms in this range are normalised without under- or overflow


@dataclass(frozen=True)
class Scores:
    """Scores of the centres, and what rounding does to the difference of two of them at any point of the balls.

    It changes z_i - z_j by at most ||w_i - w_j|| `state` + `own`_i + `own`_j.

    Attributes:
        values: (batch, classes), in float64.
        state: (batch, 2), error of the state before the head.
        own: (batch, classes, 2), error that the head itself adds to each score.
    """

    values: Tensor
    state: Tensor
    own: Tensor


@dataclass(frozen=True)
class Growth:
    """How fast the bounds in `Scores` grow with the radius: their slopes, which are the same for every input."""

    state: float
    scores: tuple[float, ...]


def growth(layers: Iterable[tuple[nn.Module, LayerCertificate]], shape: tuple[int, ...]) -> Growth:
    """The slopes for a network whose inputs have this shape.

    Raises:
        ClaimError: see `analyse`; or the float32 states might overflow.
    """
    bounds = analyse(layers, torch.zeros(1, *shape, dtype=torch.float64))
    slopes = [float(bounds.state[0, 1]), *bounds.own[0, :, 1].tolist()]
    if not all(map(math.isfinite, slopes)):
        raise ClaimError(message("float32 states might overflow", "smaller weights", "Certify in float64."))
    state, *rest = (slope * UP for slope in slopes)
    return Growth(state, tuple(rest))


@torch.no_grad()
def analyse(layers: Iterable[tuple[nn.Module, LayerCertificate]], x: Tensor) -> Scores:
    """The bounds for a network, given by its layers in float64 with what is proved of them, and for inputs `x`.

    Raises:
        ClaimError: for a layer without a running analysis; it is named.
    """
    *body, (head, proved) = layers
    balls = Balls(x.double(), torch.zeros(len(x), 2, dtype=torch.float64), 1.0)
    for layer, claim in body:
        balls = after(layer, claim, balls)
    return scores(head, proved, balls)


def after(layer: nn.Module, proved: LayerCertificate, x: Balls) -> Balls:
    """The bounds after one layer."""
    if isinstance(layer, Flow) and isinstance(proved, FlowCertificate):
        return flow(layer, proved, x)
    bound, center = proved.lipschitz, layer(x.center.clone())
    match layer:
        case nn.Identity() | nn.Flatten() | nn.PixelShuffle() | nn.PixelUnshuffle() | nn.ReLU() | Lift():
            local = 0 * x.error
        case nn.LeakyReLU():  # the slope and the product
            local = relative(2, x.size)
        case nn.Tanh():
            local = relative(8, x.size)
        case nn.AvgPool2d():
            k = layer.kernel_size
            local = relative(1 + (k * k if isinstance(k, int) else math.prod(k)), bound * x.size)
        case Normalise() if max(layer.std) < HUGE:  # mean, standard deviation, difference, quotient
            mean = x.center.new_tensor(layer.mean).abs().view(1, -1, *[1] * (x.center.dim() - 2))
            local = relative(4, bound * (norms(x.center.abs() + mean) + x.spread))
        case Abs() | GroupSort():
            local = 0 * x.error
        case Householder():  # sine and cosine within 8 u, then about a dozen roundings, doubled
            local = relative(64, x.size)
        case Affine():
            local = EvaluatedMap(layer.linear, proved.name).error(x.center, x.spread, layer.bias)
        case nn.Linear():
            w, terms = layer.weight.abs(), magnitudes(layer.weight, layer.bias, x.center)
            absolute = math.sqrt(float(w.sum(0).max() * w.sum(1).max())) * UP
            local = product(w.shape[1] + 1, norms(terms), absolute, norms(x.center), x.spread, len(w))
        case _:
            raise no_analysis(proved)
    lost = TINY * (1 + bound) * (x.center[0].numel() + center[0].numel() + x.size)
    return Balls(center, (bound * x.error + local + lost) * UP, x.reach * bound * UP)


def scores(head: nn.Module, proved: LayerCertificate, x: Balls) -> Scores:
    """The bounds after the last layer."""
    if isinstance(head, NormalisedHead):
        size = head.weight.norm(dim=1)
        if not ((size > NORMAL[0]) & (size < NORMAL[1])).all():
            raise ClaimError(message(f"{proved.name} has rows of norm {size.tolist()}", f"norms in {NORMAL}"))
        weight, extra = head.effective_weight(), head.in_features // 2 + 8  # roundings of |w|, summed in any order
    elif isinstance(head, TruncatedHead):
        values = head(x.center)
        return Scores(values, x.error, values.new_zeros(*values.shape, 2))
    elif isinstance(head, nn.Linear):
        weight, extra = head.weight, 0
    else:
        raise no_analysis(proved)
    terms = magnitudes(weight, head.bias, x.center)
    own = product(
        weight.shape[1] + 1 + extra,
        torch.stack([terms, torch.zeros_like(terms)], 2),
        weight.norm(dim=1)[None, :, None] * UP,
        norms(x.center)[:, None],
        x.spread[:, None],
    )
    return Scores(head(x.center), x.error, own * UP)


def magnitudes(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """|W| |x| + |b| for a batch."""
    return x.abs() @ weight.abs().mT + (0 if bias is None else bias.abs())


def no_analysis(proved: LayerCertificate) -> ClaimError:
    """The error for a layer of another kind."""
    return ClaimError(message(f"no float32 analysis for {proved.name} ({proved.kind})", "a layer that has one"))
