"""What training minimises: a mean over a batch of a function of scores and labels."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.component import Component
from ..core.errors import InputError, message


class Loss(Component, root=True):
    """The mean over a batch of `per_sample`; NaN as soon as one score is not finite.

    Losses are evaluated in float32 or float64, also on scores of a lower precision.

    >>> Loss.registry["MultiMargin"](margin=0.5)(torch.tensor([[torch.inf, 0.0]]), torch.tensor([0]))
    tensor(nan)
    """

    @abc.abstractmethod
    def per_sample(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The loss (batch,) of each sample, from scores (batch, classes) and labels (batch,) in 0..classes-1."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The mean loss (a scalar) of scores (batch, classes) with labels (batch,)."""
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        # a hinge forgets NaN and infinite scores, so that training would go on with ruined weights
        return torch.where(scores.isfinite().all(), self.per_sample(scores, labels).mean(), torch.nan)


class MultiMargin(Loss):
    """The multi-class hinge loss (1/K) sum_{j != y} max(0, margin - z_y + z_j) of K scores z with label y.

    It vanishes once the right score leads by `margin`; with a network whose score differences are L-Lipschitz, that is
    a certified radius of margin / L. As `torch.nn.MultiMarginLoss` with p = 1, except that scores that are not finite
    give NaN, and not 0.

    Args:
        margin: the lead asked for, in units of the scores; positive.

    Raises:
        InputError: `margin` is not a positive number.

    Reference: Crammer & Singer (2001), On the algorithmic implementation of multiclass kernel-based vector machines;
    the margin is that of chapter 6.2 (exercise 16).

    >>> MultiMargin(margin=1.0)(torch.tensor([[0.5, 0.0], [3.0, 0.0]]), torch.tensor([0, 0]))
    tensor(0.1250)
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = _positive("margin", margin)

    def per_sample(self, scores: Tensor, labels: Tensor) -> Tensor:
        right = labels[:, None]
        gaps = F.relu(self.margin - scores.gather(1, right) + scores)
        return gaps.scatter(1, right, 0.0).mean(1)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.3)


class OffsetCrossEntropy(Loss):
    """Cross-entropy that goes on asking for a margin: T * CE((z - offset * onehot(y)) / T, y).

    Subtracting `offset` from the right score makes a small margin costly, the temperature T says how sharply, and the
    factor T keeps the size of the gradient.

    Args:
        offset: taken from the right score, in units of the scores; at least 0.
        temperature: T, in units of the scores; positive.

    Raises:
        InputError: an argument out of its range.

    Reference: Prach & Lampert (2022), Almost-orthogonal layers for efficient general-purpose Lipschitz networks,
    section 5 (offset sqrt(2), temperature 1/4).

    >>> OffsetCrossEntropy(offset=1.0, temperature=0.5)(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor(0.3466)
    """

    def __init__(self, offset: float = math.sqrt(2), temperature: float = 0.25) -> None:
        super().__init__()
        if not 0 <= offset < math.inf:
            raise InputError(message(f"offset={offset}", "a number of at least 0"))
        self.offset, self.temperature = offset, _positive("temperature", temperature)

    def per_sample(self, scores: Tensor, labels: Tensor) -> Tensor:
        offset = F.one_hot(labels, scores.shape[1]) * self.offset
        return F.cross_entropy((scores - offset) / self.temperature, labels, reduction="none") * self.temperature

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.5, 0.25)


class CrossEntropy(Loss):
    """Cross-entropy log(sum_j exp z_j) - z_y.

    Reference: Goodfellow, Bengio & Courville (2016), Deep Learning, section 6.2.2.3.

    >>> CrossEntropy()(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.6931)
    """

    def per_sample(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores, labels, reduction="none")

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise InputError(message(f"{name}={value}", "a positive number"))
    return value
