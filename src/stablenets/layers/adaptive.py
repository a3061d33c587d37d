"""A flow whose integrator chooses its steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..fields import Field, FreeField
from ..fields.examples import large
from ..gradients import Gradient
from ..integrators import Bosh3, Dopri5, EmbeddedRungeKutta
from ..solvers import integrate
from ..systems import SIR
from .base import Layer


class AdaptiveFlow(Layer):
    """x(0) -> x(time) along `field`, to the tolerances of an integrator that estimates its errors.

    Only linear invariants are proved to be kept: with steps that depend on the state, nothing follows about distances.
    For more take a `Flow`, whose steps a theorem chooses.

    Args:
        integrator: `Bosh3`, `Dopri5` or `Tsit5`, with its tolerances (default `Dopri5()`).
        time: positive.
        gradient: how the solve is differentiated (default `Backpropagation`).

    Raises:
        InputError: for a time that is not positive.
        IntegrationError: in the forward pass, when a sample cannot be solved.

    >>> import torch
    >>> from stablenets.systems import HarmonicOscillator
    >>> AdaptiveFlow(HarmonicOscillator(), time=2 * math.pi)(torch.tensor([[1.0, 0.0]])).round(decimals=3).abs()
    tensor([[1., 0.]])
    """

    optional = ("gradient",)

    def __init__(
        self,
        field: Field,
        integrator: EmbeddedRungeKutta | None = None,
        *,
        time: float = 1.0,
        gradient: Gradient | None = None,
    ) -> None:
        super().__init__()
        if not (math.isfinite(time) and time > 0):
            raise InputError(message(f"AdaptiveFlow with time={time}", "a positive, finite time"))
        self.field, self.integrator, self.time, self.gradient = field, integrator or Dopri5(), time, gradient
        if gradient is not None:
            gradient.check(self.integrator, "AdaptiveFlow")
        self.input_shape = field.state_shape

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        found = integrate(
            self.field, x, [t, t + self.time],
            integrator=self.integrator, gradient=self.gradient, raise_on_failure=True,
        )  # fmt: skip
        return found.states[-1]

    def claims(self) -> Claims:
        return self.integrator.adaptive_claims(self.field.claims())

    @classmethod
    def examples(cls) -> Iterator[Self]:
        free = FreeField(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4)))
        yield cls(large(free), Dopri5(joint=False))
        yield cls(SIR(), Bosh3(1e-3, 1e-5, joint=False), time=2.0)
