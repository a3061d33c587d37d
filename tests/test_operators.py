"""Imaging operators: against scipy, scikit-image, explicit matrices and their singular values."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.ndimage
import torch

from stablenets.core.errors import InputError
from stablenets.core.linalg import conjugate_gradients
from stablenets.linear import (
    Blur,
    Composition,
    Dense,
    Downsample,
    LinearMap,
    Mask,
    Radon,
    Sum,
    blur,
    gaussian_kernel,
    motion_kernel,
)
from stablenets.linear.operator import absolute_perron_bound, explicit_bounds, perron_bound

SCIPY = {"circular": "wrap", "zero": "constant", "reflect": "mirror"}
UNEVEN = torch.tensor([[0.3, -1.0, 0.2, 0.7], [2.0, 0.1, 0.0, -0.4], [0.5, 0.6, -0.9, 1.1]], dtype=torch.float64)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def operators() -> list[LinearMap]:
    return [a for cls in (Blur, Mask, Downsample, Radon, Composition, Sum, Dense) for a in cls.examples()]


@pytest.mark.parametrize("padding", SCIPY)
@pytest.mark.parametrize(
    "kernel", [gaussian_kernel(0.9), motion_kernel(4.3, 25.0), UNEVEN], ids=["gauss", "motion", "even"]
)
def test_a_blur_is_scipys_convolution(padding: str, kernel: torch.Tensor):
    x = images(3, 9, 12)
    expected = np.stack(
        [[scipy.ndimage.convolve(c, kernel.numpy(), mode=SCIPY[padding]) for c in b] for b in x.numpy()]
    )
    assert np.abs(Blur(kernel, (3, 9, 12), padding)(x).numpy() - expected).max() <= 1e-13


@pytest.mark.parametrize("padding", SCIPY)
@pytest.mark.parametrize("sizes", [(6, 7), (7, 6), (9, 3), (1, 11), (8, 8)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("direct", [0, 10**6], ids=["transforms", "direct"])
def test_transforms_of_padded_images_are_the_explicit_matrix(padding, sizes, direct, monkeypatch):
    """And back by its transpose, for uneven kernels on grids that are larger than the padded image."""
    monkeypatch.setattr(blur, "DIRECT", direct)
    torch.manual_seed(0)
    a, x = Blur(torch.randn(*sizes, dtype=torch.float64), (1, 10, 13), padding), images(1, 10, 13)
    m = a.matrix()  # by direct convolution
    assert torch.allclose(a(x).flatten(1), x.flatten(1) @ m.mT, rtol=0, atol=1e-12)
    assert torch.allclose(a.adjoint(x).flatten(1), x.flatten(1) @ m, rtol=0, atol=1e-12)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_guess_of_the_perron_vector_changes_no_proof(wrong: bool):
    """Any guess gives an upper bound; a good one gives nearly the norm, with a single exact evaluation."""
    torch.manual_seed(0)
    m = torch.rand(12, 12, dtype=torch.float64) ** 3
    norm, calls = float(torch.linalg.matrix_norm(m, 2)), []

    def forward(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return x @ m.mT

    def guess(v: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(12) == 3, 1.0, -v) if wrong else v @ m.mT @ m

    bound = perron_bound(forward, lambda y: y @ m, (12,), (12, 12), m.device, guess)
    assert norm * (1 - 1e-14) <= bound and len(calls) == 1
    assert wrong or bound <= norm * (1 + 1e-6)


def test_the_fourier_blur_is_its_explicit_matrix():
    a, x = Blur(UNEVEN, (1, 7, 8)), images(1, 7, 8)
    m = a.matrix()  # by direct convolution
    for found, expected in (
        (a(x), x.flatten(1) @ m.mT),
        (a.adjoint(x), x.flatten(1) @ m),
        (a.normal(x), x.flatten(1) @ m.mT @ m),
        (
            a.solve_normal(x, 0.3),
            torch.linalg.solve(m.mT @ m + 0.3 * torch.eye(56, dtype=torch.float64), x.flatten(1).mT).mT,
        ),
    ):
        assert float((found.flatten(1) - expected).abs().max()) <= 1e-12


@pytest.mark.parametrize("a", operators(), ids=lambda a: type(a).__name__)
def test_both_bounds_enclose_the_singular_values_closely(a: LinearMap):
    a = a.double()
    sizes = torch.linalg.svdvals(a.matrix())
    least = float(sizes[-1]) if math.prod(a.output_shape) >= math.prod(a.input_shape) else 0.0
    assert float(sizes[0]) * (1 - 1e-14) <= a.norm_bound() <= 1.001 * float(sizes[0])
    assert a.lower_bound() <= least + 1e-14 * float(sizes[0])
    if isinstance(a, (Dense, Mask)) or (isinstance(a, Blur) and a.padding == "circular"):
        assert a.lower_bound() >= least - 1e-12 * float(sizes[0]), "and it is sharp"


@pytest.mark.parametrize("a", operators(), ids=lambda a: type(a).__name__)
def test_the_regularised_inverse(a: LinearMap):
    a, z = a.double(), images(*a.input_shape)
    m = a.matrix()
    expected = torch.linalg.solve(m.mT @ m + 0.2 * torch.eye(len(m.mT), dtype=torch.float64), z.flatten(1).mT).mT
    assert float((a.solve_normal(z, 0.2).detach().flatten(1) - expected).abs().max()) <= 1e-11
    assert float((a.normal(z) - a.adjoint(a(z))).detach().abs().max()) <= 1e-12


LARGE = [
    Blur(gaussian_kernel(1.6), (3, 48, 40)),
    Blur(gaussian_kernel(1.6), (1, 48, 40), "zero"),
    Blur(motion_kernel(9.0, 40.0), (1, 48, 40), "reflect"),
    Blur(UNEVEN, (1, 40, 44), "zero"),
    Radon((1, 28, 28), tuple(range(0, 180, 9))),
    Composition(Blur(gaussian_kernel(1.6), (1, 40, 40), "reflect"), Downsample((1, 40, 40), 2)),
    Sum(Blur(gaussian_kernel(1.6), (1, 40, 40)), Mask([[0.5] * 40] * 40, (1, 40, 40))),
]


@pytest.mark.parametrize("a", LARGE, ids=lambda a: type(a).__name__)
def test_bounds_too_large_for_an_svd_stay_above_a_long_power_iteration(a: LinearMap):
    estimate, bound = a.norm_estimate(300), a.norm_bound()
    assert estimate <= bound <= 1.03 * estimate, a.norm_theorem


def test_no_bound_is_computed_from_an_svd_there():
    assert not any("SVD" in a.norm_theorem for a in LARGE)


def test_the_perron_bound_of_maps_with_negative_entries_is_that_of_their_absolute_values():
    a = Blur(UNEVEN, (1, 6, 7), "zero")
    positive = float(torch.linalg.matrix_norm(a.matrix().abs(), 2))
    assert positive * (1 - 1e-14) <= absolute_perron_bound(a) <= 1.02 * positive


def test_the_bound_holds_where_fourier_transforms_round():
    """A kernel whose symbol is 1 everywhere: the bound must not be below 1, whatever the rounding."""
    for size in ((1, 31, 29), (1, 64, 64), (1, 37, 41)):
        for place in (0, 3, 8):
            kernel = torch.zeros(5, 5, dtype=torch.float64)
            kernel.view(-1)[place] = 1.0
            a = Blur(kernel, size)
            assert a.lower_bound() <= 1.0 <= a.norm_bound() <= 1 + 1e-11


def test_the_symbols_bounds_hold_in_higher_precision():
    """Extended precision has 11 bits more; alternating kernels have symbols that nearly cancel."""
    random, pi = np.random.default_rng(0), np.longdouble("3.14159265358979323846264338327950288")
    for _ in range(30):
        kernel = random.standard_normal((9, 9))
        kernel -= kernel.mean()  # the symbol at frequency 0 is nothing but rounding
        a = Blur(torch.from_numpy(kernel), (1, 24, 27))
        phases = [np.outer(np.arange(n), np.arange(9)) * (2 * pi / n) for n in (24, 27)]
        (c, s), (d, t) = ((np.cos(p), np.sin(p)) for p in phases)
        exact = kernel.astype(np.longdouble)
        sizes = np.hypot(c @ exact @ d.T - s @ exact @ t.T, c @ exact @ t.T + s @ exact @ d.T)
        assert a.lower_bound() <= sizes.min() and sizes.max() <= a.norm_bound() <= sizes.max() * (1 + 1e-11)


def test_explicit_bounds_of_a_wide_map_have_no_lower_one():
    assert explicit_bounds(Downsample((1, 4, 4), 2))[0] == 0.0


def test_explicit_bounds_hold_where_terms_cancel():
    maps = [Dense(1, 2).double(), Dense(2, 1).double()]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        first = torch.randn(2, 1, generator=generator, dtype=torch.float64)
        maps[0].weight.data, maps[1].weight.data = first, torch.stack([first[1], -first[0]], 1) * 0.1
        rows = zip(maps[1].weight[0].tolist(), first[:, 0].tolist(), strict=True)
        exact = abs(sum(Fraction(p) * Fraction(q) for p, q in rows))
        low, high = explicit_bounds(Composition(*maps))
        assert low <= exact <= high <= 1e-13


# --- Radon --------------------------------------------------------------------------------------------------------


def test_the_adjoint_of_radon_is_exact():
    a, x = Radon((2, 33, 33), tuple(np.linspace(0, 180, 31))), images(2, 33, 33)
    y = images(*a.output_shape, seed=1)
    left, right = (a(x) * y).sum((1, 2, 3)), (x * a.adjoint(y)).sum((1, 2, 3))
    assert float(((left - right).abs() / (a(x).flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1))).max()) <= 1e-14


def test_radon_of_a_gaussian_is_a_gaussian():
    n, sigma, (u, v) = 65, 5.0, (6.0, -9.0)  # to the right and up
    grid = torch.arange(n, dtype=torch.float64) - n // 2
    x = torch.exp(-((grid - u)[None, :].square() + (-grid - v)[:, None].square()) / (2 * sigma**2))
    a = Radon((1, n, n), (0.0, 35.0, 90.0, 135.0))
    s = torch.arange(a.detectors, dtype=torch.float64) - a.detectors // 2
    for row, angle in zip(a(x[None, None])[0, 0], a.angles, strict=True):
        centre = u * math.cos(math.radians(angle)) + v * math.sin(math.radians(angle))
        exact = sigma * math.sqrt(2 * math.pi) * torch.exp(-(s - centre).square() / (2 * sigma**2))
        assert float((row - exact).abs().max()) <= 0.01 * float(exact.max()), angle


# --- kernels, types, bad input ------------------------------------------------------------------------------------


def test_kernels_have_sum_one_and_the_right_moments():
    g, m = gaussian_kernel(2.0, 25), motion_kernel(10.0, 30.0)
    for kernel in (g, m, motion_kernel(0.4), motion_kernel(7.0, -117.0)):
        assert float(kernel.sum()) == pytest.approx(1.0, abs=1e-14) and float(kernel.min()) >= 0
        assert kernel.shape[0] % 2 == kernel.shape[1] % 2 == 1
    x = torch.arange(25, dtype=torch.float64) - 12
    assert float((g.sum(0) * x.square()).sum()) == pytest.approx(4.0, rel=1e-3)
    x = torch.arange(len(m), dtype=torch.float64) - len(m) // 2
    # a uniform distribution on a segment of length 10, and at most 1/4 from sharing pixels
    spread = float((m.sum(0) * x.square()).sum() + (m.sum(1) * x.square()).sum())
    assert 100 / 12 <= spread <= 100 / 12 + 0.5
    assert float((m * x[None] * -x[:, None]).sum()) > 0, "30 degrees point to the right and upwards"


def test_every_floating_point_type_is_taken_as_it_comes():
    for a in (Blur(gaussian_kernel(1.0), (1, 8, 8)), Mask([[1.0] * 8] * 8, (1, 8, 8)), Radon((1, 8, 8), (0.0,))):
        x = images(1, 8, 8)
        single = a(x.float())
        assert single.dtype == torch.float32 and float((single - a(x)).abs().max()) < 1e-5


def test_the_cached_transfer_function_follows_the_kernel():
    a, x = Blur(gaussian_kernel(1.0), (1, 8, 8)), images(1, 8, 8)
    before = a(x)
    a.weight.mul_(2)
    assert torch.allclose(a(x), 2 * before) and a(x.float()).dtype == torch.float32


def test_conjugate_gradients_of_samples_of_very_different_size():
    m = torch.diag(torch.logspace(-3, 3, 30, dtype=torch.float64))
    b = torch.randn(3, 30, dtype=torch.float64) * torch.tensor([[1e-8], [1.0], [1e8]])
    x = conjugate_gradients(lambda v: v @ m, b)
    assert float(((x @ m - b).norm(dim=1) / b.norm(dim=1)).max()) < 1e-12
    assert not conjugate_gradients(lambda v: v @ m, torch.zeros(2, 30, dtype=torch.float64)).any()


NAN = torch.full((3, 3), float("nan"))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Blur(gaussian_kernel(3.0), (1, 16, 40)), "kernel of 19 x 19 for images of 16 x 40"),
        (lambda: Blur(NAN, (1, 16, 40)), "NaN"),
        (lambda: Blur(torch.ones(3), (1, 8, 8)), "kernel of shape"),
        (lambda: Blur(torch.ones(3, 3), (1, 8, 8), "mirror"), "padding='mirror'"),
        (lambda: Blur(torch.ones(3, 3), (8, 8)), "channels, height, width"),
        (lambda: Blur(torch.ones(3, 3), (1, 8, 8))(torch.ones(1, 1, 8, 9)), r"\(batch, 1, 8, 8\)"),
        (lambda: Mask([[1.0, 0.0]], (1, 2, 2)), r"mask of shape \(1, 2\)"),
        (lambda: Mask(NAN, (1, 3, 3)), "NaN"),
        (lambda: Downsample((1, 8, 8), 0), "factor=0"),
        (lambda: Radon((1, 8, 9), (0.0,)), "square"),
        (lambda: Radon((1, 8, 8), ()), "angles"),
        (lambda: Composition(Downsample((1, 8, 8), 2), Mask([[1.0]], (1, 1, 1))), "output of one map"),
        (lambda: Sum(Dense(2, 3), Dense(3, 3)), "maps from"),
        (lambda: gaussian_kernel(1.0, 4), "odd"),
        (lambda: motion_kernel(-1.0), "length"),
        (lambda: motion_kernel(1e9), "up to 4096 pixels"),
        (lambda: gaussian_kernel(1e6), "at most 682"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(make, words: str):
    with pytest.raises(InputError, match=words):
        make()
