"""ADef: deformations of the image instead of additions to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError, message
from ..linear.deform import deform, size
from .base import Attack, positive, targets
from .victim import Classifier, Victim, broken, evaluation

SURE = 1e-4  # what is found leads by this part of the lead there was, for rounding may depend on the batch


@dataclass(frozen=True)
class Deformations:
    """What ADef found.

    Attributes:
        x_adv: the deformed images; the images themselves where nothing was found. Bit for bit `deform(x, tau)`.
        tau: the fields (batch, height, width, 2), float64, in pixels; 0 where nothing was found.
        size: norm_T = max_u |tau(u)|_2 in pixels (batch,), float64: 0 where the image is misclassified (or of the
            target class) as it is, inf where nothing was found.
    """

    x_adv: Tensor
    tau: Tensor
    size: Tensor

    @property
    def broken(self) -> Tensor:
        """Where a deformation was found, or none was needed (batch,)."""
        return torch.isfinite(self.size)


class ADef(Attack):
    """Small vector fields tau whose deformed image x^tau(u) = x(u + tau(u)) is misclassified (Alaifari et al. 2019).

    With a candidate class k and f = z_k - z_y < 0, the deformed image changes to first order by
    f(x^tau) ~ f(x) + sum_u alpha(u) . tau(u), where alpha(u) = sum_c (df/dx_c)(u) grad x_c(u). The field of least norm
    among the smoothed ones that reaches f = 0 is tau = -f / |S alpha|^2 S S alpha, S a Gaussian filter (symmetric,
    zeros beyond the border). Of the candidates' fields that with the smallest norm_T is taken, times 1 + overshoot,
    and added to the field so far, with which the *original* image is deformed. An image leaves the batch when its
    class changes or its field exceeds the limit.

    Three things are not as published, and find smaller fields (docs/deformations.md): grad x, by central differences
    (one-sided at the border), is taken where the pixel looks, at u + tau(u), and not of the deformed image; a step is
    no longer than half a pixel, since the image is far from linear beyond; and the final field is scaled down, by
    halving, as far as the image stays misclassified.

    Args:
        candidates: this many classes of the highest scores, besides the label.
        limit: norm_T in pixels up to which a deformation counts; 3 is the authors' choice.
        steps: most fields added up.
        sigma: standard deviation of the filter in pixels; 0 for none.
        longest_step: norm_T of a step at most, in pixels; `math.inf` for any length.
        overshoot: eta, how far beyond f = 0 each step aims.
        halvings: of the interval in which the scale of the final field is sought; 0 returns the field as it is.
        box, seed, batch_size: see `Attack`. Deformed images stay in any box; nothing is random.

    Reference: Alaifari, Alberti, Gauksson, ADef: an Iterative Algorithm to Construct Adversarial Deformations, ICLR
    2019.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> x = torch.rand(5, 1, 8, 8)
    >>> found = ADef().fields(net, x, net(x).argmax(1))
    >>> torch.equal(found.x_adv, deform(x, found.tau))
    True
    """

    def __init__(
        self,
        candidates: int = 3,
        limit: float = 3.0,
        *,
        steps: int = 100,
        sigma: float = 0.5,
        longest_step: float = 0.5,
        overshoot: float = 0.2,
        halvings: int = 6,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(box=box, seed=seed, batch_size=batch_size)
        self.candidates, self.limit, self.steps = candidates, limit, steps
        self.sigma, self.longest_step, self.overshoot, self.halvings = sigma, longest_step, overshoot, halvings
        positive(candidates=candidates, steps=steps)
        nonnegative(sigma=sigma, overshoot=overshoot, halvings=halvings)
        if not (limit > 0 and math.isfinite(limit) and longest_step > 0):
            given = f"limit={limit!r} and longest_step={longest_step!r}"
            raise InputError(message(given, "positive lengths in pixels, the limit finite"))

    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        _images(x)
        return deform(x, self._search(victim, x, y))

    def fields(self, net: Classifier, x: Tensor, y: Tensor, target: Tensor | None = None) -> Deformations:
        """Deform every image of `x` (batch, channels, height, width) that is not misclassified already.

        Args:
            y: labels (batch,).
            target: classes (batch,) that the deformed images are to be answered; by default any but the label.

        Raises:
            InputError: as `run`; for inputs that are no images.
        """
        with evaluation(net, targeted=target is not None) as victim:
            x, y = self._check(x, y)
            _images(x)
            goal = y if target is None else targets(target, y)
            victim.probe(x, goal)
            if len(x):
                victim.differentiate(x[:1])
            tau = x.new_zeros(len(x), *x.shape[2:], 2, dtype=torch.float64)
            found = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device)
            for part in torch.arange(len(x), device=x.device).split(self.batch_size):
                todo = part[~broken(victim.margins(x[part], goal[part]))]
                if len(todo):
                    tau[todo] = self._search(victim, x[todo], goal[todo])
                # Judged once more as they are returned, all in one batch: rounding may depend on the batch.
                reached = broken(victim.margins(deform(x[part], tau[part]), goal[part]))
                found[part[reached]] = size(tau[part[reached]])
                tau[part[~reached]] = 0
            victim.warn()
        return Deformations(deform(x, tau), tau, found)

    def _search(self, victim: Victim, x: Tensor, y: Tensor) -> Tensor:
        """Fields (batch, height, width, 2) for images that are not broken; 0 where none is found."""
        classes = self._candidates(victim, x, y)
        enough = SURE * victim.margins(x, y).abs()
        slopes = torch.stack(torch.gradient(x.double(), dim=(2, 3)), 2).flatten(1, 2)
        tau = x.new_zeros(len(x), *x.shape[2:], 2, dtype=torch.float64)
        found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        live = torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            field = tau[live]
            leads, gradients = _leads(victim, deform(x[live], field), y[live], classes[live])
            slope = deform(slopes[live], field).unflatten(1, (x.shape[1], 2))
            field = field + self._step(leads - enough[live, None], gradients, slope)
            inside = size(field) <= self.limit  # not where it is NaN
            tau[live[inside]] = field[inside]
            done = inside & (victim.margins(deform(x[live], tau[live]), y[live]) >= enough[live])
            found[live[done]] = True
            live = live[inside & ~done]
            if len(live) == 0:
                break
        tau[~found] = 0
        which = found.nonzero()[:, 0]
        tau[which] = self._shrink(victim, x[which], y[which], tau[which], enough[which])
        return tau

    def _candidates(self, victim: Victim, x: Tensor, y: Tensor) -> Tensor:
        """The classes (batch, m) of the highest scores, besides the label."""
        scores = victim.scores(x).scatter(1, y[:, None], -torch.inf)
        return scores.topk(min(self.candidates, scores.shape[1] - 1), dim=1).indices

    def _step(self, leads: Tensor, gradients: Tensor, slope: Tensor) -> Tensor:
        """Of the least fields that close the `leads` (batch, m) to first order, those with the smallest norm_T.

        Shapes: `gradients` (batch, m, channels, height, width), `slope` (batch, channels, 2, height, width). NaN where
        no gradient says where to go.
        """
        alpha = (gradients.double()[:, :, :, None] * slope[:, None]).sum(2)
        once = smooth(alpha, self.sigma)
        scale = -leads / once.flatten(2).square().sum(2)
        fields = (scale[..., None, None, None] * smooth(once, self.sigma)).movedim(2, -1)
        sizes = fields.norm(dim=-1).flatten(2).amax(2)
        best = sizes.nan_to_num(torch.inf, torch.inf).argmin(1, keepdim=True)
        field = fields.take_along_dim(best[..., None, None, None], 1)[:, 0]
        factor = torch.clamp(self.longest_step / sizes.gather(1, best)[:, 0], max=1 + self.overshoot)
        return factor[:, None, None, None] * field

    def _shrink(self, victim: Victim, x: Tensor, y: Tensor, tau: Tensor, enough: Tensor) -> Tensor:
        """The fields, scaled by the smallest factor that halving finds."""
        low, high = torch.zeros_like(tau[:, :1, :1, :1]), torch.ones_like(tau[:, :1, :1, :1])
        for _ in range(self.halvings if len(x) else 0):
            middle = (low + high) / 2
            reached = (victim.margins(deform(x, middle * tau), y) >= enough).view_as(low)
            low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
        return high * tau

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(2, steps=10)
        yield cls(1, 2.0, steps=5, sigma=0.5, halvings=0)


def smooth(field: Tensor, sigma: float) -> Tensor:
    """Fields (..., height, width), filtered by a Gaussian cut off at 4 sigma; symmetric as a matrix."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return field
    window = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=field.dtype, device=field.device) / sigma) ** 2)
    window = window / window.sum()
    flat = field.flatten(0, -3)[:, None]
    flat = F.conv2d(flat, window[None, None, :, None], padding=(radius, 0))
    return F.conv2d(flat, window[None, None, None], padding=(0, radius)).view_as(field)


def _leads(victim: Victim, z: Tensor, y: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """f_k = z_k - z_y (batch, m) for the classes k, and its gradients; or that of the target, before all others."""
    if not victim.targeted:
        return victim.gradients_of(z, y, classes)
    lead, gradient = victim.ascent(z, y)
    return lead[:, None], gradient[:, None]


def _images(x: Tensor) -> None:
    if x.dim() != 4 or min(x.shape[2:]) < 2:
        given = f"inputs of shape {tuple(x.shape[1:])}"
        raise InputError(message(given, "images (channels, height, width) of at least 2 x 2 pixels for a deformation"))


def nonnegative(**numbers: float) -> None:
    """Check that the named numbers are finite and not negative."""
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(message(f"{name}={value!r}", "a finite number >= 0"))
