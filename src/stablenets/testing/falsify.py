"""Attack claims with random samples at several scales, then climb from the most promising ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attack.refute import refute
from ..core.claims import Map, Property
from ..core.properties import norm

SCALES = (1e-2, 1.0, 30.0)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}


@dataclass(frozen=True)
class Attempt:
    """The strongest attack found on a claim: it is refuted when `violation` exceeds `tolerance`.

    `tolerance` is the rounding error that the evaluation of the claim at that sample may carry.
    """

    claim: Property
    violation: float
    tolerance: float

    @property
    def refuted(self) -> bool:
        return not self.violation <= self.tolerance

    def __str__(self) -> str:
        if self.refuted:
            return f"{self.claim} is violated by {self.violation:.3g} (relative; rounding: {self.tolerance:.1g})"
        return f"{self.claim} stands: the strongest attack reaches {self.violation:.2g}"


def pairs(
    shape: tuple[int, ...], *, seed: int, count: int = 16, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Seeded pairs x, y (batch, *shape): `count` at each scale, half of them close together."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(2, len(SCALES), count, *shape, generator=generator, dtype=torch.float64)
    x, y = draw * torch.tensor(SCALES, dtype=torch.float64).view(1, -1, *[1] * (1 + len(shape)))
    y[:, ::2] = x[:, ::2] + 0.1 * y[:, ::2]
    return x.flatten(0, 1).to(dtype), y.flatten(0, 1).to(dtype)


def tolerance(f: Map, claim: Property, x: Tensor, y: Tensor, accuracy: float = 0.0) -> Tensor:
    """The error (batch,) that a violation at `x`, `y` may carry.

    A difference f(x) - f(y) is known up to eps |f(x)| and the `accuracy` of f, and the violation divides it by |x - y|
    and by the claimed constant.
    """
    values: dict[str, Any] = vars(claim)
    constant = min(1.0, *(float(values.get(k, 1.0)) for k in ("bound", "alpha")))
    sizes = norm(f(x)) + norm(f(y)) + norm(x) + norm(y)
    return TOLERANCE[x.dtype] + (100 * torch.finfo(x.dtype).eps + 2 * accuracy) * sizes / norm(x - y) / max(
        constant, 1e-300
    )


def falsify(
    f: Map,
    claims: Iterable[Property],
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    climbs: int = 4,
    steps: int = 8,
    count: int = 16,
    dtype: torch.dtype = torch.float64,
    accuracy: float = 0.0,
) -> list[Attempt]:
    """Attack every claim about `f` on states (batch, *shape).

    Args:
        f: a map or a field, with weights of `dtype`.
        seed: of the samples.
        count: how many pairs at each scale.
        accuracy: of f: computed values are within `accuracy` |x| of those that the claims are about.
        climbs, steps: how many samples climb (`attack.refute`, in float64), and how far; `steps=0`: none does.

    >>> from stablenets.core.properties import Lipschitz
    >>> [str(a) for a in falsify(lambda x: 2 * x, [Lipschitz(1.0)], (3,))]
    ['Lipschitz(bound=1.0) is violated by 1 (relative; rounding: 1e-09)']
    """
    first, second = pairs(shape, seed=seed, count=count, dtype=dtype)
    attempts = []
    for claim in claims:
        x, y = claim.domain(first), claim.domain(second)
        violation = claim.violation(f, x, y).detach().nan_to_num(nan=math.inf)
        floor = tolerance(f, claim, x, y, accuracy).detach()
        excess = violation - floor
        worst = int(excess.argmax())
        best = Attempt(claim, float(violation[worst]), float(floor[worst]))
        if steps and not best.refuted:
            start = x[excess.topk(min(climbs, len(x))).indices]
            found = refute(f, claim, start, steps=steps, seed=seed)
            at = claim.domain(found.x[None]), claim.domain(found.y[None])
            climbed = Attempt(claim, found.violation, float(tolerance(f, claim, *at, accuracy).detach()))
            if climbed.violation - climbed.tolerance > best.violation - best.tolerance:
                best = climbed
        attempts.append(best)
    return attempts
