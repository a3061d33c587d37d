"""States as vectors: norms, derivatives, and the matrix J of phase space.

States are tensors (batch, ...); everything but the batch is one vector, with the Euclidean inner product.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .claims import Map


def flat(x: Tensor) -> Tensor:
    return x.reshape(len(x), math.prod(x.shape[1:]))  # -1 is ambiguous for an empty batch


def norm(x: Tensor) -> Tensor:
    return flat(x).norm(dim=1)


def inner(x: Tensor, y: Tensor) -> Tensor:
    return (flat(x) * flat(y)).sum(1)


def jacobian(f: Map, x: Tensor) -> Tensor:
    """Jacobians (batch, out, in) of `f` at every sample of `x`."""
    one = torch.func.jacrev(lambda v: f(v.reshape(1, *x.shape[1:])).flatten())
    return torch.func.vmap(one)(flat(x))


def gradient(function: Map, x: Tensor) -> Tensor:
    """Gradients (batch, ...) of a scalar function, `function(x) -> (batch,)`."""
    return torch.func.grad(lambda v: function(v).sum())(x)


def symplectic_matrix(x: Tensor) -> Tensor:
    """J of q' = dH/dp, p' = -dH/dq for states like `x`, whose dimension 1 holds q, then p."""
    d = flat(x).shape[1] // 2
    eye, zero = torch.eye(d, dtype=x.dtype, device=x.device), x.new_zeros(d, d)
    return torch.cat([torch.cat([zero, eye], 1), torch.cat([-eye, zero], 1)])


def positive(size: Tensor) -> Tensor:
    """A size to divide by, kept above zero in its own precision (1e-300 is zero in float32)."""
    return size.clamp(min=torch.finfo(size.dtype).tiny)


def spectral(m: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(m, 2)
