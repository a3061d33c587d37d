"""Balls that hold all deformations: against dense sampling by scipy, fields that attain them, and rounding."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

import small_runs
from stablenets.attack import ADef
from stablenets.certify import certify, deformation_radius
from stablenets.certify.deformation import _farthest, bound, middle
from stablenets.core.errors import InputError
from stablenets.data import load_data
from stablenets.layers import NormalisedHead, load
from stablenets.linear.deform import deform, size
from stablenets.testing.deformations import Worst, attack_pixels

RADII = [0.3, 0.97, 1.0, 1.3, math.sqrt(2), 1.7, math.hypot(1, 2), 3.1]


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sampled(x: Tensor, r: float, c: Tensor, angles: int = 2000, rings: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """For one image, by scipy: the largest |x(v) - c(u)| over many v in the disc, (height, width), and that v - u."""
    image, centre = x[0].numpy(), c[0].numpy()
    place = np.stack(np.meshgrid(*map(np.arange, image.shape[1:]), indexing="ij"))
    best, at = np.zeros(image.shape[1:]), np.zeros((*image.shape[1:], 2))
    shifts = [
        (radius * np.cos(a), radius * np.sin(a))
        for radius, count in [(r, angles), *((r * k / rings, angles // 10) for k in range(rings))]
        for a in np.arange(count) * 2 * math.pi / count
    ]
    reach = range(-math.floor(r), math.floor(r) + 1)
    shifts += [(float(i), float(j)) for i in reach for j in reach if math.hypot(i, j) <= r]
    for shift in shifts:
        where = place + np.array(shift)[:, None, None]
        values = np.stack([map_coordinates(channel, where, order=1, mode="nearest") for channel in image])
        distance = np.linalg.norm(values - centre, axis=0)
        better = distance > best
        best[better], at[better] = distance[better], shift
    return best, at


@pytest.mark.parametrize("r", RADII)
@pytest.mark.parametrize("pieces", [1, 2, 32])
def test_no_sample_is_outside_and_one_is_at_the_edge(r: float, pieces: int) -> None:
    for seed, around_x in ((0, True), (1, False)):
        x = noise(seed, 1, 2, 4, 5)
        c = x if around_x else noise(seed + 7, 1, 2, 4, 5)
        best, at = sampled(x, r, c, angles=720)
        lower, found = float(np.linalg.norm(best)), float(bound(x, r, centre=c, pieces=pieces))
        assert lower <= found
        every = _farthest(x, r, c, pieces)[0].numpy()
        assert (best <= every + 1e-12).all(), "of every pixel, not only in the sum"
        if pieces == 32:
            assert found <= 1.003 * lower
            attained = deform(x, torch.from_numpy(at)[None]) - c  # the field that takes the worst value everywhere
            assert float(size(torch.from_numpy(at)[None])) <= r * (1 + 1e-12)
            assert float(attained.norm()) == pytest.approx(lower, rel=1e-9)


def test_every_pixel_is_bounded_by_itself() -> None:
    """Images of one bright pixel or one step: the whole bound is that of a few pixels, and known exactly."""
    x = torch.zeros(3, 1, 7, 7, dtype=torch.float64)
    x[0, 0, 3, 3] = 1.0  # r <= 1/2: the pixel loses at most r by moving along the axes; but more diagonally
    x[1, 0, :, 3:] = 1.0
    x[2, 0, 0, 0] = 1.0  # in a corner: what is beyond the border is continued
    r = 0.5
    s = r / math.sqrt(2)
    lost, diagonal = 1 - (1 - s) ** 2, max((r * math.cos(a)) * (r * math.sin(a)) for a in np.linspace(0, 1.6, 10001))
    exact = [
        math.sqrt(lost**2 + 4 * r**2 + 4 * diagonal**2),
        math.sqrt(14 * r**2),
        math.sqrt(lost**2 + 2 * r**2 + diagonal**2),
    ]
    found = bound(x, r, pieces=300)
    assert found.tolist() == pytest.approx(exact, rel=5e-5)
    assert bool((found >= torch.tensor(exact) * (1 - 1e-9)).all())


def test_grows_with_the_radius_and_shrinks_with_the_pieces() -> None:
    x = noise(3, 4, 3, 6, 5)
    fine = [bound(x, r, pieces=100) for r in np.linspace(0, 3.3, 25)]
    assert all(bool((b >= a * (1 - 1e-3)).all()) for a, b in pairwise(fine))
    for r in (0.4, 1.6):
        coarse = [bound(x, r, pieces=p) for p in (1, 2, 4, 8, 16)]
        assert all(bool((b <= a).all()) for a, b in pairwise(coarse))
        assert bool((coarse[3] < 1.02 * bound(x, r, pieces=200)).all())
    radii = torch.tensor([0.1, 1.0, 1.41, 2.9], dtype=torch.float64)
    together = bound(x, radii)  # circles of different kinds in one batch
    alone = torch.cat([bound(x[i : i + 1], float(r)) for i, r in enumerate(radii)])
    assert torch.allclose(together, alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize("r", [0.97, 1.2, 1.7])
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1)])
def test_the_remainder_at_a_pixel_of_one_bright_one(r: float, corner: tuple[int, int]) -> None:
    """With a single piece the ends of an arc say little: what holds the bound up is the curvature."""
    x = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    x[0, 0, 3 + corner[0], 3 + corner[1]] = 1.0
    for c in (x, x - x[0, 0, 3, 3]):
        best, _ = sampled(x, r, c, angles=720)
        for pieces in (1, 3):
            assert (best <= _farthest(x, r, c, pieces)[0].numpy() + 1e-12).all()
    place = torch.arange(7, dtype=torch.float64)
    for down, across in ((1.0, 1.0), (1.0, 3.08), (3.08, 1.0)):  # the worst direction lies between two ends
        x = (down * place[:, None] + across * place).view(1, 1, 7, 7)
        assert float(_farthest(x, r, x, 1)[0, 3, 3]) >= math.hypot(down, across) * r


def test_rounding_upwards_is_allowed_for() -> None:
    """A step of height 1 at 1000, where float32 has steps of 6e-5: a shift by 0.6 of such a step rounds up to one."""
    x = torch.full((1, 1, 8, 8), 1000.0)
    x[..., 4:] = 1001.0
    r = 0.6 * 2.0**-14
    across = torch.zeros(1, 8, 8, 2, dtype=torch.float64)
    across[:, :, 3, 1], across[:, :, 4, 1] = r, -r
    changed = float((deform(x, across).double() - x.double()).norm())
    assert 1.5 * r * 4 < changed <= float(bound(x, r)) < 100 * changed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_of_the_deformed_image_is_allowed_for(dtype: torch.dtype) -> None:
    x = (1e3 + noise(5, 20, 1, 8, 8)).to(dtype)  # a step of the last place is large
    generator = torch.Generator().manual_seed(0)
    for r in (0.0, 1e-12, 1e-6, 1e-3):
        limit = bound(x, r)
        for _ in range(20):
            angle = 2 * math.pi * torch.rand(20, 8, 8, generator=generator, dtype=torch.float64)
            z = deform(x, r * torch.stack([angle.cos(), angle.sin()], 3))
            assert bool(((z.double() - x.double()).flatten(1).norm(dim=1) <= limit).all())
        assert bool((limit <= r * 30 + 1e5 * torch.finfo(dtype).eps + 1e-7).all())


def test_the_middle_is_the_best_centre() -> None:
    x = load_data("digits").x_test[:20]
    for r in (0.2, 1.1):
        c = middle(x, r, pieces=16)
        around_x, around_c = bound(x, r, pieces=64), bound(x, r, centre=c, pieces=64)
        assert float((around_c / around_x).mean()) < 0.75
        for seed in range(5):  # no other centre does better, up to the pieces of both
            other = c + 0.03 * (noise(seed, *x.shape) - 0.5)
            assert bool((around_c <= 1.001 * bound(x, r, centre=other, pieces=64)).all())


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return load(small_runs.finished().file("model.safetensors"))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nothing_breaks_inside_the_radius_in_pixels(network: nn.Module, dtype: str) -> None:
    data, proof = load_data("digits"), certify(network, dtype=dtype)  # type: ignore[arg-type]
    x, y = data.x_test[:60], data.y_test[:60]
    r = deformation_radius(proof, x)
    assert float((r > 0).double().mean()) > 0.5
    tried = attack_pixels(network, proof, x, r, steps=6, starts=2)
    assert tried.broken == 0 and tried.tried > 500
    found = ADef(limit=8.0).fields(network, x, y)
    wrong = found.size == 0
    assert bool((found.size > r)[~wrong].all()) and float((found.size < 8).double().mean()) > 0.9


def test_the_radius_in_pixels_fills_the_certified_ball(network: nn.Module) -> None:
    x, proof = load_data("digits").x_test[:40], certify(network)
    rho, r = proof.radius(x), deformation_radius(proof, x, limit=3.0)
    assert bool((r[rho == 0] == 0).all())
    x, r, rho = x[r > 0], r[r > 0], rho[r > 0]
    c = middle(x, r, pieces=4)
    around_x = bound(x, r, pieces=16) / rho
    around_c = bound(x, r, centre=c, pieces=16) / proof.radius(c)
    filled = torch.minimum(around_x, around_c)
    assert bool((filled < 1).all()) and float(filled.min()) > 0.97
    assert float((around_x > 1.2).double().mean()) > 0.5, "the middle should get further than x"
    assert bool((deformation_radius(proof, x, limit=0.01) <= 0.01).all())


def test_the_radius_is_nearly_true_for_the_worst_linear_classifier() -> None:
    """Its boundary touches the ball around the middle where a field of 0.4 pixels does: 3 % more breaks it."""
    x, r = load_data("digits").x_test[:1].double(), 0.4
    c = middle(x, r, pieces=200)
    best, at = sampled(x, r, c - 10.0, angles=360)  # the brightest value of every pixel
    edge = torch.from_numpy(best).view_as(x) - 10.0  # x^tau - c
    assert float(edge.norm()) == pytest.approx(float(bound(x, r, centre=c, pieces=100)), rel=1e-3)
    w = (edge / edge.norm()).flatten()
    head = NormalisedHead(64, 2)
    net = nn.Sequential(nn.Flatten(), head).double().eval()
    tie = w @ (c + 1.002 * edge).flatten()
    head.weight.data, head.bias.data = torch.stack([-w, w]), torch.stack([tie, -tie])
    proof = certify(net, input_shape=(1, 8, 8))
    proved = deformation_radius(proof, x, pieces=64)
    assert 0.975 * r < float(proved) < 1.01 * r
    beyond = attack_pixels(net, proof, x, torch.tensor([1.03 * r]), steps=10, starts=1)
    within = attack_pixels(net, proof, x, proved, steps=10, starts=3)
    assert beyond.broken > 0 and within.broken == 0 and within.nearest < 0.03
    assert not bool(certify(net, input_shape=(1, 8, 8)).logits(deform(x, torch.from_numpy(1.03 * at)[None]))[0, 0] > 0)


def test_an_attack_on_fields_stays_inside_and_finds_the_worst() -> None:
    x, r = noise(9, 3, 1, 6, 6), torch.tensor([0.2, 0.9, 1.4], dtype=torch.float64)
    direction = noise(10, 3, 1, 6, 6) - 0.5
    worst = Worst(x, r)
    for _ in range(30):
        worst.step(direction)
    assert bool((size(worst.tau) <= r).all())
    reached = ((deform(x, worst.tau) - x) * direction).flatten(1).sum(1)
    assert bool((reached > 0.5 * bound(x, r) * direction.flatten(1).norm(dim=1) / 3).all())


def test_bad_input() -> None:
    x = noise(0, 2, 1, 4, 4)
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(InputError, match="radii"):
            bound(x, bad)
    with pytest.raises(InputError, match="pieces=0"):
        bound(x, 0.1, pieces=0)
    for wrong in (x[0], x.long(), x.new_full((1, 1, 2, 2), math.nan)):
        with pytest.raises(InputError, match="images"):
            bound(wrong, 0.1)
    with pytest.raises(InputError, match="centre"):
        bound(x, 0.1, centre=x[:1])
    net = nn.Sequential(nn.Flatten(), NormalisedHead(16, 3)).eval()
    with pytest.raises(InputError, match="limit"):
        deformation_radius(certify(net, input_shape=(1, 4, 4)), x, limit=0.0)
    with pytest.raises(InputError, match="one for each"):
        deformation_radius(certify(net, input_shape=(1, 4, 4)), x, radius=torch.ones(3))
    assert bound(x[:0], 1.0).shape == deformation_radius(certify(net, input_shape=(1, 4, 4)), x[:0]).shape == (0,)
