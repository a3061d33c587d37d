"""L-BFGS in a box, for many small problems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .ball import per_sample

Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
MEMORY = 10  # pairs of moves and changes of the gradient that are kept
ARMIJO = 1e-4  # share of the predicted descent that a step must bring
TRIALS = 12  # halvings of a step at most


def minimise(function: Function, start: Tensor, box: tuple[float, float], steps: int) -> Tensor:
    """Minimise one function per sample over a box by projected L-BFGS (Bertsekas 1982; Nocedal & Wright, 7.2).

    Entries at an end of the box whose gradient points outwards stay there in a step; the others move along the
    L-BFGS direction, are clipped to the box, and the step is halved until it descends (Armijo). A sample leaves when
    no step descends any more.

    Args:
        function: takes points (m, ...) and the indices of their samples (m,); returns values (m,), float64, and
            gradients (m, ...).
        start: points (batch, ...) in the box.
        box: smallest and largest value of an entry.
        steps: steps at most.

    Returns the best point of each sample, float64.

    >>> centre = torch.tensor([[2.0, 0.25]])
    >>> minimise(lambda z, rows: ((z - centre).square().sum(1).double(), 2 * (z - centre)), 0 * centre, (0.0, 1.0), 20)
    tensor([[1.0000, 0.2500]], dtype=torch.float64)
    """
    low, high = box
    z = start.double()
    rows = torch.arange(len(z), device=z.device)
    result = z.clone()
    value, gradient = function(z, rows)
    gradient = gradient.double()
    moves: list[Tensor] = []
    changes: list[Tensor] = []
    for _ in range(steps):
        free = ~(((z <= low) & (gradient > 0)) | ((z >= high) & (gradient < 0)))
        direction = _direction(gradient * free, moves, changes) * free
        new, new_value, new_gradient = z.clone(), value.clone(), gradient.clone()
        pending = torch.arange(len(z), device=z.device)
        length = 1.0
        if not moves:  # the first step is no longer than 1 and has no curvature to go by
            direction = direction / per_sample(direction.flatten(1).norm(dim=1).clamp(min=1.0), direction)
        for _ in range(TRIALS):
            trial = (z[pending] + length * direction[pending]).clamp(low, high)
            trial_value, trial_gradient = function(trial, rows[pending])
            predicted = ((trial - z[pending]) * gradient[pending]).flatten(1).sum(1)
            good = trial_value <= value[pending] + ARMIJO * predicted.clamp(max=0)
            good &= (trial != z[pending]).flatten(1).any(1)
            done = pending[good]
            new[done], new_value[done], new_gradient[done] = (
                trial[good],
                trial_value[good],
                trial_gradient[good].double(),
            )
            pending = pending[~good]
            if len(pending) == 0:
                break
            length /= 2
        moves, changes = [*moves[1 - MEMORY :], new - z], [*changes[1 - MEMORY :], new_gradient - gradient]
        on = torch.ones(len(z), dtype=torch.bool, device=z.device)
        on[pending] = False
        z, value, gradient = new, new_value, new_gradient
        result[rows] = z
        if not bool(on.all()):
            rows, z, value, gradient = rows[on], z[on], value[on], gradient[on]
            moves, changes = [m[on] for m in moves], [c[on] for c in changes]
            if len(rows) == 0:
                break
    return result


def _direction(gradient: Tensor, moves: list[Tensor], changes: list[Tensor]) -> Tensor:
    """-H g by the two-loop recursion, H the L-BFGS approximation of the inverse Hessian; -g where it does not descend.

    Pairs without positive curvature are left out, for each sample by itself.
    """
    q, used = gradient.clone(), []
    for move, change in zip(reversed(moves), reversed(changes), strict=True):
        curvature = _inner(move, change)
        fit = curvature > 1e-10 * _inner(change, change)
        rho = torch.where(fit, 1 / torch.where(fit, curvature, 1.0), 0.0)
        alpha = rho * _inner(move, q)
        q = q - per_sample(alpha, q) * change
        used.append((move, change, rho, alpha))
    if moves:
        curvature, size = _inner(moves[-1], changes[-1]), _inner(changes[-1], changes[-1])
        q = q * per_sample(torch.where(curvature > 1e-10 * size, curvature / size.clamp(min=1e-300), 1.0), q)
    for move, change, rho, alpha in reversed(used):
        beta = rho * _inner(change, q)
        q = q + per_sample(alpha - beta, q) * move
    descends = _inner(q, gradient) > 1e-10 * _inner(gradient, gradient)
    return -torch.where(per_sample(descends, q), q, gradient)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
