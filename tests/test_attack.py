"""PGD and the machinery of every attack, against an independent loop and a classifier whose margins are known."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from stablenets.attack import PGD, Attack, MaskingWarning, Victim, refute
from stablenets.attack.ball import Ball
from stablenets.core.component import build, config
from stablenets.core.errors import InputError
from stablenets.core.properties import Averaged, Invertible, Lipschitz, Symplectic
from stablenets.layers import Flow

EVERYWHERE = (-math.inf, math.inf)


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A small CNN trained on scikit-learn's digits, and 300 of the other digits."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
        optimiser = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(6):
            for part in torch.randperm(1000).split(50):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(x[part]), y[part]).backward()
                optimiser.step()
    return net.eval(), x[1000:1300], y[1000:1300]


def size(d: Tensor, norm: float) -> Tensor:
    return d.double().flatten(1).norm(norm, dim=1)


def margins(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        z = net(x).double()
    true = z[torch.arange(len(y)), y]
    return z.scatter(1, y[:, None], -math.inf).amax(1) - true


def plain_pgd(net: nn.Module, x: Tensor, y: Tensor, eps: float, norm: float, steps: int = 100) -> Tensor:
    """The independent reference: all samples, all steps, a constant step, nothing clever."""
    z = x.clone()
    for _ in range(steps):
        z.requires_grad_()
        scores = net(z)
        true = nn.functional.one_hot(y, 10).bool()
        loss = scores[~true].view(-1, 9).max(1).values.sum() - scores[true].sum()
        g = torch.autograd.grad(loss, z)[0]
        with torch.no_grad():
            if norm == 2:
                z = z + 2.5 * eps / steps * g / (g.square().sum((1, 2, 3), keepdim=True).sqrt() + 1e-12)
                d = z - x
                z = x + d * torch.clamp(eps / (d.square().sum((1, 2, 3), keepdim=True).sqrt() + 1e-12), max=1.0)
            else:
                z = x + (z + 2.5 * eps / steps * g.sign() - x).clamp(-eps, eps)
            z = z.clamp(0, 1)
    return z.detach()


@pytest.mark.parametrize(("norm", "radii"), [(2, (0.3, 0.5, 0.7)), (math.inf, (0.05, 0.1))])
def test_as_strong_as_an_independent_loop(digits: tuple[nn.Module, Tensor, Tensor], norm: float, radii: tuple) -> None:
    net, x, y = digits
    for eps in radii:
        ours = (margins(net, PGD(eps, norm)(net, x, y), y) < 0).double().mean()
        plain = (margins(net, plain_pgd(net, x, y, eps, norm, steps=50), y) < 0).double().mean()
        assert 0.05 < plain < 0.95, "the radius says nothing"
        assert plain - 0.01 <= ours <= plain + 0.0034, (eps, float(ours), float(plain))


@pytest.mark.parametrize("norm", [2, math.inf])
@pytest.mark.parametrize("eps", [1e-7, 0.013, 0.3, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_stay_in_ball_and_box(
    digits: tuple[nn.Module, Tensor, Tensor], norm: float, eps: float, dtype: torch.dtype
) -> None:
    net, x, y = copy.deepcopy(digits[0]).to(dtype), digits[1][:60].to(dtype), digits[2][:60]
    found = PGD(eps, norm, steps=12, restarts=2)(net, x, y)
    assert found.shape == x.shape and found.dtype == dtype
    assert float(size(found.double() - x.double(), norm).max()) <= math.nextafter(eps, math.inf)
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    if eps == 0.3:  # and the ball is used up to its surface by samples that resist
        assert float(size(found.double() - x.double(), norm).max()) > 0.999 * eps


def test_projection_is_exact_and_the_check_is_sharp() -> None:
    g = torch.Generator().manual_seed(0)
    x, z = torch.rand(200, 3, 7, generator=g), 3 * torch.randn(200, 3, 7, generator=g)
    for norm in (2, math.inf):
        ball = Ball(0.7, norm, EVERYWHERE)
        d = ball.project(x, z).double() - x.double()
        assert float(size(d, norm).max()) <= 0.7 < float(size(1.01 * d, norm).max())  # 1 % off would be noticed
        assert torch.allclose(size(d, norm), torch.full((200,), 0.7).double(), rtol=1e-5)
        inside = x + 0.01 * (z - x)
        assert torch.equal(ball.project(x, inside), inside)
        random = ball.random(x, g)
        assert float(size(random.double() - x.double(), norm).max()) <= 0.7
        assert float(size(random.double() - x.double(), norm).mean()) > 0.6
        assert len(random.unique(dim=0)) == 200
    d = Ball(0.7, 2, EVERYWHERE).project(x, z).double() - x.double()  # nearest point: along the ray
    cosine = (d * (z - x)).flatten(1).sum(1) / size(d, 2) / size(z - x, 2)
    assert float(cosine.min()) > 1 - 1e-6


def linear(dimension: int, classes: int, seed: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """An affine classifier in float64 with inputs, labelled by itself."""
    g = torch.Generator().manual_seed(seed)
    net = nn.Linear(dimension, classes).double()
    net.weight.data = torch.randn(classes, dimension, generator=g).double()
    net.bias.data = torch.randn(classes, generator=g).double()
    x = torch.randn(100, dimension, generator=g).double()
    return net, x, net(x).argmax(1)


def distance(net: nn.Linear, x: Tensor, y: Tensor, norm: float) -> Tensor:
    """Exact distance to the decision boundary: min_j (z_y - z_j) / |w_y - w_j|_dual."""
    z, w = net(x).detach(), net.weight.detach()
    gaps = z.gather(1, y[:, None]) - z
    lengths = (w[y][:, None] - w[None]).norm(2 if norm == 2 else 1, dim=2)
    return (gaps / lengths).scatter(1, y[:, None], math.inf).amin(1)


@pytest.mark.parametrize("norm", [2, math.inf])
@pytest.mark.parametrize(("dimension", "classes"), [(2, 2), (10, 2), (2, 4), (10, 3)])
def test_exact_radius_of_affine_classifiers(norm: float, dimension: int, classes: int) -> None:
    net, x, y = linear(dimension, classes, seed=dimension)
    exact = distance(net, x, y, norm)
    for i in range(0, 100, 9):
        one, label = x[i : i + 1], y[i : i + 1]
        for factor in (0.5, 0.999):
            below = PGD(factor * float(exact[i]), norm, steps=30, restarts=2, box=EVERYWHERE).run(net, one, label)
            assert not bool(below.broken)
        above = PGD(1.001 * float(exact[i]), norm, box=EVERYWHERE, restarts=3).run(net, one, label)
        # with two classes the gradient points to the boundary; with more, ascent may run to another class first
        assert bool(above.broken) or classes > 2
    if classes > 2:
        reached = [
            bool(PGD(1.001 * float(e), norm, box=EVERYWHERE, restarts=6).run(net, x[i : i + 1], y[i : i + 1]).broken)
            for i, e in enumerate(exact[:12])
        ]
        assert sum(reached) >= 11


def test_network_and_global_state_are_left_as_they_were() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 3)
    )
    net.train()
    net[1].eval()
    net[4].weight.requires_grad_(False)
    net[4].bias.grad = torch.ones(3)
    x, y = torch.rand(20, 1, 4, 4), torch.zeros(20, dtype=torch.int64)
    before, random, copies = copy.deepcopy(net), torch.get_rng_state(), (x.clone(), y.clone())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PGD(0.1, steps=5, restarts=2)(net, x, y)
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    for (name, p), q in zip(net.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(p, q) and p.requires_grad == q.requires_grad
        assert torch.equal(p.grad, torch.ones(3)) if name == "4.bias" else p.grad is None
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), before.buffers(), strict=True))
    assert torch.equal(random, torch.get_rng_state()) and torch.equal(x, copies[0]) and torch.equal(y, copies[1])
    assert not x.requires_grad


def test_modes_are_restored_after_an_error() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(5, 3))
    with pytest.raises(RuntimeError):
        PGD(0.1)(net, torch.rand(2, 4), torch.zeros(2, dtype=torch.int64))
    assert all(m.training for m in net.modules())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients_outside(digits: tuple[nn.Module, Tensor, Tensor], context: type) -> None:
    net, x, y = digits[0], digits[1][:40], digits[2][:40]
    expected = PGD(0.8, steps=10)(net, x, y)
    with context():
        assert torch.equal(PGD(0.8, steps=10)(net, x.clone(), y.clone()), expected)


def test_deterministic_by_seed(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits[0], digits[1][:50], digits[2][:50]
    runs = [PGD(0.4, steps=1, step_size=1e-6, restarts=3, seed=s)(net, x, y) for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    small = PGD(0.4, steps=10, batch_size=7).run(net, x, y)
    assert torch.equal(small.broken, PGD(0.4, steps=10).run(net, x, y).broken)


def test_never_worse_than_the_input_and_restarts_help(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    clean = margins(net, x, y)
    one = PGD(0.5, steps=1, step_size=10.0).run(net, x, y)  # one wild step
    more = PGD(0.5, steps=1, step_size=10.0, restarts=5).run(net, x, y)
    assert bool((one.margin >= clean - 1e-5).all()) and bool((more.margin >= one.margin - 1e-5).all())
    assert torch.allclose(one.margin, margins(net, one.x_adv, y), atol=1e-5)
    wrong = clean >= 0
    assert bool(wrong.any()) and torch.equal(one.x_adv[wrong], x[wrong])


class Square(nn.Module):
    """Class 0 everywhere, with the margin -(x - 0.9)^2 - 1."""

    def forward(self, x: Tensor) -> Tensor:
        m = -(x[:, 0] - 0.9).square()
        return torch.stack([torch.zeros_like(m), m - 1], 1)


def test_best_point_is_kept_not_the_last() -> None:
    x, y = torch.tensor([[0.8, 0.5]]), torch.tensor([0])
    found = PGD(0.35, steps=5, step_size=0.3).run(Square(), x, y)  # oscillates about the best point, 0.9
    assert float(found.margin) == max(float(m) for m in _visited(x))


def _visited(x: Tensor) -> list[float]:
    points = [0.8]
    for _ in range(5):
        points.append(min(max(points[-1] + (0.3 if points[-1] < 0.9 else -0.3), 0.45), 1.0))
    return [float(margins(Square(), torch.tensor([[p, 0.5]]), torch.tensor([0]))) for p in map(_f32, points)]


def _f32(p: float) -> float:
    return float(torch.tensor(p, dtype=torch.float32))


def test_ties_and_nan_are_broken() -> None:
    x, y = torch.rand(3, 4), torch.tensor([0, 1, 2])

    def but_one(scores: Tensor) -> Callable[[Tensor], Tensor]:
        """These scores for all samples but the last, which is answered wrongly by finite ones."""
        return lambda x: torch.cat([scores.expand(len(x) - 1, 3), torch.eye(3)[:1]]) + 0 * x[:, :3]

    tie = PGD(0.1).run(lambda x: x.sum(1, keepdim=True) * torch.zeros(3) + 1.0, x, y)
    nan = PGD(0.1).run(but_one(torch.full((1, 3), torch.nan)), x, y)
    one_nan = PGD(0.1).run(but_one(torch.tensor([[9.0, 0, math.nan]])), x, y)
    infinite = PGD(0.1, steps=2).run(but_one(torch.eye(3)[:1] * math.inf), x, y)
    for found in (tie, nan, one_nan, infinite):
        assert bool(found.broken.all()) and torch.equal(found.x_adv, x)
    assert Victim(lambda x: torch.ones(len(x), 3)).predictions(x, y).ne(y).all()


def test_nan_met_on_the_way_counts() -> None:
    """A network that answers NaN outside a small region is broken there."""

    def net(x: Tensor) -> Tensor:
        z = torch.stack([x.sum(1) + 1, 0 * x[:, 0]], 1)
        return torch.where(x[:, :1] < 0.45, z * torch.nan, z)

    with pytest.warns(MaskingWarning):
        found = PGD(0.2).run(net, torch.full((1, 2), 0.5), torch.tensor([0]))
    assert bool(found.broken) and math.isnan(float(found.margin))


def test_masking_is_reported_and_searched_blindly() -> None:
    def saturated(x: Tensor) -> Tensor:
        return (1e4 * torch.stack([x.sum(1) - 1, 1 - x.sum(1)], 1)).softmax(1)

    def stairs(x: Tensor) -> Tensor:
        return torch.stack([(100 * x.sum(1)).floor() / 100, torch.ones(len(x))], 1)

    x, y = torch.full((4, 2), 0.6), torch.zeros(4, dtype=torch.int64)
    for net in (saturated, stairs):
        with pytest.warns(MaskingWarning, match="vanished in"):
            found = PGD(0.2, steps=50).run(net, x, y)
        assert bool(found.broken.all())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PGD(0.2, steps=5)(lambda x: 1e-30 * torch.stack([x.sum(1), 0 * x.sum(1)], 1), x, y)  # tiny is not zero


def test_any_callable_any_shape(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    function = PGD(0.6, steps=8).run(lambda v: net(v), x[:20], y[:20])
    assert torch.equal(function.broken, PGD(0.6, steps=8).run(net, x[:20], y[:20]).broken)
    flat = PGD(0.6, steps=8).run(lambda v: net(v.view(-1, 1, 8, 8)), x[:20].flatten(1), y[:20].to(torch.int32))
    assert torch.equal(flat.broken, function.broken)
    conv = nn.Conv2d(3, 4, 3)
    viewed = PGD(0.3, steps=3)(lambda v: conv(v).view(len(v), -1)[:, :10], x[:9].expand(-1, 3, -1, -1), y[:9])
    assert viewed.shape == (9, 3, 8, 8)  # no layout but the usual one reaches the network
    empty = PGD(0.6)(net, x[:0], y[:0])
    assert empty.shape == (0, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert PGD(0.6, steps=2)(net, x[:5], y[:5]).dtype == torch.float32


X, Y = torch.rand(3, 4), torch.tensor([0, 1, 2])
BAD_INPUT = {
    "lengths": (X, Y[:2], "3 samples"),
    "float labels": (X, Y.float(), "integer label"),
    "bool labels": (X, Y > 0, "integer label"),
    "bytes": ((255 * X).byte(), Y, "float32"),
    "numpy": (X.numpy(), Y, "ndarray"),
    "one sample": (X[0], Y, r"\(batch"),
    "range": (255 * X, Y, "box"),
    "negative": (X - 1, Y, "box"),
    "nan": (X.clone().fill_diagonal_(math.nan), Y, "finite"),
    "label too large": (X, Y + 2, "labels from 2 to 4"),
    "label negative": (X, Y - 1, "labels from -1 to 1"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input(name: str) -> None:
    x, y, words = BAD_INPUT[name]
    with pytest.raises(InputError, match=words):
        PGD(0.1)(nn.Linear(4, 4), x, y)


BAD_OPTIONS = [
    {"eps": -1.0}, {"eps": 0.0}, {"eps": math.nan}, {"eps": math.inf}, {"norm": 1}, {"norm": math.nan},
    {"steps": 0}, {"steps": 1.5}, {"restarts": 0}, {"momentum": 1.0}, {"decay": 0.0}, {"decay": 2.0},
    {"step_size": 0.0}, {"step_size": math.nan}, {"box": (1.0, 0.0)}, {"batch_size": 0},
]  # fmt: skip


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_bad_options(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        PGD(**({"eps": 0.1} | options))


@pytest.mark.parametrize("scores", [lambda x: x.sum(1), lambda x: x[:, :1], lambda x: x[:1], lambda x: x[:, :, None]])
def test_networks_that_are_no_classifiers(scores: object) -> None:
    with pytest.raises(InputError, match="scores"):
        PGD(0.1)(scores, X, Y)


def test_component() -> None:
    assert "PGD" in Attack.registry
    net = nn.Linear(4, 3)
    for attack in PGD.examples():
        again = build(config(attack))
        assert config(again) == config(attack)
        assert torch.equal(again(net, X, Y), attack(net, X, Y))


class TestRefute:
    def test_finds_the_lipschitz_constant(self) -> None:
        g = torch.Generator().manual_seed(0)
        net = nn.Linear(6, 6, bias=False).double()
        net.weight.data = torch.randn(6, 6, generator=g, dtype=torch.float64)
        norm = float(torch.linalg.matrix_norm(net.weight.detach(), 2))
        x = torch.randn(16, 6, generator=g)
        assert abs(refute(net, Lipschitz(norm), x).violation) < 1e-9
        assert refute(net, Lipschitz(0.99 * norm), x).violation > 0.01
        assert refute(net, Averaged(0.99), x).violation > 0

    def test_climbs_where_sampling_fails(self) -> None:
        """|slope| 3 only near one point far from the samples."""

        def bump(x: Tensor) -> Tensor:
            return x + 2 * torch.tanh(x - 2.0)

        x = 0.5 * torch.randn(8, 1, generator=torch.Generator().manual_seed(1))
        start = refute(bump, Lipschitz(2.9), x, steps=0)
        assert start.violation < 0 < refute(bump, Lipschitz(2.9), x, steps=100).violation

    def test_returns_the_sample_it_reports(self) -> None:
        flow = next(f for f in Flow.examples())
        double, claim = copy.deepcopy(flow).double().eval(), Averaged(0.01)
        before = copy.deepcopy(flow.state_dict())
        found = refute(flow, claim, torch.randn(8, *flow.field.state_shape))
        again = claim.violation(double, found.x[None], found.y[None]).detach()
        assert found.violation == pytest.approx(float(again), rel=1e-9)
        assert found.x.dtype == torch.float64
        assert all(torch.equal(v, flow.state_dict()[k]) for k, v in before.items() if isinstance(v, Tensor))

    def test_true_claims_of_the_examples_survive(self) -> None:
        for i, flow in enumerate(Flow.examples()):
            x = torch.randn(6, *flow.field.state_shape, generator=torch.Generator().manual_seed(i))
            for claim in flow.eval().claims():
                assert refute(flow, claim, x, steps=20).violation < 1e-7, (i, claim)

    def test_differentiates_symplecticity(self) -> None:
        """x -> x + (0, q^3) is symplectic; scaling p breaks it most where the scale differs most from 1."""

        def scaled(x: Tensor) -> Tensor:
            q, p = x.chunk(2, 1)
            return torch.cat([q, p * (1 + 0.1 * (1 - torch.cos(q)))], 1)

        x = 0.1 * torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
        start, found = (refute(scaled, Symplectic(), x, steps=s, lr=0.3).violation for s in (0, 60))
        assert found > 10 * start

    def test_random_search_without_gradients(self) -> None:
        def rounded(x: Tensor) -> Tensor:
            return torch.where(x < 1.0, x, 2 - x)  # orientation flips at 1: only the sign says so

        x = torch.full((4, 1), 0.9)
        assert refute(rounded, Invertible(), x, steps=30, lr=0.2).violation > 0

    def test_deterministic_and_no_false_alarm_from_rounding(self) -> None:
        state = torch.get_rng_state()
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
        runs = [refute(nn.Identity(), Lipschitz(1.0), x, steps=200, lr=1.0) for _ in range(2)]
        assert runs[0].violation == runs[1].violation < 1e-9
        assert torch.equal(state, torch.get_rng_state())

    def test_nan_is_a_violation(self) -> None:
        assert refute(lambda x: x * math.nan, Lipschitz(1.0), X).violation == math.inf
        with pytest.raises(InputError):
            refute(nn.Identity(), Lipschitz(1.0), X[:0])
