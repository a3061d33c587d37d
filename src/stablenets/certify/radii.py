"""From scores and the bounds of their errors to certified radii (docs/certificates.md has the proof)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.errors import ClaimError, message
from .running import Scores
from .running_bounds import TINY, U

DOWN = 1 - 1e-12  # radii are rounded down, constants up
UP = 1 + 1e-12


def float64_radii(scores: Tensor, constants: Tensor, lipschitz: float, rounding: float) -> Tensor:
    """Radii (batch,) within which evaluated scores, off by at most `rounding`, keep their order.

    Args:
        scores: (batch, classes), evaluated in float64.
        constants: c_ij >= ||w_i - w_j||, (classes, classes).
        lipschitz: constant of everything before the head.
    """
    top, winner = scores.max(1)
    margins = (top[:, None] - scores - 2 * math.sqrt(2) * rounding * UP) * DOWN
    return _least(margins / (constants[winner] * lipschitz * UP), winner)


def float32_radii(scores: Scores, constants: Tensor, lipschitz: float) -> Tensor:
    """Radii (batch,) within which every float32 evaluation gives the answer of the centre.

    A margin at distance rho is at least m - c L rho - (c e(rho) + t_i(rho) + t_j(rho)), which falls linearly in rho.
    """
    top, winner = scores.values.max(1)
    error = differences(scores, constants, winner)
    steepness = constants[winner] * lipschitz * UP + error[..., 1]
    return _least(((top[:, None] - scores.values) * DOWN - error[..., 0]) / (steepness * UP) * DOWN, winner)


def differences(scores: Scores, constants: Tensor, winner: Tensor) -> Tensor:
    """Bounds (batch, classes, 2) of the error of z_i - z_j in float32, i the winner."""
    own = scores.own.take_along_dim(winner[:, None, None], 1) + scores.own
    return (constants[winner][..., None] * scores.state[:, None] + own) * UP


def check(evaluated: Tensor, scores: Scores, constants: Tensor) -> None:
    """Hold the scores as this machine evaluated them in float32 against their bounds.

    Raises:
        ClaimError: when one is further off than rounding allows: this machine does not do what the proof assumes.
    """
    winner = scores.values.max(1).indices
    off = evaluated.double() - scores.values
    off = (off.gather(1, winner[:, None]) - off).abs()
    if (off > differences(scores, constants, winner)[..., 0]).any():
        given = "float32 scores are further from the exact ones than rounding allows"
        raise ClaimError(message(given, "an arithmetic in which sums of products are float32", "Certify in float64."))


def within(radius: Tensor, x: Tensor, norm_limit: float) -> Tensor:
    """`radius`, no further than the norm limit, and 0 where it is not positive or not a number."""
    radius = torch.minimum(radius, norm_limit * DOWN - x.flatten(1).norm(dim=1) * UP)
    return torch.where(radius > 0, radius * DOWN, 0.0)


def before_rounding(radius: Tensor, x: Tensor) -> Tensor:
    """Radii around `x` (float64) such that its points, rounded to float32, lie within `radius` of x rounded."""
    lost = (x - x.float().double()).flatten(1).norm(dim=1) + TINY * x[0].numel()
    return (radius - (lost + U * x.flatten(1).norm(dim=1)) * UP) / (1 + U) * DOWN


def _least(radii: Tensor, winner: Tensor) -> Tensor:
    """The smallest radius over all classes but the winner."""
    return radii.scatter(1, winner[:, None], math.inf).min(1).values
