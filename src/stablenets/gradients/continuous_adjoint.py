"""The adjoint equation of the sources, solved backwards in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import message
from ..integrators import EmbeddedRungeKutta, ExplicitRungeKutta, Integrator
from ..integrators.runge_kutta import combine
from .base import Backpropagation, Gradient, Trace
from .inputs import Inputs
from .moves import Advance, DenseMove


class ContinuousAdjoint(Gradient):
    """Differentiate first, then discretise: the lecture's a' = -(df/dx)^T a, backwards with x' = f(x, t) itself.

    dL/dx(t0) = a(t0), dL/dtheta = integral of (df/dtheta)^T a from t0 to tN, dL/dtN = a(tN) . f(x(tN), tN), dL/dt0 =
    -a(t0) . f(x(t0), t0); at an output, a jumps by its gradient (Chen et al. 2018). The integrator's own steps are
    used, backwards; states are stored at the outputs only.

    For teaching and comparison. The result is the gradient of the exact flow, up to an error of the integrator's order,
    and *not* the gradient of what was computed; and going back along a dissipative field is unstable.
    `DiscreteAdjoint` is exact, faster and nearly as small. It has no derivatives of its own.

    Raises:
        TypeError: for integrators that are not explicit Runge-Kutta methods, or have a step for every sample; with
            `create_graph=True`; under `torch.func` transforms.

    >>> from stablenets.gradients import Move
    >>> from stablenets.integrators import RK4
    >>> from stablenets.systems import HarmonicOscillator
    >>> x = torch.tensor([[1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    >>> y = ContinuousAdjoint().run([Move(RK4(), HarmonicOscillator(), 0.1)] * 10, x)
    >>> torch.autograd.grad(y.sum(), x)[0]
    tensor([[-0.3012,  1.3818]], dtype=torch.float64)
    """

    def check(self, integrator: Integrator[Any], name: str) -> None:
        explicit = isinstance(integrator, ExplicitRungeKutta)
        if not explicit or (isinstance(integrator, EmbeddedRungeKutta) and not integrator.joint):
            given = f"{name}: {type(integrator).__name__}" + (" with joint=False" if explicit else "")
            needed = "an explicit Runge-Kutta method with the same steps for all samples, for ContinuousAdjoint"
            raise TypeError(message(given, needed, "DiscreteAdjoint() takes all methods."))

    def trace(self, moves: Sequence[Advance], x: Tensor, known: Trace | None = None) -> tuple[Tensor, list[Tensor]]:
        for move in moves:
            self.check(move.integrator, move.name)
        if torch._C._are_functorch_transforms_active():
            raise TypeError(message("ContinuousAdjoint under a torch.func transform", "Backpropagation()"))
        inputs = Inputs(moves)
        end, *outputs = _Backwards.apply(inputs, known, x, *inputs.all)  # pyright: ignore[reportGeneralTypeIssues]
        return end, outputs


class _Backwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Inputs, known: Trace | None, x: Tensor, *weights: Tensor) -> Any:
        end, outputs = Backpropagation().trace(inputs.moves, x) if known is None else (known.end, known.outputs)
        ctx.inputs = inputs
        ctx.stored = [v.detach().clone() for v in (end, *outputs)]
        ctx.save_for_backward(*weights)
        return end.detach(), *(v.detach() for v in outputs)

    @staticmethod
    def backward(ctx: Any, a: Tensor, *of_outputs: Tensor) -> Any:
        if torch.is_grad_enabled():
            needed = "one without derivatives of the gradient"
            raise TypeError(message("ContinuousAdjoint with create_graph=True", needed, "Take Backpropagation()."))
        x, *outputs = ctx.stored
        jumps, sweep = list(of_outputs), _Adjoint(ctx.inputs, ctx.saved_tensors)
        for i in reversed(range(len(ctx.inputs.moves))):
            given = (outputs.pop(), jumps.pop()) if ctx.inputs.moves[i].gives_output() else None
            x, a = sweep.back(i, x, a, given)
        return None, None, a, *sweep.totals


class _Adjoint:
    """Takes x and a from the end of each step to its start, and adds up the other gradients."""

    def __init__(self, inputs: Inputs, weights: Sequence[Tensor]) -> None:
        self.inputs, self.weights = inputs, weights
        self.totals = [torch.zeros_like(w) for w in weights]

    def back(self, i: int, x: Tensor, a: Tensor, given: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """(x, a) before step `i` from those after it; `given` are its outputs and their gradients."""
        move, places = self.inputs.moves[i], self.inputs.of_move[i]
        rows: Tensor | None = None
        stops: list[Any] = []
        if isinstance(move, DenseMove):
            rows = move.rows
            if given is not None and move.offsets is not None:
                stops = list(zip(move.offsets.tolist(), given[0], given[1], strict=True))
        elif given is not None:
            x, a = given[0], a + given[1]
        y, b = (x, a) if rows is None else (x[rows], a[rows])
        t, now = float(move.t), float(move.t) + float(move.h)
        powers = {"h": self._power(move, y, b, now)} if places else {}
        of_stops = []
        for offset, value, jump in reversed(stops):
            b = self._step(move, y, b, now, t + offset - now)[1] + jump
            y, now = value, t + offset
            of_stops += [self._power(move, y, jump, now)] if places else []
        y, b = self._step(move, y, b, now, t - now)
        if places:
            powers["offsets"] = torch.stack(of_stops[::-1]) if of_stops else b.new_zeros(0)
            powers["t"] = powers["h"] + powers["offsets"].sum() - self._power(move, y, b, t)
        for name, j in places.items():
            self.totals[j] += powers[name]
        return (y, b) if rows is None else (x.index_copy(0, rows, y), a.index_copy(0, rows, b))

    def _power(self, move: Advance, x: Tensor, a: Tensor, t: float) -> Tensor:
        """a . f(x, t): what moving the time of an output or of an end is worth."""
        return (a * move.field(x, t)).sum().double()

    def _step(self, move: Advance, x: Tensor, a: Tensor, t: float, h: float) -> tuple[Tensor, Tensor]:
        """One step of size `h` of x' = f, a' = -(df/dx)^T a, theta' = -(df/dtheta)^T a."""
        if h == 0:
            return x, a
        method: Any = move.integrator
        own = self.inputs.of_field[move.field]
        weights = [self.weights[j] for j in own]
        of_x: list[Tensor] = []
        of_a: list[Tensor] = []
        for row, weight in zip(method.a, method.b, strict=True):
            with torch.enable_grad():
                y = combine(x, h, row, of_x).detach().requires_grad_()
                slope = move.field(y, t + h * sum(row))
                b = combine(a, -h, row, of_a)
                pulled = torch.autograd.grad(slope, [y, *weights], b, allow_unused=True)
            of_x.append(slope.detach())
            of_a.append(torch.zeros_like(y) if pulled[0] is None else pulled[0])
            for j, change in zip(own, pulled[1:], strict=True):
                if change is not None and weight:
                    self.totals[j].add_(change, alpha=-h * weight)
        return combine(x, h, method.b, of_x), combine(a, -h, method.b, of_a)
