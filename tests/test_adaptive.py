"""Adaptive methods: orders of steps, of error estimates and of dense output; step control; agreement with scipy."""

from __future__ import annotations

import abc
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import stablenets as sn
from stablenets.core.claims import Claims
from stablenets.core.errors import InputError
from stablenets.core.properties import FirstIntegral, Lipschitz, Preserves
from stablenets.fields import Field
from stablenets.fields.invariants import MASS
from stablenets.integrators import Bosh3, Dopri5, EmbeddedRungeKutta, Integrator, Tsit5
from stablenets.integrators.control import SAFETY, factor, first_size, neutral
from stablenets.solvers import Status
from stablenets.systems import SIR, DoublePendulum, HenonHeiles, Kepler, Pendulum, RigidBody
from stablenets.testing.problems import NonlinearPendulum

METHODS = [c for _, c in sorted(Integrator.registry.items()) if issubclass(c, EmbeddedRungeKutta)]
EACH = pytest.mark.parametrize("cls", METHODS)


def reference(f: Field, x0: Tensor, times: np.ndarray, method: str = "DOP853", tol: float = 1e-12) -> np.ndarray:
    """By scipy, sample by sample: (times, batch, ...)."""

    def right(t: float, y: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return f(torch.tensor(y)[None], t)[0].numpy()

    ends = times[0], times[-1]
    found = [solve_ivp(right, ends, x, method, times, rtol=tol, atol=tol).y.T for x in x0.detach().numpy()]
    return np.stack(found, 1)


class Scaled(NonlinearPendulum, abc.ABC):
    """With another unit of time. ABC: not registered."""

    def __init__(self, scale: float) -> None:
        super().__init__(False)
        self.scale = scale

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return self.scale * super().forward(x, t)


class Clocked(NonlinearPendulum, abc.ABC):
    """Of times that may be tensors."""

    def wave(self, t: Any, frequency: float) -> Any:
        return 1 + 0.5 * torch.sin(frequency * torch.as_tensor(t))

    def force(self, q: Tensor, t: Any = 0.0) -> Tensor:
        return -torch.sin(q) + torch.cos(2 * torch.as_tensor(t))


# --- the tableaux -------------------------------------------------------------------------------------------------


def test_which_methods_there_are():
    assert [Bosh3, Dopri5, Tsit5] == METHODS


@EACH
def test_dense_output_joins_smoothly(cls: type[EmbeddedRungeKutta]):
    """Values and slopes at both ends are those of the step."""
    method = cls()
    at = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    weights = method.weights(at)
    slopes = torch.stack([torch.autograd.grad(w.sum(), at, retain_graph=True)[0] for w in weights.unbind(1)], 1)
    last = len(cls.b)
    np.testing.assert_allclose(weights[0].detach(), 0, atol=1e-15)
    np.testing.assert_allclose(weights[1].detach(), [*cls.b, 0.0], atol=1e-13)
    np.testing.assert_allclose(slopes[0], np.eye(last + 1)[0], atol=1e-13)
    np.testing.assert_allclose(slopes[1], np.eye(last + 1)[last], atol=1e-12)
    assert sum(cls.error) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("driven", [False, True], ids=["autonomous", "time-dependent"])
@EACH
def test_orders_of_dense_output_and_of_the_error_estimate(cls: type[EmbeddedRungeKutta], driven: bool):
    """Of one step, against DOP853: errors O(h^(dense_order + 1)) inside it, the estimate O(h^error_order)."""
    f, method = NonlinearPendulum(driven), cls()
    x = f.start()[:1]
    theta = torch.linspace(0, 1, 9, dtype=torch.float64)
    inside, estimates = [], []
    for h in (0.05, 0.025):
        exact = reference(f, x, 0.3 + h * theta.numpy())
        _, slopes = method.stages(f, x, h, 0.3)
        found = x + h * torch.einsum("ps,sbd->pbd", method.weights(theta), torch.stack(slopes))
        inside.append(float(np.abs(found.numpy() - exact).max()))
        estimates.append(float(method.error_of(h, slopes).norm()))
    rates = [math.log2(v[0] / v[1]) for v in (inside, estimates)]
    assert rates[0] == pytest.approx(cls.dense_order + 1, abs=0.25), inside
    assert rates[1] == pytest.approx(cls.error_order, abs=0.35), estimates


@EACH
def test_the_estimate_is_the_difference_of_two_methods(cls: type[EmbeddedRungeKutta]):
    """The embedded weights integrate polynomials of degree < error_order - 1 exactly, and not the next."""
    nodes = np.array([sum(row) for row in cls.a] + [1.0])
    embedded = np.array([*cls.b, 0.0]) - np.array(cls.error)
    for k in range(cls.error_order - 1):
        assert embedded @ nodes**k == pytest.approx(1 / (k + 1), abs=1e-13)
    assert abs(embedded @ nodes ** (cls.error_order - 1) - 1 / cls.error_order) > 1e-5


# --- step control -------------------------------------------------------------------------------------------------


def test_the_controller():
    order = 5
    target = np.array(SAFETY**order)
    assert factor(target, target, order) == pytest.approx(1), "its fixed point"
    assert factor(np.array(0.0), target, order) == 10 and factor(np.array(np.inf), target, order) == 0.2
    assert factor(np.array(1.01), target, order) <= SAFETY, "a rejected step is shortened"
    assert factor(target, 2 * target, order) > 1 > factor(target, target / 2, order), "it looks at the trend"
    errors = np.geomspace(1e-6, 1e6, 50)
    assert (np.diff(factor(errors, np.full(50, target), order)) <= 0).all()
    assert neutral(Dopri5()) == target


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_first_step_follows_the_scale_of_time(scale: float):
    f = Scaled(scale)
    x = f.start()
    (h,) = first_size(Dopri5(), f, x, 0.0, f(x), 1e9, True)
    assert 0.01 < h * scale < 0.2


@pytest.mark.parametrize("joint", [True, False])
@EACH
def test_agreement_with_scipy(cls: type[EmbeddedRungeKutta], joint: bool):
    """On the systems of the library. Errors of steps add up and grow with the flow: scipy's at the same tolerances tell
    how much."""
    rtol = 1e-5 if cls is Bosh3 else 1e-8
    systems: list[tuple[Field, list[float], float]] = [
        (Pendulum(), [1.5, 0.3], 4.0),
        (Kepler(), [1.0, 0.0, 0.0, 1.2], 4.0),
        (HenonHeiles(), [0.1, 0.2, 0.3, 0.1], 4.0),
        (RigidBody(), [0.8, 0.5, 0.3], 4.0),
        (SIR(), [0.9, 0.1, 0.0], 4.0),
        (DoublePendulum(), [1.0, 0.5, 0.2, 0.0], 2.0),
    ]
    for f, start, end in systems[:3] if cls is Bosh3 else systems:
        x0 = torch.tensor([start], dtype=torch.float64)
        x0 = torch.cat([x0, 0.9 * x0])
        times = np.linspace(0, end, 7)
        exact = reference(f, x0, times)
        allowed = 5 * max(rtol, np.abs(reference(f, x0, times, "RK23" if cls is Bosh3 else "RK45", rtol) - exact).max())
        method = cls(rtol, rtol, joint=joint)
        with torch.no_grad():
            forth = sn.integrate(f, x0, times.tolist(), integrator=method)
            back = sn.integrate(f, torch.tensor(exact[-1]), times[::-1].tolist(), integrator=method)
        assert forth.done.all() and back.done.all()
        for found, wanted in ((forth.states, exact), (back.states, exact[::-1])):
            assert np.abs(found.numpy() - wanted).max() <= allowed <= 1e3 * rtol, type(f).__name__


@EACH
def test_smaller_tolerances_give_smaller_errors(cls: type[EmbeddedRungeKutta]):
    f, x0 = Pendulum(), torch.tensor([[1.5, 0.3]], dtype=torch.float64)
    exact = reference(f, x0, np.array([0.0, 3.0]))[-1]
    errors, counts = [], []
    for rtol in (1e-3, 1e-5, 1e-7):
        found = sn.integrate(f, x0, [0.0, 3.0], integrator=cls(rtol, rtol))
        errors.append(float(np.abs(found.states[-1].numpy() - exact).max()))
        counts.append(int(found.stats.accepted[0]))
    assert errors[2] < errors[1] / 10 < errors[0] / 100 and counts[0] < counts[1] < counts[2]


def test_times_in_a_driven_field():
    """Every sample has its own time where it has its own steps."""
    f = Clocked(True)
    x0, times = f.start(), np.linspace(0.3, 2.3, 5)
    exact = reference(f, x0, times)
    for joint in (True, False):
        found = sn.integrate(f, x0, times.tolist(), integrator=Tsit5(1e-9, 1e-9, joint=joint)).states.numpy()
        assert np.abs(found - exact).max() < 3e-7


def test_a_sample_with_its_own_steps_does_not_notice_the_others():
    f = Pendulum()
    x0 = torch.tensor([[1.5, 0.3], [30.0, 8.0], [0.1, 0.0]], dtype=torch.float64)
    method, times = Dopri5(joint=False), [0.0, 0.7, 2.0]
    together = sn.integrate(f, x0, times, integrator=method)
    for i in range(3):
        alone = sn.integrate(f, x0[i : i + 1], times, integrator=method)
        torch.testing.assert_close(alone.states[:, 0], together.states[:, i], rtol=1e-12, atol=1e-12)
        assert int(alone.stats.accepted[0]) == int(together.stats.accepted[i])
    assert len(set(together.stats.accepted.tolist())) > 1


def test_steps_are_as_few_as_torchdiffeq_takes():
    """On the lecture's oscillator, at the same tolerances."""
    import torchdiffeq

    calls = 0

    def theirs(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.stack([y[:, 1], -y[:, 0]], 1)

    x0, times = torch.randn(20, 2, dtype=torch.float64), torch.linspace(0, 2 * math.pi, 50, dtype=torch.float64)
    expected = torchdiffeq.odeint(theirs, x0, times, rtol=1e-7, atol=1e-9)
    found = sn.integrate(sn.systems.HarmonicOscillator(), x0, times, integrator=Dopri5(1e-7, 1e-9))
    assert float((found.states - expected).abs().max()) < 2e-6
    assert int(found.stats.evaluations[0]) <= 1.3 * calls


# --- claims and errors --------------------------------------------------------------------------------------------


@EACH
def test_linear_invariants_are_what_adaptive_steps_keep(cls: type[EmbeddedRungeKutta]):
    method, f = cls(1e-3, 1e-3), SIR()
    claims = method.adaptive_claims(f.claims())
    assert Preserves(MASS) in claims and claims.get(Lipschitz) is None
    assert method.adaptive_claims(Claims([Lipschitz(1.0)])) == ()
    quadratic = Claims(c for c in RigidBody().claims() if isinstance(c, FirstIntegral))
    assert quadratic and not method.adaptive_claims(quadratic)
    x0 = torch.rand(20, 3, dtype=torch.float64)
    for joint in (True, False):
        found = sn.integrate(f, x0, [0.0, 0.33, 9.0], integrator=cls(1e-2, 1e-2, joint=joint)).states
        torch.testing.assert_close(found.sum(2), x0.sum(1).expand(3, 20), rtol=1e-13, atol=0)


@pytest.mark.parametrize("arguments", [(0.0, 1e-6), (-1.0, 1e-6), (1e-6, 0.0), (math.nan, 1e-6), (2.0, 1e-6)])
def test_tolerances_that_mean_nothing(arguments: tuple[float, float]):
    with pytest.raises(InputError, match="0 < rtol < 1 and 0 < atol"):
        Dopri5(*arguments)


def test_step_limits_that_mean_nothing():
    with pytest.raises(InputError, match="max_steps=0"):
        Tsit5(max_steps=0)
    found = sn.integrate(Pendulum(), torch.ones(2, 2), [0.0, 50.0], integrator=Dopri5(max_steps=3))
    assert (found.status == Status.STEP_LIMIT).all() and found.states[1].isnan().all()
