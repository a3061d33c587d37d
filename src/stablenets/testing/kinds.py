"""One suite per kind of component."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..core.claims import Map, Property
from ..core.component import Component
from ..core.properties import Lipschitz, OneSidedLipschitz, gradient
from ..fields import Activation, Field, Potential, SplitField
from ..integrators import Integrator
from ..layers import Layer
from ..linear import LinearMap
from ..networks import Network
from .falsify import falsify
from .findings import Check, Verdict
from .steps import integrator_suite

ANY = (4,)  # the states that a component without a shape of its own is tried on
TIGHT = 1.03  # a norm bound may exceed the norm by 3 per cent
TIME = 0.3
COARSEST = 1e-6  # of a layer's `accuracy`, for which its claims are given allowance


def states(shape: tuple[int, ...], seed: int = 0, count: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def outputs(component: Component) -> Tensor | None:
    """What a component makes of some states; None for a kind that is no map."""
    match component:
        case LinearMap():
            return component(states(component.input_shape))
        case Field():
            return component(states(component.state_shape or ANY), TIME)
        case Layer():
            return component(states(component.input_shape or ANY))
        case Network():
            return component(states(component.image_shape).sigmoid())
        case Activation():
            return component(states(ANY))
        case Potential():
            return component(states(component.state_shape or ANY))
    return None


def _says(ok: bool, detail: str) -> Verdict:
    return ok, detail


# --- linear maps --------------------------------------------------------------------------------------------------


def linear_suite(a: LinearMap, seed: int) -> Iterator[Check]:
    """Adjoint, linearity, matrix and norms."""
    yield "adjoint", partial(_adjoint, a, seed)
    yield "linear", partial(_linear, a, seed)
    yield "matrix()", partial(_matrix, a, seed)
    yield "norm_bound()", partial(_norm_bound, a)
    yield "norm_estimate()", partial(_norm_estimate, a)
    yield "norm_theorem", lambda: _says(bool(a.norm_theorem.strip()), a.norm_theorem)


@torch.no_grad()
def _adjoint(a: LinearMap, seed: int) -> Verdict:
    x, y = states(a.input_shape, seed), states(a.output_shape, seed + 1)
    ax, aty = a(x), a.adjoint(y)
    left, right = (ax * y).flatten(1).sum(1), (x * aty).flatten(1).sum(1)
    size = ax.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1) + 1e-300
    worst = float(((left - right).abs() / size).max())
    return worst <= 1e-12, f"<Ax, y> and <x, A^T y> differ by {worst:.1e} of |Ax| |y|."


@torch.no_grad()
def _linear(a: LinearMap, seed: int) -> Verdict:
    x, y = states(a.input_shape, seed), states(a.input_shape, seed + 1)
    combined = a(2 * x - 3 * y) - (2 * a(x) - 3 * a(y))
    worst = float(combined.norm() / (a(x).norm() + a(y).norm() + 1e-300))
    return worst <= 1e-12, f"A(2x - 3y) and 2Ax - 3Ay differ by {worst:.1e} (relative)."


@torch.no_grad()
def _matrix(a: LinearMap, seed: int) -> Verdict:
    x = states(a.input_shape, seed)
    ax, mx = a(x).flatten(1), x.flatten(1) @ a.matrix().mT
    worst = float((ax - mx).norm() / (ax.norm() + 1e-300))
    return worst <= 1e-12, f"matrix() x and A x differ by {worst:.1e} (relative)."


def _true_norm(a: LinearMap) -> float:
    return float(torch.linalg.matrix_norm(a.matrix(), 2))


def _norm_bound(a: LinearMap) -> Verdict:
    true, bound = _true_norm(a), a.norm_bound()
    ok = true * (1 - 1e-14) <= bound  # the explicit SVD rounds as well
    if a.guaranteed_norm is not None:  # whatever the parameters, so that there is nothing to be close to
        return ok and bound == a.guaranteed_norm, f"the bound is {bound:.6g}, the norm {true:.6g}."
    ok = ok and bound <= TIGHT * true + 1e-300
    return ok, f"the bound is {bound:.6g}, the norm {true:.6g}; needed: norm <= bound <= {TIGHT} norm."


def _norm_estimate(a: LinearMap) -> Verdict:
    if a.guaranteed_norm is not None:
        return a.norm_estimate() == a.guaranteed_norm, f"{a.norm_estimate():.6g}, guaranteed."
    true = _true_norm(a)
    first = a.norm_estimate()
    later = a.norm_estimate(100)
    ok = max(first, later) <= true * (1 + 1e-12) and later >= 0.99 * true
    return ok, f"after 1 and 101 iterations {first:.6g} and {later:.6g}, the norm is {true:.6g}; never above it."


# --- claims of fields, layers and networks ------------------------------------------------------------------------


def _attacked(f: Map, claim: Property, shape: tuple[int, ...], seed: int, accuracy: float) -> Verdict:
    (attempt,) = falsify(f, [claim], shape, seed=seed, accuracy=accuracy)
    return not attempt.refuted, f"{attempt}."


def _claims(f: Map, claims: Any, shape: tuple[int, ...], seed: int, accuracy: float = 0.0) -> Iterator[Check]:
    for claim in claims:
        yield f"claims {claim}", partial(_attacked, f, claim, shape, seed, accuracy)


def field_suite(f: Field, seed: int) -> Iterator[Check]:
    """Shapes, independence of the samples, and the claims at two times."""
    shape = f.state_shape or ANY
    yield "shapes", partial(_batched, lambda x: f(x, TIME), shape, shape)
    if isinstance(f, SplitField):
        yield "split", partial(_split, f, shape)
    for t in (0.0, TIME):
        yield from ((f"{n} at t = {t}", c) for n, c in _claims(lambda x, t=t: f(x, t), f.claims(), shape, seed))


@torch.no_grad()
def _batched(f: Map, shape: tuple[int, ...], expected: tuple[int, ...] | None) -> Verdict:
    x = states(shape)
    fx = f(x)
    if expected is not None and fx.shape[1:] != expected:
        return False, f"states {tuple(x.shape)} are mapped to {tuple(fx.shape)}; needed: {(len(x), *expected)}."
    if len(fx) != len(x) or fx.dtype != x.dtype or not torch.isfinite(fx).all():
        finite = bool(torch.isfinite(fx).all())
        return False, f"{tuple(fx.shape)} of {fx.dtype}, finite: {finite}; needed: as the input."
    alone = torch.cat([f(x[i : i + 1]) for i in range(len(x))])
    worst = float((alone - fx).abs().max() / fx.abs().max().clamp(min=1e-300))
    return worst <= 1e-12, f"{tuple(fx.shape)}; a sample alone and in a batch differ by {worst:.1e} (relative)."


@torch.no_grad()
def _split(f: SplitField, shape: tuple[int, ...]) -> Verdict:
    x = states(shape)
    q, p = x.chunk(2, 1)
    worst = float((f(x, TIME) - torch.cat([f.velocity(p, TIME), f.force(q, TIME)], 1)).abs().max())
    return worst == 0, f"forward and (velocity(p), force(q)) differ by {worst:.1e}."


def layer_suite(layer: Layer, seed: int) -> Iterator[Check]:
    """Independence of the samples, and the claims."""
    shape = layer.input_shape or ANY
    yield "shapes", partial(_batched, layer, shape, None)
    if layer.accuracy:
        needed = f"needed: an example with at most {COARSEST:g}, since a coarser one would hide violations"
        yield "accuracy", lambda: _says(0 <= layer.accuracy <= COARSEST, f"{layer.accuracy:g} |x|; {needed}.")
    yield from _claims(layer, layer.claims(), shape, seed, layer.accuracy)


def network_suite(net: Network, seed: int) -> Iterator[Check]:
    """One score per class, and the claims."""
    yield "shapes", partial(_batched, net, net.image_shape, (net.classes,))
    yield from _claims(net, net.claims(), net.image_shape, seed)


def activation_suite(activation: Activation, seed: int) -> Iterator[Check]:
    """Slopes and the potential."""
    yield "slope", partial(_slope, activation)
    yield "potential", partial(_potential, activation)


def _slope(activation: Activation) -> Verdict:
    z = torch.linspace(-60, 60, 24001, dtype=torch.float64)
    quotients = activation(z).diff() / z.diff()
    lowest, highest = float(quotients.min()), float(quotients.max())
    low, high = activation.slope
    ok = 0 <= low <= lowest + 1e-9 and highest <= high + 1e-9 and math.isfinite(high)
    return ok, f"difference quotients in [{lowest:.4g}, {highest:.4g}], claimed [{low:g}, {high:g}]."


def _potential(activation: Activation) -> Verdict:
    z = torch.linspace(-40, 40, 997, dtype=torch.float64)
    try:
        slope = gradient(activation.potential, z)
    except NotImplementedError as error:
        return True, f"has none: {error}."
    worst = float((slope - activation(z)).abs().max())
    return worst <= 1e-9, f"its gradient and the activation differ by {worst:.1e}."


def potential_suite(potential: Potential, seed: int) -> Iterator[Check]:
    """Shapes, the gradient, and the two constants."""
    shape = potential.state_shape or ANY
    yield "shapes", partial(_batched, potential, shape, ())
    yield "gradient()", partial(_gradient, potential, states(shape, seed))
    constants: list[Property] = [Lipschitz(size)] if (size := potential.smoothness()) < math.inf else []
    if potential.convexity is not None:
        constants.append(OneSidedLipschitz(-potential.convexity))
    yield from _claims(lambda x: -potential.gradient(x), constants, shape, seed)


def _gradient(potential: Potential, x: Tensor) -> Verdict:
    given, automatic = potential.gradient(x), gradient(potential, x)
    worst = float(((given - automatic).norm() / automatic.norm().clamp(min=1e-300)).detach())
    return worst <= 1e-12, f"it and automatic differentiation differ by {worst:.1e} (relative)."


SUITES: dict[type[Component], Callable[[Any, int], Iterator[Check]]] = {
    LinearMap: linear_suite,
    Field: field_suite,
    Integrator: integrator_suite,
    Layer: layer_suite,
    Network: network_suite,
    Activation: activation_suite,
    Potential: potential_suite,
}
