"""Field x integrator -> layer."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, Self

from torch import Tensor

from ..core.claims import Claims
from ..core.errors import ClaimError, InputError, message
from ..fields import ConvexGradient, Field, SeparableHamiltonian, Tanh
from ..fields.base import estimate
from ..gradients import Backpropagation, Gradient, Move, Reversible
from ..integrators import Euler, Integrator, StormerVerlet
from ..linear import Dense
from .base import Layer

MAX_STEPS = 10_000  # beyond this the weights have run away, and a layer would take seconds
SLACK = 1 + 1e-9
WARM_UP = 30  # power iterations before training starts (chapter 6: "many iterations")


class Flow(Layer):
    """`step_count` steps of size `step_size` along `field`.

    Give the step in one of four ways:

    - ``time=T``: the smallest number n of steps for which h = T/n obeys the integrator's step limit (chapter 6);
    - ``steps=n``: n steps of the largest size that the limit allows (the Convex Potential Layer's rule);
    - ``h=...`` with ``steps=n`` (default 1), or ``time=T, steps=n``: the user's own step; claims say what follows.

    In the first two the step follows the weights: in training mode from a warm-started estimate, one power iteration
    per call; leaving training mode freezes it from the rigorous upper bound, and evaluation computes no norm at all.

    `gradient` says how the steps are differentiated (default `Backpropagation`): `gradients.Reversible()` needs memory
    that does not grow with their number. It changes neither the map nor what is claimed.

    Raises:
        TypeError: when the integrator does not accept the field, or the gradient the integrator.
        ClaimError: when the step is to follow a limit and no theorem gives one.

    >>> layer = Flow(ConvexGradient(Dense(4, 8)), Euler(), time=1.0)
    >>> from stablenets.core.properties import Lipschitz
    >>> layer.claims().get(Lipschitz)
    Lipschitz(bound=1.0)
    """

    optional = ("gradient",)

    def __init__(
        self,
        field: Field,
        integrator: Integrator[Any],
        *,
        time: float | None = None,
        h: float | None = None,
        steps: int | None = None,
        gradient: Gradient | None = None,
    ) -> None:
        super().__init__()
        if gradient is not None:
            gradient.check(integrator, "Flow")
        if not isinstance(field, integrator.needs):
            raise TypeError(
                f"{type(integrator).__name__} integrates a {integrator.needs.__name__}, but got "
                f"{type(field).__name__}. Integrators that accept it: {', '.join(Integrator.accepting(field))}."
            )
        if (time is None and h is None and steps is None) or (time is not None and h is not None):
            raise InputError(
                message(f"Flow with time={time}, h={h}, steps={steps}", "time, or steps, or h (with steps)")
            )
        for name, value in (("time", time), ("h", h), ("steps", steps)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(message(f"Flow with {name}={value}", f"a positive, finite {name}"))
        self.field, self.integrator, self.time, self.h, self.steps = field, integrator, time, h, steps
        self.gradient = gradient
        self.step_size, self.step_count = 0.0, 1
        self.input_shape = field.state_shape
        for linear in field.linear_maps() if self.follows else ():
            linear.norm_estimate(WARM_UP)
        self._set(self._schedule(field.claims(estimate) if self.follows else Claims()))

    @property
    def follows(self) -> bool:
        """Whether the step follows the weights (otherwise it is the user's own)."""
        return self.h is None and (self.time is None or self.steps is None)

    def _schedule(self, field: Claims) -> tuple[Any, int]:
        """Step size and number of steps, given the field's claims; a tensor where the claims hold estimates."""
        if self.h is not None:
            return self.h, self.steps or 1
        if self.time is not None and self.steps is not None:
            return self.time / self.steps, self.steps
        limit = self.integrator.step_limit(field)
        if limit is None or (self.time is None and math.isinf(_number(limit))):
            raise ClaimError(
                message(
                    f"no theorem limits the step of {type(self.integrator).__name__} on {type(self.field).__name__}",
                    "your own step",
                    "Give h=..., or time=... together with steps=...",
                )
            )
        if self.time is None:
            return limit, self.steps or 1
        limit = _number(limit)
        if not self.time / limit <= MAX_STEPS:
            raise ClaimError(
                message(
                    f"the step limit has fallen to {limit:.3g}: time {self.time:g} would need over {MAX_STEPS} steps",
                    "smaller weights",
                    "Lower the learning rate, or raise the weight decay.",
                )
            )
        count = max(1, math.ceil(self.time / limit))
        while self.time / count > limit:  # the division above rounds
            count += 1
        return self.time / count, count

    def _set(self, schedule: tuple[Any, int]) -> None:
        self.step_size, self.step_count = _number(schedule[0]), schedule[1]

    def freeze(self) -> None:
        """Take the step from the rigorous upper bound of the present weights.

        A little shorter: the last digits of a bound differ from machine to machine, and with the layout of the weights
        in memory, and `certify` computes it afresh.
        """
        self._set(self._schedule(self.field.claims(lambda a: a.norm_bound() * SLACK) if self.follows else Claims()))

    def train(self, mode: bool = True) -> Self:
        """Leaving training mode freezes the step from the upper bound: no network is evaluated with another."""
        if self.training and not mode:
            self.freeze()
        return super().train(mode)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return (self.gradient or Backpropagation()).run(self.moves(x, t), x)

    def moves(self, x: Tensor, t: float = 0.0, name: str = "Flow") -> list[Move]:
        """The steps that are taken from the states `x` at time `t`."""
        if self.field.state_shape is not None and x.shape[1:] != self.field.state_shape:
            expected = ", ".join(map(str, self.field.state_shape))
            raise InputError(message(f"a batch of shape {tuple(x.shape)}", f"(batch, {expected})"))
        h: Any = self.step_size
        if self.training and self.follows:
            schedule = self._schedule(self.field.claims(estimate))
            self._set(schedule)
            h = schedule[0]  # with its gradient
        return [Move(self.integrator, self.field, h, t + i * self.step_size, name) for i in range(self.step_count)]

    def claims(self) -> Claims:
        """Claims of all steps together, with the frozen step (in training mode: the step that freezing would take)."""
        field = self.field.claims()
        h, count = self._schedule(field) if self.training else (self.step_size, self.step_count)
        one = self.integrator.transfer(field, h)
        return functools.reduce(lambda first, later: later.after(first), [one] * count)

    def get_extra_state(self) -> dict[str, float]:
        return {"step_size": self.step_size, "step_count": self.step_count}

    def set_extra_state(self, state: dict[str, float]) -> None:
        size, count = float(state["step_size"]), int(state["step_count"])
        if not (0 < size < math.inf and count >= 1):
            raise InputError(
                message(f"{count} steps of {size}", "a positive number of steps of a positive, finite size")
            )
        self._set((size, count))

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for field in ConvexGradient.examples():
            yield cls(field, Euler(), time=1.0)
        yield cls(next(ConvexGradient.examples()), Euler(), steps=3)
        yield cls(next(SeparableHamiltonian.examples()), StormerVerlet(), h=0.3, steps=4)
        yield cls(next(SeparableHamiltonian.examples()), StormerVerlet(), h=0.3, steps=4, gradient=Reversible())
        yield cls(SeparableHamiltonian(*[ConvexGradient(Dense(2, 4), Tanh()) for _ in range(2)]), Euler(), h=0.1)


def _number(value: Any) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else value
