"""integrate and steps: what they return, samples that fail, what is refused, and PyTorch's transforms."""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Iterator
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

import everything  # noqa: F401  fills the registries
import stablenets as sn
from stablenets.core.claims import Claims
from stablenets.core.errors import InputError, IntegrationError
from stablenets.fields import Field, FreeField
from stablenets.fields.base import Norm, upper_bound
from stablenets.gradients import ContinuousAdjoint, DiscreteAdjoint, Gradient
from stablenets.integrators import (
    RK4,
    Bosh3,
    Dopri5,
    Euler,
    ImplicitMidpoint,
    Integrator,
    StormerVerlet,
    SymplecticEuler,
    Tsit5,
)
from stablenets.solvers import Status
from stablenets.systems import HarmonicOscillator, Kepler, Pendulum
from stablenets.testing.steps import problem_for


class Exploding(Field, abc.ABC):
    """x' = a x^2, whose solution x / (1 - a t x) ends at t = 1 / (a x) where x > 0. ABC: not registered."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return self.a * x.square()

    def claims(self, norm: Norm = upper_bound) -> Claims:
        return Claims()

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls()


def free(width: int = 2) -> FreeField:
    return FreeField(nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, width))).double()


# --- what is returned ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("integrator, sizes", [(RK4(), {"h": 0.05}), (Dopri5(), {}), (Tsit5(joint=False), {})])
def test_states_at_irregular_and_repeated_times(integrator: Integrator[Any], sizes: dict[str, Any]):
    f, x0 = HarmonicOscillator(), torch.randn(3, 2, dtype=torch.float64)
    times = [0.2, 0.2, 0.21, 1.0, 1.0, 3.7]
    found = sn.integrate(f, x0, times, integrator=integrator, **sizes)
    assert found.states.shape == (6, 3, 2) and found.done.all() and torch.equal(found.states[0], x0)
    for t, x in zip(times, found.states, strict=True):
        c, s = math.cos(t - 0.2), math.sin(t - 0.2)
        expected = torch.stack([c * x0[:, 0] + s * x0[:, 1], c * x0[:, 1] - s * x0[:, 0]], 1)
        torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)
    back = sn.integrate(f, found.states[-1], times[::-1], integrator=integrator, **sizes)
    torch.testing.assert_close(back.states[-1], x0, rtol=1e-5, atol=1e-5)
    still = sn.integrate(f, x0, [1.0, 1.0, 1.0], integrator=integrator, **sizes)
    assert torch.equal(still.states, x0.expand(3, 3, 2)) and still.done.all()


def test_what_it_took():
    f, x0 = Pendulum(), torch.randn(4, 2, dtype=torch.float64)
    calls = 0

    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return f(x)

    counted = FreeField(Counted())
    for method, sizes in ((RK4(), {"steps": 7}), (Dopri5(), {}), (Bosh3(1e-3, 1e-3), {})):
        calls = 0
        found = sn.integrate(counted, x0, [0.0, 1.0, 2.0], integrator=method, **sizes)  # pyright: ignore
        assert found.stats.evaluations is not None
        assert calls - 1 == int(found.stats.evaluations[0]), "one more: the field's slopes are checked"
    assert int(sn.integrate(f, x0, [0.0, 1.0, 2.0], integrator=RK4(), steps=7).stats.accepted[0]) == 14
    assert sn.integrate(f, x0, [0.0, 1.0], integrator=ImplicitMidpoint(), steps=2).stats.evaluations is None


def test_h_is_the_longest_step_and_every_time_is_met():
    f, x0 = HarmonicOscillator(), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    found = sn.integrate(f, x0, [0.0, 0.3, 1.0], integrator=Euler(), h=0.1)
    assert int(found.stats.accepted[0]) == 3 + 7
    x = x0
    for size in [0.3 / 3] * 3 + [0.7 / 7] * 7:
        x = Euler().step(f, x, size)
    torch.testing.assert_close(found.states[-1], x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", sorted(Integrator.registry))
def test_every_integrator_solves(name: str):
    """On a system of the form that it needs."""
    method: Any = next(Integrator.registry[name].examples())
    problem = problem_for(method)
    f: Any = next(next(c for _, c in sorted(Field.registry.items()) if issubclass(c, method.needs)).examples())
    f = f.double() if problem is None else problem(False)
    x0 = torch.randn(2, *f.state_shape, dtype=torch.float64) / 2 if problem is None else f.start()[:2]
    found = sn.integrate(f, x0, [0.0, 0.2], integrator=method, steps=2)
    assert found.done.all() and found.states.isfinite().all()


# --- samples that fail --------------------------------------------------------------------------------------------

FAILING: list[tuple[Integrator[Any], dict[str, Any], Status]] = [
    (Dopri5(1e-8, 1e-8), {}, Status.NON_FINITE),
    (Tsit5(1e-8, 1e-8, joint=False), {}, Status.NON_FINITE),
    (Bosh3(1e-4, 1e-4, max_steps=30), {}, Status.STEP_LIMIT),
    (Dopri5(1e-6, 1e-6, joint=False, max_steps=30), {}, Status.STEP_LIMIT),
    (RK4(), {"h": 0.1}, Status.NON_FINITE),
    (ImplicitMidpoint(), {"h": 0.1}, Status.UNSOLVED),
]


@pytest.mark.parametrize("gradient", [None, DiscreteAdjoint()], ids=repr)
@pytest.mark.parametrize("method, sizes, status", FAILING, ids=[f"{type(c[0]).__name__}-{c[2].name}" for c in FAILING])
def test_a_sample_that_fails_stops_no_other(
    method: Integrator[Any], sizes: dict[str, Any], status: Status, gradient: Gradient | None
):
    """Neither their states nor their gradients notice it; its own states are right as long as there are any."""
    f = Exploding()
    x0 = torch.tensor([[-1.0, -0.5], [1.0, 0.2], [-2.0, -0.3]], dtype=torch.float64, requires_grad=True)
    times = [0.0, 0.5, 0.9, 2.0, 3.0]
    found = sn.integrate(f, x0, times, integrator=method, gradient=gradient, **sizes)
    assert found.status.tolist() == [Status.DONE, status, Status.DONE]
    exact = x0[[0, 2]] / (1 - 3 * x0[[0, 2]])
    torch.testing.assert_close(found.states[-1, [0, 2]], exact, rtol=2e-3, atol=1e-3)
    got = torch.autograd.grad(found.states[:, found.done].sum(), [x0, f.a])
    assert got[0][1].eq(0).all()
    alone = sn.integrate(f, x0[[0, 2]], times, integrator=method, **sizes)
    expected = torch.autograd.grad(alone.states.sum(), [x0, f.a])
    for a, b in zip(got, expected, strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=5e-3, atol=5e-3)
    bad = found.states[:, 1, 0].detach()
    finite = int(bad.isfinite().sum())
    assert 1 <= finite <= 3 and bad[finite:].isnan().all(), "NaN from the failure on"
    torch.testing.assert_close(bad[:finite], (1 / (1 - torch.tensor(times[:finite]).double())), rtol=1e-2, atol=0)
    with pytest.raises(
        IntegrationError, match=rf"did not solve all of 3 samples \({status.name.lower().replace('_', ' ')}: 1\)"
    ):
        sn.integrate(f, x0, times, integrator=method, gradient=gradient, raise_on_failure=True, **sizes)


def test_nan_from_the_field_is_no_endless_loop():
    class Holes(Exploding, abc.ABC):
        def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
            return torch.where(x > 1.5, torch.nan, 1 + 0 * x)

    x0 = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    for joint in (True, False):
        found = sn.integrate(Holes(), x0, [0.0, 0.2, 1.0], integrator=Dopri5(joint=joint))
        assert found.status.tolist() == [Status.DONE, Status.NON_FINITE, Status.NON_FINITE]
        assert float(found.states[-1, 0]) == pytest.approx(1) and float(found.states[1, 1]) == pytest.approx(1.2)


# --- step by step -------------------------------------------------------------------------------------------------


def test_step_by_step():
    f, x0 = Kepler(), torch.tensor([[1.0, 0.0, 0.0, 1.2]], dtype=torch.float64)
    found = list(itertools.islice(sn.steps(f, x0, 0.5, integrator=StormerVerlet(), h=-0.1), 4))
    assert [t for t, _ in found] == pytest.approx([0.5, 0.4, 0.3, 0.2]) and torch.equal(found[0][1], x0)
    torch.testing.assert_close(
        found[2][1], sn.integrate(f, x0, [0.5, 0.3], integrator=StormerVerlet(), h=0.1).states[-1]
    )
    t, x = next((t, x) for t, x in sn.steps(f, x0, integrator=Tsit5(1e-9, 1e-9)) if t > 2)
    expected = sn.integrate(f, x0, [0.0, t], integrator=Dopri5(1e-11, 1e-11)).states[-1]
    torch.testing.assert_close(x, expected, rtol=1e-7, atol=1e-7)
    back = next(x for s, x in sn.steps(f, x, t, integrator=Tsit5(1e-9, 1e-9), h=-0.01) if s < 0.5)
    assert float((f.energy(back) - f.energy(x0)).abs()) < 1e-7


def test_a_singularity_ends_the_iteration():
    with pytest.raises(IntegrationError, match=r"at t = 1 needs steps below the rounding"):
        for t, _ in sn.steps(Exploding(), torch.ones(1, 1, dtype=torch.float64), integrator=Dopri5()):
            assert t < 1.001


# --- what is refused ----------------------------------------------------------------------------------------------

X = torch.zeros(2, 2)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"times": [0.0]}, "two or more times"),
    ({"times": torch.zeros(2, 2)}, r"times of shape \(2, 2\)"),
    ({"times": [0.0, 2.0, 1.0]}, r"times\[1\] = 2.0 and times\[2\] = 1.0; needed: monotone times"),
    ({"times": [1.0, 0.0, 0.5]}, "monotone times"),
    ({"times": [0.0, math.nan]}, r"times\[1\] = nan; needed: finite times"),
    ({"times": [0.0, math.inf]}, "finite times"),
    ({"x0": torch.tensor([[0.0, 1.0], [math.nan, 0.0]])}, "x0 of sample 1 is not finite"),
    ({"x0": torch.zeros(2, 3)}, r"x0 of shape \(2, 3\); needed: \(batch, 2\)"),
    ({"x0": torch.zeros(2, 2, dtype=torch.int64)}, "torch.int64.*floating-point"),
    ({"x0": torch.zeros(2)}, "at least two dimensions"),
    ({"integrator": RK4()}, "RK4 with h=None, steps=None; needed: one of h and steps"),
    ({"integrator": RK4(), "h": 0.1, "steps": 3}, "one of h and steps"),
    ({"integrator": RK4(), "h": -0.1}, "h=-0.1; needed: a positive, finite h"),
    ({"integrator": RK4(), "steps": 0}, "steps=0"),
    ({"integrator": RK4(), "steps": 2.5}, "steps=2.5; needed: a whole number"),
    ({"field": FreeField(nn.Linear(2, 1))}, r"FreeField gives \(2, 1\) of torch.float32 for states \(2, 2\)"),
    ({"field": FreeField(nn.Linear(2, 4)), "integrator": RK4(), "steps": 1}, r"gives \(2, 4\)"),
]


@pytest.mark.parametrize("change, words", WRONG, ids=[w[1][:24] for w in WRONG])
def test_what_is_refused(change: dict[str, Any], words: str):
    arguments = {"field": HarmonicOscillator(), "x0": X, "times": [0.0, 1.0], **change}
    with pytest.raises(InputError, match=words):
        sn.integrate(**arguments)


def test_integrators_that_do_not_accept_the_field():
    with pytest.raises(TypeError, match=r"SymplecticEuler integrates a SplitField, but got FreeField.*Dopri5"):
        sn.integrate(FreeField(nn.Linear(2, 2)), X, [0.0, 1.0], integrator=SymplecticEuler(), steps=1)
    with pytest.raises(TypeError, match="none, as it is no Field"):
        sn.integrate(nn.Linear(2, 2), X, [0.0, 1.0])  # pyright: ignore[reportArgumentType]
    for h in (0.0, math.inf):
        with pytest.raises(InputError, match=f"h={h}"):
            sn.steps(HarmonicOscillator(), X, integrator=RK4(), h=h)
    with pytest.raises(InputError, match="RK4 without h"):
        sn.steps(HarmonicOscillator(), X, integrator=RK4())


# --- PyTorch's transforms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", [None, DiscreteAdjoint()], ids=repr)
@pytest.mark.parametrize("method, sizes", [(RK4(), {"steps": 3}), (ImplicitMidpoint(), {"steps": 3}), (Dopri5(), {})])
def test_transforms(method: Integrator[Any], sizes: dict[str, Any], gradient: Gradient | None):
    f, x = free(), torch.randn(3, 2, dtype=torch.float64)

    def end(x: Tensor) -> Tensor:
        return sn.integrate(f, x, [0.1, 0.5, 1.0], integrator=method, gradient=gradient, **sizes).states[-1]

    expected = torch.autograd.functional.jacobian(end, x)
    torch.testing.assert_close(jacrev(end)(x), expected)
    if sizes:
        each: Any = vmap(jacrev(lambda x: end(x[None])[0]))(x)
        torch.testing.assert_close(each, torch.einsum("aiaj->aij", expected))
        torch.testing.assert_close(vmap(end)(torch.stack([x, 2 * x])), torch.stack([end(x), end(2 * x)]))
    else:
        with pytest.raises(InputError, match=r"adaptive steps under torch.func.vmap; needed: steps of equal sizes"):
            vmap(end)(torch.stack([x, 2 * x]))
    with pytest.raises(TypeError, match=r"ContinuousAdjoint under a torch.func transform"):
        jacrev(lambda x: sn.integrate(f, x, [0.0, 1.0], steps=1, gradient=ContinuousAdjoint()).states)(x)


def test_a_compiled_solve():
    """Whole, with steps of equal sizes and times as numbers; the rest is refused by name."""
    f, x = free(), torch.randn(3, 2, dtype=torch.float64)

    def solve(x: Tensor) -> sn.solvers.Solution:
        return sn.integrate(f, x, [0.0, 0.1, 0.3], integrator=RK4(), h=0.1)

    found, expected = torch.compile(solve, fullgraph=True, backend="eager")(x), solve(x)
    torch.testing.assert_close(found.states, expected.states)
    assert torch.equal(found.status, expected.status) and torch.equal(found.stats.accepted, expected.stats.accepted)
    refused: list[dict[str, Any]] = [{}, {"integrator": RK4(), "steps": 1, "gradient": DiscreteAdjoint()}]
    for arguments in refused:

        def other(x: Tensor, arguments: dict[str, Any] = arguments) -> Tensor:
            return sn.integrate(f, x, [0.0, 1.0], **arguments).states

        with pytest.raises(Exception, match=r"integrate under torch.compile|InputError"):
            torch.compile(other, fullgraph=True, backend="eager")(x)
