"""Long runs: what does not drift, beside what does. The full lengths are in benchmarks/long_runs.py."""

from __future__ import annotations

import pytest
import torch

from stablenets.integrators import (
    RK4,
    BlanesMoan4,
    DiscreteGradient,
    GaussLegendre4,
    ImplicitMidpoint,
    Integrator,
    StormerVerlet,
    Suzuki4,
    Yoshida4,
)
from stablenets.systems import Kepler, Pendulum


def errors(integrator: Integrator, f, x: torch.Tensor, h: float, steps: int) -> tuple[float, float]:
    """The largest energy errors in both halves of a run."""
    start, halves = f.energy(x), [0.0, 0.0]
    with torch.no_grad():
        for i in range(steps):
            x = integrator.step(f, x, h)
            halves[2 * i // steps] = max(halves[2 * i // steps], float((f.energy(x) - start).abs().max()))
    return halves[0], halves[1]


PENDULUM = torch.tensor([[1.5, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    "integrator, steps, bound",
    [
        (StormerVerlet(), 6000, 2.0e-3),
        (Yoshida4(), 4000, 8e-6),
        (Suzuki4(), 3000, 6e-7),
        (BlanesMoan4(), 3000, 2e-9),
        (ImplicitMidpoint(), 600, 4e-4),
        (GaussLegendre4(), 400, 2e-7),
    ],
    ids=lambda v: repr(v) if isinstance(v, Integrator) else None,
)
def test_symplectic_steps_keep_the_energy_near(integrator: Integrator, steps: int, bound: float):
    """The pendulum from 1.5 radians, h = 0.1: bounded and no drift (second half / first half <= 1.05)."""
    first, second = errors(integrator, Pendulum(), PENDULUM, 0.1, steps)
    assert bound / 10 < first <= bound and second <= 1.05 * first


def test_the_discrete_gradient_keeps_it_to_rounding():
    first, second = errors(DiscreteGradient(), Pendulum(), PENDULUM, 0.1, 500)
    assert max(first, second) <= 5e-14


def test_runge_kutta_drifts():
    first, second = errors(RK4(), Pendulum(), PENDULUM, 0.1, 4000)
    assert second == pytest.approx(2 * first, rel=0.05), "the error grows with time"


def test_planets_keep_their_angular_momentum():
    """Quadratic: kept to rounding by splitting and Gauss methods, lost by Runge-Kutta."""
    f, x = Kepler(), torch.tensor([[0.4, 0.0, 0.0, 2.0]], dtype=torch.float64)
    for integrator, kept in ((BlanesMoan4(), True), (ImplicitMidpoint(), True), (RK4(), False)):
        y = x
        with torch.no_grad():
            for _ in range(300):
                y = integrator.step(f, y, 0.02)
        assert (float((f.angular_momentum(y) - f.angular_momentum(x)).abs()) < 1e-12) == kept
