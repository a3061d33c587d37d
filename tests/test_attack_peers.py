"""Attacks beside independent implementations on the same network: foolbox, and torchattacks where it is installed."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stablenets as sn
from attacked import answers, digits, moved
from stablenets.attack import APGD, DDN, FGSM, PGD, Attack, CarliniWagner, DeepFool

foolbox = pytest.importorskip("foolbox")
N = 100


def clean() -> tuple[nn.Module, Tensor, Tensor]:
    """A copy of the network, for peers write gradients into it, and images that it answers rightly."""
    net, x, y = digits()
    right = answers(net, x) == y
    return copy.deepcopy(net), x[right][:N], y[right][:N]


PEERS = {
    "fgsm": (FGSM(0.1), lambda a: a.LinfFastGradientAttack(), 0.1),
    "fgm": (FGSM(0.8, 2), lambda a: a.L2FastGradientAttack(), 0.8),
    "pgd": (
        PGD(0.6, steps=40, step_size=0.036, cross_entropy=True),
        lambda a: a.L2PGD(steps=40, rel_stepsize=0.06, random_start=False),
        0.6,
    ),
    "pgd, infinity": (
        PGD(0.08, math.inf, 40, step_size=0.0048, cross_entropy=True),
        lambda a: a.LinfPGD(steps=40, rel_stepsize=0.06, random_start=False),
        0.08,
    ),
    "ddn": (DDN(60), lambda a: a.DDNAttack(steps=60), None),
    "deepfool": (DeepFool(), lambda a: a.L2DeepFoolAttack(), None),
    "carlini-wagner": (
        CarliniWagner(40, 3, first=0.5, step_size=0.03),
        lambda a: a.L2CarliniWagnerAttack(binary_search_steps=3, steps=40, stepsize=0.03, initial_const=0.5),
        None,
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_as_foolbox(name: str) -> None:
    """With equal settings: its success rate within one point, its median norm within 3 %; the points of one step."""
    ours, make, eps = PEERS[name]
    net, x, y = clean()
    model = foolbox.PyTorchModel(net, bounds=(0, 1))
    _, theirs, success = make(foolbox.attacks)(model, x, y, epsilons=eps)
    found = ours.run(net, x, y)
    rate, reference = float(found.broken.double().mean()), float(success.double().mean())
    assert abs(rate - reference) <= 0.01
    if eps is None:
        norm = float(moved(theirs, x)[success].median())
        assert float(found.distance[found.broken].median()) <= 1.03 * norm
        assert float(found.distance[found.broken].median()) >= 0.97 * norm
        if name == "carlini-wagner":  # the same steps of Adam for the same weights
            assert float((found.distance / moved(theirs, x)).median()) == pytest.approx(1, abs=1e-4)
    elif name in ("fgsm", "fgm"):  # in float64: in float32 foolbox loses the gradient where p_y is nearly 1
        exact = foolbox.PyTorchModel(copy.deepcopy(net).double(), bounds=(0, 1))
        _, theirs, _ = make(foolbox.attacks)(exact, x.double(), y, epsilons=eps)
        assert torch.allclose(found.x_adv[found.broken].double(), theirs[found.broken], atol=2e-6)


def test_carlini_and_wagner_leave_the_images_that_foolbox_leaves() -> None:
    """Where it finds nothing foolbox returns a black image, and calls it a success; all other points are ours."""
    net, x, y = clean()
    peer = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=2, steps=25, stepsize=0.03, initial_const=0.5)
    _, theirs, success = peer(foolbox.PyTorchModel(net, bounds=(0, 1)), x, y, epsilons=None)
    nothing = ~theirs.flatten(1).any(1)
    assert 5 <= int(nothing.sum()) <= N - 5
    assert bool(success[nothing].any()), "foolbox has learned better: drop the exception for black images"
    found = CarliniWagner(25, 2, first=0.5, step_size=0.03).run(net, x, y)
    assert found.broken.equal(~nothing)
    assert torch.allclose(found.distance[~nothing], moved(theirs, x)[~nothing], rtol=1e-3)


@pytest.mark.parametrize(
    ("ours", "make"),
    [
        (PGD(0.6, steps=40), lambda a: a.L2PGD(steps=40, rel_stepsize=0.06, random_start=False)),
        (PGD(0.08, math.inf, 40), lambda a: a.LinfPGD(steps=40, rel_stepsize=0.06, random_start=False)),
    ],
    ids=["l2", "infinity"],
)
def test_our_own_settings_are_at_least_as_strong(ours: PGD, make: Callable[[Any], Any]) -> None:
    net, x, y = clean()
    _, _, success = make(foolbox.attacks)(foolbox.PyTorchModel(net, bounds=(0, 1)), x, y, epsilons=ours.eps)
    assert float(ours.run(net, x, y).broken.double().mean()) >= float(success.double().mean()) - 0.01


def test_as_torchattacks_step_by_step() -> None:
    """With equal settings all but one in a hundred of the same images are broken; the others end at the same points."""
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is in stablenets[bench] only")
    net, x, y = clean()
    theirs = torchattacks.PGDL2(net, eps=0.6, alpha=0.04, steps=10, random_start=False)(x, y)
    found = PGD(0.6, steps=10, step_size=0.04, cross_entropy=True).run(net, x, y)
    broken = answers(net, theirs) != y
    assert 0.1 < float(broken.double().mean()) < 0.9
    assert int((broken != found.broken).sum()) <= 1
    held = ~broken & ~found.broken
    assert float(moved(found.x_adv, theirs)[held].median()) < 1e-4


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(PGD(0.6, steps=40), "PGDL2"), (APGD(0.6, steps=40), "APGD"), (APGD(0.08, math.inf, 40), "APGD")],
    ids=["pgd", "apgd", "apgd, infinity"],
)
def test_as_good_as_torchattacks(ours: Attack, theirs: str) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is in stablenets[bench] only")
    net, x, y = clean()
    if theirs == "PGDL2":
        peer = torchattacks.PGDL2(net, eps=0.6, alpha=0.04, steps=40, random_start=False)
    else:
        norm = "L2" if ours.norm == 2 else "Linf"
        peer = torchattacks.APGD(net, norm=norm, eps=ours.reach, steps=40, n_restarts=1, seed=0, loss="dlr")
    reference = float((answers(net, peer(x, y)) != y).double().mean())
    rate = float(ours.run(net, x, y).broken.double().mean())
    assert 0.1 < reference < 0.95
    assert reference - 0.01 <= rate <= reference + 0.06


@pytest.mark.parametrize("library", ["foolbox", "torchattacks"])
def test_our_networks_plug_into_other_libraries(library: str) -> None:
    """A certified network is an ordinary module: other libraries attack it, and break no certified image."""
    peer = pytest.importorskip(library, reason=f"{library} is not installed")
    net = next(iter(sn.networks.NonExpansiveNet.examples())).eval()
    x = torch.rand(16, *net.image_shape, generator=torch.Generator().manual_seed(0))
    certificate = sn.certify(net)
    y, radius = certificate.logits(x).argmax(1), certificate.radius(x)
    eps = float(radius.max()) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "foolbox":
            model = peer.PyTorchModel(net, bounds=(0, 1))
            _, x_adv, _ = peer.attacks.L2PGD(steps=10)(model, x, y, epsilons=eps)
        else:
            x_adv = peer.PGDL2(net, eps=eps, alpha=eps / 4, steps=10)(x, y)
    assert float(moved(x_adv, x).max()) > 0.5 * eps, "nothing was attacked"
    inside = moved(x_adv, x) <= radius
    assert bool(inside.any()) and bool((certificate.logits(x_adv).argmax(1) == y)[inside].all())
