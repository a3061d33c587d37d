"""Proximal maps against their definition, and noise against its moments."""

from __future__ import annotations

import math

import pytest
import torch

from stablenets.core.errors import InputError
from stablenets.data import gaussian_noise, poisson_noise, uniform_noise
from stablenets.layers import Box, HaarThreshold, Layer, Proximal, SoftThreshold, TotalVariation
from stablenets.layers.wavelet import analyse, synthesise

MAPS = [SoftThreshold(0.4), Box(-0.3, 0.8), HaarThreshold(0.5, levels=2), TotalVariation(0.2, tolerance=1e-7)]


def images(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_proximal_map_is_tried():
    registered = {c for c in Layer.registry.values() if issubclass(c, Proximal)}
    assert {type(m) for m in MAPS} == {c for c in registered if c.__module__.startswith("stablenets.layers")}


@pytest.mark.parametrize("prox", MAPS, ids=lambda m: type(m).__name__)
def test_it_minimises(prox: Proximal):
    """|x - z|^2 / 2 + g(z) is 1-strongly convex: any other z is worse by |z - prox(x)|^2 / 2 at least."""
    x = images()
    best = prox(x)

    def value(z: torch.Tensor) -> torch.Tensor:
        return (x - z).square().flatten(1).sum(1) / 2 + prox.penalty(z)

    assert torch.isfinite(value(best)).all()
    for seed, size in ((1, 1e-3), (2, 0.1), (3, 1.0)):
        other = best + size * images(seed=seed)
        if isinstance(prox, Box):
            other = prox(other)
        excess = value(other) - value(best) - (other - best).square().flatten(1).sum(1) / 2
        assert float(excess.min()) >= -1e-12


def test_the_haar_transform_is_orthogonal_and_inverted():
    x, y = images(2), images(2, 5)
    means, details = analyse(x)
    assert torch.allclose(synthesise(means, details), x, atol=1e-14)
    other = analyse(y)
    inner = (means * other[0]).sum() + (details * other[1]).sum()
    assert float(inner) == pytest.approx(float((x * y).sum()), rel=1e-12)
    flat = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    assert not analyse(flat)[1].any() and float(analyse(flat)[0].max()) == 2.0


def test_images_of_any_size_are_thresholded():
    x = images()[..., :7, :5]
    assert HaarThreshold(0.1, levels=3)(x).shape == x.shape
    assert torch.allclose(HaarThreshold(1e-12, levels=3)(x), x, atol=1e-10)


def test_noise_has_its_moments_and_depends_on_its_seed_alone():
    x = torch.full((200_000,), 0.4, dtype=torch.float64)
    for noisy, variance in (
        (lambda seed: gaussian_noise(x, 0.3, seed=seed), 0.09),
        (lambda seed: uniform_noise(x, 0.3, seed=seed), 0.03),
        (lambda seed: poisson_noise(x, 25.0, seed=seed), 0.4 / 25),
    ):
        before = torch.random.get_rng_state()
        y = noisy(7)
        assert torch.equal(before, torch.random.get_rng_state()) and torch.equal(y, noisy(7))
        assert not torch.equal(y, noisy(8))
        assert float(y.mean()) == pytest.approx(0.4, abs=5 * math.sqrt(variance / len(x)))
        assert float(y.var()) == pytest.approx(variance, rel=0.02)


def test_bad_noise_is_refused():
    with pytest.raises(InputError, match="sigma=-1"):
        gaussian_noise(torch.zeros(2), -1.0, seed=0)
    with pytest.raises(InputError, match="Clamp"):
        poisson_noise(torch.tensor([-0.1]), 10.0, seed=0)
