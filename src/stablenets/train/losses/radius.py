"""Losses that look at certified radii: they need to know how fast a difference of two scores can change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch.nn.functional as F
from torch import Tensor

from .base import Loss, not_negative, positive

SMALLEST = 1e-6  # constants below this (two classes with nearly the same weights) are taken for this


class CertificateRegularised(Loss):
    """Cross-entropy minus gamma times the certified radius: CE(z, y) - gamma max(0, min_{j != y} (z_y - z_j) / L_yj).

    Args:
        gamma: what a unit of certified radius is worth; at least 0.

    Raises:
        InputError: `gamma` is not a number of at least 0.

    Reference: Singla, Singla & Feizi (2022), Improved deterministic l2 robustness on CIFAR-10 and CIFAR-100, section 6
    ("certificate regularization").

    >>> import torch
    >>> z, y = torch.tensor([[3.0, 1.0]]), torch.tensor([0])
    >>> F.cross_entropy(z, y) - CertificateRegularised(gamma=1.0)(z, y)  # a lead of 2 is a radius of 2 / sqrt(2)
    tensor(1.4142)
    """

    def __init__(self, gamma: float = 0.1) -> None:
        super().__init__()
        self.gamma = not_negative("gamma", gamma)

    def per_sample(self, scores: Tensor, labels: Tensor, constants: Tensor, progress: float) -> Tensor:
        right = labels[:, None]
        # the label's own column, 0 / L, is put out of the way before and after: before for the sake of its gradient
        distances = (scores.gather(1, right) - scores) / constants[labels].clamp(min=SMALLEST)
        radius = F.relu(distances.scatter(1, right, math.inf).amin(1))
        return F.cross_entropy(scores, labels, reduction="none") - self.gamma * radius

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.3)


class EMMA(Loss):
    """Cross-entropy of the scores that an adversary within `radius` could reach ("efficient margin maximisation").

    Every wrong score z_j is raised by L_yj r, its largest possible gain against z_y within the radius r, but by no more
    than what it lacks to z_y (and by at least 1 % of L_yj r):

        CE(z', y),  z'_j = z_j + L_yj r min(1, max(0.01, (z_y - z_j) / (L_yj r)))

    with the factor min(1, ...) taken as a constant by the gradient. So every class that is within reach is pushed away,
    not only the nearest. r grows from 0.1 to 3 times `radius` over the first half of the training.

    Args:
        radius: the l2 radius asked for, in the units of the network's input; positive.

    Raises:
        InputError: `radius` is not a positive number.

    Reference: Hu, Zou, Wang, Leino & Fredrikson (2023), Unlocking deterministic robustness certification on ImageNet,
    section 4; the growth of r is that of their code.

    >>> import torch
    >>> EMMA(radius=0.1)(torch.tensor([[0.2, 0.0]]), torch.tensor([0]))  # both scores end up equal
    tensor(0.6931)
    """

    def __init__(self, radius: float = 36 / 255) -> None:
        super().__init__()
        self.radius = positive("radius", radius)

    def per_sample(self, scores: Tensor, labels: Tensor, constants: Tensor, progress: float) -> Tensor:
        radius = self.radius * (0.1 + 2.9 * min(1.0, 2 * progress))
        gain = (constants[labels] * radius).scatter(1, labels[:, None], 0.0)
        lead = scores.gather(1, labels[:, None]) - scores
        share = (lead / gain.clamp(min=SMALLEST)).clamp(0.01, 1).detach()
        return F.cross_entropy(scores + share * gain, labels, reduction="none")

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.3)
