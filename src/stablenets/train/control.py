"""Training as optimal control: costates, Pontryagin's maximum condition, successive approximations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InputError, TrainingError, message
from ..fields import Field

Terminal = Callable[[Tensor], Tensor]  # L(x) -> (batch,)
Running = Callable[[Tensor, Field, float], Tensor]  # R(x, the field that holds theta, t) -> (batch,) or 0-dim


@dataclass(frozen=True)
class ControlProblem:
    """Minimise mean_i [L(x_i(T)) + sum_k h R(x_i(t_k), theta_k, t_k)] over theta_0, ..., theta_(N-1) (ADef 3, (3)).

    The states are those of Euler's method, x_(k+1) = x_k + h f_k(x_k, t_k): a residual network. theta_k are the
    parameters of `fields[k]`. With the Hamiltonian H_k(x, p) = p . f_k(x, t_k) - R(x, theta_k, t_k) and the costates
    p_N = -grad L(x_N), p_k = p_(k+1) + h grad_x H_k(x_k, p_(k+1)), which is the discretisation for which

        d cost / d theta_k = -h mean_i grad_theta H_k(x_i,k, p_i,(k+1))

    holds exactly, a minimiser satisfies grad_theta mean H_k = 0 at every k. In the limit h -> 0 it even maximises
    mean_i H_k over theta (Pontryagin); for finite h where H_k is concave in theta_k, such as for fields that are affine
    in their parameters with a convex R.

    Args:
        fields: one for each step, different objects.
        h: the step size.
        terminal: L, (batch, ...) -> (batch,); a closure may hold labels, in the order of the batch.
        running: R.
    """

    fields: Sequence[Field]
    h: float
    terminal: Terminal
    running: Running

    def __post_init__(self) -> None:
        if not self.fields or len({id(f) for f in self.fields}) < len(self.fields):
            raise InputError(message("fields that are missing or occur twice", "one field of its own for each step"))
        if not 0 < self.h < math.inf:
            raise InputError(message(f"h={self.h}", "a positive number"))

    def hamiltonian(self, k: int, x: Tensor, p: Tensor) -> Tensor:
        """H_k at states and costates, (batch,)."""
        t, f = k * self.h, self.fields[k]
        return (p * f(x, t)).flatten(1).sum(1) - self.running(x, f, t)

    def states(self, x: Tensor) -> list[Tensor]:
        """x_0, ..., x_N from the states `x` (batch, ...)."""
        found = [x]
        for k, f in enumerate(self.fields):
            found.append(found[-1] + self.h * f(found[-1], k * self.h))
        return found

    def cost(self, x: Tensor) -> Tensor:
        """The cost from the states `x`, 0-dim."""
        states = self.states(x)
        running = sum(
            (self.running(s, f, k * self.h).mean() for k, (s, f) in enumerate(zip(states, self.fields, strict=False))),
            x.new_zeros(()),
        )
        return self.terminal(states[-1]).mean() + self.h * running

    def costates(self, states: Sequence[Tensor]) -> list[Tensor]:
        """p_0, ..., p_N."""
        last = states[-1].detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.terminal(last).sum(), last)
        found = [-slope]
        for k in range(len(self.fields) - 1, -1, -1):
            found.append(found[-1] + self.h * self._slope(k, states[k], found[-1]).detach())
        return found[::-1]

    def _slope(self, k: int, x: Tensor, p: Tensor, *, differentiable: bool = False) -> Tensor:
        """grad_x H_k."""
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.hamiltonian(k, x, p).sum(), x, create_graph=differentiable)[0]


@dataclass(frozen=True)
class Condition:
    """Pontryagin's condition at one step.

    Attributes:
        hamiltonian: the mean of H_k.
        slope: |grad_theta mean H_k|, 0 for a minimiser of the cost.
        gain: the largest increase of mean H_k that ascent has found from the present and from random parameters.
    """

    hamiltonian: float
    slope: float
    gain: float


def maximum_condition(
    problem: ControlProblem, x: Tensor, *, tries: int = 3, iterations: int = 50, seed: int = 0
) -> list[Condition]:
    """Check the maximum condition along the trajectories from `x` (batch, ...): one `Condition` for each step.

    An attack, and no proof: another theta_k with a larger Hamiltonian is looked for by L-BFGS from theta_k itself and
    from `tries` - 1 random ones. The parameters are left as they were.
    """
    with torch.no_grad():
        states = problem.states(x)
    costates, generator = problem.costates(states), torch.Generator().manual_seed(seed)
    found = []
    for k, f in enumerate(problem.fields):
        parameters = [q for q in f.parameters() if q.requires_grad]
        before = [q.detach().clone() for q in parameters]
        here = problem.hamiltonian(k, states[k], costates[k + 1]).mean()
        slopes = torch.autograd.grad(here, parameters, allow_unused=True)
        size = math.sqrt(sum(float(s.square().sum()) for s in slopes if s is not None))
        best = -math.inf
        for attempt in range(tries):
            if attempt:
                with torch.no_grad():
                    for q in parameters:
                        q.add_(
                            torch.randn(q.shape, generator=generator, dtype=torch.float64).to(q) * 4.0 ** (attempt - 2)
                        )
            best = max(best, _maximise(problem, k, states[k], costates[k + 1], 0.0, iterations))
            _restore(parameters, before)
        found.append(Condition(float(here.detach()), size, max(0.0, best - float(here.detach()))))
    return found


def successive_approximations(
    problem: ControlProblem,
    x: Tensor,
    *,
    iterations: int,
    rho: float = 1.0,
    inner: int = 10,
    on_step: Callable[[int, float], object] = lambda done, cost: None,
) -> list[float]:
    """Minimise the cost by the (extended) method of successive approximations; the fields' parameters are changed.

    Each iteration solves for states and costates, and then maximises every Hamiltonian by itself. With rho = 0 (the
    basic method) this often diverges: states and costates of the old parameters say little about the new ones. The
    extended one subtracts rho / 2 times the squares of the changes of f_k and of grad_x H_k, and descends for large
    rho.

    Args:
        iterations: how many.
        rho: at least 0. As a rule of thumb, take the smallest with which the cost falls.
        inner: iterations of L-BFGS for each maximisation.
        on_step: called with the number of iterations done and the cost.

    Returns:
        the costs, before the first iteration and after each.

    Raises:
        InputError: an argument out of its range.
        TrainingError: the cost is not finite.

    Reference: Li, Chen, Tai & E (2018), Maximum principle based algorithms for deep learning, algorithms 1 and 2.
    """
    if not (iterations >= 1 and inner >= 1 and 0 <= rho < math.inf):
        given = f"iterations={iterations}, inner={inner}, rho={rho}"
        raise InputError(message(given, "at least 1 iteration, and rho >= 0"))
    costs: list[float] = []
    for done in range(iterations + 1):
        with torch.no_grad():
            states, cost = problem.states(x), float(problem.cost(x))
        if not math.isfinite(cost):
            todo = "The method diverges: take a larger rho."
            raise TrainingError(message(f"the cost is {cost} after {done} iterations with rho={rho}", "a number", todo))
        costs.append(cost)
        on_step(done, cost)
        if done < iterations:
            costates = problem.costates(states)
            for k in range(len(problem.fields)):
                _maximise(problem, k, states[k], costates[k + 1], rho, inner)
    return costs


def _maximise(problem: ControlProblem, k: int, x: Tensor, p: Tensor, rho: float, iterations: int) -> float:
    """Raise the mean of the augmented H_k over theta_k by L-BFGS; returns the mean of H_k itself."""
    f, t = problem.fields[k], k * problem.h
    parameters = [q for q in f.parameters() if q.requires_grad]
    with torch.no_grad():
        velocity = f(x, t)
    force = problem._slope(k, x, p).detach()
    solver = torch.optim.LBFGS(
        parameters, max_iter=iterations, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        value = problem.hamiltonian(k, x, p).mean()
        if rho:
            changes = (velocity - f(x, t)).square() + (force - problem._slope(k, x, p, differentiable=True)).square()
            value = value - rho / 2 * changes.flatten(1).sum(1).mean()
        (-value).backward()
        return -value.detach()

    before = [q.detach().clone() for q in parameters]
    start = float(-closure())
    solver.step(closure)  # pyright: ignore[reportArgumentType]
    end = float(-closure())
    if not end >= start:  # the line search failed
        _restore(parameters, before)
    solver.zero_grad()
    with torch.no_grad():
        return float(problem.hamiltonian(k, x, p).mean())


@torch.no_grad()
def _restore(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for q, value in zip(parameters, values, strict=True):
        q.copy_(value)
