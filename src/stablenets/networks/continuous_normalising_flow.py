"""Densities as images of a normal distribution under the flow of a field."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..fields import Field, TimedField, WithDivergence
from ..fields.exact import exact_flow
from ..fields.examples import large
from ..gradients import Gradient
from ..integrators import RK4, EmbeddedRungeKutta, Integrator
from ..layers import Layer
from ..solvers import integrate

LOG_2PI = math.log(2 * math.pi)


class ContinuousNormalisingFlow(Layer):
    """x = phi(z) with z standard normal and phi the flow of `field` from time 0 to 1 (lecture, appendix).

    log p(x) = log N(phi^-1(x)) - int_0^1 div f(phi_s(z), s) ds, both by one solve backwards in time (Chen et al. 2018).
    Called as a layer it is phi. It is trained by maximum likelihood, or much faster by `flow_matching_loss`.

    Args:
        field: on states of the shape `shape`; `TimedField.perceptron(d, width)` is one.
        integrator: of both directions (default `RK4()`); `Bosh3`, `Dopri5`, `Tsit5` take adaptive steps.
        steps: how many, for the others.
        shape: of one sample (default: the one that `field` states).
        probes: None for the exact divergence (d derivatives), else the number of Hutchinson's estimates.
        gradient: how solves are differentiated (default: backpropagation).

    Raises:
        InputError: the shape is not known, or samples of another shape are given.
        IntegrationError: a sample cannot be solved with adaptive steps (`log_likelihood` is NaN there).

    >>> flow = ContinuousNormalisingFlow(TimedField.perceptron(2, 16), shape=(2,))
    >>> flow.log_likelihood(flow.sample(5)).shape
    torch.Size([5])
    """

    optional = ("gradient",)

    def __init__(
        self,
        field: Field,
        integrator: Integrator[Any] | None = None,
        *,
        steps: int = 20,
        shape: tuple[int, ...] | None = None,
        probes: int | None = None,
        gradient: Gradient | None = None,
    ) -> None:
        super().__init__()
        self.field, self.integrator, self.gradient = field, integrator or RK4(), gradient
        self.shape, self.steps, self.probes = None if shape is None else tuple(shape), steps, probes
        self._with_divergence(0)  # checks the arguments
        if steps < 1:
            raise InputError(message(f"steps={steps}", "at least 1"))
        self.input_shape = self.shape or field.state_shape
        self.entries = math.prod(self.input_shape or ())

    def _with_divergence(self, seed: int) -> WithDivergence:
        return WithDivergence(self.field, shape=self.shape, probes=self.probes, seed=seed)

    def forward(self, z: Tensor) -> Tensor:
        """phi(z), shaped like `z` (batch, *shape)."""
        return self._solve(self.field, self._checked(z), [0.0, 1.0])[-1]

    def inverse(self, x: Tensor) -> Tensor:
        """phi^-1(x), by solving backwards in time: exact up to the error of the solves."""
        return self._solve(self.field, self._checked(x), [1.0, 0.0])[-1]

    def path(self, z: Tensor, times: int = 11) -> Tensor:
        """States (times, batch, *shape) on the way from z to phi(z), evenly spaced, of at least two times."""
        if times < 2:
            raise InputError(message(f"times={times}", "at least 2, the first and the last"))
        return self._solve(self.field, self._checked(z), [i / (times - 1) for i in range(times)])

    def transport(self, z: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """phi(z), and log |det D phi(z)| (batch,)."""
        state = self._lifted(z)
        end = self._solve(self._with_divergence(seed), state, [0.0, 1.0])[-1]
        return end[:, :-1].view_as(z), end[:, -1]

    def log_likelihood(self, x: Tensor, *, seed: int = 0) -> Tensor:
        """log p(x), (batch,), in nats, NaN for a sample that cannot be solved.

        `seed` is that of Hutchinson's signs, fixed during the solve.
        """
        state = self._lifted(x)
        end = self._solve(self._with_divergence(seed), state, [1.0, 0.0], strict=False)[-1]
        return -0.5 * end[:, :-1].square().sum(1) - 0.5 * self.entries * LOG_2PI + end[:, -1]

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 0) -> Tensor:
        """Independent samples (count, *shape); a function of `seed` alone."""
        like = next((p for p in self.parameters() if p.is_floating_point()), torch.zeros(()))
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(count, *(self.input_shape or ()), generator=generator, dtype=torch.float64)
        return self(z.to(like))

    def _solve(self, field: Field, x: Tensor, times: list[float], *, strict: bool = True) -> Tensor:
        adaptive = isinstance(self.integrator, EmbeddedRungeKutta)
        steps = None if adaptive else max(1, round(self.steps / (len(times) - 1)))
        return integrate(
            field, x, times, integrator=self.integrator, steps=steps, gradient=self.gradient,
            raise_on_failure=adaptive and strict,
        ).states  # fmt: skip

    def _lifted(self, x: Tensor) -> Tensor:
        flat = self._checked(x).flatten(1)
        return torch.cat([flat, flat.new_zeros(len(flat), 1)], 1)

    def _checked(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.input_shape:
            raise InputError(message(f"a batch of shape {tuple(x.shape)}", f"(batch, *{self.input_shape})"))
        return x

    def claims(self) -> Claims:
        """Nothing is proved about a numerical solve: see `exact_claims`."""
        return Claims()

    def exact_claims(self) -> Claims:
        """What the exact flow satisfies: of a field with a Lipschitz constant, that it is invertible."""
        return exact_flow(self.field.claims(), 1.0)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(large(TimedField.perceptron(2, 6), 1.0), steps=6, shape=(2,))
        yield cls(large(TimedField.perceptron(3, 6, 1), 1.0), steps=4, shape=(3,), probes=2)


def flow_matching_loss(field: Field, x: Tensor, generator: torch.Generator) -> Tensor:
    """The mean square of f(x_t, t) - (x - z) over the batch, x_t = (1 - t) z + t x, with random z and t.

    Its minimiser over all fields is the field whose flow takes the normal distribution to that of `x`, along straight
    lines of (z, x) pairs in the mean: no equation is solved in training. The t are stratified, one in each of `batch`
    intervals, which lowers the variance.

    Reference: Lipman, Chen, Ben-Hamu, Nickel & Le (2023), Flow matching for generative modelling, (22)-(23) with
    sigma_min = 0.
    """
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    strata = (torch.randperm(len(x), generator=generator) + torch.rand(len(x), generator=generator)) / len(x)
    t = strata.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
    return (field((1 - t) * z + t * x, t) - (x - z)).square().mean()
