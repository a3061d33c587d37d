"""Solvers for inverse problems: the theorem that applies, its constants attacked, and the a-posteriori bound."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor, nn

from stablenets.core.claims import Claims
from stablenets.core.errors import ClaimError, InputError
from stablenets.core.properties import Averaged, Lipschitz
from stablenets.core.regions import Bounded
from stablenets.fields import ConvexGradient
from stablenets.integrators import Euler
from stablenets.inverse import ADMM, FISTA, ForwardBackward, Guarantee, HalfQuadraticSplitting, Problem, Solver, solve
from stablenets.inverse.solver import gradient_step, proximal_step
from stablenets.inverse.tikhonov import Tikhonov, grid_search, lipschitz
from stablenets.layers import Box, Chain, Flow, Layer, Relaxed, Rescaled, SoftThreshold
from stablenets.linear import Blur, Conv2d, Dense, Mask, gaussian_kernel

SHAPE = (1, 6, 6)
SPLITTINGS = [ForwardBackward(), HalfQuadraticSplitting(0.8), ADMM(0.8)]


def dense(*values: float, seed: int = 0) -> Dense:
    """A square matrix with these singular values."""
    random = np.random.default_rng(seed)
    u, v = (np.linalg.qr(random.standard_normal((len(values), len(values))))[0] for _ in range(2))
    a = Dense(len(values), len(values)).double()
    a.weight.data = torch.from_numpy(u @ np.diag(values) @ v)
    return a


def data(a, count: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(count, *a.output_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Turn(Layer):
    """A rotation by a right angle: 1-Lipschitz, and not averaged."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([-x[:, 1], x[:, 0]], 1)

    def claims(self) -> Claims:
        return Claims([Lipschitz(1.0)])

    @classmethod
    def examples(cls):
        yield cls()


for _registry in (Layer.registry,):  # only here
    _registry.pop("Turn")


def trained_looking(seed: int = 0) -> nn.Module:
    """A non-expansive convolutional denoiser far from the identity."""
    torch.manual_seed(seed)
    flows = []
    for _ in range(3):
        field = ConvexGradient(Conv2d(1, 4, 3, SHAPE[1:]))
        field.linear.weight.data *= 3
        field.bias.data.normal_()
        flows.append(Flow(field, Euler(), time=1.0))
    return Chain(*flows).double().train().eval()


# --- the claims of the steps, attacked ----------------------------------------------------------------------------


@pytest.mark.parametrize("h", [0.02, 0.1, 0.21, 0.4, 0.49])
def test_claims_of_the_data_steps_are_true_and_sharp(h: float):
    problem = Problem(dense(2.0, 1.0, 0.5).requires_grad_(False), data(dense(2.0, 1.0, 0.5)))
    x, y = data(dense(1, 1, 1), 60, 5), data(dense(1, 1, 1), 60, 6)
    kept = torch.linalg.svd(problem.operator.weight.detach()).Vh  # directions in which bounds are attained
    x = torch.cat([x, kept])
    y = torch.cat([y, torch.zeros(3, 3, dtype=torch.float64)])
    problem.correlation = problem.correlation[:1]

    def step(v: Tensor) -> Tensor:
        return v - h * problem.gradient(v)

    for f, claims in ((step, gradient_step(problem, h)), (lambda v: problem.prox(v, h), proximal_step(problem, h))):
        assert claims.get(Lipschitz) and claims.get(Averaged)
        for claim in claims:
            assert float(claim.violation(f, x, y).max()) <= 1e-9, claim
        bound = claims.get(Lipschitz).bound
        assert float(((f(x) - f(y)).norm(dim=1) / (x - y).norm(dim=1)).max()) >= bound * (1 - 1e-9), "sharp"
    averaged = gradient_step(problem, h).get(Averaged)
    smaller = Averaged(averaged.alpha * 0.98)
    assert float(smaller.violation(step, x, y).max()) > 1e-6, "a smaller alpha would be false"


def test_no_averagedness_beyond_the_limit():
    problem = Problem(dense(2.0, 1.0), data(dense(2.0, 1.0)))
    assert gradient_step(problem, 0.5).get(Averaged) is None, "h = 2 / L"
    assert gradient_step(problem, 0.6).get(Lipschitz).bound == pytest.approx(1.4)


# --- the two theorems ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SPLITTINGS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    "denoiser", [SoftThreshold(0.1), Box(-0.4, 0.9), Relaxed(trained_looking(), 0.5)], ids=["soft", "box", "net"]
)
def test_a_strongly_convex_problem_contracts_and_the_bound_encloses_the_fixed_point(
    solver: Solver, denoiser: nn.Module
):
    a = Mask(torch.linspace(0.5, 2.0, 36).view(6, 6), SHAPE)
    problem = Problem(a, data(a))
    exact = solve(problem, denoiser, solver=solver, tolerance=0.0, iterations=500)
    assert exact.certificate.guarantee is Guarantee.CONTRACTION and exact.growth <= exact.certificate.rate * (1 + 1e-6)
    for iterations in (1, 3, 10, 40, 500):
        early = solve(problem, denoiser, solver=solver, tolerance=0.0, iterations=iterations)
        away = (early.x - exact.x).flatten(1).norm(dim=1)
        assert (away <= early.distance).all(), iterations
        if iterations >= 10 and float(away.min()) > 1e-10:
            assert (early.distance <= 400 * away).all(), "and is of use"
    assert float(exact.distance.max()) < 1e-8, "rounding included"


@pytest.mark.parametrize("solver", SPLITTINGS, ids=lambda s: type(s).__name__)
def test_rounding_errors_are_part_of_the_bound(solver: Solver):
    """In float32 the iteration stalls some roundings away from the fixed point, with residuals that are often zero."""
    a = Mask(torch.linspace(0.2, 2.0, 36).view(6, 6), SHAPE)
    single = Problem(a, data(a).float())
    found = solve(single, SoftThreshold(0.1), solver=solver, tolerance=0.0, iterations=800)
    exact = solve(Problem(a, single.data.double()), SoftThreshold(0.1), solver=solver, tolerance=0.0, iterations=1500)
    away = (found.x.double() - exact.x).flatten(1).norm(dim=1)
    assert float(found.residuals[-1].min()) < 1e-6 and float(away.min()) > 1e-8
    assert (away <= found.distance).all() and float(found.distance.max()) < 0.01
    assert found.certificate.step * single.smoothness < 2 or not isinstance(solver, ForwardBackward)


def test_the_rate_is_attained():
    """One eigenvalue, no denoiser: the distance shrinks by exactly |1 - h mu|."""
    problem = Problem(dense(0.5, 0.5), data(dense(0.5, 0.5)))
    solution = solve(problem, solver=ForwardBackward(2.0), iterations=20, tolerance=0.0)
    assert solution.certificate.rate == pytest.approx(0.5, rel=1e-9)
    assert float(solution.residuals[10, 0] / solution.residuals[9, 0]) == pytest.approx(0.5, rel=1e-6)
    away = float((solution.x - torch.linalg.solve(problem.operator.weight.detach(), problem.data.mT).mT).norm(dim=1)[0])
    assert away <= float(solution.distance[0]) <= 1.01 * away


@pytest.mark.parametrize("solver", SPLITTINGS, ids=lambda s: type(s).__name__)
def test_a_convex_problem_with_an_averaged_denoiser_converges_monotonically(solver: Solver):
    a = Blur(gaussian_kernel(1.0, 5), SHAPE)
    mask = Mask((torch.arange(36).view(6, 6) % 3 > 0).double(), SHAPE)  # mu = 0
    denoiser = Chain(Relaxed(trained_looking(2), 0.4), Box(-1.0, 1.0))
    if isinstance(solver, ADMM):
        denoiser = Relaxed(trained_looking(2), 0.5)
    for operator in (a, mask):
        problem = Problem(operator, data(operator))
        solution = solve(problem, denoiser, solver=solver, iterations=3000, tolerance=1e-9)
        certificate = solution.certificate
        expected = Guarantee.CONDITIONAL if isinstance(solver, ADMM) else Guarantee.CONVERGENCE
        if operator is mask:
            assert certificate.guarantee is expected and certificate.rate is None and solution.distance is None
            assert bool(certificate.existence) == (expected is Guarantee.CONVERGENCE)
        assert certificate.alpha < 1 and bool(solution.converged.all())
        assert solution.growth <= 1 + 1e-6, "|x_(k+1) - x_k| never grows"


def test_the_constant_of_a_composition():
    problem = Problem(Mask([[1.0, 0.0]], (1, 1, 2)), torch.ones(1, 1, 1, 2, dtype=torch.float64))
    certificate = solve(problem, SoftThreshold(0.1), solver=ForwardBackward(1.5)).certificate
    a, b = Fraction(3, 4), Fraction(1, 2)
    assert certificate.alpha == pytest.approx(float((a + b - 2 * a * b) / (1 - a * b)), rel=1e-12)
    assert certificate.existence.startswith("f is convex"), "soft thresholding has a coercive g"


def test_a_rotation_is_not_enough_where_f_is_flat():
    """1-Lipschitz, not averaged: with mu = 0 the iterates go round in circles, and nothing was promised."""
    a = dense(1.0, 1.0)
    a.weight.data.zero_()
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    solution = solve(Problem(a, torch.zeros(1, 2, dtype=torch.float64)), Turn(), start=start, iterations=50)
    assert solution.certificate.guarantee is Guarantee.NOTHING and not bool(solution.converged)
    assert "averaged denoiser" in solution.certificate.theorem
    contracting = solve(Problem(dense(1.0, 0.5), torch.ones(1, 2, dtype=torch.float64)), Turn())
    assert contracting.certificate.guarantee is Guarantee.CONTRACTION and bool(contracting.converged)


def test_an_averaged_denoiser_is_not_enough_for_admm():
    problem = Problem(Mask([[1.0, 0.0]], (1, 1, 2)), torch.ones(1, 1, 1, 2, dtype=torch.float64))
    for body, enough in ((Relaxed(SoftThreshold(0.1), 0.9), True), (Chain(SoftThreshold(0.1), Box(0.0, 1.0)), False)):
        found = solve(problem, body, solver=ADMM(), iterations=5).certificate
        assert (found.guarantee is not Guarantee.NOTHING) == enough
    assert "firmly" in found.theorem


def test_a_denoiser_of_which_nothing_is_known_runs_with_a_plain_statement():
    a = Mask([[1.0, 0.5]], (1, 1, 2))
    problem = Problem(a, data(a))
    for denoiser, words in ((torch.tanh, "tanh"), (nn.Sequential(nn.BatchNorm2d(1)).double().eval(), "BatchNorm2d")):
        certificate = solve(problem, denoiser, iterations=3).certificate
        assert certificate.guarantee is Guarantee.NOTHING and words in str(certificate)
        assert "nothing is guaranteed" in str(certificate) and certificate.rate is None


# --- against other solvers ----------------------------------------------------------------------------------------


def test_ista_and_fista_minimise_the_lasso():
    a = dense(2.0, 1.0, 0.7, 0.3, seed=3)
    problem, weight = Problem(a, data(a, 2)), 0.2
    h = 1 / problem.smoothness
    k = a.weight.detach().numpy()

    def objective(v: np.ndarray, y: np.ndarray) -> float:  # x = v+ - v-
        x = v[:4] - v[4:]
        return 0.5 * np.sum((k @ x - y) ** 2) + weight * v.sum()

    found = {}
    for solver in (ForwardBackward(), FISTA()):
        found[type(solver)] = solve(
            problem, SoftThreshold(weight * h), solver=solver, iterations=4000, tolerance=1e-13
        ).x
    for i, y in enumerate(problem.data.numpy()):
        best = scipy.optimize.minimize(
            objective, np.full(8, 0.1), (y,), bounds=[(0, None)] * 8, options={"ftol": 1e-15, "gtol": 1e-12}
        )
        for x in found.values():
            assert np.abs(x[i].numpy() - (best.x[:4] - best.x[4:])).max() < 1e-5


def test_fistas_bound_on_the_objective():
    a = dense(*np.logspace(0, -2, 12), seed=4)
    problem = Problem(a, data(a, 1) / 10)
    h, prox = FISTA().step_size(problem), SoftThreshold(1e-5)
    assert h * problem.smoothness <= 1

    def objective(x: Tensor) -> float:
        return float(problem.value(x) + prox.penalty(x) / h)

    best = solve(problem, prox, solver=FISTA(), iterations=12_000, tolerance=1e-14)
    assert best.certificate.guarantee is Guarantee.OBJECTIVE
    start = problem.correlation
    for k in (1, 4, 16, 64):
        x = solve(problem, prox, solver=FISTA(), iterations=k, tolerance=0.0).x
        gap = objective(x) - objective(best.x)
        assert gap <= 2 * float((start - best.x).norm()) ** 2 / (h * (k + 1) ** 2)


def test_a_proximal_map_with_a_hook_is_none():
    a, prox = dense(2.0, 1.0, 0.5), SoftThreshold(0.1)
    prox.register_forward_hook(lambda module, args, out: 2 * out)
    certificate = solve(Problem(a, data(a)), prox, solver=FISTA(), iterations=3).certificate
    assert certificate.guarantee is Guarantee.NOTHING and "hooks" in certificate.theorem


def test_all_splittings_find_the_same_minimiser():
    a = Blur(gaussian_kernel(0.7), (2, 8, 8), "zero")
    problem = Problem(a, data(a), ridge=0.05)
    h, threshold = 1 / problem.smoothness, 0.02
    found = [
        solve(problem, SoftThreshold(threshold * step), solver=solver, iterations=5000, tolerance=1e-13).x
        for solver, step in ((ForwardBackward(h), h), (ADMM(3.0), 3.0), (FISTA(h), h))
    ]
    assert max(float((x - found[0]).abs().max()) for x in found) < 1e-9


def test_gradient_descent_is_least_squares():
    a = dense(2.0, 1.0, 0.5)
    problem = Problem(a, data(a), ridge=0.1)
    solution = solve(problem, tolerance=1e-14)
    m = a.weight.detach()
    exact = torch.linalg.solve(m.mT @ m + 0.1 * torch.eye(3, dtype=torch.float64), (problem.data @ m).mT).mT
    assert float((solution.x - exact).abs().max()) < 1e-12
    assert solve(problem).certificate.denoiser == "none"


# --- Tikhonov -----------------------------------------------------------------------------------------------------


def test_tikhonov_is_the_minimiser_and_its_constant_the_formula():
    a = dense(2.25, 0.25)
    y = data(a, 1)
    for tau in (1e-4, 0.0625, 3.0):
        x = Tikhonov(a, tau)(y).detach()
        best = scipy.optimize.lsq_linear(
            np.vstack([a.weight.detach().numpy(), math.sqrt(tau) * np.eye(2)]), np.append(y[0].numpy(), [0, 0])
        )
        assert np.abs(best.x - x[0].numpy()).max() < 1e-8
        m = a.weight.detach()
        inverse = torch.linalg.inv(m.mT @ m + tau * torch.eye(2, dtype=torch.float64)) @ m.mT
        norm = float(torch.linalg.matrix_norm(inverse, 2))
        assert lipschitz((2.25, 0.25), tau) == pytest.approx(norm, rel=1e-12)
        assert norm * (1 - 1e-14) <= Tikhonov(a, tau).claims().get(Lipschitz).bound <= norm * (1 + 1e-9)


def test_grid_search_finds_the_formulas_optimum():
    """For x ~ N(0, I) and noise of variance s^2, the expected optimum is tau = s^2."""
    a, random = dense(2.25, 0.25), np.random.default_rng(0)
    x = torch.from_numpy(random.standard_normal((200_000, 2)))
    y = a(x).detach() + 0.3 * torch.from_numpy(random.standard_normal(x.shape))
    tau, errors = grid_search(a, x, y, np.logspace(-4, 1, 101).tolist())
    assert tau == pytest.approx(0.09, rel=0.12) and min(errors) == errors[np.logspace(-4, 1, 101).tolist().index(tau)]


# --- denoisers around denoisers -----------------------------------------------------------------------------------


def test_noise_levels_in_one_batch_keep_the_constants():
    body = Relaxed(trained_looking(4), 0.5)
    levels = Rescaled(body, (0.2, 1.0, 3.0))
    x = data(Mask([[1.0] * 6] * 6, SHAPE))
    one = torch.cat([s * body(v[None] / s) for s, v in zip((0.2, 1.0, 3.0), x, strict=True)])
    assert torch.allclose(levels(x), one, atol=1e-14) and levels.claims().get(Averaged) == body.claims().get(Averaged)
    bounded = Rescaled(Box(-1.0, 0.5), (2.0, 0.5)).claims().get(Bounded)
    assert (bounded.low, bounded.high) == (-2.0, 1.0)
    with pytest.raises(InputError, match="3 scales for a batch of 2"):
        levels(x[:2])


# --- errors -------------------------------------------------------------------------------------------------------


def test_a_step_outside_the_theorem_names_the_limit():
    a = Blur(gaussian_kernel(1.0, 5), SHAPE)
    problem = Problem(a, data(a))
    for solver, limit in ((ForwardBackward(2.0), 2.0), (FISTA(1.01), 1.0)):
        with pytest.raises(ClaimError, match="a step below") as error:
            solve(problem, SoftThreshold(0.1), solver=solver)
        assert float(str(error.value).split("a step below ")[1].split(". ")[0]) == pytest.approx(limit, rel=1e-9)
    assert solve(problem, solver=ForwardBackward(1.999), iterations=2).certificate.step == 1.999
    solve(problem, solver=HalfQuadraticSplitting(1e3), iterations=2)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda p: Problem(p.operator, p.data[:, :, :5]), "a batch of shape"),
        (lambda p: Problem(p.operator, p.data.half()), "float16"),
        (lambda p: Problem(p.operator, p.data * math.nan), "NaN"),
        (lambda p: Problem(p.operator, p.data, ridge=-1.0), "ridge"),
        (lambda p: solve(p, start=p.data[:1]), "a start of shape"),
        (lambda p: solve(p, iterations=0), "iterations=0"),
        (lambda p: solve(p, trained_looking().float()), "float32"),
        (lambda p: solve(p, trained_looking().train()), "training mode"),
        (lambda p: ForwardBackward(-1.0), "step=-1.0"),
        (lambda p: Relaxed(SoftThreshold(1.0), 1.0), "t=1.0"),
        (lambda p: Rescaled(SoftThreshold(1.0), 0.0), "scale=0.0"),
        (lambda p: SoftThreshold(0.0), "threshold"),
        (lambda p: Box(1.0, 0.0), "lower one first"),
        (lambda p: Tikhonov(p.operator, 0.0), "tau=0.0"),
    ],
)
def test_bad_input_is_refused(call, words: str):
    a = Mask([[1.0] * 6] * 6, SHAPE)
    with pytest.raises(InputError, match=words):
        call(Problem(a, data(a)))


def test_iterates_that_blow_up_are_named():
    a = Mask([[1.0, 0.5]], (1, 1, 2))
    with pytest.raises(ClaimError, match="not finite after"):
        solve(Problem(a, data(a)), lambda x: x * 1e200)


def test_the_certificate_is_json_and_rates_are_rounded_up():
    a = dense(2.0, 1.0, 0.5)
    certificate = solve(Problem(a, data(a)), SoftThreshold(0.1)).certificate
    written = json.loads(json.dumps(certificate.to_dict()))
    assert written["guarantee"] == "contraction" and written["rounding"].startswith("proved for the data step")
    h, mu = Fraction(certificate.step), Fraction(certificate.convexity)
    assert Fraction(certificate.rate) >= 1 - h * mu and certificate.smoothness >= 4.0 >= certificate.smoothness * (
        1 - 1e-9
    )
    assert certificate.convexity <= 0.25
    slow = dataclasses.replace(certificate, rate=1 - 2.0**-42)
    assert "the factor 1 - 2.27e-13 a step" in str(slow), "not 1"
