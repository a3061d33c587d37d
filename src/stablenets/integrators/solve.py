"""Solve the equation of an implicit step, per sample and to rounding, and differentiate the solution exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.errors import ConvergenceError, message
from ..core.linalg import inverse, times
from ..core.properties import positive

Map = Callable[[Tensor, Tensor, Any], Tensor]  # (z, x, h) -> like z; the solution is its fixed point
Missed = Callable[[Tensor, Tensor, Any], Tensor]  # (z, x, h) -> (batch,)

PICARD, NEWTON, HALVINGS, STAGES = 40, 30, 12, 8
SLOW = 1 / 3  # a fixed-point iteration that gains less per round costs more than Newton's method
ROUNDING = 4  # a solution leaves a residual of at most so many rounding errors


class Root(NamedTuple):
    """A solution and what it took."""

    z: Tensor
    residual: Tensor  # (batch,), in rounding errors of the equation


def solve(
    g: Map,
    start: Tensor,
    x: Tensor,
    h: Any,
    *,
    name: str,
    rounding: float = ROUNDING,
    missed: Missed | None = None,
) -> Tensor:
    """The z with z = g(z, x, h), for every sample by itself.

    g is iterated as long as that converges fast. The other samples get Newton's method with the batch of Jacobians and
    a line search; where that fails as well, the solution is followed from z = 0 of a step of length 0. First and second
    derivatives in `x`, `h` and the parameters of g are exact, by the implicit function theorem: two steps of Newton's
    method with a fixed matrix from the solution, held constant; each makes one more derivative exact.

    Args:
        g: a differentiable function that treats the samples one by one.
        start: first guess (batch, ...).
        x: the states (batch, ...) that the step starts from.
        h: the step size, a number or a 0-dim tensor.
        name: of the integrator, for the error.
        rounding: how many rounding errors a solution may leave; more where g itself loses digits.
        missed: the same, measured on what the solution is for: (z, x, h) -> (batch,). Needed where `x` holds numbers
            of other sizes than the solution, or where g divides by what may be small: `solve` knows only |x| and |z|.

    Raises:
        ConvergenceError: naming the samples that are not solved to rounding.
    """
    if not len(start):
        return start
    first, at, size = start.detach(), x.detach(), h.detach() if isinstance(h, Tensor) else h
    if torch._C._are_functorch_transforms_active():  # their tensors do not say whether they need derivatives
        z, matrix = _Solve.apply(first, at, size, g, name, rounding, missed)
        residual = z - g(z, x, h)
    else:
        with torch.no_grad():
            z = _solution(first, at, size, g, name, rounding, missed)
        if not torch.is_grad_enabled():
            return z
        residual = z - g(z, x, h)
        if not residual.requires_grad:
            return z
        matrix = inverse(jacobians(g, z, at, size))
    for _ in range(2):
        z = z - times(matrix, residual)
        residual = z - g(z, x, h)
    return z


def jacobians(g: Map, z: Tensor, x: Tensor, h: Any) -> Tensor:
    """Jacobians (batch, n, n) of z - g(z, x, h), constant: one backward pass through n copies of every sample."""
    rows = z[0].numel()
    with torch.inference_mode(False), torch.enable_grad():
        copies = z.repeat_interleave(rows, 0).requires_grad_()
        residual = copies - g(copies, x.repeat_interleave(rows, 0), h)
        each = torch.eye(rows, dtype=z.dtype, device=z.device).repeat(len(z), 1).reshape(residual.shape)
        (jacobian,) = torch.autograd.grad(residual, copies, each)
    return jacobian.reshape(len(z), rows, rows)


def _norm(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v.flatten(1), dim=1)


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _solution(start: Tensor, x: Tensor, h: Any, g: Map, name: str, rounding: float, missed: Missed | None) -> Tensor:
    """z = g(z, x, h), solved for every sample to `rounding` rounding errors."""
    eps = torch.finfo(start.dtype).eps

    def left(root: Root, x: Tensor) -> Tensor:
        """In rounding errors; NaN and infinity where nothing is solved."""
        return root.residual if missed is None else root.residual.maximum(missed(root.z, x, h))

    z, done = _picard(g, start, x, h, eps)
    if missed is not None:
        done = done & (missed(z, x, h) <= rounding)
    open_ = (~done).nonzero().squeeze(1)
    if len(open_):
        root = _newton(g, _better(g, start[open_], z[open_], x[open_], h), x[open_], h, eps)
        z = z.index_copy(0, open_, root.z)
        open_ = open_[~(left(root, x[open_]) <= rounding)]
    if len(open_):
        root = _continued(g, x[open_], start[open_], h, eps)
        z = z.index_copy(0, open_, root.z)
        residual = left(root, x[open_])
        failed = ~(residual <= rounding)
        if bool(failed.any()):
            raise _unsolved(name, open_[failed], residual[failed] * eps, len(start), h)
    return z


class _Solve(torch.autograd.Function):
    """The solution and Newton's inverse matrices there, as one constant operation.

    Transforms (vmap, jacrev) see none of its decisions.
    """

    @staticmethod
    def forward(start: Tensor, x: Tensor, h: Any, g: Map, name: str, rounding: float, missed: Missed | None) -> Any:
        z = _solution(start, x, h, g, name, rounding, missed)
        return z, inverse(jacobians(g, z, x, h))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (None,) * 7

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, start: Tensor, x: Tensor, h: Any, *rest: Any) -> Any:
        count = info.batch_size
        start, x = (
            v.unsqueeze(0).expand(count, *v.shape) if d is None else v.movedim(d, 0)
            for v, d in zip((start, x), in_dims, strict=False)
        )
        if in_dims[2] is None:  # more samples of one batch
            z, matrix = _Solve.apply(start.flatten(0, 1), x.flatten(0, 1), h, *rest)
            return (z.unflatten(0, (count, -1)), matrix.unflatten(0, (count, -1))), (0, 0)
        each = [_Solve.apply(start[i], x[i], size, *rest) for i, size in enumerate(h.movedim(in_dims[2], 0))]
        return tuple(map(torch.stack, zip(*each, strict=True))), (0, 0)


def _picard(g: Map, z: Tensor, x: Tensor, h: Any, eps: float) -> tuple[Tensor, Tensor]:
    """Iterate g: the result and the samples that it solves. Looking costs as much as iterating: it looks rarely."""
    size = positive(_norm(x) + _norm(z))
    worst, rounds, total = math.inf, 2, 0
    while True:
        for _ in range(rounds):
            before, z = z, g(z, x, h)
        total += rounds
        change = _norm(z - before) / size
        last, worst = worst, float(change.max())
        rate = (worst / last) ** (1 / rounds)
        if not (worst > eps and rate < SLOW and total < PICARD):  # NaN compares false
            return z, change <= ROUNDING * eps
        needed = 1 if math.isinf(last) else math.ceil(math.log(eps / worst) / math.log(rate))
        rounds = max(1, min(needed, PICARD - total))


def _better(g: Map, a: Tensor, b: Tensor, x: Tensor, h: Any) -> Tensor:
    """Of two guesses the one with the smaller residual, sample by sample."""
    return torch.where(_per_sample(_norm(b - g(b, x, h)) < _norm(a - g(a, x, h)), a), b, a)


def _newton(g: Map, z: Tensor, x: Tensor, h: Any, eps: float) -> Root:
    """Newton's method, with halved steps where a full one does not reduce the residual."""
    residual = z - g(z, x, h)
    size = _norm(residual)
    open_, rounds = torch.ones_like(size, dtype=torch.bool), 0
    while True:
        matrix = jacobians(g, z, x, h)
        # what rounding of z and x leaves of the residual
        floor = eps * (_norm(x) + _norm(z) * (1 + matrix.flatten(1).norm(dim=1)))
        step = times(inverse(matrix), residual)
        step = torch.where(step.isfinite(), step, residual)  # where the matrix is singular
        polishing = rounds == NEWTON or not bool((open_ & (size > floor)).any())
        searching, length = open_.clone(), torch.ones_like(size)
        for _ in range(1 if polishing else HALVINGS):
            trial = z - _per_sample(length, z) * step
            left = trial - g(trial, x, h)
            better = searching & (_norm(left) < size)
            z, residual = (torch.where(_per_sample(better, z), a, b) for a, b in ((trial, z), (left, residual)))
            size = torch.where(better, _norm(left), size)
            searching = searching & ~better & (size > floor)
            if not bool(searching.any()):
                break
            length = torch.where(searching, length / 2, length)
        if polishing:
            break
        open_, rounds = open_ & ~searching, rounds + 1
    floor = floor.maximum(_roughness(g, z, x, h, eps))
    return Root(z, size / floor)


def _continued(g: Map, x: Tensor, start: Tensor, h: Any, eps: float) -> Root:
    """Follow the solution of z = s g(z) from z = 0 at s = 0, where the step is short, to s = 1."""
    root = Root(torch.zeros_like(start), start.new_zeros(len(start)))
    for k in range(1, STAGES + 1):
        root = _newton(lambda z, x, h, s=k / STAGES: s * g(z, x, h), root.z, x, h, eps)
    return root


def _roughness(g: Map, z: Tensor, x: Tensor, h: Any, eps: float) -> Tensor:
    """How much g changes when z and x are rounded differently: its rounding errors, cancellation inside included."""
    generator = torch.Generator().manual_seed(0)

    def rounded(v: Tensor) -> Tensor:
        return v * (1 + eps * (torch.randint(0, 2, v.shape, generator=generator).to(v) * 2 - 1))

    exact = g(z, x, h)
    return 2 * torch.stack([_norm(g(rounded(z), rounded(x), h) - exact) for _ in range(3)]).amax(0)  # of many more


def _unsolved(name: str, samples: Tensor, residuals: Tensor, count: int, h: Any) -> ConvergenceError:
    some = ", ".join(str(int(i)) for i in samples[:8]) + (", ..." if len(samples) > 8 else "")
    return ConvergenceError(
        message(
            f"{name} with h = {float(h):.4g} did not solve its equation for {len(samples)} of {count} samples "
            f"({some}; relative residual {float(residuals.max()):.1g})",
            "an equation with a solution near the state",
            "Take a shorter step.",
        ),
        samples.tolist(),
    )
