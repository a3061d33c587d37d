"""From a certificate to radii in pixels that no deformation of the image can break."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .certificate import Certificate
from .deformation import bound, images, middle

BATCH = 250
LIMIT = 3.0  # in pixels: what Alaifari et al. still count as a deformation
TRIALS = 8  # most radii tried for each image
CLOSE = 0.99  # a ball that has this part of the certified radius is large enough
AIM = 0.998
GAIN = 1.5  # how much further the middle usually gets

Test = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def deformation_radius(
    certificate: Certificate, x: Tensor, *, limit: float = LIMIT, pieces: int = 16, radius: Tensor | None = None
) -> Tensor:
    """Radii r in pixels (batch,), float64: no `deform(x, tau)` with |tau(u)|_2 <= r changes the predicted class.

    All those images lie in a ball (`deformation`); r is proved where the ball is within the certified l2 radius of
    its centre. The centre is the middle of the extreme values, or x itself where that gives more. The ball holds x
    too, so the class at its centre is that of x.

    Args:
        certificate: of the network.
        x: images (batch, channels, height, width), as the network takes them.
        limit: largest radius asked for, in pixels.
        pieces: see `bound`.
        radius: `certificate.radius(x)`, where it is known already.

    Returns:
        The largest radii found, about one per cent below the largest there are; 0 where nothing is certified.

    Raises:
        InputError, ClaimError: see `Certificate.radius`; InputError for inputs that are no images.

    >>> from stablenets.certify import certify
    >>> from stablenets.networks import NonExpansiveNet
    >>> net, x = next(NonExpansiveNet.examples()).eval(), torch.rand(3, 1, 4, 4)
    >>> deformation_radius(certify(net), x).shape
    torch.Size([3])
    """
    if not (math.isfinite(limit) and limit > 0):
        raise InputError(message(f"limit={limit!r}", "a positive number of pixels"))
    images(x)
    proved = (certificate.radius(x) if radius is None else radius).double().cpu()
    if proved.shape != (len(x),):
        raise InputError(message(f"radii of shape {tuple(proved.shape)}", f"one for each of the {len(x)} images"))
    found = [proved.new_zeros(0)]
    for part, rho in zip(x.cpu().split(BATCH), proved.split(BATCH), strict=True):
        found.append(_largest(certificate, part, rho, limit, pieces))
    return torch.cat(found)


def _largest(certificate: Certificate, x: Tensor, proved: Tensor, limit: float, pieces: int) -> Tensor:
    def around_x(which: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        return bound(x[which], r, pieces=pieces), proved[which]

    def around_the_middle(which: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        centre = middle(x[which], r, pieces=4)
        return bound(x[which], r, centre=centre, pieces=pieces), certificate.radius(centre)

    nothing = torch.zeros_like(proved)
    first = _climb(around_x, nothing, torch.where(proved > 0, limit, nothing), limit)
    return _climb(around_the_middle, first, (GAIN * first).clamp(max=limit), limit)


def _climb(test: Test, proved: Tensor, guess: Tensor, limit: float) -> Tensor:
    """The largest radii found (batch,), at least those `proved`, at which the first result of `test` is the smaller.

    Args:
        test: gives, for some of the images and their radii, the radius of a ball that holds all deformed images, and
            the radius certified around its centre.
        guess: radii to start with; where they are 0, nothing is sought.
    """
    best, failed, guess = proved.clone(), torch.full_like(proved, limit), guess.clone()
    live = ((guess > 0) & (proved < limit)).nonzero()[:, 0]
    for _ in range(TRIALS):
        if len(live) == 0:
            break
        r = guess[live]
        size, certified = test(live, r)
        holds = size < certified
        low = best[live] = torch.where(holds, torch.maximum(best[live], r), best[live])
        high = failed[live] = torch.where(holds, failed[live], torch.minimum(failed[live], r))
        aim = (AIM * r * certified / size).clamp(max=limit)  # a ball grows about as fast as r
        inside = (aim > low) & ((aim < high) | (holds & (high == limit)))
        guess[live] = torch.where(inside, aim, (low + high) / 2)
        live = live[~(holds & (size > CLOSE * certified)) & (low < limit)]
    return best
