"""Noise for simulated measurements, each a function of its seed and of nothing else."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.errors import InputError, message


def gaussian_noise(x: Tensor, sigma: float, *, seed: int) -> Tensor:
    """x plus independent normal numbers of standard deviation `sigma`.

    >>> round(float((gaussian_noise(torch.zeros(10_000), 0.5, seed=0)).std()), 1)
    0.5
    """
    return x + _positive("sigma", sigma) * torch.randn(x.shape, generator=_seeded(seed), dtype=torch.float64).to(x)


def uniform_noise(x: Tensor, width: float, *, seed: int) -> Tensor:
    """x plus independent uniform numbers in [-width, width].

    >>> float(uniform_noise(torch.zeros(10_000), 0.5, seed=0).abs().max()) <= 0.5
    True
    """
    spread = 2 * torch.rand(x.shape, generator=_seeded(seed), dtype=torch.float64) - 1
    return x + _positive("width", width) * spread.to(x)


def poisson_noise(x: Tensor, peak: float, *, seed: int) -> Tensor:
    """Counts of photons, divided by `peak`: Poisson(peak x) / peak, with mean x and variance x / peak.

    Args:
        x: no negative entries.
        peak: photons that the value 1 stands for; the fewer, the noisier.

    >>> float(poisson_noise(torch.ones(10_000), 100.0, seed=0).var() * 100).__round__()
    1
    """
    if bool((x < 0).any()) or not bool(torch.isfinite(x).all()):
        raise InputError(message("negative or infinite intensities", "finite values >= 0", "Clamp the image first."))
    rates = x.detach().double().cpu() * _positive("peak", peak)
    return (torch.poisson(rates, generator=_seeded(seed)) / peak).to(x)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise InputError(message(f"{name}={value}", "a positive, finite number"))
    return value
