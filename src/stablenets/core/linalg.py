"""Linear systems, one per sample: small ones by inverses, large ones by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable

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


def conjugate_gradients(apply: Callable[[Tensor], Tensor], b: Tensor, iterations: int = 1000) -> Tensor:
    """x with apply(x) = b, for a symmetric positive definite map on batches (batch, ...).

    Stops at a relative residual of ten roundings in every sample, or when rounding ends the progress: the best iterate
    is returned.

    Reference: Hestenes & Stiefel 1952.

    >>> conjugate_gradients(lambda x: x * torch.tensor([1.0, 4.0]), torch.ones(1, 2))
    tensor([[1.0000, 0.2500]])
    """

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).flatten(1).sum(1).view(-1, *[1] * (u.dim() - 1))

    eps, tiny = torch.finfo(b.dtype).eps, torch.finfo(b.dtype).tiny
    x, r, p = torch.zeros_like(b), b, b
    rr = dot(r, r)
    goal, best, least = (10 * eps) ** 2 * rr, x, rr
    for _ in range(iterations):
        if bool((least <= goal).all()):
            break
        ap = apply(p)
        step = rr / dot(p, ap).clamp(min=tiny)
        x, r = x + step * p, r - step * ap
        new = dot(r, r)
        better = new < least
        best, least = torch.where(better, x, best), torch.where(better, new, least)
        if not bool((new < 1e4 * least).any()):
            break
        p, rr = r + new / rr.clamp(min=tiny) * p, new
    return best
