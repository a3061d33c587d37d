"""PGD gives up samples that its last steps cannot break: only those, in both norms, and fewer evaluations for it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from attacked import digits
from stablenets.attack import PGD, attack_curve
from stablenets.attack.ball import Ball


class Counted(nn.Module):
    """A network that counts the samples it sees."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seen = net, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.net(x)


@pytest.mark.parametrize(("norm", "radii"), [(2, (0.2, 0.45, 0.8)), (math.inf, (0.02, 0.06, 0.1))])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_nothing_is_lost_but_work(norm: float, radii: tuple[float, ...], momentum: float) -> None:
    net, x, y = digits()
    for k, eps in enumerate(radii):
        quick, slow = Counted(net), Counted(net)
        found = PGD(eps, norm, 60, momentum=momentum).run(quick, x, y)
        whole = PGD(eps, norm, 60, momentum=momentum, patient=True).run(slow, x, y)
        assert torch.equal(found.broken, whole.broken)
        assert torch.equal(found.x_adv[found.broken], whole.x_adv[found.broken])
        assert 0.02 < float(found.broken.double().mean()) < 0.95, "the radius says nothing"
        assert quick.seen < (0.85, 0.95, 1.0)[k] * slow.seen
        assert float((whole.margin - found.margin)[~found.broken].max()) < 0.1 * float(-whole.margin.min())


@pytest.mark.parametrize("norm", [2, math.inf])
@pytest.mark.parametrize("dimension", [3, 20])
def test_the_last_step_counts(norm: float, dimension: int) -> None:
    """Of an affine network the slope is exact: what is broken by the very last step is not given up before."""
    g = torch.Generator().manual_seed(dimension)
    net = nn.Linear(dimension, 2).double().requires_grad_(False)
    net.weight.copy_(torch.randn(2, dimension, generator=g))
    x = torch.randn(200, dimension, generator=g).double()
    y = net(x).argmax(1)
    dual = torch.linalg.vector_norm(net.weight[0] - net.weight[1], 2 if norm == 2 else 1)
    exact = (net(x)[:, 0] - net(x)[:, 1]).abs() / dual
    # ten steps of a tenth of the radius, in a line: only together they reach the boundary
    for factor in (1.001, 0.999):
        for i in range(0, 200, 20):
            eps = float(exact[i]) * factor
            attack = PGD(eps, norm, 10, step_size=eps / 10, box=(-1e3, 1e3))
            assert bool(attack.run(net, x[i : i + 1], y[i : i + 1]).broken) == (factor > 1)


@pytest.mark.parametrize("norm", [2, math.inf])
def test_steepness_is_attained(norm: float) -> None:
    ball = Ball(1.0, norm, (-9.0, 9.0))
    gradient = torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(0))
    along = (gradient.double() * ball.ascent(gradient).double()).flatten(1).sum(1)
    assert torch.allclose(ball.steepness(gradient), along, rtol=1e-6)


def test_a_vanished_gradient_is_no_reason() -> None:
    """On a plateau a random point comes next, up to the last step."""

    def net(x: Tensor) -> Tensor:  # flat but in a thin ring near the surface of the ball
        away = (x - 0.5).flatten(1).norm(dim=1)
        return torch.stack([torch.relu(0.29 - away) * 0 + (away < 0.29).to(x), 0.5 + 0 * away], 1)

    x, y = torch.full((40, 2), 0.5), torch.zeros(40, dtype=torch.int64)
    with pytest.warns(UserWarning, match="vanished"):
        found = PGD(0.3, steps=40).run(net, x, y)
    assert float(found.broken.double().mean()) > 0.85  # 0.93 expected of 40 points, 0.75 of 20


def test_a_survivor_is_still_a_survivor_on_a_curve() -> None:
    net, x, y = digits()
    curve = attack_curve(PGD(1.0, steps=40), net, x, y, [0.3, 0.6])
    for k, eps in enumerate((0.3, 0.6), 1):
        held = float((~PGD(eps, steps=40, patient=True).run(net, x, y).broken).double().mean())
        assert abs(curve.accuracy[k] - held) <= 0.005
