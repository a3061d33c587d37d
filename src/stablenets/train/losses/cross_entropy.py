"""Cross-entropy, and two forms of it that go on asking for a margin when the answer is right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch.nn.functional as F
from torch import Tensor

from .base import Loss, not_negative, positive

SMALLEST = 1e-30


class CrossEntropy(Loss):
    """Cross-entropy log(sum_j exp z_j) - z_y.

    Reference: Goodfellow, Bengio & Courville (2016), Deep Learning, section 6.2.2.3.

    >>> import torch
    >>> CrossEntropy()(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.6931)
    """

    def per_sample(self, scores: Tensor, labels: Tensor, constants: Tensor, progress: float) -> Tensor:
        return F.cross_entropy(scores, labels, reduction="none")

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()


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

    >>> import torch
    >>> OffsetCrossEntropy(offset=1.0, temperature=0.5)(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor(0.3466)
    """

    def __init__(self, offset: float = math.sqrt(2), temperature: float = 0.25) -> None:
        super().__init__()
        self.offset, self.temperature = not_negative("offset", offset), positive("temperature", temperature)

    def per_sample(self, scores: Tensor, labels: Tensor, constants: Tensor, progress: float) -> Tensor:
        return self.temperature * _offset_entropy(scores, labels, self.offset, self.temperature)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(0.5, 0.25)


class LogitAnnealing(Loss):
    """Offset cross-entropy that lets go of samples whose margin is large: -T (1 - p)^beta log p.

    p is the probability that softmax((z - offset * onehot(y)) / T) gives to the label y. The factor (1 - p)^beta takes
    the training away from margins that a Lipschitz network could only enlarge at the cost of others.

    Args:
        offset: taken from the right score, in units of the scores; at least 0.
        temperature: T, in units of the scores; positive.
        beta: how sharply large margins are let go; 0 gives `OffsetCrossEntropy`.

    Raises:
        InputError: an argument out of its range.

    Reference: Lai, Huang, Kung & Chen (2025), Enhancing certified robustness via block reflector orthogonal layers and
    logit annealing loss (offset 2, temperature 0.75, beta 5).

    >>> import torch
    >>> LogitAnnealing(offset=0.0, temperature=1.0, beta=1.0)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.3466)
    """

    def __init__(self, offset: float = 2.0, temperature: float = 0.75, beta: float = 5.0) -> None:
        super().__init__()
        self.offset, self.temperature = not_negative("offset", offset), positive("temperature", temperature)
        self.beta = not_negative("beta", beta)

    def per_sample(self, scores: Tensor, labels: Tensor, constants: Tensor, progress: float) -> Tensor:
        entropy = _offset_entropy(scores, labels, self.offset, self.temperature)
        other = (-(-entropy).expm1()).clamp(min=SMALLEST)  # 1 - p; its power has no finite derivative at 0
        return self.temperature * other.pow(self.beta) * entropy

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()


def _offset_entropy(scores: Tensor, labels: Tensor, offset: float, temperature: float) -> Tensor:
    """Cross-entropy (batch,) of (z - offset * onehot(y)) / temperature."""
    offsets = offset * F.one_hot(labels, scores.shape[1]).to(scores)
    return F.cross_entropy((scores - offsets) / temperature, labels, reduction="none")
