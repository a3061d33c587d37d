"""Accuracy under attack as a function of the radius."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .base import Attack, certified_radii
from .in_ball import BallAttack
from .pgd import PGD
from .victim import Classifier, evaluation


@dataclass(frozen=True)
class Curve:
    """Accuracy of a classifier under attack.

    Attributes:
        radii: increasing, the first is 0 (no attack).
        accuracy: fraction of the samples that no attack of this size broke; never increasing.
        smallest: per sample (n,), float64: the smallest of the radii at which it was broken, 0 if it is misclassified
            without any attack, inf if it was never broken. Of an attack that looks for small perturbations: the size
            of the one found.
        index: the samples (m,) that an attack broke, increasing.
        x_adv: their adversarial images (m, ...), each within `smallest[index]` of the original.
        predictions: the classes (m,) answered for `x_adv`; where the true class ties with another, the other.
    """

    radii: tuple[float, ...]
    accuracy: tuple[float, ...]
    smallest: Tensor
    index: Tensor
    x_adv: Tensor
    predictions: Tensor

    def image(self, sample: int) -> Tensor | None:
        """The adversarial image of a sample, or None where the attack found none (or needed none)."""
        at = (self.index == sample).nonzero()
        return self.x_adv[int(at[0, 0])] if len(at) else None


def robust_curve(
    net: Classifier,
    x: Tensor,
    y: Tensor,
    radii: Sequence[float],
    *,
    norm: float = 2,
    steps: int = 100,
    restarts: int = 1,
    box: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    batch_size: int = 500,
    certified: Tensor | None = None,
) -> Curve:
    """Attack the samples `x` (n, ...) with labels `y` (n,) at every radius by `PGD`, doing no work twice.

    The largest ball comes first and contains the smaller ones. So a sample that survives it is attacked in the
    smaller balls with a tenth of the steps only, as a check; a sample that is broken goes on with all steps to the
    next smaller radius; and a sample broken at some radius is broken at all larger ones. The accuracies are nearly
    always those of separate runs at every radius (the tests and `benchmarks/pgd_curve.py` compare them), at about a
    seventh of the work.

    Args:
        radii: radii of the attacks, in any order; 0 is added.
        norm, steps, restarts, box, seed, batch_size: see `PGD`.
        certified: radii (n,), *in the same norm*, within which no perturbation changes the predicted class. A sample
            is not attacked below its certified radius. This saves work and takes the certificate's word for it: to
            put a certificate to the test, leave it out.

    Raises:
        InputError: for radii that are not finite and positive, or certified radii that do not fit, besides those of
            `PGD`.

    >>> net = torch.nn.Linear(2, 2)
    >>> x = torch.rand(4, 2)
    >>> robust_curve(net, x, net(x).argmax(1), [0.1, 1e-9]).accuracy[0]
    1.0
    """
    attack = PGD(1.0, norm, steps, restarts=restarts, box=box, seed=seed, batch_size=batch_size)
    return attack_curve(attack, net, x, y, radii, certified=certified)


def attack_curve(
    attack: Attack,
    net: Classifier,
    x: Tensor,
    y: Tensor,
    radii: Sequence[float],
    *,
    certified: Tensor | None = None,
) -> Curve:
    """The accuracies of `net` on `x` (n, ...) with labels `y` (n,) that any attack leaves, at every radius.

    An attack within a ball goes through the radii as in `robust_curve`; its own radius does not matter. Any other
    attack is run once, and gives each sample a radius of its own.

    Args:
        radii, certified: see `robust_curve`, in the norm of the attack.

    >>> from stablenets.attack import DDN
    >>> net = torch.nn.Linear(2, 2)
    >>> x = torch.rand(4, 2)
    >>> attack_curve(DDN(), net, x, net(x).argmax(1), [0.1, 1e-9]).accuracy[0]
    1.0
    """
    sizes = sorted({float(r) for r in radii} - {0.0})
    if not all(math.isfinite(r) and r > 0 for r in sizes):
        raise InputError(message(f"radii={list(radii)}", "finite radii >= 0"))
    proved = certified_radii(certified, x).cpu()
    search = _shrinking if isinstance(attack, BallAttack) else _once
    smallest, x_adv = search(attack, net, x, y, sizes, proved)
    index = ((smallest > 0) & smallest.isfinite()).nonzero()[:, 0]
    with evaluation(net) as victim:
        parts = [i for i in index.split(attack.batch_size) if len(i)]
        pairs = [victim.predictions(x_adv[i], y[i].to(x.device)) for i in parts]
    return Curve(
        radii=(0.0, *sizes),
        accuracy=tuple(float((smallest > r).double().mean()) for r in (0.0, *sizes)),
        smallest=smallest,
        index=index,
        x_adv=x_adv[index],
        predictions=torch.cat(pairs) if pairs else y[:0].clone(),
    )


def _shrinking(
    attack: BallAttack, net: Classifier, x: Tensor, y: Tensor, sizes: list[float], proved: Tensor
) -> tuple[Tensor, Tensor]:
    """The smallest of the radii that broke each sample (n,), and the points; from the largest radius down."""
    smallest, x_adv = torch.full((len(x),), math.inf, dtype=torch.float64), x.detach().clone()
    everything = torch.full((len(x),), math.inf)  # nothing is attacked: the clean answers
    smallest[attack.run(net, x, y, certified=everything).broken.cpu()] = 0.0
    survivor = torch.zeros(len(x), dtype=torch.bool)
    for radius in reversed(sizes):
        attacked = (smallest > 0) & (proved <= radius)
        for light, chosen in ((False, attacked & ~survivor), (True, attacked & survivor)):
            if bool(chosen.any()):
                which = chosen.nonzero()[:, 0]
                found = attack.at(radius, light=light).run(net, x[which], y[which])
                beaten = found.broken.cpu()
                smallest[which[beaten]] = radius
                x_adv[which[beaten]] = found.x_adv[found.broken]
                survivor[which] = ~beaten
    return smallest, x_adv


def _once(
    attack: Attack, net: Classifier, x: Tensor, y: Tensor, sizes: list[float], proved: Tensor
) -> tuple[Tensor, Tensor]:
    """The size of the smallest perturbation found (n,), and the points."""
    beyond = torch.where(proved > max(sizes, default=0.0), math.inf, proved)
    found = attack.run(net, x, y, certified=beyond)
    return found.distance.cpu(), found.x_adv
