"""The named architectures: what goes in, what comes out, what is proved."""

from __future__ import annotations

from abc import ABC

import pytest
import torch
from torch import Tensor, nn

from stablenets.core.component import build, by_name, config, kebab
from stablenets.core.errors import InputError
from stablenets.core.properties import Lipschitz
from stablenets.layers import Chain, Flow, NormalisedHead, claims, leaves
from stablenets.networks import Network, NonExpansiveNet, Provable, ResNet, made_for_images
from stablenets.testing import falsify

SMALL = {"patch": 2, "channels": (4, 16), "blocks": (1, 1), "hidden": 6, "dense_width": 12, "dense_blocks": 1}
BOTH = [NonExpansiveNet, ResNet]


def trained(net: nn.Module, seed: int = 0, scale: float = 0.5) -> nn.Module:
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data += scale * torch.randn(p.shape, generator=g)
    return net.eval()


def test_the_registry():
    names = [kebab(n) for n in sorted(Network.registry)]
    named = ["certified-net", "convex-potential-net", "lipschitz-mlp", "non-expansive-net", "res-net"]
    assert set(named) <= set(names) and "neural-ode" in names
    assert {kebab(n) for n in made_for_images()} >= set(named)
    assert "NeuralODE" not in made_for_images()
    assert by_name("network", Network.registry, "res-net") is ResNet


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("shape, classes", [((1, 8, 8), 10), ((3, 8, 12), 2), ((1, 4, 4), 7)], ids=str)
def test_images_in_scores_out(cls, shape, classes):
    net = cls(shape, classes, patch=2, channels=(12, 48), blocks=(1, 0), hidden=3, dense_width=5, dense_blocks=2)
    assert net(torch.rand(3, *shape)).shape == (3, classes)
    assert (net.image_shape, net.classes) == (shape, classes)


@pytest.mark.parametrize("cls", BOTH)
def test_every_parameter_learns(cls):
    net = trained(cls((1, 8, 8), 3, **SMALL), scale=0.1).train()
    nn.functional.cross_entropy(net(torch.rand(16, 1, 8, 8)), torch.randint(3, (16,))).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("cls", BOTH)
def test_rebuilt_from_its_config(cls):
    net = trained(cls((1, 8, 8), 3, **SMALL))
    twin = build(config(net)).eval()
    twin.load_state_dict(net.state_dict())
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(twin(x), net(x)) and config(twin) == config(net)


@pytest.mark.parametrize("time", [None, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_body_is_non_expansive_whatever_the_weights(time, seed):
    net = trained(NonExpansiveNet((1, 8, 8), 3, time=time, **SMALL), seed, scale=1.0).double().train().eval()
    body = Chain(*list(net.body.layers)[:-1])
    assert claims(body).get(Lipschitz) == Lipschitz(1.0)
    x = torch.rand(20, 1, 8, 8, dtype=torch.float64)
    y = x + torch.randn_like(x) * torch.logspace(-3, 1, 20, dtype=torch.float64).view(-1, 1, 1, 1)
    ratios = (body(x) - body(y)).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert ratios.max() <= 1 + 1e-12
    assert ratios.max() > 0.05, "and not by killing everything"


def test_the_claims_are_those_of_the_head():
    net = trained(NonExpansiveNet((1, 8, 8), 3, **SMALL))
    head = next(m for m in net.modules() if isinstance(m, NormalisedHead))
    assert net.claims().get(Lipschitz) == head.claims().get(Lipschitz)
    (attempt,) = falsify(net.double().train().eval(), net.claims(), (1, 8, 8), count=4, steps=5)
    assert not attempt.refuted, str(attempt)


def test_score_differences_are_as_lipschitz_as_the_heads_rows_are_apart():
    net = trained(NonExpansiveNet((1, 8, 8), 3, **SMALL)).double().train().eval()
    w = next(m for m in net.modules() if isinstance(m, NormalisedHead)).effective_weight()
    x, y = torch.rand(2, 30, 1, 8, 8, dtype=torch.float64)
    change = (net(x) - net(y)) / (x - y).flatten(1).norm(dim=1)[:, None]
    for i in range(3):
        for j in range(3):
            assert (change[:, i] - change[:, j]).abs().max() <= (w[i] - w[j]).norm() * (1 + 1e-12)


def test_blocks_of_a_fixed_time_take_as_many_steps_as_they_need():
    net = NonExpansiveNet((1, 8, 8), 3, time=1.0, **SMALL)
    one = [m.step_count for m in net.eval().modules() if isinstance(m, Flow)]
    for m in net.modules():
        if isinstance(m, Flow):
            m.field.linear.weight.data *= 3
    many = [m.step_count for m in net.train().eval().modules() if isinstance(m, Flow)]
    assert len(one) == 3 and all(b > a for a, b in zip(one, many, strict=True))


def test_nothing_is_proved_about_a_resnet():
    net = trained(ResNet((1, 8, 8), 3, **SMALL), scale=1.0).double()
    assert not net.claims()
    x = torch.rand(20, 1, 8, 8, dtype=torch.float64)
    y = x + 1e-4 * torch.randn_like(x)
    body = Chain(*list(net.body.layers)[:-1])
    assert ((body(x) - body(y)).norm(dim=1) / (x - y).flatten(1).norm(dim=1)).max() > 2, "and nothing holds"


def test_the_two_have_one_skeleton():
    ours, theirs = (cls((1, 8, 8), 3, **SMALL) for cls in BOTH)
    kinds = [[type(layer).__name__ for _, layer in leaves(net.body)][:-1] for net in (ours, theirs)]
    assert kinds[0] == kinds[1]


def test_a_plain_resnet_is_the_textbook_one():
    net = ResNet((1, 8, 8), 3, **SMALL, plain=True).double()
    *blocks, head = [layer for _, layer in leaves(net.body) if isinstance(layer, (Flow, nn.Linear))]
    x = state = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    for layer in net.body.layers:
        if isinstance(layer, Flow):
            first, _, second = layer.field.module
            assert second.weight.abs().max() > 0
            state = state + second(first(state).relu())
        else:
            state = layer(state)
    assert len(blocks) == 3 and head is net.body.layers[-1]
    torch.testing.assert_close(net.eval()(x), state)


def test_the_defaults_are_the_chapters():
    net = NonExpansiveNet((1, 28, 28), 10)
    flows = [m for m in net.modules() if isinstance(m, Flow)]
    assert len(flows) >= 4 and all(f.follows for f in flows)
    assert net.eval()(torch.rand(1, 1, 28, 28)).shape == (1, 10)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    "arguments, words",
    [
        (((1, 7, 8), 3, 2, None, (1,)), "patches of 2x2; needed: a height and width divisible by 2"),
        (((1, 4, 4), 3, 2, None, (1, 1, 1)), "divisible by 8.*Use fewer stages"),
        (((1, 8, 8), 3, 2, (3,), (1,)), "at least 4, since nothing may be dropped"),
        (((1, 8, 8), 3, 2, (8,), (1, 1)), "one entry per stage"),
        (((8, 8), 3, 2, None, (1,)), r"image_shape=\(8, 8\); needed: \(channels, height, width\)"),
        (((1, 0, 8), 3, 2, None, (1,)), r"needed: \(channels, height, width\)"),
        (((1, 8, 8), 1, 2, None, (1,)), "classes=1; needed: at least 2"),
    ],
    ids=str,
)
def test_error_texts(cls, arguments, words):
    shape, classes, patch, channels, blocks = arguments
    with pytest.raises(InputError, match=words):
        cls(shape, classes, patch=patch, channels=channels, blocks=blocks)


def test_a_network_is_exactly_its_body():
    """A subclass that does something else with its body loses the body's claims."""
    net = next(NonExpansiveNet.examples()).eval()

    class Amplified(Provable, ABC):
        def __init__(self) -> None:
            super().__init__()
            self.body = net.body

        def forward(self, x: Tensor) -> Tensor:
            return 10 * super().forward(x)

        @classmethod
        def examples(cls):
            raise NotImplementedError

    for ask in (lambda n: list(leaves(n)), lambda n: n.claims()):
        with pytest.raises(ValueError, match="nothing is known about the module"):
            ask(Amplified())
    assert list(leaves(net))
