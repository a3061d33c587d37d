"""`minimise`: it finds minima to rounding, stops at the last good state, and resumes bit for bit."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stablenets.core.errors import ConvergenceError, InputError, TrainingError
from stablenets.fields import TwoLayerField
from stablenets.integrators import Euler
from stablenets.linear import Dense
from stablenets.systems import HarmonicOscillator
from stablenets.train import minimise, triangular
from stablenets.train.shooting import Shooting

X = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def sine(net: nn.Module, step: int) -> Tensor:
    return (net(X) - torch.sin(3 * X)).square().mean()


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_lbfgs_reaches_what_adam_cannot() -> None:
    adam, both = network(), network()
    coarse = minimise(adam, sine, steps=150)
    fine = minimise(both, sine, steps=150, refine=300)
    assert fine < 1e-5 * coarse
    assert fine == float(sine(both, 0).detach()) and not both.training


def test_lbfgs_goes_on_far_below_where_torch_stops_learning_of_curvature() -> None:
    # torch's L-BFGS ignores changes below 1e-10, so that unscaled it would stay near where this starts
    def tiny(net: nn.Module, step: int) -> Tensor:
        return 1e-12 * sine(net, step)

    assert minimise(network(), tiny, steps=0, refine=300) < 1e-12 * 1e-6


def test_a_trial_that_is_not_finite_does_not_stop_the_line_search() -> None:
    x = nn.Linear(1, 1, bias=False).double()
    x.weight.data.fill_(1.0)

    def barrier(net: nn.Module, step: int) -> Tensor:  # log of a negative number beyond 0, and a far minimum
        w = x.weight.sum()
        if w < -0.5:
            raise ConvergenceError("no solution there")
        return w - 1e-3 * torch.log(w)

    least = 1e-3 * (1 - math.log(1e-3))
    assert minimise(x, barrier, steps=0, refine=100) == pytest.approx(least, abs=1e-9)
    assert float(x.weight.detach()) == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("kept", [True, False])
def test_a_loss_that_is_not_finite_stops_at_the_last_good_state(tmp_path: Path, kept: bool) -> None:
    net, file = network(), tmp_path / "state"

    def breaks(net: nn.Module, step: int) -> Tensor:
        return sine(net, step) * (float("nan") if step == 3 else 1)

    with pytest.raises(TrainingError, match="loss is nan at step 4 of 10"):
        minimise(net, breaks, steps=10, checkpoint=file if kept else None, checkpoint_seconds=0)
    assert weights(net).isfinite().all()
    if kept:  # it goes on from step 3 with a loss that is whole again
        other = network(1)
        steps = []
        minimise(other, sine, steps=10, checkpoint=file, resume=True, on_step=lambda i, n, v: steps.append(i))
        assert steps[0] == 4 and steps[-1] == 10


def test_an_equation_that_is_not_solved_stops_the_training() -> None:
    def fails(net: nn.Module, step: int) -> Tensor:
        raise ConvergenceError("no solution")

    with pytest.raises(TrainingError, match="no solution"):
        minimise(network(), fails, steps=3)


def test_resumed_is_bitwise_uninterrupted(tmp_path: Path) -> None:
    whole, parts = network(), network()
    losses = []
    final = minimise(whole, sine, steps=30, refine=40, on_step=lambda i, n, v: losses.append((i, n)))
    assert losses[0] == (1, 70) and losses[29] == (30, 70) and losses[-1] == (70, 70)

    def stop(at: int):
        def on_step(i: int, n: int, v: float) -> None:
            if i == at:
                os.kill(os.getpid(), signal.SIGINT)

        return on_step

    for at in (11, 50):  # in Adam, then in L-BFGS
        with pytest.raises(KeyboardInterrupt):
            minimise(parts, sine, steps=30, refine=40, checkpoint=tmp_path / "s", resume=True, on_step=stop(at))
        parts = network(5)
    assert minimise(parts, sine, steps=30, refine=40, checkpoint=tmp_path / "s", resume=True) == final
    assert torch.equal(weights(parts), weights(whole))
    with pytest.raises(InputError, match="another training"):
        minimise(network(), sine, steps=31, refine=40, checkpoint=tmp_path / "s", resume=True)
    with pytest.raises(InputError, match="exists"):
        minimise(network(), sine, steps=30, refine=40, checkpoint=tmp_path / "s")


def test_the_schedule_and_its_peak_are_used() -> None:
    seen = []

    def schedule(step: int, total: int, *, peak: float) -> float:
        seen.append((step, total, peak))
        return triangular(step, total, peak=peak)

    net = network()
    before = weights(net)
    minimise(net, sine, steps=1, peak=0.5, schedule=schedule)  # the rate of its first step is 0
    assert torch.equal(weights(net), before) and seen[-1] == (0, 1, 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"steps": 0}, "positive"), ({"steps": -1}, "positive"), ({"peak": 0.0}, "learning rate")],
)
def test_arguments(change: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        minimise(network(), sine, **{"steps": 1} | change)  # pyright: ignore[reportArgumentType]


def test_what_cannot_be_refined() -> None:
    with pytest.raises(InputError, match="float64"):
        minimise(network().float(), sine, steps=1, refine=1)
    with pytest.raises(InputError, match="requires a gradient"):
        minimise(network().requires_grad_(False), sine, steps=1)


def test_shooting_integrates_irregular_intervals_per_sample() -> None:
    f, starts = HarmonicOscillator(), torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    intervals = torch.tensor([[0.1, 0.3], [0.2, 0.05]], dtype=torch.float64)
    states = Shooting(f, starts, free=False)(intervals, substeps=8)
    for i in range(2):
        for k in range(3):
            exact = f.solution(starts[i : i + 1], float(intervals[i, :k].sum()))
            assert torch.allclose(states[i, k], exact[0], atol=1e-8)
    same = Shooting(f, starts, free=False)(0.1, 2, count=3)
    assert torch.allclose(same[:, 3], f.solution(starts, 0.3), atol=1e-6)
    with pytest.raises(InputError, match="RK4"):
        Shooting(f, starts, free=False, method=Euler())(intervals)


def test_free_starts_are_learned_and_fixed_ones_are_not() -> None:
    field = TwoLayerField(Dense(2, 3), Dense(2, 3)).double()
    for free in (True, False):
        net = Shooting(field, torch.ones(4, 2, dtype=torch.float64), free=free)
        minimise(net, lambda net, step: net(0.1, count=2).square().mean(), steps=2)
        assert bool((net.starts != 1).any()) is free


def test_held_starts_are_constants() -> None:
    field = TwoLayerField(Dense(2, 3), Dense(2, 3)).double()
    net = Shooting(field, torch.ones(4, 2, dtype=torch.float64), free=True)
    minimise(net, lambda net, step: net(0.1, count=2, hold=step < 2).square().mean(), steps=2)
    assert bool((net.starts == 1).all())
    minimise(net, lambda net, step: net(0.1, count=2, hold=step < 2).square().mean(), steps=3)
    assert bool((net.starts != 1).any())
