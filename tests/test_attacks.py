"""Every attack: what all of them keep, exact distances, targets, certified radii, bad input."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from attacked import ALL, BALL, EVERYWHERE, MINIMAL, affine, answers, digits, moved
from stablenets.attack import (
    APGD,
    DDN,
    PGD,
    ADef,
    Attack,
    DeepFool,
    Ensemble,
    MaskingWarning,
    Smallest,
    SquareAttack,
    Szegedy,
    attack_curve,
    robust_curve,
    smallest,
)
from stablenets.attack.bounded_lbfgs import minimise
from stablenets.core.component import build, config
from stablenets.core.errors import InputError

# how near the median comes to the exact distance, with few steps; ascent may run to another class than the nearest
NEAR = {"ddn": 1.02, "deepfool": 1.021, "carlini-wagner": 1.1, "szegedy": 1.05, "smallest": 1.02}


def boxed(attack: Attack, **changes: object) -> Attack:
    """The same attack in a box that is too large to matter."""
    given = config(attack) | {"box": list(EVERYWHERE)} | changes
    if isinstance(attack, Smallest):
        given = config(attack) | {"attack": config(attack.attack) | {"box": list(EVERYWHERE)}}
    return build(given)


@pytest.mark.parametrize("name", ALL)
def test_what_every_attack_keeps(name: str) -> None:
    attack, (net, x, y) = ALL[name], digits()
    x, y = x[:24], y[:24]
    before, random = copy.deepcopy(net).train(), torch.get_rng_state()
    net.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = attack.run(net, x, y)
    assert net.training and all(p.grad is None for p in net.parameters())
    net.eval()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before.parameters(), strict=True))
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(found.x_adv, attack.run(net, x, y).x_adv)

    assert found.x_adv.shape == x.shape and found.x_adv.dtype == x.dtype
    assert float(found.x_adv.min()) >= 0 and float(found.x_adv.max()) <= 1
    wrong = answers(net, x) != y
    assert torch.equal(found.x_adv[wrong], x[wrong])
    assert torch.equal(found.broken, answers(net, found.x_adv) != y)
    assert float(found.broken.double().mean()) > 0.05, "the attack is good for nothing here"
    size = moved(found.x_adv, x, attack.norm)
    assert torch.allclose(found.distance[found.broken], size[found.broken]) and bool(
        found.distance[~found.broken].isinf().all()
    )
    if name in BALL:
        assert float(size.max()) <= attack.reach
        clean = attack.run(net, x, y, certified=torch.full((24,), 99.0)).margin
        assert bool((found.margin >= clean).all())
    else:
        assert torch.equal(found.x_adv[~found.broken], x[~found.broken])
    assert config(build(config(attack))) == config(attack)


@pytest.mark.parametrize("name", MINIMAL)
def test_distances_of_affine_classifiers(name: str) -> None:
    """No attack is nearer than the boundary; those for small perturbations come close to it."""
    net, x, y, exact = affine()
    found = boxed(MINIMAL[name]).run(net, x, y)
    assert bool(found.broken.all())
    assert bool((found.distance >= exact * (1 - 1e-9)).all()), "nearer than the nearest boundary"
    ratio = found.distance / exact
    assert float(ratio.median()) < NEAR[name], ratio.sort().values
    assert float((ratio < 1.15).double().mean()) >= (0.5 if name == "carlini-wagner" else 0.8), ratio.sort().values


@pytest.mark.parametrize("name", ALL)
def test_targets(name: str) -> None:
    attack, (net, x, y) = ALL[name], digits()
    x, y = x[:20], y[:20]
    with torch.no_grad():
        target = net(x).scatter(1, y[:, None], -math.inf).argmax(1)
    found = attack.run(net, x, y, target=target)
    assert torch.equal(found.broken, answers(net, found.x_adv) == target)
    assert float(found.broken.double().mean()) >= (0.9 if name in MINIMAL and name != "deepfool" else 0.1)
    if name in BALL:
        assert float(moved(found.x_adv, x, attack.norm).max()) <= attack.reach


@pytest.mark.parametrize("name", MINIMAL)
def test_distances_to_a_target(name: str) -> None:
    """With two classes, the target's distance is the exact one."""
    net, x, y, exact = affine(4, 2)
    found = boxed(MINIMAL[name]).run(net, x, y, target=1 - y)
    assert bool((found.distance >= exact * (1 - 1e-9)).all())
    assert float((found.distance / exact).median()) < NEAR[name]


def test_a_tie_does_not_reach_a_target() -> None:
    x, y = torch.full((2, 2), 0.5), torch.tensor([0, 0])
    tie = PGD(0.1).run(lambda x: 0 * x + 1.0, x, y, target=1 - y)
    assert not bool(tie.broken.any())
    x[1, 1] = 0.2
    nan = PGD(0.1, steps=2).run(
        lambda x: torch.stack([x[:, 0], x[:, 1] + torch.where(x[:, 1] < 0.4, math.nan, 0.1)], 1), x, y, target=1 - y
    )
    assert nan.broken.tolist() == [True, False]


class Counting(nn.Module):
    """Remembers how far from the originals it was differentiated."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.net, self.x, self.seen = net, x, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x) * x.requires_grad
        return self.net(x)


@pytest.mark.parametrize("name", ALL)
def test_certified_samples_are_left_out(name: str) -> None:
    attack, (net, x, y) = ALL[name], digits()
    n = 12 if name in ("szegedy", "carlini-wagner") else 24  # the slow ones
    x, y = x[:n], y[:n]
    free = attack.run(net, x, y)
    proved = torch.zeros(n, dtype=torch.float64)
    proved[::2] = math.inf
    found = attack.run(net, x, y, certified=proved)
    assert torch.equal(found.x_adv[::2], x[::2]) and bool(found.broken[1::2].any())
    counting = Counting(net, x)
    attack.run(counting, x, y, certified=torch.full((n,), math.inf))
    assert counting.seen == 0
    if name in MINIMAL:  # true radii do not make it worse
        true = attack.run(net, x, y, certified=0.8 * free.distance.clamp(max=3.0))
        both = free.broken & (free.distance > 0) & true.broken
        assert bool((true.broken >= free.broken).all())
        assert float((true.distance / free.distance)[both].median()) < 1.02


def test_a_search_uses_certified_radii() -> None:
    net, x, y, exact = affine()
    for attack in (DDN(60, box=EVERYWHERE), Smallest(PGD(9.0, box=EVERYWHERE, steps=10))):
        free, told = Counting(net, x), Counting(net, x)
        attack.run(free, x, y)
        found = attack.run(told, x, y, certified=0.9999 * exact)
        assert told.seen <= free.seen and bool(found.broken.all())
    assert told.seen < free.seen, "bisection has less to search"


def test_bounded_minimiser_against_scipy() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 12, 12, generator=g).double(), torch.randn(5, 12, generator=g).double()

    def value(z: Tensor, rows: Tensor) -> Tensor:
        r = (a[rows] @ z[:, :, None])[:, :, 0] - b[rows]
        return (1 + r.square()).log().sum(1) + 0.1 * z.square().sum(1)

    def function(z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_()
        f = value(z, rows)
        return f.detach(), torch.autograd.grad(f.sum(), z)[0]

    start = torch.full((5, 12), 0.5).double()
    ours = minimise(function, start, (0.0, 1.0), 200)
    assert float(ours.min()) >= 0 and float(ours.max()) <= 1
    for i in range(5):
        row = torch.tensor([i])

        def one(z: object, row: Tensor = row) -> tuple[float, object]:
            f, slope = function(torch.as_tensor(z)[None], row)
            return float(f), slope[0].numpy()

        found = minimize(one, start[i].numpy(), jac=True, bounds=[(0, 1)] * 12, method="L-BFGS-B", tol=1e-12)
        assert float(value(ours[i : i + 1], row)) <= found.fun * 1.001 + 1e-6
        z, slope = ours[i], function(ours[i : i + 1], row)[1][0]
        assert float((z - (z - slope).clamp(0, 1)).abs().max()) < 1e-4, "no stationary point"


def test_szegedy_against_scipy() -> None:
    """The same problem, solved sample by sample by scipy with a fine search for the weight."""
    net, x, y = digits()
    x, y = x[:3], y[:3]
    ours = Szegedy(20, 8).run(net, x, y)
    assert bool(ours.broken.all())
    for i in range(3):
        if float(ours.distance[i]) == 0:
            continue
        centre, best = x[i].double().flatten(), math.inf
        for w in torch.logspace(-1, 1.5, 8).tolist():

            def one(z: object, w: float = w, centre: Tensor = centre, label: int = int(y[i])) -> tuple[float, object]:
                point = torch.as_tensor(z).requires_grad_()
                scores = net(point.float().view(1, 1, 8, 8)).double()[0]
                others = torch.cat([scores[:label], scores[label + 1 :]]).logsumexp(0)
                f = (point - centre).square().sum() + w * (scores.logsumexp(0) - others)
                return float(f.detach()), torch.autograd.grad(f, point)[0].numpy()

            z = torch.as_tensor(minimize(one, centre.numpy(), jac=True, bounds=[(0, 1)] * 64, method="L-BFGS-B").x)
            if int(answers(net, z.float().view(1, 1, 8, 8))) != int(y[i]):
                best = min(best, float((z.float().double() - centre).norm()))
        assert float(ours.distance[i]) <= 1.05 * best


def test_the_ensemble_is_the_strongest_and_breaks_what_hides_its_gradients() -> None:
    net, x, y = digits()
    weak, strong = PGD(0.6, steps=10).run(net, x[:80], y[:80]), BALL["ensemble"].at(0.6).run(net, x[:80], y[:80])
    assert bool((strong.broken >= weak.broken).all()) and int(strong.broken.sum()) > 10

    def hidden(v: Tensor) -> Tensor:
        return (net(v) * 3).round() / 3  # gradients vanish everywhere

    with pytest.warns(MaskingWarning):
        masked = Ensemble(1.5, steps=3, targets=0, queries=200).run(hidden, x[:30], y[:30])
    blind = SquareAttack(1.5, queries=200).run(lambda v: net(v).detach(), x[:30], y[:30])
    assert float(masked.broken.double().mean()) > 0.5 and float(blind.broken.double().mean()) > 0.5


def test_apgd_takes_the_steps_of_the_paper() -> None:
    """The first points of Croce & Hein 2020, algorithm 1, written down once more: steps of 2 eps, 3/4 of them taken."""
    centre, weights = torch.tensor([0.3, 0.9, -0.4]).double(), torch.tensor([1.0, 8.0, 3.0]).double()
    visited = []

    def net(x: Tensor) -> Tensor:
        if x.requires_grad:
            visited.append(x.detach().clone())
        return torch.stack([0 * x[:, 0], -1 - ((x - centre).square() * weights).sum(1)], 1)

    def inside(z: Tensor) -> Tensor:
        return z * min(1.0, 0.5 / float(z.norm()))

    def ascended(z: Tensor) -> Tensor:
        gradient = -2 * weights * (z - centre)
        return inside(z + 2 * 0.5 * gradient / gradient.norm())

    first = torch.zeros(3).double()
    points = [first, ascended(first)]
    for _ in range(2):
        before, z = points[-2:]
        points.append(inside(z + 0.75 * (ascended(z) - z) + 0.25 * (z - before)))
    APGD(0.5, steps=10, random_start=False, box=EVERYWHERE).run(net, first[None], torch.tensor([0]))
    assert torch.allclose(torch.cat(visited[3:7]), torch.stack(points), atol=1e-5)  # the first three are checks


def test_another_class_than_the_first_one_climbed_to() -> None:
    """Class 1 attracts the ascent and stays below; only with a target is class 2 found."""

    def net(x: Tensor) -> Tensor:
        a, b = x[:, 0], x[:, 1]
        return torch.stack([0 * a, 0.1 * a - 0.08, 5 * (b - 0.19)], 1)

    x, y = torch.zeros(1, 2), torch.tensor([0])
    assert not bool(PGD(0.2, box=(-1, 1)).run(net, x, y).broken)
    assert bool(Ensemble(0.2, box=(-1, 1), queries=1).run(net, x, y).broken)


def test_one_run_draws_the_curve() -> None:
    net, x, y = digits()
    x, y, radii = x[:100], y[:100], [0.3, 0.5, 0.7, 0.9, 1.1]
    pgd, ddn = robust_curve(net, x, y, radii), attack_curve(DDN(), net, x, y, radii)
    assert ddn.accuracy[0] == pgd.accuracy[0] and pgd.accuracy[-1] < 0.4
    for ours, reference in zip(ddn.accuracy, pgd.accuracy, strict=True):
        assert ours <= reference + 0.02
    near = moved(ddn.x_adv, x[ddn.index])
    assert torch.equal(near, ddn.smallest[ddn.index])
    ensemble = attack_curve(BALL["ensemble"], net, x[:50], y[:50], [0.5, 0.9])
    assert ensemble.accuracy[1] <= attack_curve(PGD(1.0, steps=10), net, x[:50], y[:50], [0.5, 0.9]).accuracy[1]


def test_smallest_finds_the_radius_where_an_attack_begins_to_succeed() -> None:
    net, x, y = digits()
    x, y = x[:25], y[:25]
    found = Smallest(PGD(2.0, steps=30), precision=0.01).run(net, x, y)
    for i in range(0, 25, 6):
        r = float(found.distance[i])
        if 0 < r < math.inf:
            assert bool(PGD(1.01 * r, steps=30).run(net, x[i : i + 1], y[i : i + 1]).broken)
            assert not bool(PGD(0.9 * r, steps=30).run(net, x[i : i + 1], y[i : i + 1]).broken)
    infinity = smallest(PGD(0.5, math.inf, 20)).run(net, x, y)
    assert torch.allclose(infinity.distance[infinity.broken], moved(infinity.x_adv, x, math.inf)[infinity.broken])
    assert smallest(DDN()).norm == 2 and isinstance(smallest(APGD(1.0)), Smallest)


X, Y = torch.eye(3, 4), torch.tensor([0, 1, 2])
BAD_NETWORKS = {
    "not finite": (lambda x: x * math.nan, "not finite"),
    "no gradient": (lambda x: x.detach(), "no gradient"),
    "numpy": (lambda x: torch.as_tensor(x.detach().numpy()), "no gradient"),
    "a tuple": (lambda x: (x, x), "tuple"),
    "one class": (lambda x: x[:, :1], "at least 2"),
    "labels": (lambda x: x[:, :2], "labels from 0 to 2"),
}


@pytest.mark.parametrize("name", BAD_NETWORKS)
def test_bad_networks_are_refused_before_any_work(name: str) -> None:
    net, words = BAD_NETWORKS[name]
    calls = []
    with pytest.raises(InputError, match=words):
        DDN().run(lambda x: calls.append(x) or net(x), X, Y)
    assert len(calls) <= 3


BAD_ARGUMENTS = [
    (DDN, {"eps": 0.0}), (DDN, {"gamma": 1.0}), (DDN, {"steps": 0}), (DeepFool, {"candidates": 1}),
    (DeepFool, {"overshoot": -1.0}), (SquareAttack, {"eps": 0.0}), (SquareAttack, {"eps": 1.0, "share": 0.0}),
    (Szegedy, {"first": 0.0}), (Smallest, {"attack": DDN()}), (Smallest, {"attack": PGD(1.0), "precision": 0.0}),
    (Ensemble, {"eps": 1.0, "targets": -1}), (type(MINIMAL["carlini-wagner"]), {"box": (-math.inf, math.inf)}),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "options"), BAD_ARGUMENTS, ids=str)
def test_bad_arguments(cls: type[Attack], options: dict) -> None:
    with pytest.raises(InputError):
        cls(**options)


@pytest.mark.parametrize("target", [Y, Y[:2], Y.float(), 1, Y + 9])
def test_bad_targets(target: object) -> None:
    with pytest.raises(InputError, match=r"target|labels"):
        PGD(0.1).run(nn.Linear(4, 4), X, Y, target=target)


@pytest.mark.parametrize("certified", [torch.zeros(2), torch.full((3,), math.nan)])
def test_bad_certificates(certified: Tensor) -> None:
    with pytest.raises(InputError, match="certified"):
        DDN().run(nn.Linear(4, 4), X, Y, certified=certified)


def test_deformations_have_targets_too() -> None:
    net, x, y = digits()
    x, y = x[:12], y[:12]
    with torch.no_grad():
        target = net(x).scatter(1, y[:, None], -math.inf).argmax(1)
    found = ADef(limit=8.0, steps=40).run(net, x, y, target=target)
    assert torch.equal(found.broken, answers(net, found.x_adv) == target) and bool(found.broken.any())


def test_the_ensemble_counts_all_vanished_gradients() -> None:
    """Those towards targets, too: the more targets, the more gradients."""
    x, y = torch.full((3, 2), 0.5), torch.zeros(3, dtype=torch.int64)

    def flat(z: Tensor) -> Tensor:
        return torch.tensor([2.0, 1.0, 0.0]) + 0 * z.sum(1, keepdim=True)

    def seen(targets: int) -> int:
        with pytest.warns(MaskingWarning) as said:
            Ensemble(0.1, steps=3, targets=targets, queries=1).run(flat, x, y)
        return int(str(said[0].message).split("vanished in ")[1].split()[0])

    assert seen(2) > seen(1) > seen(0)
