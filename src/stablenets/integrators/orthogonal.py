"""Steps along x' = S x, S skew-symmetric: orthogonal maps, exactly or up to a proved deviation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.claims import Claims, Property
from ..core.errors import InputError, message
from ..core.outward import root
from ..core.properties import (
    Expansive,
    FirstIntegral,
    Invertible,
    Isometry,
    Lipschitz,
    Preserves,
    VolumePreserving,
)
from ..fields.invariants import SQUARED_NORM
from ..fields.skew import SkewLinear
from ..linear import LinearMap, SkewConv2d
from .base import Integrator, add_scaled
from .series import non_expansive_radius, squared_range

EXPLICIT_SIDE = 2400  # matrices of convolutions no larger than this are formed
MAX_TERMS = 100  # far beyond what changes a float64


class Cayley(Integrator[SkewLinear]):
    """The implicit midpoint rule (I - H)^-1 (I + H) x with H = h S / 2: an isometry for every h.

    H is skew, so I - H and I + H commute and have the same norm on every vector.

    - Dense: 2 (I + H) z - x with (I - H H) z = x, by Cholesky factorisation of I - H H = I + H^T H. Unlike that of an
      LU factorisation with pivoting, its rounding error has a bound that holds in advance.
    - Circular convolutions: frequency by frequency, where S is a small matrix (Trockman & Kolter 2021).
    - Zero padding: no Fourier basis diagonalises it. Small images are treated as dense.

    Raises:
        InputError: at the first step along a zero-padded convolution whose matrix has a side above 2400.

    >>> from stablenets.linear import SkewDense
    >>> x = torch.randn(3, 6)
    >>> torch.allclose(Cayley().step(SkewLinear(SkewDense(6)), x, 2.0).norm(dim=1), x.norm(dim=1), rtol=1e-5)
    True
    """

    needs, order = SkewLinear, 2
    exact_inverse = True
    reference = "Hairer, Lubich & Wanner, IV.2.1 (implicit midpoint rule); Trockman & Kolter 2021"

    def step(self, f: SkewLinear, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # there is no factorisation in bfloat16
        with torch.autocast(x.device.type, enabled=False):
            if isinstance(f.linear, SkewConv2d) and f.linear.padding == "circular":
                return _by_frequency(f.linear, wide, h).to(x.dtype)
            return _by_matrix(f.linear, wide, h).to(x.dtype)

    def inverse(self, f: SkewLinear, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        """The rotation back."""
        return self.step(f, x, -h, t)

    def step_limit(self, field: Claims) -> float | None:
        return math.inf if FirstIntegral(SQUARED_NORM) in field else None

    def transfer(self, field: Claims, h: float) -> Claims:
        kept: list[Property] = [
            Preserves(c.invariant) for c in field if isinstance(c, FirstIntegral) and c.invariant.degree in (1, 2)
        ]
        if Preserves(SQUARED_NORM) in kept:  # and the step is linear
            kept += [Isometry(), VolumePreserving(), Invertible()]
        return Claims(kept)

    @property
    def theorem(self) -> str:
        return "the implicit midpoint rule on x' = S x, S skew, is the Cayley transform of h S / 2: an isometry"


def _by_matrix(linear: LinearMap, x: Tensor, h: Any) -> Tensor:
    d = math.prod(linear.input_shape)
    if len(linear.input_shape) > 1 and d > EXPLICIT_SIDE:
        raise InputError(
            message(
                f"a Cayley step along a zero-padded convolution with a matrix of {d} x {d}",
                f"padding='circular', or a side of at most {EXPLICIT_SIDE}",
                "Take Exponential(), which needs no system of equations.",
            )
        )
    eye = torch.eye(d, dtype=x.dtype, device=x.device)
    m = linear(eye.view(d, *linear.input_shape)).view(d, d) * (h / 2)  # H^T, as states are rows
    factor = torch.linalg.cholesky(eye + m @ m.mT)
    rows = x.flatten(1)
    z = torch.cholesky_solve(rows.mT, factor).mT
    return (2 * (z + z @ m) - rows).reshape(x.shape)


def _by_frequency(linear: SkewConv2d, x: Tensor, h: Any) -> Tensor:
    size, kernel = x.shape[2:], linear.kernel_size
    room = [r for n, k in zip(reversed(size), reversed(kernel), strict=True) for r in (0, n - k)]
    middle = [-(k // 2) for k in kernel]
    taps = F.pad(linear.weight, room).roll(middle, (2, 3))  # tap i acts on the pixel i steps further
    symbols = torch.fft.rfft2(taps).conj().permute(2, 3, 0, 1)
    eye = torch.eye(len(taps), dtype=x.dtype, device=x.device)
    if not len(x):  # the Fourier transform refuses it
        return x
    spectrum = torch.fft.rfft2(x).permute(2, 3, 1, 0)  # (frequencies, channels, batch)
    z = torch.linalg.solve(eye - symbols * (h / 2), spectrum)
    return torch.fft.irfft2((2 * z - spectrum).permute(3, 2, 0, 1), s=size)


class Exponential(Integrator[SkewLinear]):
    """The exact flow exp(h S) x by `terms` terms of its series, p(h S) x (Singla & Feizi 2021, "SOC").

    exp(h S) is orthogonal; the truncated series is so up to a deviation that is proved. S is normal with eigenvalues
    i t, |t| <= ||S||, so the singular values of p(h S) are the numbers |p(i t)| with |t| <= h ||S||. Here |p(i t)|^2 is
    a polynomial in t^2 with rational coefficients: 1 + c_j t^2j + ..., where the first power left has 2j > terms. Its
    range over |t| <= h N, N >= ||S||, is bounded in exact arithmetic. Where c_j < 0 (`terms` a multiple of 4, or one
    less), the step is even non-expansive up to an h N between 1.4 and 2.9, which is the step limit; a `Flow` with
    ``time=`` then takes as many steps as that needs.

    Args:
        terms: 1 to 100; 1 is Euler's method; one application of S each.

    >>> from stablenets.core.properties import Expansive
    >>> [Exponential(n).transfer(Claims([Lipschitz(1.0), FirstIntegral(SQUARED_NORM)]), 1.0) for n in (4, 12)]
    [Claims(Lipschitz(bound=1.0), Expansive(bound=0.99...), Invertible()),
     Claims(Lipschitz(bound=1.0), Expansive(bound=0.9999999998...), Invertible())]
    """

    needs = SkewLinear
    reference = "Taylor 1715; Singla & Feizi 2021"

    def __init__(self, terms: int = 12) -> None:
        super().__init__()
        if not 1 <= terms <= MAX_TERMS:
            raise InputError(message(f"Exponential(terms={terms})", f"1 to {MAX_TERMS} terms"))
        self.terms = terms

    @property
    def order(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.terms

    def step(self, f: SkewLinear, x: Tensor, h: Any, t: float = 0.0) -> Tensor:
        y = x
        for k in range(self.terms, 0, -1):  # Horner's scheme
            y = add_scaled(x, f(y, t), h / k)
        return y

    def step_limit(self, field: Claims) -> float | None:
        size, radius = field.get(Lipschitz), non_expansive_radius(self.terms)
        return radius / size.bound if size and radius and FirstIntegral(SQUARED_NORM) in field else None

    def transfer(self, field: Claims, h: float) -> Claims:
        size = field.get(Lipschitz)
        if size is None or FirstIntegral(SQUARED_NORM) not in field:
            return Claims()
        low, high = squared_range(self.terms, Fraction(h) * Fraction(size.bound))
        claims: list[Property] = []
        if (bound := root(high, math.inf)) < math.inf:
            claims.append(Lipschitz(bound))
        if low > 0 and (bound := root(low, 0.0)) > 0:
            claims += [Expansive(bound), Invertible()]
        return Claims(claims)

    @property
    def theorem(self) -> str:
        radius = non_expansive_radius(self.terms)
        known = f"; they are at most 1 for h ||S|| <= {radius:.4f}" if radius else ""
        return (
            f"the singular values of sum_(k <= {self.terms}) (h S)^k / k!, S skew, are those of the polynomial at i t, "
            f"|t| <= h ||S||{known}"
        )

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for terms in (12, 4, 5):
            yield cls(terms)
