"""Attempts to refute certified radii: every registered attack inside them, in l2 and in pixels of deformation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..attack import ADef, Attack, BallAttack, MaskingWarning
from ..attack.ball import Ball
from ..attack.victim import evaluation
from ..certify import Certificate, deformation_radius
from ..core.component import build, config
from ..linear import deform
from .boundary import NONE, Attempts
from .deformations import attack_pixels

INSIDE = 1 - 1e-6  # attempts lie so far out, relative to the certified radius
BATCH = 500
SEARCHES = 2  # at most, of attacks that repeat themselves
WEIGHT, STEP = 100.0, 1.0  # of the loss against the distance, and Adam's step, in attacks that look for small changes
FARTHER = 1.0  # overshoot, so that linearised boundaries are crossed in few steps

Trial = Callable[[], Attempts]


class Judge:
    """Counts the points given, and those answered otherwise than the centres `x`, by the certificate's evaluation."""

    def __init__(self, proof: Certificate, x: Tensor) -> None:
        self.proof, self.x, self.done = proof, x, NONE
        self.answer = proof.logits(x).argmax(1)

    def __call__(self, z: Tensor, which: Tensor) -> None:
        """Points `z` (m, ...) around the centres of index `which` (m,)."""
        if len(which):
            scores = self.proof.logits(z)
            broken = (scores.argmax(1) != self.answer[which]) | ~scores.isfinite().all(1)
            self.done += Attempts(len(which), int(broken.sum()), 1.0)


def trials(
    net: nn.Module, proof: Certificate, x: Tensor, radius: Tensor, *, steps: int = 4, inflate: float = 1.0
) -> dict[str, Trial]:
    """By name: what tries to change answers inside certified radii. Every point counts that lies inside.

    An attack within a ball has the certified ball of each image. What another one returns counts where it lies inside,
    and is pulled back to the sphere where it lies outside. Deformations are ADef's fields scaled down to the radius in
    pixels, the same shift of all pixels, random fields, and fields in which every pixel climbs by itself.

    Args:
        net: the network that `proof` is about, in evaluation mode.
        x: images (n, ...), all with a positive radius.
        radius: certified radii (n,) in l2. Of images at least 2 pixels wide those in pixels follow.
        steps: of each attack that has steps.
        inflate: multiplies all radii, to see that attempts succeed where they are too large.
    """
    longer = inflate * radius
    found: dict[str, Trial] = {
        name: lambda cls=cls: _by_attack(cls, net, Judge(proof, x), longer, steps)
        for name, cls in sorted(Attack.registry.items())
    }
    if x.dim() == 4 and min(x.shape[2:]) >= 2:
        pixels = inflate * deformation_radius(proof, x, radius=radius)
        found["ADef's fields, in pixels"] = lambda: _by_adef(net, Judge(proof, x), pixels, steps)
        found["shifts and random fields"] = lambda: _by_shifts(Judge(proof, x), pixels)
        found["pixels that climb alone"] = lambda: _by_pixels(net, proof, x, pixels, steps)
    return found


def _by_attack(cls: type[Attack], net: nn.Module, judge: Judge, radius: Tensor, steps: int) -> Attempts:
    generator = torch.Generator().manual_seed(0)
    for attack in _examples(cls, float(radius.max()), steps):
        for part in torch.arange(len(radius)).split(BATCH):
            x, y = judge.x[part], judge.answer[part]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MaskingWarning)
                if isinstance(attack, BallAttack):  # each image gets the ball of its own
                    across = math.sqrt(x[0].numel()) if attack.norm == math.inf else 1.0
                    ball = Ball(radius[part] * INSIDE / across, attack.norm, attack.box)
                    with evaluation(net) as victim:
                        z = ball.project(x, attack.within(victim, x, y, ball, generator))
                else:
                    z = attack.run(net, x, y).x_adv
            d = (z - x).double()
            length, limit = d.flatten(1).norm(dim=1), radius[part] * INSIDE
            inside, outside = (length > 0) & (length <= limit), length > limit
            judge(z[inside], part[inside])
            scale = (limit / length)[outside].view(-1, *[1] * (x.dim() - 1))
            judge(x[outside].double() + scale * d[outside], part[outside])
    return judge.done


def _examples(cls: type[Attack], eps: float, steps: int) -> Iterator[Attack]:
    """The examples of an attack with the given steps; none gives a sample up."""
    for example in cls.examples():
        settings: dict[str, Any] = config(example)
        wanted = {"steps": steps, "eps": eps, "patient": True, "halvings": SEARCHES, "searches": SEARCHES}
        wanted |= {"overshoot": FARTHER, "candidates": 3}
        if "first" in settings:  # in few steps nothing is found by a small weight
            wanted |= {"first": WEIGHT, "step_size": STEP}
        settings |= {k: v for k, v in wanted.items() if settings.get(k) is not None}
        if isinstance(inner := settings.get("attack"), dict):
            settings["attack"] = inner | {"eps": eps, "steps": steps}
        yield build(settings)


def _by_adef(net: nn.Module, judge: Judge, pixels: Tensor, steps: int) -> Attempts:
    attack = ADef(1, steps=2 * steps, halvings=0)
    for part in torch.arange(len(pixels)).split(BATCH):
        found = attack.fields(net, judge.x[part], judge.answer[part])
        some = torch.isfinite(found.size) & (found.size > 0)
        shrink = torch.clamp(pixels[part] * INSIDE / found.size, max=1.0)[some]
        judge(deform(judge.x[part][some], shrink.view(-1, 1, 1, 1) * found.tau[some]), part[some])
    return judge.done


def _by_shifts(judge: Judge, pixels: Tensor) -> Attempts:
    generator = torch.Generator().manual_seed(0)
    for part in torch.arange(len(pixels)).split(BATCH):
        shape, size = (len(part), *judge.x.shape[2:]), pixels[part].view(-1, 1, 1, 1) * INSIDE
        ways = [torch.full(shape, 2 * math.pi * k / 8, dtype=torch.float64) for k in range(8)]
        ways.append(2 * math.pi * torch.rand(shape, generator=generator, dtype=torch.float64))
        for angle in ways:
            judge(deform(judge.x[part], size * torch.stack([angle.cos(), angle.sin()], 3)), part)
    return judge.done


def _by_pixels(net: nn.Module, proof: Certificate, x: Tensor, pixels: Tensor, steps: int) -> Attempts:
    done = NONE
    for part in torch.arange(len(x)).split(BATCH):
        done += attack_pixels(net, proof, x[part], pixels[part], steps=max(steps // 3, 1), starts=2)
    return done
