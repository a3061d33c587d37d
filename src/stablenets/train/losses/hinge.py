"""The multi-class hinge loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch.nn.functional as F
from torch import Tensor

from .base import Loss, positive


class MultiMargin(Loss):
    """The multi-class hinge loss (1/K) sum_{j != y} max(0, margin - z_y + z_j) of K scores z with label y.

    It vanishes once the right score leads by `margin`; with a network whose score differences are L-Lipschitz, that is
    a certified radius of margin / L. As `torch.nn.MultiMarginLoss` with p = 1, except that scores that are not finite
    give NaN, and not 0.

    Args:
        margin: the lead asked for, in units of the scores; positive. The default is that of the published Convex
            Potential Layer networks.

    Raises:
        InputError: `margin` is not a positive number.

    Reference: Crammer & Singer (2001), On the algorithmic implementation of multiclass kernel-based vector machines;
    the margin is that of chapter 6.2 (exercise 16).

    >>> import torch
    >>> MultiMargin(margin=1.0)(torch.tensor([[0.5, 0.0], [3.0, 0.0]]), torch.tensor([0, 0]))
    tensor(0.1250)
    """

    def __init__(self, margin: float = 0.7) -> None:
        super().__init__()
        self.margin = positive("margin", margin)

    def per_sample(self, scores: Tensor, labels: Tensor, constants: Tensor, progress: float) -> Tensor:
        right = labels[:, None]
        gaps = F.relu(self.margin - scores.gather(1, right) + scores)
        return gaps.scatter(1, right, 0.0).mean(1)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.3)
