"""Float32 certificates: the error bound holds on the worst machine that the model permits, and radii on real ones."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import small_runs
import stablenets as sn
from stablenets import cli
from stablenets.certify import Certificate, arithmetic
from stablenets.certify.certificate import certify
from stablenets.certify.radii import before_rounding, check, differences
from stablenets.certify.running import Scores, analyse
from stablenets.core.errors import ClaimError, InputError
from stablenets.fields import ConvexGradient, LeakyReLU, ReLU, SkewLinear, Softplus, Tanh
from stablenets.integrators import RK4, SSPRK3, Cayley, Euler, Exponential, Heun, Midpoint
from stablenets.layers import (
    Abs,
    Affine,
    Chain,
    Flow,
    GroupSort,
    Householder,
    Lift,
    Normalise,
    NormalisedHead,
    TruncatedHead,
    leaves,
)
from stablenets.linear import AlmostOrthogonal, Conv1d, Conv2d, Dense, SkewConv2d, SkewDense
from stablenets.report.run import load_runs
from stablenets.report.words import certificates
from stablenets.tasks import classify
from stablenets.tasks.deform import deform
from test_certify import images, small_net, trained_looking
from worst_case import worst_scores

U = 2.0**-24


def flows(activation: Any, integrator: Any) -> nn.Module:
    return Chain(
        Lift(1, 3),
        Flow(ConvexGradient(Conv2d(3, 4, 3, 4), activation), integrator, steps=2),
        nn.Flatten(),
        Flow(ConvexGradient(Dense(48, 9), activation), integrator, time=2.0),
        NormalisedHead(48, 3),
    )


def bounds(cert: Certificate, x: Tensor) -> Scores:
    return analyse(zip([layer for _, layer in leaves(cert._exact)], cert.layers, strict=True), x)


def pair(cert: Certificate, scores: Scores, i: int, j: int) -> tuple[Tensor, Tensor]:
    """Bound (batch, 2) of the error of z_j - z_i, and the direction (batch, classes) that measures it."""
    winner = torch.full((len(scores.values),), i)
    bound = differences(scores, torch.tensor(cert.constants, dtype=torch.float64), winner)[:, j]
    direction = torch.zeros_like(scores.values)
    direction[:, j], direction[:, i] = 1, -1
    return bound, direction


def steps(x: Tensor, length: Tensor | float, towards: Tensor) -> Tensor:
    """x moved by `length` in the direction `towards`."""
    unit = towards / towards.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, *[1] * (x.dim() - 1))
    return x + unit * torch.as_tensor(length, dtype=x.dtype).view(-1, *[1] * (x.dim() - 1))


def uphill(net: nn.Module, x: Tensor, direction: Tensor) -> Tensor:
    with torch.enable_grad():
        probe = x.clone().requires_grad_()
        return torch.autograd.grad((net(probe) * direction).sum(), probe)[0]


# --- the bound ------------------------------------------------------------------------------------------------------

# a layer, and how much of its bound the worst machine reaches at least
LAYERS: list[Callable[[], tuple[nn.Module, float]]] = [
    lambda: (Normalise((0.3,), (0.7,)), 0.5),
    lambda: (nn.AvgPool2d(2, divisor_override=2), 0.1),
    lambda: (nn.Tanh(), 0.1),
    lambda: (nn.LeakyReLU(0.3), 0.1),
    lambda: (nn.Sequential(nn.Flatten(), GroupSort(4), Abs()), 0.5),
    lambda: (nn.Sequential(nn.Flatten(), Householder(16)), 0.05),
    lambda: (Affine(Conv1d(1, 4, 3, 16)), 0.1),
    lambda: (Affine(Conv2d(1, 1, 3, 4, stride=2)), 0.1),
    lambda: (nn.Sequential(nn.Flatten(), Affine(SkewDense(16))), 0.1),
    lambda: (nn.Sequential(nn.Flatten(), Affine(AlmostOrthogonal(Dense(16, 16)))), 0.1),
    lambda: (Flow(ConvexGradient(AlmostOrthogonal(Conv2d(1, 4, 3, 4, "circular"))), Euler(), steps=1), 0.05),
    lambda: (Flow(ConvexGradient(Conv2d(1, 4, 3, 4, "reflect")), Euler(), steps=1), 0.05),
    lambda: (Flow(ConvexGradient(Conv2d(1, 4, 3, 4, stride=2)), Euler(), steps=1), 0.05),
    lambda: (nn.Sequential(nn.Flatten(), Flow(SkewLinear(SkewDense(16)), Exponential(7), h=0.7, steps=2)), 0.05),
    lambda: (nn.Sequential(Lift(1, 3), Flow(SkewLinear(SkewConv2d(3, 3, 4)), Exponential(4), time=1.0)), 0.05),
    lambda: (nn.Sequential(nn.PixelUnshuffle(2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 9)), 0.1),
]


def with_head(layer: nn.Module) -> tuple[nn.Module, tuple[int, ...]]:
    """The layer in a network, and the shape of its inputs."""
    shape = layer.linear.input_shape if isinstance(layer, Affine) else (1, 4, 4)
    features = layer(torch.zeros(1, *shape)).numel()
    return trained_looking(nn.Sequential(layer, nn.Flatten(), nn.Linear(features, 3))), shape


@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.2), Tanh(), Softplus()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("integrator", [Euler(), Heun(), SSPRK3(), RK4()], ids=lambda m: type(m).__name__)
def test_the_worst_machine_stays_within_the_bound_of_flows(activation, integrator):
    attain(flows(activation, integrator), 0.015)


@pytest.mark.parametrize("made", LAYERS)
def test_the_worst_machine_stays_within_the_bound_of_other_layers(made):
    layer, share = made()
    net, shape = with_head(layer)
    attain(net, share, shape)


STAGES: list[Callable[[], tuple[nn.Module, float]]] = [
    lambda: (Flow(ConvexGradient(Conv2d(1, 4, 3, 4), Tanh()), RK4(), steps=2), 0.0),
    lambda: (Flow(ConvexGradient(Conv2d(1, 4, 3, 4), LeakyReLU(0.1)), Heun(), time=0.5), 0.0),
    lambda: (Flow(ConvexGradient(Conv2d(1, 4, 3, 4)), Midpoint(), h=0.2, steps=3), 0.0),
]


@pytest.mark.parametrize("made", [*LAYERS, *STAGES])
def test_the_checker_proves_the_growth_of_every_layer(tmp_path, made):
    checked_growth(tmp_path, *with_head(made()[0]))


def checked_growth(folder: Path, net: nn.Module, shape: tuple[int, ...]) -> None:
    """The checker proves it by formulas of its own, to four digits: a little less is refused."""
    sn.save(net, folder / "m.safetensors")
    certify(net, dtype="float32", input_shape=shape).save(folder / "c.json")
    verdict = sn.verify(folder / "m.safetensors", folder / "c.json")
    assert verdict.ok and "evaluated in float32" in verdict.reason, verdict.reason
    content = json.loads((folder / "c.json").read_text())
    if content["float32"]["state"] > 1e-20:
        content["float32"]["state"] *= 1 - 1e-4
        (folder / "c.json").write_text(json.dumps(content))
        assert "float32: the growth" in sn.verify(folder / "m.safetensors", folder / "c.json").reason


def attain(net: nn.Module, share: float, shape: tuple[int, ...] = (1, 4, 4)) -> None:
    """At the centre and at points of balls the bound holds, and a `share` of it is reached."""
    cert = certify(trained_looking(net), dtype="float32", input_shape=shape)
    x = 5 * images(20, size=4).double().reshape(20, *shape)
    scores = bounds(cert, x)
    worst = 0.0
    for i, j in ((0, 1), (2, 0)):
        bound, direction = pair(cert, scores, i, j)
        for radius in (0.0, 0.3, 3.0):
            moved = steps(x, radius, uphill(cert._exact, x, direction))
            exact = cert._exact(moved).detach()
            off = ((worst_scores(cert._exact, moved, direction) - exact) * direction).sum(1)
            assert (off <= bound[:, 0] + radius * bound[:, 1]).all()
            worst = max(worst, float((off / (bound[:, 0] + radius * bound[:, 1])).max()))
    assert worst > share, f"the bound is far from anything that may happen: {worst}"


def test_the_bound_is_nearly_attained_by_a_single_product():
    """One positive row, so that all roundings add up: nothing but the head's own sum may go wrong."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(50, 2)).eval()
    net[1].weight.data.abs_()
    cert = certify(net, dtype="float32", input_shape=(50,))
    x = torch.rand(5, 50, dtype=torch.float64)
    bound, direction = pair(cert, bounds(cert, x), 0, 1)
    exact = net.double()(x).detach()
    off = ((worst_scores(net, x, direction) - exact) * direction).sum(1)
    assert (off <= bound[:, 0]).all() and (off >= 0.99 * bound[:, 0]).all()


def test_normalised_rows_are_off_by_more():
    """The rows of a normalised head are normalised in float32 as well, by a norm summed in any order."""
    net = nn.Sequential(nn.Flatten(), NormalisedHead(50, 2)).eval()
    net[1].weight.data.abs_()
    cert = certify(net, dtype="float32", input_shape=(50,))
    x = torch.rand(5, 50, dtype=torch.float64)
    bound, direction = pair(cert, bounds(cert, x), 0, 1)
    exact = net.double()(x).detach()
    off = ((worst_scores(net, x, direction) - exact) * direction).sum(1)
    assert (off <= bound[:, 0]).all() and (off >= 0.9 * bound[:, 0]).all()


def test_the_bound_of_one_step_is_the_formula():
    """Against explicit matrices in numpy, for Euler and ReLU: from above and from below."""
    flow = Flow(ConvexGradient(Conv2d(2, 3, 3, (3, 4))), Euler(), steps=1)
    net = trained_looking(nn.Sequential(flow, nn.Flatten(), nn.Linear(24, 3)))
    cert = certify(net, dtype="float32", input_shape=(2, 3, 4))
    x = torch.randn(4, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, norm, h = flow.field.linear.matrix().numpy(), cert.layers[0].norm_bound, flow.step_size
    b = np.repeat(flow.field.bias.detach().double().numpy(), 12)
    g = lambda m: m * U / (1 - m * U)  # noqa: E731
    size = flow.field.linear.absolute_bound()
    found = bounds(cert, x).state
    for k, v in enumerate(x.flatten(1).numpy()):
        for radius in (0.0, 1.0):
            z = a @ v + b
            dz = g(18 + 1) * (np.linalg.norm(abs(a) @ abs(v) + abs(b)) + size * radius)
            s = np.maximum(z, 0)
            ds = norm * radius + dz
            error = norm * dz + g(27) * (np.linalg.norm(abs(a).T @ s) + size * ds)
            slope = np.linalg.norm(a.T @ s) + norm**2 * radius + error
            expected = h * error + g(5) * (np.linalg.norm(v) + radius + h * slope)
            assert float(found[k] @ torch.tensor([1, radius], dtype=torch.float64)) == pytest.approx(expected, rel=1e-6)


def evaluations(net: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """Scores in float32 with sums in various orders."""
    with torch.no_grad():
        yield net(x)  # oneDNN
        yield torch.cat([net(part) for part in x.split(1)])
        yield net(x.contiguous(memory_format=torch.channels_last))
        yield torch.cat([net(part) for part in x.flip(0).split(7)]).flip(0)
        with arithmetic.plain_float32():
            yield net(x)


@pytest.mark.parametrize("seed", range(3))
def test_real_machines_stay_within_the_bound_in_any_order(seed):
    net, x = small_net(seed), images(60, seed)
    cert = certify(net, dtype="float32")
    scores = bounds(cert, x.double())
    constants = torch.tensor(cert.constants, dtype=torch.float64)
    for evaluated in evaluations(net, x):
        check(evaluated, scores, constants)  # raises where one is further off
        assert not torch.equal(evaluated.double(), scores.values)


def test_cancellation_is_seen():
    """Margins that are tiny differences of large scores: float32 loses all their digits, and nothing is certified."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(80, 2, bias=False)).eval().requires_grad_(False)
    row = 1e4 * torch.randn(40, generator=torch.Generator().manual_seed(1))
    net[1].weight[:] = torch.stack([torch.cat([row, 0 * row]), torch.cat([0 * row, row.flip(0)])])
    half = torch.randn(300, 40, generator=torch.Generator().manual_seed(2))
    x = torch.cat([half, half.flip(1)], 1)  # both scores are the same sum, in two orders ...
    x[:, 0] *= 1 + 1e-6  # ... but for the last digits of one term
    wide, narrow = certify(net, input_shape=(80,)), certify(net, dtype="float32", input_shape=(80,))
    wrong = narrow.logits(x).argmax(1) != wide.logits(x).argmax(1)
    assert wrong.sum() > 10, "the example is no test"
    assert (narrow.radius(x) == 0).all() and (wide.radius(x)[wrong] > 0).any()


def test_exact_rational_arithmetic_agrees():
    """Two neurons, evaluated in exact fractions at points of certified balls: the answers are those of float32."""
    field = ConvexGradient(Dense(2, 2))
    net = trained_looking(nn.Sequential(Flow(field, Euler(), steps=1), nn.Linear(2, 2)), seed=3).requires_grad_(False)
    cert = certify(net, dtype="float32", input_shape=(2,))
    fractions = lambda t: [[Fraction(float(v)) for v in row] for row in t.reshape(len(t), -1)]  # noqa: E731
    a, b, w, c = map(fractions, (field.linear.weight, field.bias, net[1].weight, net[1].bias))
    h = Fraction(net[0].step_size)

    def exact(x: Tensor) -> Fraction:
        v = [Fraction(float(t)) for t in x]
        s = [
            max(Fraction(0), sum(p * q for p, q in zip(row, v, strict=True)) + e[0])
            for row, e in zip(a, b, strict=True)
        ]
        v = [v[k] - h * sum(a[i][k] * s[i] for i in range(2)) for k in range(2)]
        z = [sum(p * q for p, q in zip(row, v, strict=True)) + e[0] for row, e in zip(w, c, strict=True)]
        return z[0] - z[1]

    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    scores, radius = bounds(cert, x.double()), cert.radius(x)
    bound, _ = pair(cert, scores, 1, 0)
    for k in range(30):
        for point in (x[k], *steps(x[k : k + 1].double(), radius[k], torch.randn(20, 2).double()).float()):
            if (distance := float((point.double() - x[k].double()).norm())) > radius[k]:
                continue
            single = cert.logits(point[None])[0]
            assert (exact(point) > 0) == (single[0] > single[1]) == (scores.values[k, 0] > scores.values[k, 1])
            off = abs(Fraction(float(single[0])) - Fraction(float(single[1])) - exact(point))
            assert off <= Fraction(float(bound[k, 0] + bound[k, 1] * distance)) + Fraction(U) * (abs(exact(point)) + 1)


def test_scores_of_a_truncated_head_are_the_state():
    """No weights, no rounding: what the flow before it loses, times sqrt(2)."""
    net = nn.Sequential(Flow(ConvexGradient(Dense(16, 20)), Euler(), steps=1), TruncatedHead(3))
    attain(net, 0.05, (16,))
    cert = certify(net, dtype="float32", input_shape=(16,))
    assert cert.growth is not None and cert.growth.scores == (0.0, 0.0, 0.0)


# --- the radius -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_float32_radii_are_a_little_smaller(seed):
    net, x = small_net(seed), images(100, seed)
    wide, narrow = certify(net).radius(x), certify(net, dtype="float32").radius(x)
    assert (narrow <= wide).all()
    assert (narrow > 0.999 * wide - 5e-3).all()


def test_the_radius_is_where_the_margin_meets_the_error():
    """Found by bisection, from the exact margins and the bound in every ball."""
    net, x = small_net(2), images(10, 2)
    cert = certify(net, dtype="float32")
    scores, radius = bounds(cert, x.double()), cert.radius(x)
    constants = np.array(cert.constants)
    for k in range(10):
        i = int(scores.values[k].argmax())
        low, high = 0.0, 10.0
        for _ in range(60):
            r = (low + high) / 2
            state, own = (v[k].numpy() @ [1, r] for v in (scores.state, scores.own))
            lead = scores.values[k, i].numpy() - scores.values[k].numpy() - constants[i] * (cert.lipschitz * r + state)
            safe = np.delete(lead - own - own[i], i).min() > 0
            low, high = (r, high) if safe else (low, r)
        assert float(radius[k]) == pytest.approx(low, rel=1e-5, abs=2e-6) and radius[k] <= low


def test_the_worst_machine_does_not_break_a_certified_point():
    """The steepest way to the runner-up, to the very edge of the ball, evaluated as badly as the model permits."""
    net, x = small_net(4), images(80, 4)
    cert = certify(net, dtype="float32")
    radius, label = cert.radius(x), cert.logits(x).argmax(1)
    assert (radius > 1e-4).float().mean() > 0.5
    for j in range(4):
        direction = torch.nn.functional.one_hot(torch.full_like(label, j), 4) - F.one_hot(label, 4).double()
        moved = x.double()
        for _ in range(5):
            moved = steps(
                x.double(), radius, moved - x + 0.5 * steps(0 * moved, 1, uphill(cert._exact, moved, direction))
            )
        answer = worst_scores(cert._exact, moved, direction).argmax(1)
        assert (answer == label)[radius > 0].all()


def test_the_edge_of_a_ball_is_searched_through_float32_neighbours():
    """A linear classifier, whose nearest boundary is known: rounding may not carry a point across it."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(30, 2)).eval().requires_grad_(False)
    cert = certify(net, dtype="float32", input_shape=(30,))
    x = torch.randn(400, 30, generator=torch.Generator().manual_seed(0))
    radius, label = cert.radius(x), cert.logits(x).argmax(1)
    w = (net[1].weight[0] - net[1].weight[1]).double() * torch.where(label == 0, -1.0, 1.0)[:, None]
    draw, tried = torch.Generator().manual_seed(1), 0
    for _ in range(60):
        moved = steps(x.double(), radius - 1e-6, w).float()
        moved = torch.nextafter(moved, torch.randn(moved.shape, generator=draw).sign() * math.inf)
        inside = ((moved.double() - x.double()).flatten(1).norm(dim=1) <= radius) & (radius > 0)
        tried += int(inside.sum())
        assert (cert.logits(moved).argmax(1) == label)[inside].all()
    assert tried > 1000
    exact = certify(net).radius(x)
    assert ((exact - radius) < 1e-4).all() and (radius <= exact).all()


def test_inputs_in_float64_are_rounded_on_the_way_in():
    net, x = small_net(), images(10).double() + 1e-9
    cert = certify(net, dtype="float32")
    radius, rounded = cert.radius(x), cert.radius(x.float())
    lost = (x - x.float().double()).flatten(1).norm(dim=1)
    assert (lost > 0).all() and (radius <= rounded - 0.999 * lost).all() and (radius > rounded - 1e-5).all()
    ones = torch.ones(1, 4, dtype=torch.float64)  # a float32 tensor of norm 2: perturbed points may be off by 2 u
    assert 1 - 4 * U < float(before_rounding(torch.ones(1), ones)) < 1 - 2 * U
    assert float(before_rounding(torch.ones(1), ones + U)) < 1 - 4 * U  # and the centre by as much


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_inputs_that_are_not_finite_or_too_large_are_not_certified(value):
    x = images(3)
    x[1, 0, 2, 2] = value
    radius = certify(small_net(), dtype="float32").radius(x)
    assert radius[1] == 0 and (radius[[0, 2]] > 0).all()


def test_ties_are_not_certified():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval().requires_grad_(False)
    net[1].weight[1] = net[1].weight[0]
    net[1].bias.copy_(torch.tensor([5.0, 5.0, 0.0]))
    assert (certify(net, dtype="float32", input_shape=(4,)).radius(torch.randn(10, 4) * 0.1) == 0).all()


# --- the arithmetic -------------------------------------------------------------------------------------------------


def test_winograd_and_its_like_are_noticed():
    """With oneDNN off PyTorch takes NNPACK, which transforms the image; where NNPACK is missing, nothing is wrong."""
    if not torch.backends.nnpack.is_available():
        pytest.skip("this build has no NNPACK")
    before = torch.backends.mkldnn.enabled
    try:
        torch.backends.mkldnn.enabled = False
        with pytest.raises(ClaimError, match="integers come out wrong"):
            arithmetic.refuse_inexact()
        with arithmetic.plain_float32():
            pass
    finally:
        torch.backends.mkldnn.enabled = before


@pytest.mark.parametrize("bits", [8, 11])
@pytest.mark.parametrize("name", ["conv2d", "linear"])
def test_rounded_factors_are_noticed(monkeypatch, name, bits):
    """bf16 keeps 8 bits of a factor, TF32 keeps 11."""
    true = getattr(F, name)

    def short(t: Tensor) -> Tensor:
        mantissa, exponent = t.frexp()
        return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent) if t.dtype == torch.float32 else t

    monkeypatch.setattr(F, name, lambda x, w, **options: true(short(x), short(w), **options))
    with pytest.raises(ClaimError, match="integers come out wrong"):
        arithmetic.refuse_inexact()


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_lower_precision_of_products_is_refused(precision):
    cert = certify(small_net(), dtype="float32")
    torch.set_float32_matmul_precision(precision)
    try:
        with pytest.raises(ClaimError, match=f"float32 products is {precision}.*highest"):
            cert.radius(images(1))
    finally:
        torch.set_float32_matmul_precision("highest")


def test_autocast_is_refused():
    net = small_net()
    cert = certify(net, dtype="float32")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for call in (
            lambda: certify(net, dtype="float32"),
            lambda: cert.radius(images(1)),
            lambda: cert.logits(images(1)),
        ):
            with pytest.raises(ClaimError, match="autocast"):
                call()


def test_the_flags_are_left_as_they_were():
    cert = certify(small_net(), dtype="float32")
    before = torch.backends.mkldnn.enabled
    cert.radius(images(2))
    with contextlib.suppress(ZeroDivisionError), arithmetic.plain_float32():
        raise ZeroDivisionError
    assert torch.backends.mkldnn.enabled == before and torch._C._get_nnpack_enabled()


def test_an_arithmetic_that_is_not_what_the_proof_assumes_is_refused():
    """Every radius is computed beside the float32 scores, which are held against their bounds."""
    cert = certify(small_net(), dtype="float32")
    with torch.no_grad():
        cert._net.body.layers[-1].bias[0] += 0.1
    with pytest.raises(ClaimError, match="further from the exact ones"):
        cert.radius(images(2))


def test_activations_are_as_accurate_as_assumed():
    """tanh and softplus in float32 at a few million points of all sizes: within 8 u, or what flushing to zero costs."""
    bits = torch.arange(0, 2**31 - 2**23, 2563, dtype=torch.int64).to(torch.int32)
    z = torch.cat([bits.view(torch.float32), -bits.view(torch.float32)])
    for activation in (Tanh(), Softplus(), LeakyReLU(0.3), torch.tanh):
        exact, found = activation(z.double()), activation(z).double()
        assert ((found - exact).abs() <= 8 * U * exact.abs() + 2.0**-126).all()
    exact, found = LeakyReLU(0.3)(z.double()), LeakyReLU(0.3)(z).double()
    assert ((found - exact).abs() <= 2 * U * exact.abs() + 2.0**-126).all()


# --- what is refused, and the file ----------------------------------------------------------------------------------


def test_weights_in_float64_are_refused():
    with pytest.raises(ClaimError, match=r"is torch\.float64; needed: float32 weights"):
        certify(small_net().double(), dtype="float32")


def test_layers_without_an_analysis_are_named():
    """A Cayley step solves a system of equations, whose error in float32 nothing bounds well."""
    net = nn.Sequential(Flow(SkewLinear(SkewDense(4)), Cayley(), h=0.3), nn.Linear(4, 2)).eval()
    certify(net)
    with pytest.raises(ClaimError, match=r"no float32 analysis for Cayley on SkewLinear \(0\).*Exponential"):
        certify(net, dtype="float32", input_shape=(4,))


def test_inputs_of_unknown_size_are_refused():
    with pytest.raises(ClaimError, match=r"input_shape="):
        certify(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), dtype="float32")


def test_another_dtype_is_refused():
    with pytest.raises(InputError, match="'float64' or 'float32'"):
        certify(small_net(), dtype="bfloat16")  # type: ignore[arg-type]


def test_weights_that_might_overflow_are_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    net[1].weight.data *= 1e38
    with pytest.raises(ClaimError, match="overflow"):
        certify(net, dtype="float32", input_shape=(4,))


def test_sums_that_overflow_are_not_certified():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval().requires_grad_(False)
    net[1].bias.copy_(torch.tensor([3e38, 0.0]))
    assert (certify(net, dtype="float32", input_shape=(4,)).radius(torch.rand(3, 4)) == 0).all()


def test_steps_beyond_the_limit_have_their_growth():
    net = trained_looking(nn.Sequential(Flow(ConvexGradient(Dense(4, 6)), Midpoint(), h=0.5, steps=3), nn.Linear(4, 2)))
    cert = certify(net, dtype="float32", input_shape=(4,))
    x = torch.randn(10, 4, dtype=torch.float64)
    bound, direction = pair(cert, bounds(cert, x), 0, 1)
    off = ((worst_scores(cert._exact, x, direction) - cert._exact(x).detach()) * direction).sum(1)
    assert cert.lipschitz > 1 and (off <= bound[:, 0]).all() and (off > 1e-3 * bound[:, 0]).any()


def test_growth_is_the_same_for_every_input():
    net = small_net()
    cert = certify(net, dtype="float32")
    scores = bounds(cert, images(5).double())
    assert cert.growth is not None
    torch.testing.assert_close(scores.state[:, 1], torch.full((5,), cert.growth.state).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(scores.own[2, :, 1], torch.tensor(cert.growth.scores).double(), rtol=1e-6, atol=0)


def test_file_round_trip(tmp_path):
    net = small_net()
    cert = certify(net, dtype="float32")
    cert.save(tmp_path / "c.json")
    again = Certificate.load(tmp_path / "c.json", net)
    assert again.to_json() == cert.to_json()
    x = images(4)
    torch.testing.assert_close(again.radius(x), cert.radius(x), rtol=0, atol=0)
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["dtype"] == "float32" and content["float32"]["unit_roundoff"] == U
    content["float32"]["state"] *= 0.9
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="edited: 'float32'"):
        Certificate.load(tmp_path / "c.json", net)


def test_explain_says_what_is_covered():
    text = certify(small_net(), dtype="float32").explain()
    for words in ("float32 on a CPU", "no TF32", "Winograd", "running error analysis", "float64"):
        assert words in text
    assert "float32" not in certify(small_net()).explain()


# --- in runs --------------------------------------------------------------------------------------------------------


def test_a_run_is_certified_in_float32(tmp_path, capsys):
    run = small_runs.copied(tmp_path)
    deform(run, test_limit=2)
    assert run.has("attack.json") and run.has("deformations.json")
    with pytest.raises(SystemExit) as ended:
        cli.main(["certify", str(run.path), "--dtype", "float32"])
    assert ended.value.code == 0 and "running error analysis" in capsys.readouterr().out
    proved = json.loads(run.file("certified.json").read_text())
    assert proved["dtype"] == "float32" == json.loads(run.file("certificate.json").read_text())["dtype"]
    assert classify.verify(run).ok
    assert not run.has("attack.json") and not run.has("deformations.json"), "float64 radii are gone"
    classify.attack(run, steps=2)
    assert json.loads(run.file("attack.json").read_text())["sandwich_ok"]
    classify.certify(run, dtype="float32")
    assert run.has("attack.json"), "the same certificate: nothing is lost"
    sentences = certificates(load_runs([run.path]))[0]["sentences"]
    assert any("evaluated in float32" in sentence for sentence in sentences)


def test_what_has_no_float32_certificate_keeps_its_other(tmp_path, monkeypatch):
    run = small_runs.copied(tmp_path)
    before = run.file("certificate.json").read_text()

    def refuse(*_: Any, **__: Any) -> None:
        raise ClaimError("no float32 analysis")

    monkeypatch.setattr(classify, "prove", refuse)
    with pytest.raises(ClaimError, match="no float32 analysis"):
        classify.certify(run, dtype="float32")
    assert run.file("certificate.json").read_text() == before and not run.has("uncertified.txt")
