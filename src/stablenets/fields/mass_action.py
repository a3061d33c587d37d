"""Fields that keep the sum of the state and its signs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import FirstIntegral, QuasiPositive
from .base import MassActionField, Norm, upper_bound
from .examples import large
from .invariants import MASS


class MassAction(MassActionField):
    """x' = A(x) x with learned rates of flow between the entries: a_ij(x) >= 0 from j to i, columns that sum to zero.

    a_ij(x) = (B tanh(C x_+ + b) + r)_ij through softplus, with x_+ = max(x, 0): rates that depend on the state, as in
    SIR, where the rate of infection is the number of the infected. The sum is constant, and states that start without
    negative entries stay so
    (A is a Metzler matrix, the generator of a Markov chain).

    Args:
        features: the number d of entries (compartments, species), at least 2.
        width: hidden units of the network of rates.

    >>> f = MassAction(3, 16)
    >>> x = torch.tensor([[0.9, 0.1, 0.0]])
    >>> bool(f(x).sum().abs() < 1e-6), bool(f(x)[0, 2] >= 0)
    (True, True)
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        if features < 2 or width < 1:
            raise InputError(message(f"{features} features, width {width}", "at least 2 features and one unit"))
        self.features, self.width = features, width
        self.state_shape = (features,)
        self.inner, self.outer = nn.Linear(features, width), nn.Linear(width, features * features)

    def matrix(self, x: Tensor, t: float = 0.0) -> Tensor:
        d = self.features
        rates = F.softplus(self.outer(torch.tanh(self.inner(x.clamp(min=0))))).reshape(-1, d, d)
        flows = rates * (1 - torch.eye(d, dtype=x.dtype, device=x.device))
        return flows - torch.diag_embed(flows.sum(1))

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims([FirstIntegral(MASS), QuasiPositive()])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(3, 6))
        yield large(cls(4, 5))
