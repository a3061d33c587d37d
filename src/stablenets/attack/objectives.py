"""What attacks climb on: functions of the scores (batch, classes) and the labels (batch,), all in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Objective = Callable[[Tensor, Tensor], Tensor]


def margin(scores: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y (batch,). Unlike the cross-entropy, it never saturates.

    >>> margin(torch.tensor([[1.0, 3.0]]), torch.tensor([1]))
    tensor([-2.], dtype=torch.float64)
    """
    scores = scores.double()  # differences of float32 scores are exact, and margins of any network compare
    return scores.scatter(1, y[:, None], -torch.inf).amax(1) - scores.gather(1, y[:, None])[:, 0]


def cross_entropy(scores: Tensor, y: Tensor) -> Tensor:
    """-log p_y (batch,): the loss J that most networks are trained on."""
    return nn.functional.cross_entropy(scores.double(), y, reduction="none")


def escape(scores: Tensor, y: Tensor) -> Tensor:
    """log(1 - p_y) (batch,), at most 0: the log-probability of every other class together.

    Its gradient does not vanish for a network that is sure of y.
    """
    scores = scores.double()
    return scores.scatter(1, y[:, None], -torch.inf).logsumexp(1) - scores.logsumexp(1)
