"""A linear inverse problem: data, the operator that made them, and what is proved of the data-fidelity term."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from ..core.errors import InputError, message
from ..core.properties import rounded
from ..linear import LinearMap
from ..linear.operator import check_shape

DTYPES = (torch.float32, torch.float64)


class Problem:
    """f(x) = |K x - y|^2 / 2 + ridge |x|^2 / 2, for a batch of data y.

    Args:
        operator: K.
        data: y, (batch, *operator.output_shape), in float32 or float64.
        ridge: a weight >= 0 of |x|^2 / 2 in f (ridge regression): it makes f strongly convex whatever K is.

    Attributes:
        norm: a proved upper bound of ||K||, from `operator.norm_bound()`.
        smoothness: L >= ||K||^2 + ridge, so that grad f is L-Lipschitz.
        convexity: mu <= the smallest eigenvalue of K^T K + ridge, so that f is mu-strongly convex; 0 where none is
            proved.
        correlation: K^T y.

    Raises:
        InputError: data of another shape or type, NaN or infinite values, a negative ridge.

    >>> from stablenets.linear import Mask
    >>> problem = Problem(Mask([[1.0, 0.0]], (1, 1, 2)), torch.ones(1, 1, 1, 2))
    >>> problem.smoothness, problem.convexity
    (1.0, 0.0)
    >>> problem.gradient(torch.zeros(1, 1, 1, 2))
    tensor([[[[-1.,  0.]]]])
    """

    def __init__(self, operator: LinearMap, data: Tensor, *, ridge: float = 0.0) -> None:
        check_shape(data, operator.output_shape)
        if data.dtype not in DTYPES:
            raise InputError(message(f"data of {data.dtype}", "float32 or float64"))
        if not torch.isfinite(data).all():
            raise InputError(message("the data hold NaN or infinite values", "finite data"))
        if not 0 <= ridge < math.inf:
            raise InputError(message(f"ridge={ridge}", "a number that is not negative"))
        self.operator, self.data, self.ridge = operator, data, ridge
        self.norm, self.least = operator.norm_bound(), operator.lower_bound()
        self.smoothness = rounded(Fraction(self.norm) ** 2 + Fraction(ridge), math.inf)
        self.convexity = rounded(Fraction(self.least) ** 2 + Fraction(ridge), 0.0)
        with torch.no_grad():
            self.correlation = operator.adjoint(data)

    def value(self, x: Tensor) -> Tensor:
        """f(x), shape (batch,)."""
        misfit = (self.operator(x) - self.data).flatten(1).square().sum(1) / 2
        return misfit + self.ridge / 2 * x.flatten(1).square().sum(1) if self.ridge else misfit

    def gradient(self, x: Tensor) -> Tensor:
        """grad f(x) = K^T K x - K^T y + ridge x."""
        g = self.operator.normal(x) - self.correlation
        return torch.add(g, x, alpha=self.ridge) if self.ridge else g

    def prox(self, v: Tensor, step: float) -> Tensor:
        """argmin over x of |x - v|^2 / 2 + step f(x): a linear system with K^T K + (ridge + 1 / step) I."""
        return self.operator.solve_normal(self.correlation + v / step, self.ridge + 1 / step)

    # --- rounding -------------------------------------------------------------------------------------------------

    def gradient_error(self, x: Tensor) -> Tensor:
        """Bounds (batch,) of the Euclidean rounding error of a computed grad f(x).

        A sum of n terms is off by at most n u times the sum of absolute values (Higham 2002, (3.5)); machine epsilon,
        2 u, stands for u here, which leaves room for all terms of second order.
        """
        eps, absolute = torch.finfo(x.dtype).eps, self.operator.absolute_bound()
        n, m = self.operator.dot_lengths
        size, data = (v.flatten(1).norm(dim=1).double() for v in (x, self.data))
        return eps * ((n + m + 4) * absolute**2 * size + (m + 4) * absolute * data + 4 * self.ridge * size)

    def prox_error(self, v: Tensor, x: Tensor, step: float) -> Tensor:
        """Bounds (batch,) of the distance of `x` from the exact `prox(v, step)`: its residual over 1 / step + ridge."""
        residual = (self.gradient(x) + (x - v) / step).flatten(1).norm(dim=1).double()
        sizes = sum(u.flatten(1).norm(dim=1).double() for u in (x, v)) * 4 * torch.finfo(x.dtype).eps / step
        return (residual + self.gradient_error(x) + sizes) / (1 / step + self.convexity)
