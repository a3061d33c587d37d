"""Upper bounds of spectral norms in float64, rounding included."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.errors import ClaimError, message

EPS = torch.finfo(torch.float64).eps  # 2^-52, twice the unit roundoff


def spectral_norm_bound(matrices: Tensor, entry_error: float = 0.0) -> float:
    """An upper bound of the largest spectral norm of a batch of float64 matrices (..., m, n).

    LAPACK's singular values are backward stable: each differs from the true one by at most p(m, n) u ||A||_2 with a
    modest p (LAPACK Users' Guide, 4.9); we take p = 32 max(m, n), far above what is ever observed. `entry_error`
    is a bound on the Frobenius norm of the error that each matrix already carries. `verify` proves the resulting
    number afresh by Cholesky factorisation, with an explicit rounding analysis instead of LAPACK's p(m, n).

    Raises:
        ClaimError: when an entry is not finite.
    """
    if not torch.isfinite(matrices).all():
        raise ClaimError(message("the weights hold NaN or infinite values", "finite weights"))
    if matrices.numel() == 0:
        return 0.0
    m, n = matrices.shape[-2:]
    largest = float(torch.linalg.svdvals(matrices).max())
    return math.nextafter(largest * (1 + 32 * max(m, n) * EPS) + entry_error, math.inf)
