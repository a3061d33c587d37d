"""Rotations: the skew field, its two integrators, and the deviations that are claimed of them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from stablenets.core.claims import Claims
from stablenets.core.component import build, config
from stablenets.core.errors import ClaimError, InputError
from stablenets.core.outward import root
from stablenets.core.properties import Expansive, Invertible, Isometry, Lipschitz, Preserves, jacobian
from stablenets.fields import ConvexGradient, SkewLinear, Tanh
from stablenets.fields.skew import SQUARED_NORM
from stablenets.integrators import Cayley, Euler, Exponential
from stablenets.integrators.series import non_expansive_radius, squared_range
from stablenets.layers import Flow, Hybrid, claims, leaves
from stablenets.linear import Dense, SkewConv2d, SkewDense

MAPS = {
    "dense": lambda: SkewDense(7),
    "zero": lambda: SkewConv2d(2, 3, (4, 5)),
    "zero, 5 x 5": lambda: SkewConv2d(2, 5, (3, 6)),
    "circular": lambda: SkewConv2d(3, 3, (4, 5), "circular"),
    "circular, odd": lambda: SkewConv2d(2, 5, (5, 5), "circular"),
}


def field(name: str, norm: float = 3.0) -> SkewLinear:
    """A field whose matrix has the given norm."""
    f = SkewLinear(MAPS[name]()).double().requires_grad_(False)
    for p in f.parameters():
        p.mul_(norm / np.linalg.norm(matrix(f), 2))
    return f


def matrix(f: SkewLinear) -> np.ndarray:
    return f.linear.matrix().numpy()


def step_matrix(integrator, f: SkewLinear, h: float) -> np.ndarray:
    """The explicit matrix of one step."""
    shape = f.linear.input_shape
    eye = torch.eye(math.prod(shape), dtype=torch.float64)
    return integrator.step(f, eye.view(-1, *shape), h).flatten(1).T.numpy()


def polynomial(terms: int, z: np.ndarray) -> np.ndarray:
    return sum(z**k / math.factorial(k) for k in range(terms + 1))


# --- the two integrators ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MAPS))
@pytest.mark.parametrize("h", [0.3, 2.0, 20.0])
def test_a_cayley_step_solves_the_midpoint_equation_and_is_orthogonal(name: str, h: float):
    f = field(name)
    s, eye = matrix(f), np.eye(len(matrix(f)))
    q = step_matrix(Cayley(), f, h)
    np.testing.assert_allclose(q, np.linalg.solve(eye - h / 2 * s, eye + h / 2 * s), atol=1e-12)
    np.testing.assert_allclose(q.T @ q, eye, atol=1e-11)
    assert {Isometry(), Preserves(SQUARED_NORM)} <= set(Cayley().transfer(f.claims(), h))


@pytest.mark.parametrize("name", list(MAPS))
@pytest.mark.parametrize("terms", [1, 4, 12])
def test_an_exponential_step_is_the_series(name: str, terms: int):
    f = field(name)
    s = 0.7 * matrix(f)
    series = sum(np.linalg.matrix_power(s, k) / math.factorial(k) for k in range(terms + 1))
    np.testing.assert_allclose(step_matrix(Exponential(terms), f, 0.7), series, atol=1e-13)


def test_thirty_terms_are_the_exponential():
    f = field("zero")
    np.testing.assert_allclose(step_matrix(Exponential(30), f, 1.0), scipy.linalg.expm(matrix(f)), atol=1e-12)


@pytest.mark.parametrize("integrator", [Cayley(), *(Exponential(n) for n in (1, 2, 3, 4, 5))], ids=str)
def test_orders(integrator):
    f = field("zero", norm=2.0)
    exact, errors = scipy.linalg.expm(matrix(f)), []
    for n in (8, 16, 32):
        errors.append(np.abs(np.linalg.matrix_power(step_matrix(integrator, f, 1 / n), n) - exact).max())
    assert np.log2(errors[1] / errors[2]) == pytest.approx(integrator.order, abs=0.1)


@pytest.mark.parametrize("h", [0.1, -0.1])
def test_backwards_in_time(h: float):
    f = field("dense")
    for integrator in (Cayley(), Exponential(20)):
        both = step_matrix(integrator, f, -h) @ step_matrix(integrator, f, h)
        np.testing.assert_allclose(both, np.eye(7), atol=1e-13)
    assert set(Exponential(4).transfer(f.claims(), h)) == set(Exponential(4).transfer(f.claims(), -h))


def test_cayley_refuses_a_large_zero_padded_convolution_and_names_what_to_take():
    f = SkewLinear(SkewConv2d(3, 3, (30, 30)))
    with pytest.raises(InputError, match=r"2700 x 2700.*Take Exponential\(\)"):
        Cayley().step(f, torch.zeros(1, 3, 30, 30), 1.0)
    circular = SkewLinear(SkewConv2d(3, 3, (30, 30), "circular"))
    x = torch.randn(2, 3, 30, 30)
    torch.testing.assert_close(Cayley().step(circular, x, 1.0).flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))


@pytest.mark.parametrize("name", ["dense", "zero", "circular"])
def test_cayley_factorises_in_float32_under_bfloat16_autocast(name: str):
    f = field(name).float()
    x = torch.randn(3, *f.linear.input_shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = Cayley().step(f, x, 1.0)
    torch.testing.assert_close(y, Cayley().step(f, x, 1.0))


@pytest.mark.parametrize("name", ["dense", "zero", "circular"])
@pytest.mark.parametrize("integrator", [Cayley(), Exponential(6)], ids=str)
def test_gradients_with_respect_to_weights_and_step(name: str, integrator):
    f = field(name).requires_grad_(True)
    x = torch.randn(2, *f.linear.input_shape, dtype=torch.float64, requires_grad=True)
    h = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, h, *_: integrator.step(f, x, h), (x, h, *f.parameters()), fast_mode=True)


# --- what is claimed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MAPS))
@pytest.mark.parametrize("terms", [1, 2, 3, 4, 5, 7, 8, 12])
def test_all_singular_values_are_as_close_to_one_as_claimed(name: str, terms: int):
    f = field(name)
    for reach in (0.1, 1.0, 1.5, 3.0, 10.0):
        values = np.linalg.svd(step_matrix(Exponential(terms), f, reach / 3), compute_uv=False)
        stated = Exponential(terms).transfer(f.claims(), reach / 3)
        largest, least = stated.get(Lipschitz), stated.get(Expansive)
        assert values[0] <= largest.bound * (1 + 1e-13)
        assert values[-1] >= (least.bound if least else 0.0) - 1e-13
        assert (Invertible() in stated) == (least is not None)


@pytest.mark.parametrize("terms", range(1, 17))
@pytest.mark.parametrize("reach", [0.3, 1.0, 2.0])
def test_the_deviation_is_no_worse_than_the_remainder_and_within_a_factor_of_the_truth(terms: int, reach: float):
    low, high = (float(v) for v in squared_range(terms, Fraction(reach)))
    t = np.linspace(0, reach, 2001)
    true = np.abs(polynomial(terms, 1j * t)) ** 2
    remainder = reach ** (terms + 1) / math.factorial(terms + 1)
    assert low <= true.min() + 1e-15 and true.max() - 1e-15 <= high
    assert math.sqrt(high) <= 1 + remainder + 1e-15 and math.sqrt(low) >= 1 - remainder - 1e-15
    if reach <= 1 and true.max() - true.min() > 1e-13:
        assert high - low <= 4 * (true.max() - true.min())


@pytest.mark.parametrize("terms", range(1, 25))
def test_the_series_is_non_expansive_up_to_the_radius(terms: int):
    radius = non_expansive_radius(terms)
    t = np.linspace(0, 0.1 if radius is None else radius, 4001)
    sizes = np.abs(polynomial(terms, 1j * t))
    assert (radius is None) == (terms % 4 in (1, 2))
    if radius is None:
        exact = 1 + sum(c * Fraction(1, 100) ** j for j, c in enumerate(_squares(terms)) if j)
        assert exact > 1, "it really expands, however short the step"
    else:
        assert sizes.max() <= 1 + 1e-15
        field = Claims([Lipschitz(2.0), *SkewLinear(SkewDense(2)).claims()[3:]])
        assert Exponential(terms).step_limit(field) == pytest.approx(radius / 2)
        assert Exponential(terms).transfer(field, radius / 2).get(Lipschitz) == Lipschitz(1.0)
        assert Exponential(terms).transfer(field, 0.51 * radius).get(Lipschitz).bound > 1


def _squares(terms: int) -> list[Fraction]:
    """|p(it)|^2 by powers of t^2, from the product of the polynomials."""
    p = [Fraction(1, math.factorial(k)) for k in range(terms + 1)]
    signs = [1, 1j, -1, -1j]
    c = [Fraction(0)] * (terms + 1)
    for k, a in enumerate(p):
        for l, b in enumerate(p):
            if (k + l) % 2 == 0:
                c[(k + l) // 2] += a * b * int((signs[k % 4] * np.conj(signs[l % 4])).real)
    return c


def test_known_limits_on_the_imaginary_axis():
    """Those of Runge-Kutta methods of order 3 and 4 with as many stages (Hairer & Wanner, IV.2)."""
    assert non_expansive_radius(3) == pytest.approx(math.sqrt(3))
    assert non_expansive_radius(4) == pytest.approx(math.sqrt(8))


def test_steps_beyond_the_radius_expand():
    f, limit = field("dense"), Exponential(4).step_limit(field("dense").claims())
    values = [np.linalg.norm(step_matrix(Exponential(4), f, c * limit), 2) for c in (0.999, 1.01)]
    assert values[0] <= 1 + 1e-13 and values[1] > 1.01


def test_roots_are_rounded_outwards():
    for square in (Fraction(1, 3), Fraction(2), Fraction(10) ** 40 + 1, Fraction(1, 10**200), Fraction(7, 10**90)):
        low, high = Fraction(root(square, 0.0)), Fraction(root(square, math.inf))
        assert low**2 < square < high**2 and high - low <= low / 2**51
    assert root(Fraction(25, 16), math.inf) == root(Fraction(25, 16), 0.0) == 1.25
    assert root(Fraction(10) ** 700, math.inf) == math.inf and root(Fraction(10) ** 700, 0.0) > 1e300


def test_absurd_steps_claim_nothing_false():
    f = field("dense")
    for h in (1e20, 1e300):
        stated = Exponential(12).transfer(f.claims(), h)
        assert stated.get(Expansive) is None
        assert stated.get(Lipschitz) is None or stated.get(Lipschitz).bound > h


# --- as layers ----------------------------------------------------------------------------------------------------


def test_a_flow_takes_the_steps_that_keep_the_series_non_expansive():
    for norm in (0.5, 2.5, 2.6, 9.0):
        flow = Flow(field("zero", norm), Exponential(), time=1.0).eval()
        radius = non_expansive_radius(12)
        assert flow.step_count == math.ceil(norm / radius) and flow.step_size * norm <= radius
        assert flow.claims().get(Lipschitz) == Lipschitz(1.0) and flow.claims().get(Expansive).bound > 0.99
    longest = Flow(field("dense"), Exponential(4), steps=1).eval()
    assert longest.step_size * 3 == pytest.approx(math.sqrt(8)) and longest.claims().get(Lipschitz) == Lipschitz(1.0)
    with pytest.raises(ClaimError, match="your own step"):
        Flow(field("dense"), Exponential(5), time=1.0)


def test_zero_weights_have_a_step():
    f = field("dense")
    for p in f.parameters():
        p.zero_()
    x = torch.randn(2, 7, dtype=torch.float64)
    for flow in (Flow(f, Exponential(), time=1.0), Flow(f, Exponential(), steps=2), Flow(f, Cayley(), time=1.0)):
        assert torch.equal(flow.train()(x), x) and torch.equal(flow.eval()(x), x)


def test_only_skew_maps_make_a_skew_field():
    with pytest.raises(TypeError, match="SkewLinear of a Dense"):
        SkewLinear(Dense(3, 3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Cayley integrates a SkewLinear"):
        Flow(ConvexGradient(Dense(3, 3)), Cayley(), h=1.0)
    for terms in (0, -1, 101):
        with pytest.raises(InputError, match="terms"):
            Exponential(terms)


def test_a_skew_field_with_weights_that_are_not_finite():
    f = field("dense")
    for p in f.parameters():
        p.fill_(math.inf)
    with pytest.raises(ClaimError):
        f.claims()


# --- the hybrid layer ---------------------------------------------------------------------------------------------


def hybrid(time: float, integrator=None) -> Hybrid:
    torch.manual_seed(0)
    gradient = ConvexGradient(Dense(7, 5), Tanh())
    gradient.linear.weight.data *= 1.5
    return Hybrid(gradient, SkewLinear(SkewDense(7)), integrator, time=time).double().eval().requires_grad_(False)


def test_a_hybrid_layer_is_a_gradient_step_and_a_rotation():
    layer, x = hybrid(0.2, Cayley()), torch.randn(3, 7, dtype=torch.float64)
    halfway = Euler().step(layer.gradient, x, 0.2)
    assert torch.equal(layer(x), Cayley().step(layer.skew, halfway, 0.2))
    assert [name for name, _ in leaves(layer)] == ["body.layers.0", "body.layers.1"]
    assert claims(layer) == layer.claims() and layer.claims().get(Lipschitz) == Lipschitz(1.0)


@pytest.mark.parametrize("integrator", [Cayley(), Exponential()], ids=str)
def test_hybrid_layers_converge_to_the_flow_of_the_sum(integrator):
    """Order one, against DOP853."""
    layer, start = hybrid(1.0), torch.randn(7, dtype=torch.float64)

    def right(t: float, y: np.ndarray) -> np.ndarray:
        x = torch.tensor(y)[None]
        return (layer.gradient(x) + layer.skew(x))[0].numpy()

    exact, errors = solve_ivp(right, (0, 1), start.numpy(), "DOP853", rtol=1e-12, atol=1e-12).y[:, -1], []
    for n in (16, 32, 64):
        short = Hybrid(layer.gradient, layer.skew, integrator, time=1 / n).eval()
        x: Tensor = start[None]
        for _ in range(n):
            x = short(x)
        errors.append(np.abs(x[0].numpy() - exact).max())
    assert np.log2(errors[1] / errors[2]) == pytest.approx(1, abs=0.15)


def test_euler_along_the_sum_expands():
    """Why the layer is hybrid: where the gradient vanishes, an Euler step of any length stretches every vector."""
    layer = hybrid(1.0)
    layer.gradient.linear.weight.zero_()
    x = torch.randn(4, 7, dtype=torch.float64)
    for h in (1e-2, 1.0):
        moved = x + h * (layer.gradient(x) + layer.skew(x))
        assert (moved.norm(dim=1) > x.norm(dim=1)).all()
        assert float(jacobian(layer, x).svd().S.max()) <= 1 + 1e-12


def test_a_hybrid_layer_stores_its_arguments_once():
    layer = hybrid(0.3, Exponential(4))
    twin = build(config(layer)).double().eval()
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(2, 7, dtype=torch.float64)
    assert torch.equal(twin(x), layer(x)) and all(key.startswith("body.") for key in layer.state_dict())
