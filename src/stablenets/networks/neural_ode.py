"""The Neural ODE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..fields import ConvexGradient, Field, FreeField, LeakyReLU
from ..fields.exact import exact_flow
from ..fields.examples import large
from ..gradients import Gradient
from ..integrators import RK4, Dopri5, EmbeddedRungeKutta, Euler, Integrator
from ..layers import AdaptiveFlow, Affine, Chain, Flow, Lift, NormalisedHead, claims
from ..linear import Conv2d, Dense
from .base import Network


class NeuralODE(Network):
    """head(y(T)) with y' = field(y, t), y(0) = lift(x) (lecture, appendix; Chen et al. 2018).

    The claims are composed from the three parts: the numerical flow has those that the integrator's theorem gives. On
    a convex-gradient field `RK4` and `Euler` take as many steps as non-expansiveness needs, for any time; then the
    network is no more expansive than lift and head, and `certify` proves its margins if they are affine.
    `exact_claims` is about the exact solution, which no tolerance limits.

    Args:
        lift: x -> y(0): `Affine(Dense(d, h))`, `nn.Linear`, `Lift`, a convolution, `nn.Sequential` of these.
        field: of dense or convolutional states.
        head: y(T) -> scores, for example `nn.Sequential(nn.Flatten(), NormalisedHead(h, classes))`.
        time: T, positive.
        integrator: any that accepts the field. By default `RK4()` where steps are given or its theorem gives them, and
            else `Dopri5()`.
        steps: how many; None takes the smallest number for which the integrator's theorem holds, and adaptive steps
            with `Bosh3`, `Dopri5`, `Tsit5`.
        gradient: how the flow is differentiated (default: backpropagation).
        input_shape: shape of one sample x; by default the one that `lift` or `field` states.

    Raises:
        TypeError: the integrator does not accept the field, or the gradient the integrator.
        ClaimError: `steps` is None, and the integrator can neither choose them nor has a theorem to take them from.
        InputError: the shapes of the parts do not fit, or that of a sample is not known.

    >>> from stablenets.core.properties import Lipschitz
    >>> field = ConvexGradient(Dense(8, 16))
    >>> net = NeuralODE(Lift(3, 8), field, NormalisedHead(8, 2), time=5.0, input_shape=(3,)).eval()
    >>> net(torch.zeros(4, 3)).shape, net.exact_claims().get(Lipschitz).bound <= 2**0.5 + 1e-9
    (torch.Size([4, 2]), True)
    """

    optional = ("gradient",)

    def __init__(
        self,
        lift: nn.Module,
        field: Field,
        head: nn.Module,
        *,
        time: float = 1.0,
        integrator: Integrator[Any] | None = None,
        steps: int | None = None,
        gradient: Gradient | None = None,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.time, self.steps = time, steps
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.image_shape = self.input_shape or _stated(lift) or field.state_shape or ()
        if not self.image_shape:
            given = f"the shape of a sample is not known from {type(lift).__name__} and {type(field).__name__}"
            raise InputError(message(given, "input_shape=(...)"))
        self.body = Chain(lift, _flow(field, integrator, time, steps, gradient), head)
        self.classes = self._scores()

    @torch.no_grad()
    def _scores(self) -> int:
        """The number of scores, found on one sample without solving anything."""
        weight = next((p for p in self.parameters() if p.is_floating_point()), torch.zeros(()))
        x, modes = weight.new_zeros(1, *self.image_shape), [(m, m.training) for m in self.modules()]
        for m, _ in modes:  # not .eval(), which would freeze steps; nor may a batch of one change statistics
            m.training = False
        try:
            y = self.lift(x)
            shape = self.field.state_shape
            if shape is not None and y.shape[1:] != shape:
                raise InputError(message(f"lift gives states of shape {tuple(y.shape[1:])}", f"{shape}, the field's"))
            scores = self.head(y)
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise InputError(
                message(f"samples of shape {self.image_shape} do not fit ({first})", "lift, field, head that do")
            ) from error
        finally:
            for m, mode in modes:
                m.training = mode
        if scores.dim() != 2:
            given = f"head gives outputs of shape {tuple(scores.shape)}"
            raise InputError(message(given, "(batch, scores)", "Put nn.Flatten() before the head."))
        return scores.shape[1]

    # the arguments, as `config` reads them back; they live in the body, once

    @property
    def lift(self) -> Any:
        """x -> y(0)."""
        return self._part(0)

    @property
    def flow(self) -> Any:
        """y(0) -> y(T), a `Flow` or an `AdaptiveFlow`."""
        return self._part(1)

    @property
    def field(self) -> Any:
        """y'."""
        return self.flow.field

    @property
    def head(self) -> Any:
        """y(T) -> scores."""
        return self._part(2)

    @property
    def integrator(self) -> Any:
        """The method."""
        return self.flow.integrator

    @property
    def gradient(self) -> Any:
        """How the flow is differentiated."""
        return self.flow.gradient

    def _part(self, i: int) -> Any:
        body: Any = self.body
        return body.layers[i]

    def claims(self) -> Claims:
        """What the network, with its present weights and numerical steps, is proved to satisfy.

        Raises:
            ClaimError: lift or head is a module about which nothing is known.
        """
        return claims(self)

    def exact_claims(self) -> Claims:
        """What it would satisfy with the exact solution in place of the numerical one.

        Raises:
            ClaimError: as `claims`.
        """
        flow = exact_flow(self.field.claims(), self.time)
        return claims(self.head).after(flow.after(claims(self.lift), "the flow"), "the head")

    @classmethod
    def examples(cls) -> Iterator[Self]:
        def head(features: int) -> nn.Module:
            return nn.Sequential(nn.Flatten(), NormalisedHead(features, 3))

        dense = large(ConvexGradient(Dense(5, 8), LeakyReLU(0.1)))
        yield cls(Affine(Dense(4, 5)), dense, NormalisedHead(5, 3), time=2.0)
        images = large(ConvexGradient(Conv2d(3, 4, 3, 4)))
        yield cls(Lift(1, 3), images, head(48), integrator=Euler(), input_shape=(1, 4, 4))
        free = FreeField(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)))
        yield cls(Affine(Conv2d(1, 3, 3, 4)), free, head(48), steps=4)
        yield cls(Lift(1, 3), free, head(48), integrator=Dopri5(1e-3, 1e-4, joint=False), input_shape=(1, 4, 4))


def _flow(
    field: Field, integrator: Integrator[Any] | None, time: float, steps: int | None, gradient: Gradient | None
) -> Flow | AdaptiveFlow:
    """The middle part: steps as given, else from a theorem, else adaptive."""
    if integrator is None:
        proved = steps is not None or RK4().step_limit(field.claims()) is not None
        integrator = RK4() if proved else Dopri5()
    if isinstance(integrator, EmbeddedRungeKutta) and steps is None:
        return AdaptiveFlow(field, integrator, time=time, gradient=gradient)
    return Flow(field, integrator, time=time, steps=steps, gradient=gradient)


def _stated(module: nn.Module) -> tuple[int, ...] | None:
    """The shape of a sample that a module states that it accepts."""
    if isinstance(module, nn.Sequential) and len(module):
        return _stated(module[0])
    if isinstance(module, nn.Linear):
        return (module.in_features,)
    return getattr(module, "input_shape", None)
