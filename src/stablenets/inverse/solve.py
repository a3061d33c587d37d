"""Solve an inverse problem, and say what is proved about the solution."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.errors import ClaimError, InputError, message
from ..layers.proximal import Proximal
from .certificate import ConvergenceCertificate, Guarantee
from .forward_backward import ForwardBackward
from .problem import Problem
from .solver import Denoiser, Solver
from .theorems import certify_convergence, inner_tolerance

ALLOWANCE = 1000.0  # machine epsilons times |x|: assumed of a denoiser whose rounding errors are not known

OnIteration = Callable[[int, Tensor], object]  # (iterations done, fixed-point residuals (batch,))


@dataclass(frozen=True)
class Solution:
    """What `solve` found.

    Attributes:
        x: the last iterate, (batch, ...).
        certificate: what is proved about the iteration.
        residuals: |z_(k+1) - z_k| of every iteration and sample, (iterations, batch), float64.
        distance: proved bounds (batch,) of the Euclidean distance from x to the fixed point, rounding included as the
            certificate says; None unless the iteration is a contraction.
        converged: (batch,), where the last residual is within the tolerance.
    """

    x: Tensor
    certificate: ConvergenceCertificate
    residuals: Tensor
    distance: Tensor | None
    converged: Tensor

    @property
    def iterations(self) -> int:
        """How many there were."""
        return len(self.residuals)

    @property
    def growth(self) -> float:
        """The largest quotient of two successive residuals: at most 1, or the rate, where that is proved.

        Residuals below 1e8 machine epsilons of the first ones are left out, since rounding shows in their quotients.
        """
        r, eps = self.residuals, torch.finfo(self.x.dtype).eps
        if len(r) < 2:
            return 0.0
        quotients = torch.where(r[1:] > 1e8 * eps * r[0].clamp(min=1e-300), r[1:] / r[:-1].clamp(min=1e-300), 0.0)
        return float(quotients.max())


@torch.no_grad()
def solve(
    problem: Problem,
    denoiser: Denoiser | None = None,
    *,
    solver: Solver | None = None,
    start: Tensor | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-8,
    denoiser_error: float | None = None,
    on_iteration: OnIteration | None = None,
) -> Solution:
    """Iterate until the fixed-point residual is small, with a certificate of what is proved about it.

    The denoiser's claims are read (`layers.claims`), the step is checked against the proved norm of the operator, and
    the certificate names the theorem that applies. A denoiser of which nothing is known runs as well; the certificate
    then says that nothing is guaranteed.

    Args:
        problem: operator and data, (batch, ...).
        denoiser: a map on batches of images, in evaluation mode; None for least squares.
        solver: default `ForwardBackward()`.
        start: the first iterate; default K^T y.
        iterations: largest number of iterations.
        tolerance: stop when |z_(k+1) - z_k| <= tolerance |z_(k+1)| in every sample.
        denoiser_error: a bound of the Euclidean error of one evaluation of the denoiser, for `distance`. Default: that
            of a proximal map is known; for others 1000 machine epsilons times |x| are allowed for, which the
            certificate calls an assumption.
        on_iteration: called after every iteration with their number and the residuals; may raise to stop.

    Raises:
        InputError: a start of another shape, or a denoiser in training mode or in another precision than the data.
        ClaimError: a step outside the solver's theorem; the limit is named. Values that are not finite.

    >>> from stablenets.layers import SoftThreshold
    >>> from stablenets.linear import Mask
    >>> data = torch.tensor([[[[2.0, 0.5]]]], dtype=torch.float64)
    >>> solution = solve(Problem(Mask([[1.0, 1.0]], (1, 1, 2)), data), SoftThreshold(1.0))
    >>> solution.x, solution.certificate.guarantee.name
    (tensor([[[[1., 0.]]]], dtype=torch.float64), 'CONTRACTION')
    """
    method = solver or ForwardBackward()
    _check(problem, denoiser, start, iterations, tolerance)
    step = method.step_size(problem)
    certificate = certify_convergence(problem, method, denoiser, step)
    z = problem.correlation.clone() if start is None else start
    residuals: list[Tensor] = []
    done, old = torch.zeros(len(z), dtype=torch.bool, device=z.device), z
    steps = method.iterates(problem, denoiser or _identity, step, z)
    for k in range(1, iterations + 1):
        old, z = z, next(steps)
        residual = (z - old).flatten(1).norm(dim=1)
        if not torch.isfinite(residual).all():
            given = f"the iterates are not finite after {k} iterations"
            raise ClaimError(message(given, "a denoiser that does not blow up", str(certificate.guarantee.value)))
        residuals.append(residual.double())
        if on_iteration is not None:
            on_iteration(k, residuals[-1])
        done = residual <= tolerance * z.flatten(1).norm(dim=1)
        if bool(done.all()):
            break
    distance = None
    if certificate.guarantee is Guarantee.CONTRACTION:
        certificate, distance = _distance(
            problem, method, denoiser, step, certificate, old, residuals[-1], denoiser_error
        )
    return Solution(method.solution(problem, step, z), certificate, torch.stack(residuals), distance, done)


def _distance(
    problem: Problem,
    method: Solver,
    denoiser: Denoiser | None,
    step: float,
    certificate: ConvergenceCertificate,
    z: Tensor,
    residual: Tensor,
    denoiser_error: float | None,
) -> tuple[ConvergenceCertificate, Tensor | None]:
    """|z+ - z*| <= (rate |z+ - z| + e) / (1 - rate), for z+ = T(z) up to an error e of rounding.

    For |z+ - z*| <= |T(z) - T(z*)| + e <= rate |z - z*| + e <= rate (|z - z+| + |z+ - z*|) + e.
    """
    rate, eps = certificate.rate, torch.finfo(z.dtype).eps
    assert rate is not None
    if denoiser is None:
        words, error = "proved for the data step", lambda x: torch.zeros(len(x), dtype=torch.float64, device=x.device)
    elif denoiser_error is not None:
        words = f"proved for the data step; {denoiser_error:.3g} for the denoiser, as given"
        error = lambda x: torch.full((len(x),), denoiser_error, dtype=torch.float64, device=x.device)  # noqa: E731
    elif isinstance(denoiser, Proximal):
        words, error = "proved for the data step and the denoiser", denoiser.error
    elif inner_tolerance(denoiser):
        words = "an iteration inside the denoiser ends early: give denoiser_error for a bound of the distance"
        return dataclasses.replace(certificate, rounding=words), None
    else:
        words = f"proved for the data step; {ALLOWANCE:g} machine epsilons of |x| assumed for the denoiser"
        error = lambda x: ALLOWANCE * eps * x.flatten(1).norm(dim=1).double()  # noqa: E731
    e = method.error(problem, error, step, z)
    distance = method.shrink(problem, step) * (rate * residual + e) / (1 - rate) * (1 + 1e-12)
    return dataclasses.replace(certificate, rounding=words), distance + method.solution_error(problem, step, z)


def _identity(x: Tensor) -> Tensor:
    return x


def _check(
    problem: Problem, denoiser: Denoiser | None, start: Tensor | None, iterations: int, tolerance: float
) -> None:
    shape = problem.correlation.shape
    if start is not None and (start.shape != shape or start.dtype != problem.data.dtype):
        given = f"a start of shape {tuple(start.shape)} in {start.dtype}"
        raise InputError(message(given, f"shape {tuple(shape)} in {problem.data.dtype}"))
    if not (iterations >= 1 and tolerance >= 0):
        needed = "at least one iteration and a tolerance that is not negative"
        raise InputError(message(f"iterations={iterations}, tolerance={tolerance}", needed))
    if isinstance(denoiser, nn.Module):
        for name, p in denoiser.named_parameters():
            if p.dtype != problem.data.dtype:
                todo = "Convert one of them: denoiser.double(), data.double()."
                raise InputError(
                    message(f"{name} of the denoiser is {p.dtype}", f"{problem.data.dtype}, as the data", todo)
                )
        if any(m.training and any(True for _ in m.parameters(recurse=False)) for m in denoiser.modules()):
            raise InputError(message("the denoiser is in training mode", "frozen steps", "Call denoiser.eval() first."))
