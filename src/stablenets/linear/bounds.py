"""Upper bounds of spectral norms in float64, rounding included."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.errors import ClaimError, message

EPS = torch.finfo(torch.float64).eps  # 2^-52, twice the unit roundoff
GUESS_STEPS, FIRST = 4, 4  # power iterations that guess which matrices of a batch are the largest; how many of them


def spectral_norm_bound(matrices: Tensor, entry_error: float = 0.0) -> float:
    """An upper bound of the largest spectral norm of a batch of float64 matrices (..., m, n).

    LAPACK's singular values are backward stable: each differs from the true one by at most p(m, n) u ||A||_2 with a
    modest p (LAPACK Users' Guide, 4.9); we take p = 32 max(m, n), far above what is ever observed. `entry_error`
    is a bound on the Frobenius norm of the error that each matrix already carries. `verify` proves the resulting
    number afresh by Cholesky factorisation, with an explicit rounding analysis instead of LAPACK's p(m, n).

    Raises:
        ClaimError: when an entry is not finite.
    """
    check_finite(matrices)
    if matrices.numel() == 0:
        return 0.0
    m, n = matrices.shape[-2:]
    largest = float(torch.linalg.svdvals(matrices).max())
    return math.nextafter(largest * (1 + 32 * max(m, n) * EPS) + entry_error, math.inf)


def many_norms_bound(matrices: Tensor, entry_error: float = 0.0) -> float:
    """The same for a large batch (batch, m, n) of small matrices, real or complex, in a fraction of the time.

    The largest eigenvalue t of a few Gram matrices is computed; for all others a Cholesky factorisation of t I - G
    proves that theirs are smaller, and those for which it fails get their eigenvalues too. The Gram matrix spoils
    small singular values, not large ones: it is off by at most 2 (m + 2) u ||F||_F^2 <= 2 (m + 2) u n ||F||^2, and a
    factorisation that succeeds by 2 (n + 1) n u t (Higham 2002, Thm 10.3), and half of that is left by the root. We
    take 32 (m + n) n times 2 u, which also leaves room for the proof that `verify` makes. The largest entries should be
    near 1: squares must neither overflow nor vanish.

    >>> many_norms_bound(torch.diag_embed(torch.tensor([[3.0, 4.0], [1.0, 5.0]], dtype=torch.float64))) - 5 < 1e-12
    True
    """
    a = matrices.mH if matrices.shape[1] < matrices.shape[2] else matrices
    m, n = a.shape[1:]
    gram = a.mH @ a
    v = gram @ gram[:, :, :1].contiguous()  # a fixed start: the bound is a function of the weights alone
    for _ in range(GUESS_STEPS):
        v = gram @ (v / v.norm(dim=1, keepdim=True).clamp(min=1e-300))
    first = v.norm(dim=(1, 2)).topk(min(FIRST, len(gram))).indices
    largest = float(torch.linalg.eigvalsh(gram[first])[:, -1].max())
    slack = 32 * (m + n) * n * EPS
    rest = -gram
    rest.diagonal(dim1=1, dim2=2).add_(largest * (1 + slack))
    failed = torch.linalg.cholesky_ex(rest).info != 0
    if failed.any():
        largest = max(largest, float(torch.linalg.eigvalsh(gram[failed])[:, -1].max()))
    return math.nextafter(math.sqrt(largest * (1 + 2 * slack)) + entry_error, math.inf)


def check_finite(matrices: Tensor) -> None:
    """Raise a ClaimError unless all entries are finite."""
    if not torch.isfinite(matrices).all():
        raise ClaimError(message("the weights hold NaN or infinite values", "finite weights"))
