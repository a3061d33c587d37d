"""Attempts to refute a certificate: points just inside the certified balls, evaluated in the certified arithmetic."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..certify import Certificate

INSIDE = 1 - 1e-9  # how far out attacks go, relative to the certified radius
EDGE = 1 - 1e-12  # how far out rounding searches go: beyond, float64 no longer knows the distance
SMALLEST = 1e-5  # radii below this are not attacked: rounding the point itself would leave the ball
BATCH = 250


@dataclass(frozen=True)
class Attempts:
    """What became of some attempts.

    Attributes:
        tried: points that were evaluated.
        broken: those that were answered otherwise than the centre of their ball. One refutes the certificate.
        nearest: the smallest lead of the answer at a point, as a part of its lead at the centre; 0 is a boundary.
    """

    tried: int
    broken: int
    nearest: float

    def __add__(self, other: Attempts) -> Attempts:
        nearest = min(self.nearest, other.nearest)
        return Attempts(self.tried + other.tried, self.broken + other.broken, nearest)


NONE = Attempts(0, 0, 1.0)


def attack_certified(
    net: nn.Module, certificate: Certificate, x: Tensor, *, steps: int = 20, restarts: int = 2, seed: int = 0
) -> Attempts:
    """Gradient ascent inside the certified ball of every input `x` (n, ...); every iterate is an attempt.

    Each start takes `steps` steps along the normalised gradient of the runner-up's lead, from long to short ones; the
    first starts at the centre, the others at random points of the sphere.

    Args:
        net: the network that `certificate` is about, in evaluation mode.
        restarts: starts for each input.
        seed: of the starts.
    """
    generator, done = torch.Generator().manual_seed(seed), NONE
    for centre, radius, answer, lead in _certified(certificate, x):
        f = _exact(net)
        for start in range(restarts):
            d = torch.zeros_like(centre)
            if start:
                d = _unit(torch.randn(centre.shape, generator=generator, dtype=torch.float64)) * radius
            for k in range(steps):
                z = centre + d
                done += _judge(certificate, z, answer, lead)
                d = d + radius * 0.01 ** (k / steps) * _ascent(f, z, answer)
                size = d.flatten(1).norm(dim=1).view_as(radius)
                d = d * torch.where(size > radius * INSIDE, radius * INSIDE / size, 1.0)
    return done


def search_rounding(
    net: nn.Module, certificate: Certificate, x: Tensor, *, tries: int = 20, climb: int = 10, seed: int = 0
) -> Attempts:
    """Points at the very edge of the certified balls, moved by single roundings, in the steepest direction found.

    The direction comes from `climb` gradient steps on the sphere. A rounding error that the certificate leaves out
    would show where the certified radius is the true one, as for linear classifiers (Jin et al. 2022).

    Args:
        tries: roundings tried for each input.
    """
    generator, done = torch.Generator().manual_seed(seed), NONE
    for centre, radius, answer, lead in _certified(certificate, x):
        f, u = _exact(net), torch.zeros_like(centre)
        for _ in range(climb):
            u = _unit(_ascent(f, centre + radius * INSIDE * u, answer) + 1e-30)
        single = certificate.dtype == "float32"
        for _ in range(tries):
            z = centre + radius * EDGE * u
            noise = torch.randint(-2, 3, z.shape, generator=generator)
            z = z.float() if single else z
            z = z * (1 + noise * torch.finfo(z.dtype).eps)
            inside = (z.double() - centre).flatten(1).norm(dim=1) <= radius.flatten() * EDGE
            if bool(inside.any()):
                done += _judge(certificate, z[inside], answer[inside], lead[inside])
    return done


def _certified(certificate: Certificate, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Batches of the inputs that are certified: centre in float64, radius in its shape, answer, and its lead."""
    for part in x.split(BATCH):
        radius = certificate.radius(part)
        centre = part[radius > SMALLEST].double()
        if len(centre):
            scores = certificate.logits(centre)
            shaped = radius[radius > SMALLEST].view(-1, *[1] * (x.dim() - 1))
            yield centre, shaped, scores.argmax(1), _lead(scores, scores.argmax(1))


def _exact(net: nn.Module) -> nn.Module:
    exact = copy.deepcopy(net).cpu().double()
    for part, original in zip(exact.modules(), net.modules(), strict=True):
        part.training = original.training
    return exact.requires_grad_(False)


def _lead(scores: Tensor, answer: Tensor) -> Tensor:
    """The lead of the answer over the best other class (batch,)."""
    scores = scores.double()
    others = scores.scatter(1, answer[:, None], -torch.inf).amax(1)
    return scores.gather(1, answer[:, None])[:, 0] - others


def _judge(certificate: Certificate, z: Tensor, answer: Tensor, lead: Tensor) -> Attempts:
    scores = certificate.logits(z)
    nearest = float((_lead(scores, answer) / lead).min())
    return Attempts(len(z), int((scores.argmax(1) != answer).sum()), nearest)


def _ascent(f: nn.Module, z: Tensor, answer: Tensor) -> Tensor:
    """The direction in which the answer loses its lead fastest."""
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(-_lead(f(z), answer).sum(), z)
    return _unit(gradient)


def _unit(d: Tensor) -> Tensor:
    return d / d.flatten(1).norm(dim=1).clamp(min=1e-300).view(-1, *[1] * (d.dim() - 1))
