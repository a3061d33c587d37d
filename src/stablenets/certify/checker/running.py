"""How fast the bound of the float32 error grows with the radius of a ball (docs/certificates.md, "Float32").

The bound of the error at the centre of a ball depends on the input, which no file holds. Its growth does not: it
follows from norms alone. Here the state of a point is within `reach` * rho of the centre's in exact arithmetic, and the
bound of its float32 error exceeds the centre's by `slope` * rho.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import skew
from .architecture import Layer
from .flows import TIME, frozen
from .linear_maps import MapSpec, build_map
from .model_file import ModelFile
from .proofs import EXACT, rows
from .runge_kutta import METHODS, Method, Q
from .strict import Rejected, entries, items, number

U32 = 2.0**-24
UP = 1 + 1e-12
LOST = 2.0**-126  # at most this, relative to norms, per operation, falls below float32's normal numbers
STEPS = (1e-30, 1e32)  # sizes of steps that are normal numbers in float32, also times the weights of a method
LARGEST = 1e30  # no sum and no slope may be larger: balls have radii below 1e6, and float32 ends at 3e38
OWN = {"ReLU": 0, "LeakyReLU": 2, "Tanh": 8, "Softplus": 8, "Householder": 64}  # roundings of an activation
# roundings that the float32 weights of a map carry already: of a difference, or of what was computed in float64
STORED = {"Dense": 0, "Conv1d": 0, "Conv2d": 0, "SkewDense": 1, "SkewConv2d": 1, "AlmostOrthogonal": 1}

Ball = tuple[float, float]  # reach, slope


def gamma32(k: int) -> float:
    """The relative error of k roundings, or of a sum of k products in any order."""
    return k * U32 / (1 - k * U32)


def rounded(k: int, size: float) -> float:
    """k roundings of something of this size."""
    if k * U32 >= 1:
        raise Rejected(f"not covered by the checker: sums of {k} terms in float32")
    if not size <= LARGEST:
        raise Rejected("float32 states might overflow")
    return gamma32(k) * size


def prove_growth(network: list[Layer], certificate: dict[str, Any], model: ModelFile) -> str:
    """Prove the numbers that a float32 certificate adds; returns what was proved.

    Raises:
        Rejected: when one does not follow, or the weights are not in float32.
    """
    claim = entries(certificate["float32"], ("unit_roundoff", "state", "scores"), "float32")
    if number(claim["unit_roundoff"], "float32: unit_roundoff") != U32:
        raise Rejected(f"float32: the unit roundoff is {claim['unit_roundoff']!r}, not 2^-24")
    for name, entry in model.entries.items():
        if entry.dtype != "F32":
            raise Rejected(f"float32: the weights {name} are {entry.dtype}")
    ball: Ball = (1.0, 0.0)
    for layer, proved in zip(network[:-1], certificate["layers"], strict=False):
        ball = after(layer, proved, model, ball)
    state, claimed = number(claim["state"], "float32: state"), items(claim["scores"], "float32: scores")
    if state < ball[1]:
        raise Rejected(f"float32: the growth {state!r} of the state's error is below the proved {ball[1]!r}")
    least = head(network[-1], model, sum(ball))
    if len(claimed) != len(least):
        raise Rejected(f"float32: {len(claimed)} scores, the network has {len(least)}")
    for i, slope in enumerate(least):
        if number(claimed[i], "float32: a score") < slope:
            raise Rejected(f"float32: the growth {claimed[i]!r} of the error of score {i} is below {float(slope)!r}")
    return (
        f"evaluated in float32, the error of a difference of scores grows by at most {state:.2e} c_ij + "
        f"{2 * float(max(claimed)):.2e} per unit of radius (how large it is at the centre is bounded input by input, "
        "when a radius is computed: no file holds it)"
    )


def after(layer: Layer, claim: dict[str, Any], model: ModelFile, ball: Ball) -> Ball:
    """Reach and slope after a layer whose Lipschitz constant is proved, from those before it."""
    if layer.kind == "Flow":
        return _flow(layer, claim, model, ball)
    l, (reach, slope) = claim["lipschitz"], ball
    spread = reach + slope
    if layer.kind in EXACT or layer.kind == "ReLU":
        own = 0.0
    elif layer.kind in OWN:
        own = rounded(OWN[layer.kind], spread)
    elif layer.kind == "AvgPool2d":
        own = rounded(math.prod(layer.given["window"]) + 1, l * spread)
    elif layer.kind == "Normalise":
        own = rounded(4, l * spread)
    elif layer.kind == "Affine":
        own = Sums.of(layer.given["linear"], model, layer.path("linear"), layer.name).forward(spread)
    elif layer.kind == "Linear":
        size = np.abs(model.tensor(layer.path("weight")))
        a = math.sqrt(float(size.sum(0).max() * size.sum(1).max()))
        own = rounded(size.shape[1] + 1, a * spread) + LOST * size.size * spread
    else:
        raise Rejected(f"not covered by the checker: {layer.name} ({layer.kind}) in float32")
    return l * reach * UP, (l * slope + own) * UP


def head(layer: Layer, model: ModelFile, spread: float) -> np.ndarray:
    """The growth of each score's own error, for states that move by `spread`."""
    weight, _ = rows(layer, model)
    if layer.kind == "TruncatedHead":
        return np.zeros(len(weight))
    n = weight.shape[1]
    lengths = np.sqrt(np.square(weight).sum(1))
    roundings = n + 1 + (n // 2 + 8 if layer.kind == "NormalisedHead" else 0)
    return (np.array([rounded(roundings, r * spread) for r in lengths]) + LOST * n * spread) * UP


@dataclass(frozen=True)
class Sums:
    """A linear map in float32: a bound of || |A| ||, the number of terms of its sums, and of all its entries."""

    absolute: float
    lengths: tuple[int, int]
    entries: int

    @classmethod
    def of(cls, spec: MapSpec, model: ModelFile, path: str, layer: str) -> Sums:
        """Of the linear map that the model file keeps under `path`, a part of `layer`."""
        if spec.kind not in STORED:
            raise Rejected(f"not covered by the checker: {layer} with {spec.kind} in float32")
        linear, more = build_map(spec, model, path), STORED[spec.kind]
        count = math.prod(spec.input_shape) + math.prod(spec.output_shape)
        return cls(linear.absolute(), (linear.lengths[0] + more, linear.lengths[1] + more), count)

    def forward(self, moved: float, bias: int = 1) -> float:
        """How much more A x + b is off when x moves by `moved`; `bias` roundings for b, none where there is none."""
        m = self.lengths[0] + bias
        return rounded(m, self.absolute * moved) + LOST * m * self.entries * moved

    def adjoint(self, moved: float) -> float:
        """How much more A^T y is off when y moves by `moved`."""
        m = self.lengths[1]
        return rounded(m, self.absolute * moved) + LOST * m * self.entries * moved


@dataclass(frozen=True)
class Slope:
    """How much k_i changes in float32, how much of that is its error, and the Lipschitz constant of the exact k_i."""

    change: float
    error: float
    reach: float


def _flow(layer: Layer, claim: dict[str, Any], model: ModelFile, ball: Ball) -> Ball:
    given, norm, (h, steps) = layer.given, claim["norm_bound"], frozen(layer, model)
    if not STEPS[0] < h < STEPS[1]:
        raise Rejected(f"not covered by the checker: {layer.name} with steps of {h!r} in float32")
    sums = Sums.of(given["linear"], model, layer.path(given["at"]), layer.name)
    if given["field"] != "SkewLinear":
        method, timed = METHODS[given["integrator"]], given["field"] == "TimedTwoLayer"
        outer = Sums.of(given["outer"], model, layer.path("field.outer"), layer.name) if timed else sums
        outer_norm, rate = claim["outer_norm_bound"] if timed else norm, given["rate"]
        if not rate < STEPS[1]:
            raise Rejected(f"not covered by the checker: {layer.name} with a rate of {rate!r} in float32")
        field = Field(sums, outer, norm, outer_norm, OWN[given["activation"]], TIME if timed else 0, rate)
        hg = Q(h) * (Q(norm) * Q(outer_norm) + Q(rate))
        lipschitz = 1 + method.increment(hg) if timed else method.lipschitz(hg, Q(h) * Q(rate))
        step = partial(_runge_kutta, method, field)
    elif terms := given["terms"]:
        lipschitz, step = skew.values(terms, Q(h) * Q(norm))[0], partial(_series, terms, sums, norm)
    else:
        raise Rejected(f"not covered by the checker: {layer.name}, a Flow with {given['integrator']} in float32")
    one, (reach, slope) = float(lipschitz) * UP, ball
    for _ in range(steps):
        reach, slope = one * reach * UP, (one * slope + step(h, reach + slope)) * UP
    return reach, slope


def _runge_kutta(method: Method, field: Field, h: float, spread: float) -> float:
    """The error of one step along a field, as far as it grows with `spread`, how far x moves."""
    slopes: list[Slope] = []
    for row in method.a:
        slopes.append(field.at(_sum(spread, [float(c) * h for c in row], slopes)))
    return _sum(spread, [float(c) * h for c in method.b], slopes).error


def _series(terms: int, sums: Sums, norm: float, h: float, spread: float) -> float:
    """The same of y <- x + (h / k) S y for k = terms, ..., 1, from y = x."""
    y = Slope(spread, 0.0, 1.0)
    for k in range(terms, 0, -1):
        own = sums.forward(y.change, bias=0)
        product = Slope((norm * y.change + own) * UP, (norm * y.error + own) * UP, norm * y.reach * UP)
        y = _sum(spread, [h / k], [product])
    return y.error


def _sum(spread: float, weights: list[float], slopes: list[Slope]) -> Slope:
    """The same of x + sum_j w_j k_j, where x moves by `spread`."""
    terms = [(w, k) for w, k in zip(weights, slopes, strict=True) if w]
    reach = 1 + sum(w * k.reach for w, k in terms)
    size = spread + sum(w * k.change for w, k in terms)
    error = sum(w * k.error for w, k in terms) + (rounded(len(terms) + 4, size) if terms else 0.0)
    return Slope((reach * spread + error) * UP, error * UP, reach * UP)


@dataclass(frozen=True)
class Field:
    """+-B^T sigma(A x + b(t)) - rate x in float32: A, B, bounds of their norms, roundings of sigma, more of b(t)."""

    inner: Sums
    outer: Sums
    norm: float
    outer_norm: float
    own: int
    more: int
    rate: float

    def at(self, at: Slope) -> Slope:
        """Its slope at a stage."""
        z = self.inner.forward(at.change, bias=1 + self.more)
        s = self.norm * at.change + z
        activation = rounded(self.own, s)
        error = self.outer_norm * (z + activation) + self.outer.adjoint(s + activation)
        smooth = self.norm * self.outer_norm * UP
        change = smooth * at.change + error
        if self.rate:  # the rate in float32, its product, and the difference
            decay = self.rate * at.change
            last = rounded(3, decay + change) + LOST * (at.change + decay + change)
            error, change, smooth = error + last, change + decay + last, (smooth + self.rate) * UP
        return Slope(change * UP, (smooth * at.error + error) * UP, smooth * at.reach)
