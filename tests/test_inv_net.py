"""InvNet, its joint training, and the study of the ill-conditioned problem in the plane."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stablenets.core.errors import InputError, TrainingError
from stablenets.core.properties import Lipschitz
from stablenets.fields import Activation, LeakyReLU, ReLU, Softplus, Tanh
from stablenets.layers import Gain, Lift, Project, claims, load
from stablenets.networks import InvNet
from stablenets.studies import inverse_2d
from stablenets.train.together import Stack, fit_together


def nets(activation: Activation, bounds=(0.4, 2.0, 6.0), *, grown: float = 1.7, **sizes) -> list[InvNet]:
    torch.manual_seed(3)
    found = [InvNet(2, bound, activation=activation, **sizes).double() for bound in bounds]
    for net in found:
        for p in net.parameters():
            p.data *= grown
        net.train().eval()
    return found


def pairs(count: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    return inverse_2d.sample(count, seed=5)


# --- the network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [ReLU(), Tanh(), LeakyReLU(0.2)], ids=lambda a: type(a).__name__)
def test_the_constant_is_at_most_the_bound_whatever_the_weights(activation: Activation):
    x = 3 * torch.randn(200, 2, dtype=torch.float64)
    for net in nets(activation, grown=4.0):
        net.body.layers[-1].factor.data.fill_(50.0)
        proved = net.claims().get(Lipschitz).bound
        assert proved <= net.lipschitz and inverse_2d.stretch(net, x) <= proved * (1 + 1e-12)


def test_the_constant_is_nearly_attained():
    (net,) = nets(ReLU(), (3.0,))
    for flow in net.body.layers[1:-2]:
        flow.field.bias.data.fill_(-1e3)  # every unit is off: the identity
    net.body.layers[-1].factor.data.fill_(-50.0)
    assert inverse_2d.stretch(net, torch.zeros(1, 2, dtype=torch.float64)) == pytest.approx(3.0, rel=1e-12)


def test_a_limit_that_is_no_float32_is_rounded_towards_zero():
    for limit in (0.1, 1 / 3, 0.7, 2.7):
        layer = Gain(limit)
        layer.factor.data.fill_(100.0)
        assert float(layer(torch.ones(1, 1)).detach().double()) <= limit
        assert layer.claims().get(Lipschitz).bound <= limit


def test_lift_and_projection_are_adjoint():
    x, y = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    assert torch.allclose((Lift(2, 5)(x) * y).sum(), (x * Project(5, 2)(y)).sum())
    with pytest.raises(InputError, match="Project from 2 to 3"):
        Project(2, 3)


# --- trained together ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [ReLU(), Tanh(), LeakyReLU(0.2)], ids=lambda a: type(a).__name__)
def test_gradients_are_those_of_automatic_differentiation(activation: Activation):
    group, (x, y) = nets(activation, width=6, blocks=3, hidden=5), pairs()
    stack = Stack(group)
    stack.norms_squared(200)
    losses, by_weight, by_gain = stack.gradients(stack.lift(y), x.T.numpy(), stack.step_sizes())
    for j, net in enumerate(group):  # frozen steps: their numbers are those of the stack
        net.zero_grad()
        loss = (_unclamped(net, y) - x).square().sum(1).mean()
        loss.backward()
        assert float(loss.detach()) == pytest.approx(losses[j], rel=1e-12)
        assert float(net.body.layers[-1].factor.grad) == pytest.approx(by_gain[j, 0, 0], rel=1e-10, abs=1e-12)
        for i, flow in enumerate(net.body.layers[1:-2]):
            grad = torch.cat([flow.field.linear.weight.grad, flow.field.bias.grad[:, None]], 1)
            assert np.abs(grad.numpy() - by_weight[i, j]).max() <= 1e-12
    assert len({f.step_count for net in group for f in net.body.layers[1:-2]}) > 1, "numbers of steps that differ"


def _unclamped(net: InvNet, y: torch.Tensor) -> torch.Tensor:
    for layer in list(net.body.layers)[:-1]:
        y = layer(y)
    return net.body.layers[-1].factor * y


def test_together_is_as_alone():
    x, y = pairs(30)
    group = nets(Tanh(), grown=1.0)
    alone = [copy.deepcopy([net]) for net in group]
    losses = fit_together(group, y, x, steps=60, rate=1e-2)
    for j, single in enumerate(alone):
        assert torch.allclose(fit_together(single, y, x, steps=60, rate=1e-2)[:, 0], losses[:, j], rtol=1e-9)
    assert (losses[-1] < losses[0]).all()
    for net in group:
        assert not net.training and abs(float(net.body.layers[-1].factor)) <= net.lipschitz
        assert claims(net).get(Lipschitz).bound <= net.lipschitz


def test_adam_is_pytorchs():
    """A plain loop with modules and automatic differentiation takes the same steps."""
    x, y = pairs(20)
    (net,) = nets(Tanh(), (5.0,), grown=0.5)
    plain = copy.deepcopy(net)  # small weights: one Euler step each, throughout
    losses = fit_together([net], y, x, steps=25)
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3)
    for loss in losses[:, 0]:
        adam.zero_grad()
        value = (plain(y) - x).square().sum(1).mean()
        assert float(value.detach()) == pytest.approx(float(loss), rel=1e-10)
        value.backward()
        adam.step()


def test_what_cannot_be_trained_together_is_refused():
    x, y = pairs()
    with pytest.raises(InputError, match="one architecture"):
        fit_together([InvNet(2, 1.0), InvNet(2, 1.0, width=4)], y.float(), x.float(), steps=1)
    with pytest.raises(InputError, match="Softplus"):
        fit_together([InvNet(2, 1.0, activation=Softplus())], y.float(), x.float(), steps=1)
    with pytest.raises(TrainingError, match="Lower the learning rate"), np.errstate(all="ignore"):
        fit_together([InvNet(2, 9.0)], y.float() * 1e30, x.float(), steps=9)


# --- the study ----------------------------------------------------------------------------------------------------


def test_the_problem_is_the_chapters():
    sizes = torch.linalg.svdvals(inverse_2d.operator().weight.detach()).tolist()
    assert sizes == pytest.approx([2.25, 0.25]) and sizes[0] / sizes[1] == pytest.approx(1 + 2 / inverse_2d.EPSILON)
    assert inverse_2d._tau(2.0) == pytest.approx(0.0625, rel=1e-6), "L(1/16) = 2"


def test_the_study_is_certified_and_goes_on_where_it_stopped(tmp_path: Path):
    folder = inverse_2d.run(out=tmp_path / "study", quick=True)
    rows = json.loads((folder / "invnet.json").read_text())
    assert len(rows) == 18
    for row in rows:
        assert row["stretched by"] <= row["proved"] * (1 + 1e-12) and row["proved"] <= row["L"]
        name = f"{row['training pairs']}-{row['activation']}-{row['bound'].replace('/', '-')}.safetensors"
        assert claims(load(folder / "models" / name)).get(Lipschitz).bound <= row["L"]
    table = json.loads((folder / "tikhonov.json").read_text())
    for row in table:
        assert row["least test error of any tau"] <= row["test error"] < row["naive inversion"]
    before = {p: p.stat().st_mtime_ns for p in (folder / "parts").iterdir()}
    inverse_2d.run(out=folder, quick=True)
    assert {p: p.stat().st_mtime_ns for p in (folder / "parts").iterdir()} == before
