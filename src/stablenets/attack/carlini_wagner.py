"""Carlini and Wagner's l2 attack."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from ..core.errors import InputError, message
from .ball import per_sample
from .base import positive
from .minimal import MinimalAttack, Nearest
from .victim import Victim

BETAS = (0.9, 0.999)  # of Adam
CHECKS = 10  # how often a search looks whether it still gets on
LEAST = 20  # steps between two looks: Adam swings, so that a loss rises now and then
PROGRESS = 0.9999  # the loss has to fall by this factor between two looks
INTERIOR = 0.999999  # tanh reaches the box's ends at infinity only


class CarliniWagner(MinimalAttack):
    """Adam on |x' - x|^2 + c max(0, -m(x')) with x' = tanh(w), which keeps the box (Carlini & Wagner 2017, section VI).

    m is the margin. For each sample c is searched: times 10 until the sample is broken, then bisection between the
    largest c that failed and the smallest that did not. The nearest point of all searches is kept. A sample whose loss
    no longer falls leaves the search.

    Args:
        steps: steps of Adam for each c.
        searches: how many c are tried for each sample.
        step_size: of Adam.
        first: the first c.
        box, seed, batch_size: see `Attack`; the box must be bounded.

    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> net.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> found = CarliniWagner(200, box=(-1.0, 1.0)).run(net, torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
    >>> round(float(found.distance), 2)
    0.5
    """

    def __init__(
        self,
        steps: int = 1000,
        searches: int = 9,
        *,
        step_size: float = 0.01,
        first: float = 1e-3,
        box: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        batch_size: int = 500,
    ) -> None:
        super().__init__(box=box, seed=seed, batch_size=batch_size)
        self.steps, self.searches, self.step_size, self.first = steps, searches, step_size, first
        positive(steps=steps, searches=searches)
        for name, value in (("step_size", step_size), ("first", first)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(message(f"{name}={value}", "a positive, finite number"))
        if not all(map(math.isfinite, self.box)):
            raise InputError(message(f"box={self.box}", "a bounded box, which tanh can fill"))

    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        best = Nearest(x)
        weight = torch.full((len(x),), self.first, dtype=torch.float64, device=x.device)
        low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        for _ in range(self.searches):
            success = self._descend(victim, x, y, weight, best)
            high, low = torch.where(success, weight, high), torch.where(success, low, weight)
            weight = torch.where(high.isfinite(), (low + high) / 2, 10 * weight)
        return best.points

    def _descend(self, victim: Victim, x: Tensor, y: Tensor, weight: Tensor, best: Nearest) -> Tensor:
        """One search with the given c (batch,), offered to `best`; returns which samples it broke."""
        broke = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        rows = torch.arange(len(x), device=x.device)
        w = self._to_line(x)
        centre, y_left, c = self._to_box(w), y, weight
        first, second = torch.zeros_like(w), torch.zeros_like(w)
        before = torch.full_like(weight, torch.inf)
        for k in range(1, self.steps + 1):
            z = self._to_box(w)
            m, gradient = victim.ascent(z, y_left)
            broke[rows] |= best.offer(rows, z, m)
            d = z - centre
            if (k - 1) % max(math.ceil(self.steps / CHECKS), LEAST) == 0:
                loss = d.flatten(1).double().square().sum(1) + c * (-m).clamp(min=0)
                on = loss <= PROGRESS * before[rows]
                before[rows] = loss
                if not bool(on.all()):
                    rows, w, y_left, c, centre = rows[on], w[on], y_left[on], c[on], centre[on]
                    first, second, m, d, gradient = first[on], second[on], m[on], d[on], gradient[on]
                    if len(rows) == 0:
                        break
            pull = torch.where(m < 0, c, 0.0).to(d.dtype)
            slope = (2 * d - per_sample(pull, d) * gradient) * self._slope(w)
            first = BETAS[0] * first + (1 - BETAS[0]) * slope
            second = BETAS[1] * second + (1 - BETAS[1]) * slope.square()
            mean, spread = first / (1 - BETAS[0] ** k), second / (1 - BETAS[1] ** k)
            w = w - self.step_size * mean / (spread.sqrt() + 1e-8)
        return broke

    def _to_line(self, x: Tensor) -> Tensor:
        low, high = self.box
        return (INTERIOR * (2 * (x - low) / (high - low) - 1)).atanh()

    def _to_box(self, w: Tensor) -> Tensor:
        low, high = self.box
        return (low + (high - low) * (w.tanh() + 1) / 2).clamp(low, high)

    def _slope(self, w: Tensor) -> Tensor:
        return (self.box[1] - self.box[0]) / 2 * (1 - w.tanh().square())

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(20, 3)
