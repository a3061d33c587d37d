"""Gradients of solves: every solver x gradient mode against central differences, in x0, the weights and all times."""

from __future__ import annotations

import abc
import copy
import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

import stablenets as sn
from stablenets.core.claims import Claims
from stablenets.core.component import build, config
from stablenets.core.errors import InputError
from stablenets.fields import ConvexGradient, Coupling, Field, FreeField
from stablenets.fields.base import Norm, upper_bound
from stablenets.fields.examples import large
from stablenets.gradients import (
    Backpropagation,
    Checkpointed,
    ContinuousAdjoint,
    DiscreteAdjoint,
    Gradient,
    Reversible,
)
from stablenets.integrators import (
    RK4,
    Bosh3,
    Dopri5,
    EmbeddedRungeKutta,
    Euler,
    Heun,
    ImplicitMidpoint,
    Integrator,
    StormerVerlet,
    Tsit5,
)
from stablenets.layers import Flow
from stablenets.linear import Dense
from stablenets.solvers.clock import Clock
from stablenets.solvers.joint import solve_jointly
from stablenets.solvers.separate import solve_separately

STORING = [Backpropagation(), Checkpointed(2), DiscreteAdjoint(1), DiscreteAdjoint()]
TIMES = [0.1, 0.1, 0.5, 0.9, 0.9, 1.7]


class Net(Field, abc.ABC):
    """A network of the state and of a time that may be a tensor. ABC: not registered."""

    state_shape = (2,)

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width + 1, 6), nn.Tanh(), nn.Linear(6, width)).double()
        for p in self.parameters():
            p.data *= 2

    def forward(self, x: Tensor, t: Any = 0.0) -> Tensor:
        time = torch.sin(2 * torch.as_tensor(t, dtype=x.dtype))
        return self.net(torch.cat([x, time.expand(len(x), 1)], 1))

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()


class Half(Net, abc.ABC):
    """The same on half a state."""

    state_shape = (1,)


def coupling() -> Coupling:
    return Coupling(Half(1), Half(1))


def problem(f: Field, times: list[float] = TIMES) -> tuple[Tensor, Tensor, Tensor]:
    """Initial states, times, and the weights of a loss that sees all states."""
    x0 = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(times, dtype=torch.float64, requires_grad=True)
    return x0, t, torch.randn(len(times), 3, 2, dtype=torch.float64)


def loss(states: Tensor, w: Tensor) -> Tensor:
    return (w * states).sin().sum()


def check_differences(f: Field, value: Callable[[], Tensor], found: list[Tensor], leaves: list[Tensor]) -> None:
    """Along random directions in each of the leaves: x0, the times (each time by itself), and all weights together."""
    eps = 1e-5
    x0, t, *weights = leaves
    directions: list[list[tuple[Tensor, Tensor]]] = [[(x0, torch.randn_like(x0))]]
    directions += [[(t, d)] for d in torch.eye(len(t), dtype=t.dtype)]
    directions.append([(p, torch.randn_like(p)) for p in weights])
    gradients = dict(zip(map(id, leaves), found, strict=True))
    scale = torch.cat([g.flatten() for g in found]).norm()
    for direction in directions:
        ends = []
        with torch.no_grad():
            for sign in (1, -2, 1):
                for leaf, d in direction:
                    leaf.data += sign * eps * d
                ends.append(value())
        expected = (ends[0] - ends[1]) / (2 * eps)
        slope = sum(float((gradients[id(leaf)] * d).sum()) for leaf, d in direction)
        assert abs(slope - float(expected)) <= 1e-8 * float(scale), f"{slope} for {float(expected)}"
    assert all(float(g.abs().max()) > 1e-3 for g in found[:2]), "a gradient worth the name"


# --- every solver x mode against central differences --------------------------------------------------------------

FIXED: list[tuple[Integrator[Any], Callable[[], Field], dict[str, Any]]] = [
    (Euler(), Net, {"steps": 3}),
    (Heun(), Net, {"h": 0.07}),
    (RK4(), Net, {"steps": 2}),
    (Tsit5(), Net, {"h": 0.2}),
    (ImplicitMidpoint(), Net, {"steps": 2}),
    (StormerVerlet(), coupling, {"h": 0.15}),
]


@pytest.mark.parametrize("integrator, make, sizes", FIXED, ids=[type(c[0]).__name__ for c in FIXED])
def test_a_time_that_occurs_twice_has_a_derivative(
    integrator: Integrator[Any], make: Callable[[], Field], sizes: dict[str, Any]
):
    """The state at the later of two equal times changes with that time by f."""
    f = make().double()
    x0, *_ = problem(f, TIMES)
    t = torch.tensor([0.0, 0.4, 0.4], dtype=torch.float64, requires_grad=True)
    states = sn.integrate(f, x0, t, integrator=integrator, **sizes).states
    (found,) = torch.autograd.grad(states[2].sum(), t, retain_graph=True)
    torch.testing.assert_close(found[2], f(states[1], 0.4).sum(), rtol=1e-6, atol=1e-6)
    assert torch.equal(states[1], states[2])


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("integrator, make, sizes", FIXED, ids=[type(c[0]).__name__ for c in FIXED])
def test_fixed_steps(integrator: Integrator[Any], make: Callable[[], Field], sizes: dict[str, Any], backwards: bool):
    f = make().double()
    x0, t, w = problem(f, TIMES[::-1] if backwards else TIMES)
    leaves = [x0, t, *f.parameters()]
    if type(integrator) is Heun:  # its number of steps must not change with the times
        sizes = {"h": 0.0701}

    def value(gradient: Gradient | None = None) -> Tensor:
        return loss(sn.integrate(f, x0, t, integrator=integrator, gradient=gradient, **sizes).states, w)

    modes: list[Gradient] = [*STORING, *([Reversible(2)] if integrator.exact_inverse else [])]
    first = list(torch.autograd.grad(value(), leaves))
    pairs_equal = [i for i in range(len(TIMES) - 1) if t[i] == t[i + 1]]
    assert pairs_equal, "the same time occurs twice"
    with torch.no_grad():  # differences need an order of the times that stays
        t += 1e-3 * (-1 if backwards else 1) * torch.arange(len(t))
    expected = list(torch.autograd.grad(value(), leaves))
    check_differences(f, value, expected, leaves)
    for gradient in modes:
        for a, b in zip(torch.autograd.grad(value(gradient), leaves), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert all(v.isfinite().all() for v in first)


def ends_of(move: Any) -> list[float]:
    """When the step ends, for all samples or for each."""
    return torch.as_tensor(move.t + move.h, dtype=torch.float64).flatten().tolist()


def frozen(method: EmbeddedRungeKutta, f: Field, x0: Tensor, times: Tensor, ends: list[list[float]]) -> Tensor:
    """The solve with the accepted ends of steps held fixed, but for the first and the last, from the formulas alone."""
    found = []
    for sample, inner in enumerate(ends):
        x = x0[sample : sample + 1]
        values: dict[int, Tensor] = {0: x}
        marks = [times[0], *(torch.tensor(e, dtype=x.dtype) for e in inner), times[-1]]
        for start, end in itertools.pairwise(marks):
            h, k = end - start, []
            for row in (*method.a, method.b):
                y = x + h * sum((c * v for c, v in zip(row, k, strict=False)), start=torch.zeros_like(x))
                k.append(f(y, start + h * sum(row)))
            forward = 1.0 if times[-1] > times[0] else -1.0
            for i in range(1, len(times)):
                if i not in values and forward * float(times[i] - end) <= 1e-9:
                    theta = (times[i] - start) / h
                    powers = [theta ** (m + 1) for m in range(len(method.dense[0]))]
                    b = [sum(c * p for c, p in zip(row, powers, strict=True)) for row in method.dense]
                    values[i] = x + h * sum((c * v for c, v in zip(b, k, strict=True)), start=torch.zeros_like(x))
            x = y
        found.append(torch.cat([values[i] for i in range(len(times))]))
    return torch.stack(found, 1)


@pytest.mark.parametrize("joint", [True, False], ids=["joint", "separate"])
@pytest.mark.parametrize("cls", [Bosh3, Dopri5, Tsit5])
def test_adaptive_steps(cls: type[EmbeddedRungeKutta], joint: bool):
    """Of the function that was computed: ends of steps are constants, but for t0 and tN. One time is such an end."""
    f, method = Net(), cls(1e-4, 1e-4, joint=joint)
    x0, t, w = problem(f)
    with torch.no_grad():
        solve: Any = solve_jointly if joint else solve_separately
        record = solve(method, f, x0, Clock(TIMES))
        t[2] = next(end for move in record.moves for end in ends_of(move) if 0.3 < end < 0.89)
    leaves = [x0, t, *f.parameters()]
    ends: list[list[float]] = [[] for _ in range(3)]
    for move in record.moves:
        rows = range(3) if move.rows is None else move.rows.tolist()
        for i, row in enumerate(rows):
            moved = ends_of(move)
            ends[row].append(moved[i if len(moved) > 1 else 0])
    ends = [e[:-1] for e in ends]
    assert min(map(len, ends)) >= 2 and float(t[2]) in [e for sample in ends for e in sample]

    def solved(gradient: Gradient) -> Tensor:
        found = sn.integrate(f, x0, t, integrator=method, gradient=gradient)
        assert found.done.all()
        return found.states

    torch.testing.assert_close(frozen(method, f, x0, t, ends), solved(STORING[0]), rtol=1e-12, atol=1e-12)
    expected = list(torch.autograd.grad(loss(frozen(method, f, x0, t, ends), w), leaves))
    check_differences(f, lambda: loss(frozen(method, f, x0, t, ends), w), expected, leaves)
    for gradient in STORING:
        for a, b in zip(torch.autograd.grad(loss(solved(gradient), w), leaves), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("cls", [Dopri5, Tsit5])
def test_the_gradient_of_the_exact_flow(cls: type[EmbeddedRungeKutta]):
    """At tight tolerances all modes agree, the continuous adjoint too, with differences of solves that choose anew."""
    f, method = Net(), cls(1e-11, 1e-11)
    x0, t, w = problem(f, [0.1, 0.4, 0.9])
    leaves = [x0, t, *f.parameters()]
    w = w[:3]

    def value(gradient: Gradient | None = None) -> Tensor:
        return loss(sn.integrate(f, x0, t, integrator=method, gradient=gradient).states, w)

    expected = list(torch.autograd.grad(value(), leaves))
    check_differences(f, value, expected, leaves)
    scale = float(torch.cat([g.flatten() for g in expected]).norm())
    for gradient in (DiscreteAdjoint(), ContinuousAdjoint()):
        for a, b in zip(torch.autograd.grad(value(gradient), leaves), expected, strict=True):
            assert float((a - b).abs().max()) <= 1e-8 * scale, gradient


@pytest.mark.parametrize("integrator, order", [(Heun(), 2), (RK4(), 4), (Dopri5(), 5)], ids=["Heun", "RK4", "Dopri5"])
def test_the_continuous_adjoint_is_as_accurate_as_the_method(integrator: Integrator[Any], order: int):
    """And no more: it is not the gradient of what was computed."""
    f = Net()
    x0, t, w = problem(f, [0.1, 0.1, 0.6, 1.1])
    leaves = [x0, t, *f.parameters()]
    errors = []
    for steps in (4, 8):
        found = []
        for gradient in (ContinuousAdjoint(), Backpropagation()):
            states = sn.integrate(f, x0, t, integrator=integrator, steps=steps, gradient=gradient).states
            found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss(states, w), leaves)]))
        errors.append(float((found[0] - found[1]).norm()))
    assert 0.6 * 2**order <= errors[0] / errors[1] <= 3 * 2**order and errors[1] > 1e-12, errors


# --- what is stored, and derivatives of derivatives ----------------------------------------------------------------


def alive() -> int:
    """Bytes of all tensors."""
    gc.collect()
    storages = {o.untyped_storage().data_ptr(): o.untyped_storage().nbytes() for o in gc.get_objects() if _tensor(o)}
    return sum(storages.values())


def _tensor(o: object) -> bool:
    return type(o) in (Tensor, nn.Parameter)


def test_the_discrete_adjoint_stores_states_only():
    """200 steps of RK4, batch 500, width 32: one state for every step that starts a group."""
    f = FreeField(nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2)))
    x0 = torch.randn(500, 2)
    for together in (1, 4):
        before = alive()
        kept = sn.integrate(f, x0, [0.0, 1.0], integrator=RK4(), steps=200, gradient=DiscreteAdjoint(together))
        assert alive() - before <= (200 / together + 8) * x0.nbytes
        del kept


@pytest.mark.parametrize("gradient", [*STORING, ContinuousAdjoint()], ids=repr)
def test_second_derivatives(gradient: Gradient):
    f, found = Net(), []
    x0, t, w = problem(f)
    for integrator, sizes in ((RK4(), {"steps": 2}), (Dopri5(), {}), (Dopri5(joint=False), {})):
        if isinstance(gradient, ContinuousAdjoint) and not getattr(integrator, "joint", True):
            continue
        for mode in (gradient, Backpropagation()):
            states = sn.integrate(f, x0, t, integrator=integrator, gradient=mode, **sizes).states  # pyright: ignore
            if isinstance(mode, ContinuousAdjoint):
                with pytest.raises(TypeError, match="ContinuousAdjoint with create_graph=True"):
                    torch.autograd.grad(loss(states, w), x0, create_graph=True)
                break
            first = torch.autograd.grad(loss(states, w), [x0, t], create_graph=True)
            squares = first[0].square().sum() + first[1].square().sum()
            found.append(torch.autograd.grad(squares, [x0, t, *f.parameters()]))
        for a, b in zip(*found[-2:], strict=True) if found else ():
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_second_derivatives_of_a_step_that_follows_the_weights():
    """The size depends on the weights itself: their gradient through it counts once."""
    flow = Flow(large(ConvexGradient(Dense(2, 4))), Euler(), steps=3).double().train()
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    found = []
    for gradient in (Backpropagation(), DiscreteAdjoint(), DiscreteAdjoint(1)):
        twin = copy.deepcopy(flow)  # with the same start of the norm's estimate
        twin.gradient = gradient
        leaves = [x, *twin.parameters()]
        first = torch.autograd.grad(twin(x).pow(3).sum(), leaves, create_graph=True)
        found.append([*first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves)])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_nothing_is_differentiated_without_need():
    f = Net()
    x0, t, _ = problem(f)
    for integrator in (Dopri5(), Dopri5(joint=False)):
        with torch.no_grad():
            assert sn.integrate(f, x0, t, integrator=integrator, gradient=DiscreteAdjoint()).states.grad_fn is None
    states = sn.integrate(f, x0, t, gradient=DiscreteAdjoint()).states
    assert torch.autograd.grad(states[0].sum(), x0, retain_graph=True)[0].eq(1).all(), "x0 is the first output"
    (partial,) = torch.autograd.grad(states[2].sum(), x0)  # later outputs are not used
    assert partial.isfinite().all() and float(partial.abs().max()) > 0


# --- where they are refused, and Flow ------------------------------------------------------------------------------


def test_modes_refuse_what_they_cannot_differentiate():
    f = Net()
    x0, t, _ = problem(f)
    for method in (ImplicitMidpoint(), Dopri5(joint=False)):
        with pytest.raises(TypeError, match="ContinuousAdjoint"):
            sn.integrate(f, x0, t, integrator=method, steps=1, gradient=ContinuousAdjoint())
    with pytest.raises(TypeError, match="integrate: Dopri5 has no exact inverse"):
        sn.integrate(f, x0, t, gradient=Reversible())
    with pytest.raises(InputError, match="together=0"):
        DiscreteAdjoint(0)
    with pytest.raises(InputError, match="pieces=0"):
        Checkpointed(0)


def test_a_lost_tensor_is_an_error():
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)  # no parameter of anything

    class Hidden(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return scale * super().forward(x)

    f = FreeField(Hidden(2, 2).double())
    x0 = torch.randn(3, 2, dtype=torch.float64)
    states = sn.integrate(f, x0, [0.0, 1.0], gradient=DiscreteAdjoint()).states
    with pytest.raises(TypeError, match=r"the solve: its step depends on a tensor \(\) that was no parameter"):
        states.sum().backward()


@pytest.mark.parametrize("gradient", [Checkpointed(), DiscreteAdjoint(), DiscreteAdjoint(3)], ids=repr)
def test_flows_take_the_modes(gradient: Gradient):
    flow = Flow(coupling(), StormerVerlet(), h=0.1, steps=10, gradient=gradient).double()
    twin = Flow(flow.field, StormerVerlet(), h=0.1, steps=10)
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    found, expected = (torch.autograd.grad(g(x).pow(3).sum(), [x, *twin.parameters()]) for g in (flow, twin))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert config(build(config(gradient))) == config(gradient)
    with torch.no_grad():
        assert flow(x).grad_fn is None
