"""The robustness curve against plain runs at every radius, and the work it saves."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from stablenets.attack import PGD, Curve, curve, robust_curve
from stablenets.attack.ball import Ball
from stablenets.core.errors import InputError

RADII = [0.15, 0.25, 0.35, 0.45, 0.55, 0.7]


class Counting(nn.Module):
    """A network that counts the samples it sees, and those it is differentiated at."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.samples, self.climbed = net, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.samples += len(x)
        self.climbed += len(x) * x.requires_grad
        return self.net(x)


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
        optimiser = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(6):
            for part in torch.randperm(1000).split(50):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(x[part]), y[part]).backward()
                optimiser.step()
    return net.eval(), x[1000:1340], y[1000:1340]


@pytest.fixture(scope="module")
def found(digits: tuple[nn.Module, Tensor, Tensor]) -> tuple[Curve, int]:
    net = Counting(digits[0])
    return robust_curve(net, *digits[1:], RADII), net.samples


def plain_run(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int = 100) -> Tensor:
    """Whether plain PGD (cross-checked in test_attack) leaves each sample correct: all samples, all steps."""
    d = torch.zeros_like(x)
    for _ in range(steps):
        d.requires_grad_()
        z = net(x + d)
        m = z.scatter(1, y[:, None], -math.inf).amax(1) - z.gather(1, y[:, None])[:, 0]
        (g,) = torch.autograd.grad(m.sum(), d)
        d = d.detach() + 0.025 * eps * g / g.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        d = d * (eps / d.flatten(1).norm(dim=1).clamp(min=1e-12)).clamp(max=1).view(-1, 1, 1, 1)
        d = (x + d).clamp(0, 1) - x
    with torch.no_grad():
        return net(x + d).argmax(1) == y


def test_same_accuracies_as_plain_runs(digits: tuple[nn.Module, Tensor, Tensor], found: tuple[Curve, int]) -> None:
    net, x, y = digits
    for radius, ours in zip(found[0].radii[1:], found[0].accuracy[1:], strict=True):
        plain = float(plain_run(net, x, y, radius).double().mean())
        assert plain - 0.0089 <= ours <= plain + 0.003, radius  # 3 samples stronger, 1 weaker at most
    with torch.no_grad():
        assert found[0].accuracy[0] == float((net(x).argmax(1) == y).double().mean())


def test_same_as_separate_attacks(digits: tuple[nn.Module, Tensor, Tensor], found: tuple[Curve, int]) -> None:
    """Against the same attack run on everything at every radius; this is what the order of the radii saves."""
    net = Counting(digits[0])
    for radius, ours in zip(found[0].radii[1:], found[0].accuracy[1:], strict=True):
        separate = 1 - float(PGD(radius).run(net, *digits[1:]).broken.double().mean())
        assert abs(ours - separate) <= 0.003, radius
    assert found[1] < 0.6 * net.samples


def test_curve_is_consistent(digits: tuple[nn.Module, Tensor, Tensor], found: tuple[Curve, int]) -> None:
    net, x, y = digits
    c = found[0]
    assert c.radii == (0.0, *RADII)
    assert all(a >= b for a, b in zip(c.accuracy, c.accuracy[1:], strict=False))
    assert c.accuracy[0] > 0.9 and c.accuracy[-1] < 0.5
    for radius, accuracy in zip(c.radii, c.accuracy, strict=True):
        assert accuracy == float((c.smallest > radius).double().mean())
    assert set(c.smallest.tolist()) <= {0.0, *RADII, math.inf}
    # every image proves its radius
    assert c.index.tolist() == [i for i, r in enumerate(c.smallest.tolist()) if 0 < r < math.inf]
    moved = (c.x_adv.double() - x[c.index].double()).flatten(1).norm(dim=1)
    assert bool((moved <= c.smallest[c.index]).all())
    assert float(c.x_adv.min()) >= 0 and float(c.x_adv.max()) <= 1
    with torch.no_grad():
        assert torch.equal(net(c.x_adv).argmax(1), c.predictions)
    assert bool((c.predictions != y[c.index]).all())
    sample = int(c.index[3])
    image = c.image(sample)
    assert image is not None and torch.equal(image, c.x_adv[3])
    assert c.image(int((c.smallest == math.inf).nonzero()[0])) is None


def test_work(digits: tuple[nn.Module, Tensor, Tensor], found: tuple[Curve, int]) -> None:
    """A sample costs about one full run, not one per radius."""
    assert found[1] / len(digits[1]) < 100 + 12 * len(RADII)


def test_certified_samples_are_not_attacked(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits[0], digits[1][:50], digits[2][:50]
    with torch.no_grad():
        clean = int((net(x).argmax(1) == y).sum())
    counting = Counting(net)
    everything = robust_curve(counting, x, y, RADII, certified=torch.full((50,), 9.0))
    assert counting.climbed == 0 and counting.samples <= 100
    assert everything.accuracy == (clean / 50,) * (len(RADII) + 1)

    plain, seen = robust_curve(net, x, y, RADII), []
    for i in (0, 20, 49):
        certified = torch.zeros(50, dtype=torch.float64)
        certified[i] = 0.4  # between two radii: attacked from 0.45 on

        def watching(v: Tensor, x: Tensor = x[i : i + 1]) -> Tensor:
            near = (v - x).flatten(1).norm(dim=1)
            seen.extend(near[(near > 0) & (near < 0.44)].tolist())
            return net(v)

        found = robust_curve(watching, x, y, [0.15, 0.35], certified=certified)
        assert not seen
        assert float(found.smallest[i]) in (0.0, math.inf)
        rest = torch.arange(50) != i
        assert torch.equal(found.smallest[rest] <= 0.35, plain.smallest[rest] <= 0.35)
        later = robust_curve(net, x, y, RADII, certified=certified)
        assert float(later.smallest[i]) == (s if (s := float(plain.smallest[i])) == 0 or s > 0.4 else 0.45)


def test_a_ring_that_large_balls_miss() -> None:
    """Survivors of a large ball are still attacked in small ones: a thin ring of errors is found from inside."""

    def net(x: Tensor) -> Tensor:
        r = (x - 0.5).flatten(1).norm(dim=1)
        m = torch.where(r < 0.2, r - 0.15, r - 1)  # wrong for 0.15 < r < 0.2; beyond, it climbs outwards
        return torch.stack([torch.zeros_like(m), m], 1)

    x, y = torch.full((1, 2), 0.5), torch.tensor([0])
    x[0, 0] += 0.01
    assert not bool(PGD(0.45).run(net, x, y).broken)
    assert float(robust_curve(net, x, y, [0.17, 0.45]).smallest) == 0.17


def test_infinity_norm(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits[0], digits[1][:80], digits[2][:80]
    c = robust_curve(net, x, y, [0.08, 0.02, 0.05], norm=math.inf, steps=30)
    assert c.radii == (0.0, 0.02, 0.05, 0.08)
    moved = (c.x_adv.double() - x[c.index].double()).flatten(1).abs().amax(1)
    assert bool((moved <= c.smallest[c.index]).all())
    for radius, ours in zip(c.radii[1:], c.accuracy[1:], strict=True):
        separate = 1 - float(PGD(radius, math.inf, 30).run(net, x, y).broken.double().mean())
        assert ours <= separate + 1e-9


def test_deterministic_and_batch_size_free(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits[0], digits[1][:60], digits[2][:60]
    runs = [robust_curve(net, x, y, [0.3, 0.6], steps=20) for _ in range(2)]
    assert torch.equal(runs[0].x_adv, runs[1].x_adv) and runs[0].accuracy == runs[1].accuracy
    assert robust_curve(net, x, y, [0.3, 0.6], steps=20, batch_size=13).accuracy == runs[0].accuracy


@pytest.mark.parametrize("radii", [[-0.1], [math.nan], [0.1, math.inf]])
def test_bad_radii(radii: list[float]) -> None:
    with pytest.raises(InputError, match="radii"):
        robust_curve(nn.Linear(2, 2), torch.rand(3, 2), torch.zeros(3).long(), radii)


@pytest.mark.parametrize("certified", [torch.zeros(2), torch.tensor([0.0, math.nan, 1.0])])
def test_bad_certificates(certified: Tensor) -> None:
    with pytest.raises(InputError, match="certified"):
        robust_curve(nn.Linear(2, 2), torch.rand(3, 2), torch.zeros(3).long(), [0.1], certified=certified)


def test_nothing_to_attack() -> None:
    net, x = nn.Linear(2, 2), torch.rand(5, 2)
    right = net(x).argmax(1)
    assert robust_curve(net, x, right, []).accuracy == (1.0,)
    c = robust_curve(net, x, 1 - right, [0.1, 0.2])
    assert c.accuracy == (0.0, 0.0, 0.0) and len(c.x_adv) == len(c.predictions) == 0
    assert robust_curve(net, x, right, [0.0, 1e-12, 1e-12]).radii == (0.0, 1e-12)


def off_by_one_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Ball.project
    monkeypatch.setattr(Ball, "project", lambda self, x, z: (x + 1.01 * (project(self, x, z) - x)).clamp(*self.box))


def descent(monkeypatch: pytest.MonkeyPatch) -> None:
    ascent = Ball.ascent
    monkeypatch.setattr(Ball, "ascent", lambda self, gradient: -ascent(self, gradient))


def tiny_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGD, "_length", lambda self, k: 1 / 500)


def certificates_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "certified_radii", lambda certified, x: torch.full((len(x),), -math.inf).double())


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (off_by_one_percent, test_curve_is_consistent),
        (descent, test_same_accuracies_as_plain_runs),
        (tiny_steps, test_same_accuracies_as_plain_runs),
        (certificates_ignored, test_certified_samples_are_not_attacked),
    ],
)
def test_planted_errors_are_caught(
    plant: object, check: object, digits: tuple[nn.Module, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        if check is test_certified_samples_are_not_attacked:
            check(digits)
        else:
            short = digits[0], digits[1][:120], digits[2][:120]
            check(short, (robust_curve(*short, RADII), 0))
