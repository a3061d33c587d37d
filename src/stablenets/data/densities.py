"""Distributions on the plane to learn from, with their densities where these have a formula."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.errors import unknown_name


class Density(abc.ABC):
    """A distribution on the plane."""

    @abc.abstractmethod
    def sample(self, count: int, seed: int) -> np.ndarray:
        """Independent points (count, 2)."""

    def log_density(self, x: np.ndarray) -> np.ndarray | None:
        """log p at points (n, 2), in nats; None where it is not known."""
        return None

    def entropy(self) -> float | None:
        """-E log p in nats, to better than 1e-3; None where the density is not known."""
        return None


@dataclass(frozen=True)
class Ring(Density):
    """Equal normal distributions, centred at equal angles on a circle."""

    parts: int = 8
    radius: float = 2.0
    spread: float = 0.25

    @property
    def centres(self) -> np.ndarray:
        """(parts, 2)."""
        angle = 2 * math.pi * np.arange(self.parts) / self.parts
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], 1)

    def sample(self, count: int, seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        return self.centres[random.integers(self.parts, size=count)] + self.spread * random.standard_normal((count, 2))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        squares = ((x[:, None] - self.centres) ** 2).sum(2) / (2 * self.spread**2)
        terms = -squares - math.log(2 * math.pi * self.spread**2 * self.parts)
        return np.logaddexp.reduce(terms, axis=1)

    def entropy(self) -> float:
        """By the trapezoidal rule, which converges exponentially for a smooth density that vanishes at the border."""
        reach, cell = self.radius + 8 * self.spread, self.spread / 4
        line = np.arange(-reach, reach + cell, cell)
        grid = np.stack(np.meshgrid(line, line), 2).reshape(-1, 2)
        log = self.log_density(grid)
        return float(-(np.exp(log) * log).sum() * cell**2)


@dataclass(frozen=True)
class Checkerboard(Density):
    """The black squares of a board of 4 x 4 on [-2, 2]^2, uniformly."""

    def sample(self, count: int, seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        column = random.integers(4, size=count)
        row = 2 * random.integers(2, size=count) + column % 2
        return np.stack([column, row], 1) - 2 + random.random((count, 2))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        cell = np.floor(x + 2).astype(int)
        inside = ((cell >= 0) & (cell < 4)).all(1) & ((cell.sum(1) % 2) == 0)
        return np.where(inside, -math.log(8), -np.inf)

    def entropy(self) -> float:
        return math.log(8)


@dataclass(frozen=True)
class Curve(Density):
    """Points along a plane curve, with normal noise."""

    curve: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (numbers in [0, 1], signs) -> (count, 2)
    noise: float

    def sample(self, count: int, seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        points = self.curve(random.random(count), random.choice([-1.0, 1.0], size=count))
        return points + self.noise * random.standard_normal((count, 2))


def _moons(s: np.ndarray, sign: np.ndarray) -> np.ndarray:
    angle = math.pi * s
    return np.stack([np.cos(angle) - 0.5 * sign, sign * (0.5 - np.sin(angle)) * -1], 1)


def _spirals(s: np.ndarray, sign: np.ndarray) -> np.ndarray:
    angle = 3 * math.pi * np.sqrt(s)
    return (sign * angle / (1.5 * math.pi))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


DENSITIES: dict[str, Density] = {
    "eight-gaussians": Ring(),
    "checkerboard": Checkerboard(),
    "moons": Curve(_moons, 0.1),
    "spirals": Curve(_spirals, 0.08),
}


def density(name: str) -> Density:
    """The distribution of that name.

    Raises:
        InputError: there is none; the nearest names are given.

    >>> density("checkerboard").sample(3, seed=0).shape
    (3, 2)
    """
    if name not in DENSITIES:
        raise unknown_name("density", name, DENSITIES)
    return DENSITIES[name]
