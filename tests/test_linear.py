"""Norms of linear maps: every bound is an upper bound, and a tight one, by every path."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stablenets.core.errors import ClaimError, InputError
from stablenets.linear import Conv2d, Dense, LinearMap, conv
from stablenets.linear.base import rescale_
from stablenets.linear.bounds import spectral_norm_bound


def true_norm(a: LinearMap) -> float:
    return float(np.linalg.svd(a.matrix().numpy(), compute_uv=False)[0])


def randomised(a: LinearMap, seed: int, scale: float = 1.0) -> LinearMap:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        a.weight.copy_(scale * torch.randn(a.weight.shape, generator=g))
    return a


@pytest.fixture(params=["explicit", "Fourier"])
def path(request, monkeypatch) -> str:
    """Both ways of bounding a convolution."""
    if request.param == "Fourier":
        monkeypatch.setattr(conv, "EXPLICIT_LIMIT", 0)
    return request.param


# in_channels, out_channels, kernel, image, padding
SHAPES = [
    (1, 1, 3, (5, 5), "zero"),
    (1, 1, 1, (1, 1), "zero"),
    (2, 3, 1, (4, 4), "zero"),
    (3, 2, 3, (4, 7), "zero"),
    (2, 2, 3, (7, 2), "zero"),
    (2, 2, 5, (6, 6), "zero"),
    (1, 4, 5, (5, 8), "zero"),
    (2, 2, 5, (3, 3), "zero"),  # the image is smaller than the kernel
    (1, 2, 7, (2, 1), "zero"),
    (1, 1, 5, (1, 6), "zero"),
    (2, 3, 3, (5, 5), "circular"),
    (3, 1, 3, (4, 6), "circular"),
    (2, 2, 5, (5, 7), "circular"),
    (1, 1, 3, (3, 3), "circular"),
    (2, 2, 1, (4, 4), "circular"),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conv_bounds_are_upper_bounds(shape, path):
    """Circular: equality. Zero padding by Fourier analysis: larger, by more the smaller the image is."""
    c_in, c_out, k, image, padding = shape
    for seed in range(5):
        a = randomised(Conv2d(c_in, c_out, k, image, padding), seed)
        true, bound = true_norm(a), a.norm_bound()
        assert bound >= true * (1 - 1e-15)
        if path == "explicit" or padding == "circular" or k == 1:
            assert bound <= true * (1 + 1e-11)
        elif min(image) > k:
            assert bound <= 1.6 * true


@pytest.mark.parametrize("n", [8, 16, 24])
def test_the_fourier_bound_tightens_with_the_image(n: int, monkeypatch):
    monkeypatch.setattr(conv, "EXPLICIT_LIMIT", 0)
    a = randomised(Conv2d(2, 2, 3, n), seed=n)
    assert true_norm(a) <= a.norm_bound() <= (1 + 3 / n) * true_norm(a)


@pytest.mark.parametrize("k, n", [(3, 3), (3, 5), (3, 8), (5, 4), (5, 8), (7, 9)])
def test_smooth_kernels_are_the_worst_case(k: int, n: int, path):
    """All ones: the norm comes within a few per cent of the kernel's sum, the symbol at frequency zero."""
    a = Conv2d(1, 1, k, n)
    a.weight.data.fill_(1.0)
    assert true_norm(a) <= a.norm_bound() <= k * k * (1 + 1e-11)


@pytest.mark.parametrize("k, n", [(3, 3), (3, 4), (5, 4), (5, 6)])
def test_no_kernel_can_be_trained_to_beat_the_bound(k: int, n: int, monkeypatch):
    """Adam on the ratio true / bound climbs to a whisker of 1 where it can, and never beyond."""
    monkeypatch.setattr(conv, "EXPLICIT_LIMIT", 0)
    a = Conv2d(1, 1, k, n).double()
    a.weight.data = torch.randn(1, 1, k, k, dtype=torch.float64)
    optimiser = torch.optim.Adam([a.weight], lr=0.1)
    best, first = 0.0, true_norm(a) / a.norm_bound()
    eye = torch.eye(n * n, dtype=torch.float64).reshape(-1, 1, n, n)
    for _ in range(60):
        ratio = torch.linalg.matrix_norm(a(eye).flatten(1), 2) / torch.linalg.matrix_norm(a._symbols()[0], 2).max()
        best = max(best, true_norm(a) / a.norm_bound())
        assert best <= 1
        optimiser.zero_grad()
        (-ratio).backward()
        optimiser.step()
    assert best > max(first, 0.6), "the attack must get somewhere"


@pytest.mark.parametrize("n", [3, 5, 7])
def test_the_image_grid_would_be_too_small(n: int, path):
    """Second differences have their largest symbol at the highest frequency, which no odd grid contains: on the grid
    n the circular norm is *smaller* than the norm, so that a bound on that grid would be refuted here."""
    a = second_differences(n)
    on_the_image = float(torch.fft.rfft2(a.weight.detach().double(), s=(n, n)).abs().max())
    assert on_the_image < 0.99 * true_norm(a)
    assert a.norm_bound() >= true_norm(a) * (1 - 1e-15)


@pytest.mark.parametrize("n", [2, 4, 6, 8])
def test_the_grid_cannot_be_smaller(n: int, path):
    """For even n the bound on the grid n + 1 is attained, by the same kernel."""
    a = second_differences(n)
    assert true_norm(a) * (1 - 1e-15) <= a.norm_bound() <= true_norm(a) * (1 + 1e-11)


def second_differences(n: int) -> Conv2d:
    a = Conv2d(1, 1, 3, n)
    row = torch.tensor([-1.0, 2.0, -1.0])
    a.weight.data[0, 0] = row[:, None] * row
    return a


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 5), (30, 12)])
def test_dense_bounds(shape):
    for seed in range(5):
        a = randomised(Dense(*shape), seed)
        assert true_norm(a) <= a.norm_bound() <= true_norm(a) * (1 + 1e-11)


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(0, 99),
    st.sampled_from([1e-8, 1.0, 1e8]),
)
def test_any_convolution(c_in, c_out, k, height, width, seed, scale):
    for padding in ("zero", "circular") if min(height, width) >= k else ("zero",):
        a = randomised(Conv2d(c_in, c_out, k, (height, width), padding), seed, scale)
        with pytest.MonkeyPatch.context() as patch:
            explicit = a.norm_bound()
            patch.setattr(conv, "EXPLICIT_LIMIT", 0)
            fourier = a.norm_bound()
        true = true_norm(a)
        assert true * (1 - 1e-15) <= explicit <= true * (1 + 1e-11)
        assert true * (1 - 1e-15) <= fourier
        x = torch.randn(2, c_in, height, width, dtype=torch.float64)
        y = torch.randn(2, c_out, height, width, dtype=torch.float64)
        a = a.double()
        left, right = (a(x) * y).sum(), (x * a.adjoint(y)).sum()
        assert abs(float(left - right)) <= 1e-12 * float(a(x).norm() * y.norm())


def test_known_norms():
    a = Conv2d(1, 1, 3, 6)
    a.weight.data.zero_()
    a.weight.data[0, 0, 1, 1] = -2.0
    assert a.norm_bound() == pytest.approx(2.0, rel=1e-12) and a.norm_bound() >= 2.0
    a.weight.data[0, 0, 1, 1] = 0.0
    a.weight.data[0, 0, 0, 1] = 1.0  # a shift that drops a row
    assert a.norm_bound() == pytest.approx(1.0, rel=1e-12) and a.norm_bound() >= 1.0
    d = Dense(2, 2)
    d.weight.data = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    assert d.norm_bound() == pytest.approx(5.0, rel=1e-12) and d.norm_bound() >= 5.0


@pytest.mark.parametrize("a", [Dense(3, 4), Conv2d(1, 2, 3, 4)], ids=repr)
def test_zero_weights(a, path):
    a.weight.data.zero_()
    assert 0 <= a.norm_bound() <= 1e-300
    assert a.norm_estimate() == 0.0
    assert torch.isfinite(a.singular_vector).all(), "the guess survives, for when the weights come back"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("make", [lambda: Dense(3, 4), lambda: Conv2d(1, 2, 3, 4)], ids=["Dense", "Conv2d"])
def test_weights_that_are_not_finite(make, value, path):
    a = make()
    a.weight.data.view(-1)[0] = value
    with pytest.raises(ClaimError, match="NaN or infinite"):
        a.norm_bound()
    assert a.norm_estimate() == math.inf
    assert torch.isfinite(a.singular_vector).all()


def test_the_bound_covers_its_rounding():
    """Entries known to 1e-3 only: the error is added."""
    m = torch.eye(3, dtype=torch.float64)
    assert spectral_norm_bound(m, entry_error=1e-3) >= 1.001
    assert spectral_norm_bound(torch.zeros(0, 3, dtype=torch.float64)) == 0.0
    assert spectral_norm_bound(torch.stack([m, 2 * m])) >= 2.0


@pytest.mark.parametrize("a", [Dense(6, 9), Dense(9, 6), Conv2d(2, 3, 3, 5), Conv2d(2, 2, 3, 5, "circular")], ids=repr)
def test_power_iteration_never_exceeds_the_norm_and_converges(a):
    a = randomised(a, seed=1).double()
    true, estimates = true_norm(a), [a.norm_estimate() for _ in range(60)]
    assert max(estimates) <= true * (1 + 1e-12)
    assert all(later >= earlier * (1 - 1e-12) for earlier, later in itertools.pairwise(estimates))
    assert estimates[-1] >= 0.99 * true, "warm-started: every call continues from the last one"


def test_power_iteration_uses_no_global_random_state():
    before = torch.random.get_rng_state()
    a = Dense(3, 5)
    consumed = torch.random.get_rng_state()
    a.norm_estimate(5)
    assert torch.equal(consumed, torch.random.get_rng_state()) and not torch.equal(before, consumed)
    assert torch.equal(Dense(3, 5).singular_vector, Dense(3, 7).singular_vector)


def test_fresh_weights_have_norm_near_one():
    """A fresh flow of time 1 then takes one step or two."""
    for a in (Dense(100, 200), Conv2d(16, 16, 3, 8)):
        assert 0.6 < a.norm_bound() < 1.5
    a = Dense(10, 20)
    rescale_(a.weight, a.norm_bound())
    assert a.norm_bound() == pytest.approx(1.0, rel=1e-6)


def test_bounds_are_computed_in_float64_whatever_the_weights():
    a = randomised(Dense(20, 20), seed=0)
    half = randomised(Dense(20, 20), seed=0).to(torch.bfloat16)
    rounded = half.weight.double()
    assert half.norm_bound() == pytest.approx(float(torch.linalg.matrix_norm(rounded, 2)), rel=1e-11)
    assert a.matrix().dtype == torch.float64


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((1, 1, 4, 8), "odd kernel size"),
        ((1, 1, 0, 8), "odd kernel size"),
        ((1, 1, -1, 8), "odd kernel size"),
        ((1, 1, 3, 8, "reflect"), "'zero' or 'circular'"),
        ((1, 1, 5, 4, "circular"), "image_size >= kernel_size"),
    ],
)
def test_error_texts(arguments, words):
    with pytest.raises(InputError, match=words):
        Conv2d(*arguments)


def test_theorems_name_the_path(path):
    assert "singular value" in Dense(2, 3).norm_theorem
    text = Conv2d(1, 1, 3, 4).norm_theorem
    assert ("explicit matrix" in text) == (path == "explicit")
    assert ("grid n + p" in text) == (path == "Fourier")
    assert path == "explicit" or "Sedghi" in Conv2d(1, 1, 3, 4, "circular").norm_theorem
