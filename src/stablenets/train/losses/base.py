"""What training minimises: a mean over a batch of a function of scores and labels."""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor

from ...core.component import Component
from ...core.errors import InputError, message


class Loss(Component, root=True):
    """The mean over a batch of `per_sample`; NaN as soon as one score is not finite.

    Losses are evaluated in float32 or float64, also on scores of a lower precision.

    >>> Loss.registry["MultiMargin"](margin=0.5)(torch.tensor([[torch.inf, 0.0]]), torch.tensor([0]))
    tensor(nan)
    """

    @abc.abstractmethod
    def per_sample(self, scores: Tensor, labels: Tensor, constants: Tensor, progress: float) -> Tensor:
        """The loss (batch,) of each sample, from scores (batch, classes) and labels (batch,) in 0..classes-1.

        Most losses look at these two only.

        Args:
            constants: Lipschitz constants (classes, classes) of the differences of two scores; what is on the
                diagonal must not matter.
            progress: the share of the training that is done, in [0, 1].
        """

    def forward(self, scores: Tensor, labels: Tensor, constants: Tensor | None = None, progress: float = 1.0) -> Tensor:
        """The mean loss (a scalar) of scores (batch, classes) with labels (batch,).

        `constants` of None stands for sqrt(2), which holds for every pair of scores of a 1-Lipschitz network.
        """
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if constants is None:
            constants = scores.new_full((scores.shape[1], scores.shape[1]), math.sqrt(2))
        # a hinge forgets NaN and infinite scores, so that training would go on with ruined weights
        mean = self.per_sample(scores, labels, constants.to(scores), progress).mean()
        return torch.where(scores.isfinite().all(), mean, torch.nan)


def positive(name: str, value: float) -> float:
    """`value`, if it is a positive number."""
    if not 0 < value < math.inf:
        raise InputError(message(f"{name}={value}", "a positive number"))
    return value


def not_negative(name: str, value: float) -> float:
    """`value`, if it is a number of at least 0."""
    if not 0 <= value < math.inf:
        raise InputError(message(f"{name}={value}", "a number of at least 0"))
    return value
