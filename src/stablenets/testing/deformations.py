"""Attempts to refute radii in pixels: fields that turn each pixel the worst way, without any smoothness."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from ..certify import Certificate
from ..linear.deform import deform
from .boundary import NONE, Attempts

INSIDE = 1 - 1e-9


class Worst:
    """Fields tau (batch, height, width, 2) with |tau(u)|_2 <= r, each pixel of which climbs by itself.

    Args:
        x: images (batch, channels, height, width), float64.
        r: radii in pixels (batch,).
        generator: of the first fields, uniform in direction and at the edge; without it they are 0.
    """

    def __init__(self, x: Tensor, r: Tensor, generator: torch.Generator | None = None) -> None:
        self.x, self.r = x.double(), r.double().view(-1, 1, 1, 1)
        shape = (len(x), *x.shape[2:])
        if generator is None:
            self.tau = torch.zeros(*shape, 2, dtype=torch.float64)
        else:
            angle = 2 * math.pi * torch.rand(shape, generator=generator, dtype=torch.float64)
            self.tau = self._inside(self.r * torch.stack([angle.cos(), angle.sin()], 3))

    def step(self, direction: Tensor) -> None:
        """Move every pixel to the best of 33 places around it and in its disc: the largest <x^tau, direction>.

        Args:
            direction: (batch, channels, height, width): the gradient of what is to grow.
        """
        best = torch.full(self.tau.shape[:3], -math.inf, dtype=torch.float64)
        chosen = self.tau
        for k in range(33):
            angle = 2 * math.pi * k / 16
            way = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
            if k == 32:
                tau = self.tau
            else:
                tau = self._inside(self.r * way.expand_as(self.tau) if k < 16 else self.tau + self.r * way / 8)
            gain = (deform(self.x, tau) * direction).sum(1)
            better = gain > best
            best, chosen = torch.where(better, gain, best), torch.where(better[..., None], tau, chosen)
        self.tau = chosen

    def _inside(self, tau: Tensor) -> Tensor:
        length = tau.norm(dim=-1, keepdim=True)
        return tau * torch.where(length > self.r * INSIDE, self.r * INSIDE / length.clamp(min=1e-300), 1.0)


def attack_pixels(
    net: nn.Module,
    certificate: Certificate,
    x: Tensor,
    radius: Tensor,
    *,
    steps: int = 10,
    starts: int = 2,
    seed: int = 0,
) -> Attempts:
    """Deform every image `x` (n, ...) by at most its `radius` (n,) in pixels; every field tried is an attempt.

    Each step computes the gradient of the runner-up's lead at the deformed image and moves every pixel the best way.
    The first start is 0, the others are random fields at the edge. Images whose radius is 0 are left out. The deformed
    images are judged by the certificate's own evaluation, as they are in the dtype of `x`.

    Args:
        net: the network that `certificate` is about, in evaluation mode.
        seed: of the starts.
    """
    exact = copy.deepcopy(net).cpu().double().eval().requires_grad_(False)
    x, radius = x[radius > 0], radius[radius > 0]
    if not len(x):
        return NONE
    scores = certificate.logits(x)
    answer = scores.argmax(1)
    lead, done, generator = _lead(scores, answer), NONE, torch.Generator().manual_seed(seed)
    for start in range(starts):
        worst = Worst(x, radius, generator if start else None)
        for _ in range(steps):
            z = deform(x, worst.tau).double().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(-_lead(exact(z), answer).sum(), z)
            worst.step(gradient)
            found = certificate.logits(deform(x, worst.tau))
            nearest = float((_lead(found, answer) / lead).min())
            done += Attempts(len(x), int((found.argmax(1) != answer).sum()), nearest)
    return done


def _lead(scores: Tensor, answer: Tensor) -> Tensor:
    scores = scores.double()
    others = scores.scatter(1, answer[:, None], -torch.inf).amax(1)
    return scores.gather(1, answer[:, None])[:, 0] - others
