"""A field and the integral of its divergence: what continuous normalising flows solve."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..linear import Dense
from .activations import Tanh
from .base import Field, Norm, upper_bound
from .examples import large
from .gradient import ConvexGradient


class WithDivergence(Field):
    """(x, l)' = (f(x, t), div f(x, t)) on states (batch, d + 1): l grows by log |det| of the flow's derivative.

    By Liouville's formula, d/dt log det D phi_t(x) = tr Df(phi_t(x), t) (lecture, appendix; Chen et al. 2018).

    The trace is exact, by d forward derivatives, or Hutchinson's estimate, the mean over `probes` of e^T Df e with
    random signs e: unbiased, at the cost of one derivative each. The signs are a function of `seed` and of the place in
    the batch alone, so they stay the same during a solve, which is the solve of one deterministic equation (Grathwohl
    et al. 2019). Draw another seed for the next one. With steps of its own for every sample the batch, and so the
    places, would change during the solve: that is refused.

    Args:
        field: f on states of the shape `shape`.
        shape: of one sample, which is flattened in the states (default: the shape that `field` states).
        probes: None for the exact trace.
        seed: of the signs.

    Raises:
        InputError: the shape is not known, or there are no probes; when called, probes and a time for every sample.

    >>> WithDivergence(ConvexGradient(Dense(2, 3)))(torch.zeros(5, 3)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, field: Field, *, shape: tuple[int, ...] | None = None, probes: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        if shape is None and field.state_shape is None:
            raise InputError(message(f"{type(field).__name__} states no shape", "shape=(...)"))
        if probes is not None and probes < 1:
            raise InputError(message(f"probes={probes}", "at least 1, or None for the exact trace"))
        self.field, self.shape, self.probes, self.seed = field, shape, probes, seed
        self.sample_shape: tuple[int, ...] = tuple(shape or field.state_shape or ())
        self.state_shape = (math.prod(self.sample_shape) + 1,)

    def forward(self, x: Tensor, t: Any = 0.0) -> Tensor:
        state = x[:, :-1]
        if self.probes is not None and isinstance(t, Tensor) and t.dim():  # places change as samples are done
            todo = "Take one step size for all samples (joint=True), or the exact trace."
            raise InputError(message("Hutchinson's estimate with a time for every sample", "one time for all", todo))
        time = t.reshape(-1, *[1] * len(self.sample_shape)) if isinstance(t, Tensor) and t.dim() else t

        def f(y: Tensor) -> Tensor:
            return self.field(y.view(-1, *self.sample_shape), time).flatten(1)

        directions = self._directions(state)

        def along(v: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = torch.func.jvp(f, (state,), (v,))  # pyright: ignore[reportAssignmentType]
            return value, (slope * v).sum(1)

        if len(directions) == 1:
            value, trace = along(directions[0])
            return torch.cat([value, trace.unsqueeze(1)], 1)
        values, traces = torch.func.vmap(along)(directions)
        total = traces.sum(0) if self.probes is None else traces.mean(0)
        return torch.cat([values[0], total.unsqueeze(1)], 1)

    def _directions(self, x: Tensor) -> Tensor:
        """(directions, batch, d): the unit vectors, or random signs."""
        if self.probes is None:
            return torch.eye(x.shape[1], dtype=x.dtype, device=x.device).unsqueeze(1).expand(-1, len(x), -1)
        generator = torch.Generator().manual_seed(self.seed)
        signs = torch.randint(2, (len(x), self.probes, x.shape[1]), generator=generator, dtype=torch.int8)
        return (2 * signs - 1).transpose(0, 1).to(x.dtype).to(x.device)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(large(ConvexGradient(Dense(3, 5), Tanh())))
