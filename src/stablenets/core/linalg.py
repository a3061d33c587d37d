"""Small linear systems, one per sample."""

from __future__ import annotations

import torch
from torch import Tensor


def inverse(matrix: Tensor) -> Tensor:
    """The inverses (batch, n, n); not finite where there is none, and never an error."""
    wide = torch.promote_types(matrix.dtype, torch.float32)  # LAPACK knows no half precision
    return torch.linalg.inv_ex(matrix.to(wide)).inverse.to(matrix.dtype)


def times(matrix: Tensor, v: Tensor) -> Tensor:
    """The products of matrices (batch, n, n) with states (batch, ...) of n entries."""
    return (matrix @ v.flatten(1).unsqueeze(2)).squeeze(2).reshape(v.shape)


def divide(matrix: Tensor, v: Tensor) -> Tensor:
    """matrix^-1 v, for matrices (batch, n, n) and states (batch, ...) of n entries, by explicit inverses.

    `torch.linalg.solve` has wrong derivatives under vmap of jacrev with gradients disabled (torch 2.13).

    >>> divide(2 * torch.eye(2).unsqueeze(0), torch.tensor([[1.0, 3.0]]))
    tensor([[0.5000, 1.5000]])
    """
    return times(inverse(matrix), v)
