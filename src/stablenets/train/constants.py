"""What a loss may know of the network: how fast a difference of two scores can change."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.errors import ClaimError
from ..layers import NormalisedHead, leaves


def last_layer(net: nn.Module) -> nn.Module:
    """The layer that computes the scores; `net` itself where its layers are not known."""
    try:
        return list(leaves(net))[-1][1]
    except ClaimError:
        return net


def score_constants(last: nn.Module) -> Tensor | None:
    """Lipschitz constants (classes, classes) of the score differences, as functions of the last layer's input.

    They are the distances between the rows of a linear layer's weight, with their gradient; None for another layer.
    Good for losses, not for proofs: in floating point, and for a body that is 1-Lipschitz, as it is in a network whose
    layers are and whose input is not rescaled.

    >>> score_constants(NormalisedHead(4, 3)).shape
    torch.Size([3, 3])
    """
    if isinstance(last, NormalisedHead):
        weight = last.effective_weight()
    elif isinstance(last, nn.Linear):
        weight = last.weight
    else:
        return None
    return torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")  # accurate for close rows
