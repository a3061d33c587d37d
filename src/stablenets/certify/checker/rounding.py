"""Rounding errors of float64 evaluation, layer by layer (formulas: docs/certificates.md, "The rounding error E").

A bound pairs r, the norm of the exact state, with e, the error of the evaluated one. Every function returns what it
proves after a layer, rounded up, given (r, e) before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .maps import Map
from .norms import U, gamma
from .runge_kutta import Method

UP = 1 + 1e-12  # the formulas below are sums of positive terms of a few roundings each
LOST = 2.0**-220  # relative to 1 plus norms: more than 2^200 products lose below the normal numbers
ERRORS = {"ReLU": 0, "LeakyReLU": 1, "Tanh": 8, "Softplus": 8}  # of activations, in units of u, relative
AT_ZERO = {"ReLU": 0.0, "LeakyReLU": 0.0, "Tanh": 0.0, "Softplus": math.log(2) * UP}

Bound = tuple[float, float]


def underflow(state: float, after: Bound) -> Bound:
    """What is proved after a layer that rounds, with what it loses below the normal numbers; so do norms themselves."""
    return after[0] + LOST, after[1] + LOST * (1 + state)


def activation(kind: str, r: float, e: float) -> Bound:
    """An activation as a layer: 1-Lipschitz and zero at zero."""
    c = ERRORS[kind]
    return r, (e + c * U * (r + e)) * UP if c else e


def pooling(pixels: int, divisor: int, r: float, e: float) -> Bound:
    """Sums over disjoint windows of `pixels` entries, divided by `divisor`."""
    size = math.sqrt(pixels) / divisor
    return size * r * UP, size * (e + gamma(pixels + 1) * (r + e)) * UP


def normalise(mean_norm: float, least: float, r: float, e: float) -> Bound:
    """(x - mean) / std, with the norm of the mean image and the least standard deviation."""
    return (r + mean_norm) / least * UP, (e + 4 * U * (r + e + mean_norm)) / least * UP


def householder(r: float, e: float) -> Bound:
    """z - 2 v min(v.z, 0) for pairs z: sine and cosine are within 8 u, then about a dozen roundings, doubled."""
    return r, (e + 64 * U * (r + e)) * UP


def affine(weight: np.ndarray, bias: np.ndarray, norm: float, r: float, e: float) -> Bound:
    """W x + b with ||W|| <= norm."""
    size = np.abs(weight)
    a = math.sqrt(float(size.sum(1).max()) * float(size.sum(0).max()))
    b = float(np.linalg.norm(bias))
    return (norm * r + b) * UP, (norm * e + gamma(weight.shape[1] + 1) * (a * (r + e) + b)) * UP


def linear(a: Map, bias: np.ndarray, norm: float, r: float, e: float) -> Bound:
    """A x + b with ||A|| <= norm and one entry of b per output feature or channel."""
    b = a.spread(bias)
    return (norm * r + b) * UP, (norm * e + gamma(a.lengths[0] + 1) * (a.absolute() * (r + e) + b)) * UP


def linear_step(lipschitz: float, relative: float, r: float, e: float) -> Bound:
    """A linear map evaluated with an error of at most `relative` times the norm of its argument."""
    return underflow(r + e, (lipschitz * r * UP, (lipschitz * e + relative * (r + e)) * UP))


@dataclass(frozen=True)
class Field:
    """+-B^T sigma(A x + b(t)) - rate x with slopes of sigma of at most 1, by the numbers that the analysis needs.

    Attributes:
        norm, outer_norm: bounds of ||A|| and ||B||.
        absolute, outer_absolute: of || |A| || and || |B| ||.
        bias: norm of b spread over all outputs, at most, at all times.
        lengths: of the dot products of A (and what more roundings b takes) and of B^T.
        at_zero: norm of sigma(0) in all outputs.
        relative: error of sigma in units of u.
        rate: not negative.
    """

    norm: float
    outer_norm: float
    absolute: float
    outer_absolute: float
    bias: float
    lengths: tuple[int, int]
    at_zero: float
    relative: int
    rate: float

    @property
    def lipschitz(self) -> float:
        """A Lipschitz constant of the field."""
        return (self.norm * self.outer_norm + self.rate) * UP

    def evaluated(self, state: float) -> Bound:
        """Size and error of the evaluated field at evaluated states of norm at most `state`."""
        dz = gamma(self.lengths[0] + 1) * (self.absolute * state + self.bias) + LOST * (1 + state)
        z = self.norm * state + self.bias + dz
        ds = dz + self.relative * U * (z + self.at_zero)
        s = z + self.at_zero + ds
        error = self.outer_norm * ds + gamma(self.lengths[1]) * self.outer_absolute * s + LOST * (1 + s)
        size, decay = self.outer_norm * s + error, self.rate * state
        if decay:  # the product and the difference
            error += 2 * U * (1 + U) * (size + decay) + LOST * (1 + state)
            size += decay * (1 + 4 * U) + 4 * U * size + LOST * (1 + state)
        return size * UP, error * UP


def step(method: Method, field: Field, h: float, lipschitz: float, r: float, e: float) -> Bound:
    """One Runge-Kutta step whose exact map is `lipschitz`-Lipschitz."""
    state, rounded = _stages(method, field, h, r + e), _stages(method, field, h, 0.0)
    b = [float(w) for w in method.b]
    move = h * sum(w * k for w, (k, _) in zip(b, state, strict=True))
    error = h * sum(w * d for w, (_, d) in zip(b, state, strict=True))
    at_zero = h * sum(w * k for w, (k, _) in zip(b, rounded, strict=True))
    return (lipschitz * r + at_zero) * UP, (lipschitz * e + error + 3 * U * len(b) * (r + e + move)) * UP


def _stages(method: Method, field: Field, h: float, state: float) -> list[Bound]:
    """Sizes K_i and errors D_i of the evaluated slopes.

    The state of stage i sums i terms on top of x, each at the price of an addition and a multiplication (its step
    h a_ij is exact: the inner coefficients are powers of two): below 3 u i times the norm.
    """
    g = field.lipschitz
    slopes: list[Bound] = []
    for i, row in enumerate(method.a):
        inner = state + h * sum(float(c) * k for c, (k, _) in zip(row, slopes, strict=True))
        moved = h * sum(float(c) * d for c, (_, d) in zip(row, slopes, strict=True))
        size, error = field.evaluated(inner)
        slopes.append((size, (g * (moved + 3 * U * i * inner) + error) * UP))
    return slopes
