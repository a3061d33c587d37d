"""Invariants that many fields share: one object each, so that whatever several layers keep, their chain keeps."""

from __future__ import annotations

from torch import Tensor

from ..core.properties import Invariant


def total(x: Tensor) -> Tensor:
    """The sum of the entries of each state, shape (batch,)."""
    return x.flatten(1).sum(1)


def squared_norm(x: Tensor) -> Tensor:
    """The sum of the squared entries of each state, shape (batch,)."""
    return x.flatten(1).square().sum(1)


MASS = Invariant("mass", total, degree=1)
SQUARED_NORM = Invariant("squared norm", squared_norm, degree=2)
