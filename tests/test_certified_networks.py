"""The networks of the literature and our own: exactly the published architecture, 1-Lipschitz, certified, verified."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import stablenets as sn
from stablenets.certify.checker import architecture, networks
from stablenets.core.component import config
from stablenets.core.errors import InputError
from stablenets.core.properties import Lipschitz
from stablenets.layers import Chain, Flow, NormalisedHead, TruncatedHead, claims, leaves
from stablenets.linear import Conv2d
from stablenets.networks import CertifiedNet, ConvexPotentialNet, LipschitzMLP, Network, NonExpansiveNet

SMALL = {"channels": (5,), "blocks": (2,), "hidden": 4, "patch": 2, "dense_width": 9, "dense_blocks": 2}
NETWORKS: dict[str, Callable[[], Network]] = {
    "CPL": lambda: ConvexPotentialNet((3, 4, 4), 3, **SMALL),
    "CPL, normalised head, mean": lambda: ConvexPotentialNet(
        (3, 4, 4), 3, **SMALL, truncated_head=False, mean=(0.5, 0.4, 0.3)
    ),
    "CPL, two stages": lambda: ConvexPotentialNet((1, 8, 4), 3, **SMALL | {"channels": (3, 4), "blocks": (1, 2)}),
    "certified": lambda: CertifiedNet(
        (1, 8, 8), 3, patch=2, channels=(4, 18), blocks=(1, 2), dense_width=9, mean=(0.3,)
    ),
    "certified, no lift": lambda: CertifiedNet((3, 4, 4), 3, patch=2, channels=None, blocks=(1,), dense_width=9),
    "MLP": lambda: LipschitzMLP((1, 4, 5), 4, dense_width=12, dense_blocks=3),
    "MLP, widening": lambda: LipschitzMLP((1, 2, 2), 2, dense_width=10, dense_blocks=2),
}
every_network = pytest.mark.parametrize("name", list(NETWORKS))


def trained_looking(name: str, scale: float = 3.0, seed: int = 0) -> Network:
    """With weights far from the initial ones, in float64, its steps frozen."""
    torch.manual_seed(seed)
    net = NETWORKS[name]().double()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(scale).add_(0.1 * torch.randn_like(p))
    return net.train().eval()


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian matrix at one input."""
    columns = torch.autograd.functional.jacobian(lambda z: f(z[None])[0], x)
    return columns.reshape(-1, x.numel())


# --- what is proved -------------------------------------------------------------------------------------------------


@every_network
@pytest.mark.parametrize("seed", [0, 1])
def test_the_body_is_non_expansive_by_its_jacobian(name: str, seed: int) -> None:
    net = trained_looking(name, seed=seed)
    body = Chain(*list(net.body.layers)[:-1])
    assert claims(body).get(Lipschitz) == Lipschitz(1.0)
    norms = [
        float(torch.linalg.matrix_norm(jacobian(body, x), 2))
        for x in 3 * torch.randn(6, *net.image_shape, dtype=torch.float64)
    ]
    assert max(norms) <= 1 + 1e-12
    assert max(norms) > 0.05, "and not by killing everything"


@every_network
def test_differences_of_scores_obey_the_constants_of_the_certificate(name: str) -> None:
    net = trained_looking(name)
    constants = torch.tensor(sn.certify(net).constants, dtype=torch.float64)
    truncated = isinstance(net.body.layers[-1], TruncatedHead)
    for x in 3 * torch.randn(4, *net.image_shape, dtype=torch.float64):
        slopes = jacobian(net, x)
        for i, j in itertools.permutations(range(net.classes), 2):
            assert (slopes[i] - slopes[j]).norm() <= constants[i, j] * (1 + 1e-12)
            assert not truncated or float(constants[i, j]) == pytest.approx(math.sqrt(2), rel=1e-9)


@every_network
def test_certified_and_verified(name: str, tmp_path) -> None:
    net = trained_looking(name).float().train().eval()
    certificate = sn.certify(net)
    assert certificate.lipschitz == 1.0
    sn.save(net, tmp_path / "m")
    certificate.save(tmp_path / "c")
    verdict = sn.verify(tmp_path / "m", tmp_path / "c")
    assert verdict.ok, verdict.reason
    with torch.no_grad():
        next(net.parameters()).mul_(1.5)
    sn.save(net, tmp_path / "m")
    assert not sn.verify(tmp_path / "m", tmp_path / "c").ok


def test_bounds_that_differ_in_their_last_digits_are_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine, or when the weights lie channels last in memory in training and not in the file."""
    net = trained_looking("CPL")
    frozen = Conv2d.norm_bound
    monkeypatch.setattr(Conv2d, "norm_bound", lambda self: frozen(self) * (1 + 1e-13))
    assert sn.certify(net).lipschitz == 1.0
    monkeypatch.setattr(Conv2d, "norm_bound", lambda self: frozen(self) * (1 + 1e-7))
    with pytest.raises(ValueError, match="longer than its limit"):
        sn.certify(net)


@every_network
def test_no_attack_succeeds_within_a_certified_radius(name: str) -> None:
    net = trained_looking(name).float().train().eval()
    certificate = sn.certify(net)
    x = torch.rand(30, *net.image_shape)
    y, radius = certificate.logits(x).argmax(1), certificate.radius(x)
    assert (radius > 0).all()
    curve = sn.attack.robust_curve(net, x, y, [float(r) for r in radius.quantile(torch.tensor([0.2, 0.8]).double())])
    assert (curve.smallest >= radius).all()


@pytest.mark.parametrize("name", [*NETWORKS, "chapter", "time"])
def test_the_checker_reads_every_architecture_as_it_is(name: str) -> None:
    """Its own reading, layer by layer, against the layers that the network really has."""
    sizes = {"patch": 2, "channels": (6, 24), "blocks": (2, 1), "hidden": 5, "dense_width": 9, "dense_blocks": 2}
    net = (
        NETWORKS[name]()
        if name in NETWORKS
        else NonExpansiveNet((1, 8, 8), 4, **sizes, time=1.0 if name == "time" else None)
    )
    given = config(net)
    keys, parts = networks.NETWORKS[given["type"]]
    assert sorted(keys) == sorted(given.keys() - {"type"})
    assert list(parts(given)) == [config(layer) for layer in net.body.layers]
    assert [layer.name for layer in architecture.layers(given)] == [name for name, _ in leaves(net)]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("CPL", {"patch": 3}),
        ("CPL", {"patch": 10**9}),
        ("CPL", {"channels": [2]}),
        ("CPL", {"channels": None}),
        ("CPL", {"channels": [5, 5]}),
        ("CPL", {"truncated_head": 1}),
        ("CPL", {"mean": 0.5}),
        ("CPL", {"blocks": [10**9]}),
        ("CPL", {"image_shape": [4, 4]}),
        ("certified", {"channels": [3, 18]}),
        ("certified", {"patch": 0}),
        ("MLP", {"dense_width": -1}),
        ("MLP", {"dense_blocks": 10**9}),
        ("MLP", {"dense_blocks": True}),
    ],
)
def test_the_checker_rejects_architectures_that_make_no_sense(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(networks.Rejected):
        architecture.layers(config(NETWORKS[name]()) | change)


# --- the published architecture ------------------------------------------------------------------------------------


def test_the_published_network_written_plainly() -> None:
    """x - h K^T relu(K x + b) by transposed convolutions, sums of 4 x 4 pixels over 4, the first features as scores."""
    torch.manual_seed(0)
    net = ConvexPotentialNet(
        (3, 8, 8), 3, channels=(6,), blocks=(3,), dense_width=7, dense_blocks=2, mean=(0.5, 0.4, 0)
    )
    for p in net.parameters():
        p.data = 0.5 * torch.randn_like(p)
    net = net.double().train().eval()
    x = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    flows = [layer for layer in net.body.layers if isinstance(layer, Flow)]
    state = F.pad(x - torch.tensor([0.5, 0.4, 0.0], dtype=torch.float64).view(1, 3, 1, 1), (0, 0, 0, 0, 0, 3))
    for flow in flows[:3]:
        k, b = flow.field.linear.weight, flow.field.bias
        matrix = F.conv2d(torch.eye(6 * 64, dtype=torch.float64).reshape(-1, 6, 8, 8), k, padding=1).flatten(1)
        assert flow.step_size == pytest.approx(2 / float(torch.linalg.matrix_norm(matrix.detach(), 2)) ** 2, rel=0.05)
        hidden = F.conv2d(state, k, b, padding=1).relu()
        state = state - flow.step_size * F.conv_transpose2d(hidden, k, padding=1)
    state = state.reshape(5, 6, 2, 4, 2, 4).sum((3, 5)).flatten(1) / 4
    for flow in flows[3:]:
        w, b = flow.field.linear.weight, flow.field.bias
        assert flow.step_size == pytest.approx(2 / float(torch.linalg.matrix_norm(w.detach(), 2)) ** 2, rel=1e-6)
        state = state - flow.step_size * F.linear(F.linear(state, w, b).relu(), w.mT)
    assert len(flows) == 5
    torch.testing.assert_close(net(x), state[:, :3])


def parameters(image_shape: tuple[int, int, int], classes: int, **sizes: Any) -> tuple[int, int]:
    """How many parameters a network has, by arithmetic: of the convolutions, and of the rest."""
    given = inspect.signature(ConvexPotentialNet).bind(image_shape, classes, **sizes)
    given.apply_defaults()
    a = given.arguments
    (c,), (blocks,) = a["channels"], a["blocks"]
    features = c * (image_shape[1] // a["patch"]) * (image_shape[2] // a["patch"])
    convolutions = blocks * (9 * c * a["hidden"] + a["hidden"])
    dense = a["dense_blocks"] * (features + 1) * a["dense_width"]
    return convolutions, dense + (0 if a["truncated_head"] else classes * (features + 1))


@pytest.mark.parametrize("name", ["CPL", "CPL, normalised head, mean"])
def test_the_arithmetic_of_parameters(name: str) -> None:
    net = NETWORKS[name]()
    given = {key: getattr(net, key) for key in (*SMALL, "truncated_head")}
    assert sum(p.numel() for p in net.parameters()) == sum(parameters(net.image_shape, net.classes, **given))


@pytest.mark.parametrize(
    ("size", "sizes", "millions", "published"),
    [
        ("small", (20, 7, 45), 41.3, 41),
        ("medium", (30, 10, 60), 78.7, 79),
        ("large", (50, 10, 90), 118.0, 118),
        ("extra_large", (70, 15, 120), 236.0, 236),
    ],
)
def test_the_published_sizes(
    size: str, sizes: tuple[int, int, int], millions: float, published: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20/7/45, 30/10/60, 50/10/90, 70/15/120; the dense parts hold 41.3, 78.6, 118.0 and 235.9 million weights."""
    seen: dict[str, Any] = {}

    def note(self: nn.Module, image_shape: Any, classes: int, **given: Any) -> None:
        seen.update(given)

    real = inspect.signature(ConvexPotentialNet)
    with monkeypatch.context() as patch:
        patch.setattr(ConvexPotentialNet, "__init__", note)
        getattr(ConvexPotentialNet, size)((3, 32, 32), 10)
    assert (seen["blocks"], seen["dense_blocks"], seen["channels"]) == ((sizes[0],), sizes[1], (sizes[2],))
    arguments = real.bind((3, 32, 32), 10, **seen)
    arguments.apply_defaults()
    assert [arguments.arguments[key] for key in ("hidden", "patch", "dense_width")] == [5, 4, 2048]
    weights = sizes[1] * 64 * sizes[2] * 2048
    convolutions, dense = parameters((3, 32, 32), 10, **seen)
    assert dense == weights + sizes[1] * 2048
    assert round(weights / 1e6, 1) == {41: 41.3, 79: 78.6, 118: 118.0, 236: 235.9}[published]
    assert round((convolutions + dense) / 1e6, 1) == pytest.approx(millions, abs=0.6)
    assert round((convolutions + dense) / 1e6) == published


def test_every_convolution_of_ours_is_as_wide_as_its_state() -> None:
    net = CertifiedNet((1, 28, 28), 10, dense_width=8)
    maps = [m for m in net.modules() if isinstance(m, Conv2d)]
    assert {(m.in_channels, m.out_channels, m.image_size[0]) for m in maps} == {(64, 64, 7)}
    assert isinstance(net.body.layers[-1], NormalisedHead)
    assert CertifiedNet((3, 32, 32), 10, dense_blocks=0)(torch.rand(1, 3, 32, 32)).shape == (1, 10)


def test_the_layers_of_a_perceptron_start_orthogonal() -> None:
    """So that the rescaling takes nothing away: distances in the first layer's range are kept."""
    net = LipschitzMLP((1, 4, 4), 3, dense_width=16, dense_blocks=3).double().eval()
    x, y = torch.rand(2, 5, 16, dtype=torch.float64)
    for layer in net.body.layers[1:-1]:
        changed = (layer(x) - layer(y)).norm(dim=1) / (x - y).norm(dim=1)
        assert changed.max() <= 1 + 1e-12 and (type(layer).__name__ == "GroupSort" or changed.min() > 0.999)
        x, y = layer(x), layer(y)


@every_network
def test_every_parameter_learns(name: str) -> None:
    net = trained_looking(name, scale=1.0).float().train()
    F.cross_entropy(net(torch.rand(16, *net.image_shape)), torch.randint(net.classes, (16,))).backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConvexPotentialNet((3, 8, 8), 1, **SMALL), "classes=1"),
        (lambda: ConvexPotentialNet((8, 8), 3, **SMALL), r"needed: \(channels, height, width\)"),
        (
            lambda: ConvexPotentialNet((3, 9, 8), 3, **SMALL),
            "patches of 2x2; needed: a height and width divisible by 2",
        ),
        (lambda: ConvexPotentialNet((3, 8, 8), 3, **SMALL | {"channels": (5, 5)}), "one entry per stage"),
        (lambda: ConvexPotentialNet((3, 8, 8), 3, **SMALL | {"channels": (2,)}), "at least as many channels"),
        (lambda: CertifiedNet((1, 6, 6), 3), "divisible by 4"),
        (lambda: CertifiedNet((1, 8, 8), 3, mean=(0.1, 0.2)), "one number for each of the 1 channels"),
        (lambda: ConvexPotentialNet((3, 8, 8), 3, **SMALL, mean=(0.1,)), "one number for each of the 3 channels"),
        (lambda: CertifiedNet((28, 28), 3), r"needed: \(channels, height, width\)"),
        (lambda: LipschitzMLP((1, 8, 8), 1), "classes=1"),
        (lambda: LipschitzMLP((1, 8, 8), 3, dense_width=5)(torch.rand(1, 1, 8, 8)), "multiple of 2"),
    ],
)
def test_errors_say_what_is_needed(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
