"""Total variation: the proximal map and its gap, deblurring with it, and firm denoisers for ADMM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stablenets.core.errors import ClaimError, InputError
from stablenets.core.properties import Averaged
from stablenets.inverse import ADMM, FISTA, ForwardBackward, Guarantee, Problem, solve
from stablenets.layers import Box, Chain, Relaxed, SoftThreshold, TotalVariation, claims, firm
from stablenets.layers.total_variation import SPREAD, differences, divergence, gap
from stablenets.linear import Blur, Mask, gaussian_kernel
from stablenets.networks import EulerDenoiser
from stablenets.studies.deblur import total_variation


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_divergence_is_minus_the_adjoint_and_the_norm_is_below_its_bound():
    x, p = images(2, 3, 6, 5), torch.stack([images(2, 3, 6, 5, seed=s) for s in (1, 2)])
    assert float((differences(x) * p).sum()) == pytest.approx(-float((x * divergence(p)).sum()), rel=1e-12)
    eye = torch.eye(63, dtype=torch.float64).view(63, 1, 9, 7)
    matrix = differences(eye).transpose(0, 1).flatten(1)
    norm = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    assert 0.9 * SPREAD < norm < SPREAD


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_minimiser_that_scikit_image_finds(channels: int):
    """(An independent implementation of Chambolle's method; its colours are coupled as here.)"""
    peer = pytest.importorskip("skimage.restoration").denoise_tv_chambolle
    x = images(1, channels, 17, 13)
    if channels == 1:
        found = peer(x[0, 0].numpy(), weight=0.1, eps=1e-13, max_num_iter=50_000)[None]
        assert np.abs(TotalVariation(0.1, tolerance=1e-7)(x)[0].numpy() - found).max() < 2e-5
    else:
        grey = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)  # equal channels: sqrt(3) times the variation of one
        found = peer(grey[0, 0].numpy(), weight=0.1 / math.sqrt(3), eps=1e-13, max_num_iter=50_000)
        assert np.abs(TotalVariation(0.1, tolerance=1e-7)(grey)[0].numpy() - found).max() < 2e-5


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4])
def test_the_tolerance_is_kept_and_not_by_far_more_than_asked(tolerance: float):
    x = images(3, 1, 20, 24) * torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64).view(3, 1, 1, 1)
    exact, found = TotalVariation(0.2, tolerance=1e-7)(x), TotalVariation(0.2, tolerance=tolerance)(x)
    away = (found - exact).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
    assert float(away.max()) <= tolerance
    assert float(away.max()) >= tolerance / 1000, "sharp enough that a gap too small would be noticed"


def test_the_gap_bounds_the_square_of_the_distance():
    """And is attained: for one difference, G and the square differ by rounding at p = 0 and at the end alone."""
    y = torch.tensor([[[[1.0, 0.0]]]], dtype=torch.float64)
    exact = TotalVariation(0.3, tolerance=1e-7)(y)
    assert torch.allclose(exact, torch.tensor([[[[0.7, 0.3]]]], dtype=torch.float64), atol=1e-12)
    for share in (0.0, 0.5, 0.9, 0.99):
        p = torch.zeros(2, *y.shape, dtype=torch.float64)
        p[1, ..., 0] = -0.3 * share
        x = y + divergence(p)
        excess, away = float(gap(x, p, 0.3)), float((x - exact).square().sum())
        assert away <= excess + 1e-15


def test_a_gap_that_rounds_to_nothing_confirms_nothing(monkeypatch):
    """For this image, weight |d| - <p, d> adds up to nothing in floats 7e-11 |x| away from the minimiser."""
    monkeypatch.setattr("stablenets.layers.total_variation.MOST", 2000)
    x = images(1, 1, 4, 4, seed=11)
    for tolerance in (1e-9, 1e-14):
        with pytest.raises(ClaimError, match="larger tolerance"):
            TotalVariation(0.05, tolerance=tolerance)(x)
    p = torch.full((2, 1, 1, 4, 4), 0.05 / math.sqrt(2), dtype=torch.float64) * differences(x).sign()
    assert float(gap(x, p, 0.05)) > 0


def test_the_exact_map_is_firm_and_the_computed_one_within_the_tolerance():
    loose, x, y = TotalVariation(0.3, tolerance=1e-2), images(20, 1, 8, 8), images(20, 1, 8, 8, seed=1)
    y = x + 0.05 * (y - x)
    tight = TotalVariation(0.3, tolerance=1e-7)
    assert float(Averaged(0.5).violation(tight, x, y).max()) < 1e-9
    sizes = (x.flatten(1).norm(dim=1) + y.flatten(1).norm(dim=1)) * 1e-2
    grown = (loose(x) - loose(y)).flatten(1).norm(dim=1) - (x - y).flatten(1).norm(dim=1)
    assert float((grown - sizes).max()) <= 0
    assert float(Averaged(0.4).violation(tight, x, y).max()) > 1e-3, "no smaller alpha"


def test_float32_has_the_same_values():
    x = images(2, 1, 9, 9)
    prox = TotalVariation(0.1, tolerance=1e-6)
    assert prox(x.float()).dtype == torch.float32
    assert float((prox(x.float()).double() - prox(x)).norm()) < 1e-5


def test_constant_and_black_images_stay():
    for value in (0.0, 0.7):
        x = torch.full((1, 1, 5, 4), value, dtype=torch.float64)
        assert torch.equal(TotalVariation(0.1)(x), x)


def test_its_derivative_is_that_of_the_map():
    x, v = images(1, 1, 5, 6), images(1, 1, 5, 6, seed=1)
    prox = TotalVariation(0.05, tolerance=1e-6)
    forward = (prox(x + 1e-5 * v) - prox(x - 1e-5 * v)) / 2e-5
    start = x.clone().requires_grad_()
    (prox(start) * v).sum().backward()
    assert start.grad is not None and torch.allclose(start.grad, forward, atol=1e-2), "the Jacobian is symmetric"


def test_what_it_refuses(monkeypatch):
    for options in ({"weight": 0.0}, {"weight": math.inf}, {"weight": 1.0, "tolerance": 0.0}):
        with pytest.raises(InputError, match="positive, finite numbers"):
            TotalVariation(**options)
    with pytest.raises(InputError, match="batch, channels"):
        TotalVariation(1.0)(torch.zeros(3, 3))
    with pytest.raises(ClaimError, match="finite images"):
        TotalVariation(1.0)(torch.full((1, 1, 3, 3), math.nan))
    monkeypatch.setattr("stablenets.layers.total_variation.MOST", 300)
    with pytest.raises(ClaimError, match="larger tolerance"):
        TotalVariation(0.3, tolerance=1e-14)(images(1, 1, 8, 8))


# --- in `solve` ---------------------------------------------------------------------------------------------------


def blurred(side: int = 16) -> tuple[Tensor, Problem]:
    true = torch.zeros(1, 1, side, side, dtype=torch.float64)
    true[..., side // 4 : side // 2, 3:-3] = 1.0
    blur = Blur(gaussian_kernel(1.0), true.shape[1:])
    return true, Problem(blur, blur(true) + 0.01 * (images(*true.shape) - 0.5))


def test_three_methods_deblur_to_the_same_minimum():
    """FISTA and ADMM with the proximal map, and the study's primal-dual method, which never calls it."""
    _, problem = blurred(12)
    weight, tight = 0.002, {"tolerance": 1e-4}
    reference = total_variation(problem, weight, 2000)
    fista = solve(problem, TotalVariation(weight, **tight), solver=FISTA(), iterations=100)
    admm = solve(problem, TotalVariation(weight * 30, **tight), solver=ADMM(30.0), iterations=50)

    def value(x: Tensor) -> float:
        return float(problem.value(x) + TotalVariation(weight).penalty(x))

    assert value(fista.x) == pytest.approx(value(reference), rel=2e-3)
    assert value(admm.x) == pytest.approx(value(reference), rel=2e-3)
    assert fista.certificate.guarantee is Guarantee.OBJECTIVE
    assert "the exact denoiser: computed values are within 0.0001" in fista.certificate.theorem


def test_the_distance_holds_the_tolerance_of_the_inner_iteration():
    a = Mask(torch.linspace(0.5, 2.0, 36).view(6, 6), (1, 6, 6))
    problem = Problem(a, images(2, 1, 6, 6))
    exact = solve(problem, TotalVariation(0.1, tolerance=1e-6), tolerance=1e-9)
    for tolerance in (1e-2, 1e-4):
        found = solve(problem, TotalVariation(0.1, tolerance=tolerance), tolerance=0.0, iterations=60)
        away = (found.x - exact.x).flatten(1).norm(dim=1)
        assert found.distance is not None and (away <= found.distance).all()
        assert float(found.distance.max()) < 200 * tolerance, "16 = 1 / (1 - rate), and |x|"
        boxed = solve(problem, Chain(TotalVariation(0.1, tolerance=tolerance), Box(0.0, 1.0)), iterations=20)
        assert "an iteration inside it ends within" in boxed.certificate.theorem, "not: the whole denoiser"
        assert boxed.distance is None and "give denoiser_error" in boxed.certificate.rounding
        given = solve(problem, Chain(TotalVariation(0.1), Box(0.0, 1.0)), iterations=20, denoiser_error=1e-3)
        assert given.distance is not None


def test_it_converges_with_a_box_on_an_ill_posed_problem():
    true, problem = blurred()
    solution = solve(problem, Chain(TotalVariation(0.002), Box(0.0, 1.0)), solver=ForwardBackward(1.0), iterations=60)
    assert solution.certificate.alpha is not None and solution.certificate.alpha < 0.81
    assert float((solution.x - true).norm()) < 0.6 * float((problem.data - true).norm())


# --- firm denoisers -----------------------------------------------------------------------------------------------


def test_firm_relaxes_as_little_as_is_needed():
    body = next(EulerDenoiser.examples())
    for step in body.anchored_steps():
        step.tau_logit.data += 2.0  # long steps
    net = body.at(0.3)
    alpha = net.claims().get(Averaged).alpha
    found = firm(net)
    assert alpha > 0.5 and isinstance(found, Relaxed) and found.t == pytest.approx(0.5 / alpha)
    assert 0.5 - 1e-12 < claims(found).get(Averaged).alpha <= 0.5
    assert firm(found) is found and isinstance(firm(SoftThreshold(1.0)), SoftThreshold)
    wide = torch.nn.Linear(2, 2)
    wide.weight.data = 3 * torch.eye(2)
    with pytest.raises(ClaimError, match="1-Lipschitz"):
        firm(wide)


def test_admm_with_a_firm_denoiser_has_the_fixed_points_of_forward_backward():
    net = firm(next(EulerDenoiser.examples()).double().at(0.3))
    a = Mask(torch.linspace(0.5, 1.0, 81).view(9, 9), (1, 9, 9))
    problem = Problem(a, images(1, 1, 9, 9))
    found = [solve(problem, net, solver=s, iterations=5000, tolerance=1e-13) for s in (ADMM(0.7), ForwardBackward(0.7))]
    assert torch.allclose(found[0].x, found[1].x, atol=1e-9)
    assert found[0].certificate.alpha == 0.5 and found[0].growth < 1


def test_the_derivative_along_nothing_is_nothing_in_float32_too():
    x = torch.rand(1, 1, 4, 3, requires_grad=True)
    for start, v in ((x, torch.zeros(1, 1, 4, 3)), (torch.zeros_like(x, requires_grad=True), torch.ones(1, 1, 4, 3))):
        (found,) = torch.autograd.grad(TotalVariation(0.05)(start), start, v)
        assert torch.allclose(found, v, atol=1e-3)
