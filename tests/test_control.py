"""Optimal control: costates, the maximum condition, successive approximations; problems with known solutions."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from stablenets.core.errors import InputError, TrainingError
from stablenets.fields import FreeField
from stablenets.fields.examples import large
from stablenets.train.control import ControlProblem, maximum_condition, successive_approximations

STEPS = 5


def network(seed: int = 0, scale: float = 1.0) -> ControlProblem:
    """Fields A tanh(x) + b, with a cost of weights and of states."""
    fields = [
        large(FreeField(nn.Sequential(nn.Tanh(), nn.Linear(3, 3))), scale, seed=seed + k).double() for k in range(STEPS)
    ]

    def running(x, f, t):
        weights = sum(q.square().sum() for q in f.parameters())
        return 0.05 * weights + 0.1 * (1 + t) * x.square().sum(1)

    return ControlProblem(fields, 0.2, lambda x: (x - 1).square().sum(1) / 2, running)


def push(weight: float, control: float = 0.3) -> ControlProblem:
    """x' = u, cost weight/2 (x(1) - 2)^2 + 1/2 int u^2: the optimal u is constant."""
    fields = []
    for _ in range(STEPS):
        layer = nn.Linear(1, 1).double()
        layer.weight.data.zero_()
        layer.weight.requires_grad_(False)
        layer.bias.data.fill_(control)
        fields.append(FreeField(layer))
    return ControlProblem(
        fields,
        1 / STEPS,
        lambda x: weight / 2 * (x - 2).square().sum(1),
        lambda x, f, t: f.module.bias.square().sum() / 2,
    )


def test_costates_are_minus_the_gradients_of_the_remaining_cost():
    problem, x = network(), torch.randn(6, 3, dtype=torch.float64)
    states = problem.states(x)
    p = problem.costates([s.detach() for s in states])
    for k in range(STEPS + 1):
        start = states[k].detach().requires_grad_()
        y, cost = start, 0.0
        for j in range(k, STEPS):
            f = problem.fields[j]
            cost = cost + problem.h * problem.running(y, f, j * problem.h).sum()
            y = y + problem.h * f(y, j * problem.h)
        # a running cost without x is 0-dim; here it is one number for each sample
        (slope,) = torch.autograd.grad(cost + problem.terminal(y).sum(), start)
        assert (p[k] + slope).abs().max() <= 1e-12


def test_gradients_of_the_cost_are_those_of_the_hamiltonians():
    problem, x = network(), torch.randn(6, 3, dtype=torch.float64)
    problem.cost(x).backward()
    found = [[q.grad.clone() for q in f.parameters()] for f in problem.fields]
    states = [s.detach() for s in problem.states(x)]
    p = problem.costates(states)
    for k, f in enumerate(problem.fields):
        slopes = torch.autograd.grad(problem.hamiltonian(k, states[k], p[k + 1]).mean(), list(f.parameters()))
        for a, b in zip(found[k], slopes, strict=True):
            assert (a + problem.h * b).abs().max() <= 1e-13


def test_the_known_optimum_satisfies_the_maximum_condition_and_others_do_not():
    x = torch.zeros(1, 1, dtype=torch.float64)
    best = push(3.0, 2 * 3.0 / 4.0)  # u = w (a - x0) / (1 + w)
    for c in maximum_condition(best, x):
        assert c.slope <= 1e-12 and c.gain <= 1e-12
    for c in maximum_condition(push(3.0, 1.0), x):  # H = p u - u^2 / 2 with p = 3 (2 - 1): the gain is (p - u)^2 / 2
        assert c.gain == pytest.approx(2.0, rel=1e-9) and c.slope == pytest.approx(2.0, rel=1e-9)


def test_the_basic_method_converges_or_diverges_as_its_contraction_factor_says():
    """u <- p = w (2 - u): the factor is -w, and with rho it is (rho - w) / (1 + rho)."""
    x = torch.zeros(1, 1, dtype=torch.float64)
    for w, rho, factor in ((0.5, 0.0, -0.5), (3.0, 0.0, -3.0), (3.0, 2.0, -1 / 3), (3.0, 3.0, 0.0)):
        problem = push(w)
        best = 2 * w / (1 + w)
        error = []
        for _ in range(3):
            error.append(float(problem.fields[0].module.bias) - best)
            successive_approximations(problem, x, iterations=1, rho=rho)
        for a, b in itertools.pairwise(error):
            assert b == pytest.approx(factor * a, abs=1e-6)
    costs = successive_approximations(push(3.0), x, iterations=5, rho=0.0)
    assert costs[-1] > 1e3 * costs[0]
    with pytest.raises(TrainingError, match="larger rho"):
        successive_approximations(push(float("nan")), x, iterations=1)


def test_the_extended_method_finds_a_minimum_that_satisfies_the_condition():
    problem, x = network(scale=0.3), torch.randn(20, 3, dtype=torch.float64)
    costs = successive_approximations(problem, x, iterations=40, rho=3.0)
    assert costs[-1] < costs[0] and all(b <= a + 1e-9 for a, b in itertools.pairwise(costs))
    conditions = maximum_condition(problem, x, tries=2)
    assert max(c.slope for c in conditions) < 0.05 and max(c.gain for c in conditions) < 0.01
    before = max(c.gain for c in maximum_condition(network(scale=0.3), x, tries=1))
    assert before > 0.1, "and did not to begin with"


def test_parameters_are_left_as_they_were():
    problem, x = network(), torch.randn(4, 3, dtype=torch.float64)
    before = [q.detach().clone() for f in problem.fields for q in f.parameters()]
    maximum_condition(problem, x, tries=2, iterations=5)
    after = [q for f in problem.fields for q in f.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_error_texts():
    f = FreeField(nn.Linear(1, 1))
    for fields, h in (([], 0.1), ([f, f], 0.1), ([f], 0.0)):
        with pytest.raises(InputError):
            ControlProblem(fields, h, lambda x: x.sum(1), lambda x, f, t: x.sum(1))
    with pytest.raises(InputError, match="rho=-1"):
        successive_approximations(push(1.0), torch.zeros(1, 1), iterations=1, rho=-1.0)
