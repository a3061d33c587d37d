"""Gradient ascent on the violation of any claim: the strongest counter-example found, or how close one comes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.claims import Map, Property
from ..core.errors import InputError, message

NEAREST = 1e-3  # smallest |x - y| / |x|: closer pairs measure rounding errors


@dataclass(frozen=True)
class Refutation:
    """The sample that comes closest to contradicting a claim.

    Attributes:
        violation: of the claim at this sample; positive beyond rounding errors means that the claim is refuted.
        x, y: the sample (...), float64.
    """

    violation: float
    x: Tensor
    y: Tensor


def refute(module: Map, claim: Property, x: Tensor, *, steps: int = 50, lr: float = 0.05, seed: int = 0) -> Refutation:
    """Climb on `claim.violation(module, x, y)` over both points, from `x` (batch, ...) and random `y` near and far.

    Adam on the points in float64, one independent climb per sample; where there is no gradient (a piecewise constant
    violation) random steps are taken from the best point. Values and violations that are not finite
    count as infinite violations.

    Args:
        module: a map or a field; an `nn.Module` is copied, so it is left as it was.
        claim: the property to refute.
        x: where to start.
        steps: ascent steps.
        lr: length of a step per entry, relative to the size of the sample's entries.
        seed: of everything random; the global random state is not used.

    Raises:
        InputError: when `x` is not a batch of finite numbers.

    >>> from stablenets.core.properties import Lipschitz
    >>> double = torch.nn.Linear(2, 2, bias=False)
    >>> double.weight.data = torch.diag(torch.tensor([2.0, 1.0]))
    >>> round(refute(double, Lipschitz(1.0), torch.rand(4, 2)).violation, 3)
    1.0
    """
    if x.dim() < 2 or len(x) == 0 or not bool(torch.isfinite(x).all()):
        raise InputError(message(f"x of shape {tuple(x.shape)}", "a non-empty batch (batch, ...) of finite numbers"))
    f = copy.deepcopy(module).double().eval().requires_grad_(False) if isinstance(module, nn.Module) else module
    generator = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)

    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().double().clone()
        scale = _per_sample(x.flatten(1).square().mean(1).sqrt().clamp(min=1e-3), x)
        distance = 10 ** (2.5 * torch.rand(len(x), generator=generator, dtype=torch.float64) - 2)
        points = torch.stack([x, x + scale * _per_sample(distance.to(x.device), x) * noise()])
        points = _apart(points).requires_grad_()
        optimiser = torch.optim.Adam([points], lr=1.0)
        best, at = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device), points.detach().clone()
        for step in range(steps + 1):
            violation, gradient = _violation(claim, f, points)
            better = violation > best
            best = torch.where(better, violation, best)
            at[:, better] = points.detach()[:, better]
            if step == steps:
                break
            flat = (gradient.flatten(2) == 0).all(2).all(0)
            before = points.detach().clone()
            points.grad = -gradient  # Adam descends
            optimiser.step()
            with torch.no_grad():
                points.copy_(before + lr * scale * (points - before))
                blind = torch.stack([noise(), noise()])
                points[:, flat] = (at + lr * scale * blind)[:, flat]
                points.copy_(_apart(points))
    worst = int(best.argmax())
    return Refutation(float(best[worst]), at[0, worst], at[1, worst])


def _violation(claim: Property, f: Map, points: Tensor) -> tuple[Tensor, Tensor]:
    """The violations (batch,), NaN as inf, and their gradient (2, batch, ...), 0 where there is none."""
    x, y = points
    with torch.no_grad():
        finite = torch.stack([f(v).isfinite().flatten(1).all(1) for v in points]).all(0)
    if not bool(finite.all()):  # decompositions would raise
        return torch.where(finite, -math.inf, math.inf).double(), torch.zeros_like(points)
    violation = claim.violation(f, x, y)
    gradient = None
    if violation.requires_grad:
        (gradient,) = torch.autograd.grad(violation.sum(), points, allow_unused=True)
    gradient = torch.zeros_like(points) if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
    return violation.detach().nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf), gradient


def _apart(points: Tensor) -> Tensor:
    """The pairs (2, batch, ...), with y moved away from x where they are too close."""
    x, y = points.detach()
    d, size = y - x, x.flatten(1).norm(dim=1)
    length = d.flatten(1).norm(dim=1)
    factor = (NEAREST * size / length.clamp(min=1e-300)).clamp(min=1.0)
    return torch.stack([x, x + d * _per_sample(factor, d)])


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))
