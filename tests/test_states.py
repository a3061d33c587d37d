"""How many samples are evaluated at a time: by the size of the states, and without an effect on what is found."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stablenets.attack import DDN, PGD, Victim, states
from stablenets.attack.states import FITTING, LEAST, MOST, USUAL, fitting
from stablenets.linear import Conv2d
from stablenets.networks import NonExpansiveNet


@pytest.mark.parametrize("channels", [16, 64])
def test_the_largest_state_counts_and_no_weight_does(channels: int) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(channels * 784, 300), nn.ReLU(),
        nn.Linear(300, 10),
    )  # fmt: skip
    assert fitting(net, torch.rand(1, 1, 28, 28)) == FITTING // (784 * channels)
    assert all(p.grad is None for p in net.parameters())


def test_limits() -> None:
    assert fitting(nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU()), torch.rand(1, 64)) == MOST
    wide = nn.Sequential(nn.Conv2d(1, 400, 3, padding=1), nn.Tanh(), nn.Conv2d(400, 1, 3, padding=1))
    assert fitting(wide, torch.rand(1, 1, 28, 28)) == LEAST
    assert fitting(lambda x: x + 1, torch.rand(1, 4)) == USUAL
    assert fitting(lambda x: x * x if len(x) == 1 else x * x * x, torch.rand(1, 4)) == USUAL


@pytest.mark.parametrize("kind", ["torch.func", "one sample"])
def test_networks_that_cannot_be_asked_are_attacked(kind: str) -> None:
    head = nn.Linear(4, 3).double()

    def net(x: Tensor) -> Tensor:
        if kind == "one sample":
            return head(x.reshape(1, 4))
        return head(torch.func.grad(lambda v: v.sin().square().sum())(x))

    x = torch.rand(1, 4, dtype=torch.float64)
    assert fitting(net, x) == USUAL
    assert PGD(0.1, steps=2).run(net, x, net(x).argmax(1)).x_adv.shape == x.shape


def test_our_networks() -> None:
    net = NonExpansiveNet((1, 8, 8), 4, patch=2, channels=(6,), blocks=(2,), hidden=9, dense_blocks=1).eval()
    largest = max(9 * 16, *(m.output_shape[0] * 16 for m in net.modules() if isinstance(m, Conv2d)), 96)
    assert LEAST <= fitting(net, torch.rand(1, 1, 8, 8)) <= min(MOST, FITTING // largest)


@pytest.mark.parametrize("attack", [PGD(0.3, steps=8), DDN(8)])
def test_it_changes_nothing_that_is_found(monkeypatch: pytest.MonkeyPatch, attack: PGD | DDN) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3)).double().eval()
    x, seen = torch.rand(30, 1, 8, 8, dtype=torch.float64), []
    y = net(x).argmax(1)

    def watched(z: Tensor) -> Tensor:
        seen.append(len(z))
        return net(z)

    found = []
    for least in (USUAL, 7):
        monkeypatch.setattr(states, "FITTING", least * 4 * 36)
        monkeypatch.setattr(states, "LEAST", 1)
        seen.clear()
        found.append(attack.run(watched, x, y))
        assert max(seen[3:]) == min(least, 30)
    assert found[0].broken.equal(found[1].broken) and int(found[0].broken.sum()) > 0
    assert torch.allclose(found[0].x_adv, found[1].x_adv, atol=1e-9)
    assert Victim(net).towards().chunk == USUAL
