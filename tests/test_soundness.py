"""Nothing that is proved can be refuted: layers trained against their claims, points inside certified balls attacked.

The short version of benchmarks/soundness.py, with errors planted to see that the attacks would find them.
"""

from __future__ import annotations

import copy
import dataclasses
import functools

import pytest
import torch
from torch import Tensor, nn

import everything  # noqa: F401 (fills the registries)
import stablenets as sn
from small_runs import finished
from stablenets.certify import certify
from stablenets.core.properties import Lipschitz
from stablenets.data import load_data
from stablenets.fields import ConvexGradient
from stablenets.integrators import Euler
from stablenets.layers import Flow, Layer, NormalisedHead
from stablenets.linear import Dense
from stablenets.testing.boundary import Attempts, attack_certified, search_rounding
from stablenets.testing.expansion import expand, expansion

CLAIMING = sorted(
    name for name, cls in Layer.registry.items() if any(e.eval().claims().get(Lipschitz) for e in cls.examples())
)


@pytest.mark.parametrize("name", CLAIMING)
def test_no_layer_can_be_trained_to_expand_beyond_its_claim(name: str) -> None:
    for layer in Layer.registry[name].examples():
        shape = layer.input_shape or (4,)
        for step in expand(layer, shape, steps=6):
            if step % 3 == 2 and (claim := copy.deepcopy(layer).eval().claims().get(Lipschitz)):
                # the claim is about the map that `accuracy` compares with: 0 but for iterations that end early
                assert expansion(layer, shape) <= claim.bound * (1 + 1e-12 + layer.accuracy)


class Estimated(nn.Module):
    """A gradient step that keeps, in evaluation, the step that the estimate gave in training: what others ship."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = Flow(ConvexGradient(Dense(32, 64)), Euler(), steps=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(x)

    def train(self, mode: bool = True) -> Estimated:
        for part in self.modules():
            part.training = mode
        return self


def test_the_training_finds_what_an_estimate_lets_through() -> None:
    layer = Estimated()
    assert max(expansion(layer, (32,)) for _ in expand(layer, (32,), steps=15, lr=0.1)) > 1.01


def test_the_explicit_norm_sees_a_single_active_direction() -> None:
    """Of I - h A^T A, not of the identity that it is where no unit is active."""
    layer = nn.Sequential(Flow(ConvexGradient(Dense(8, 8)), Euler(), h=1.0))
    layer[0].field.linear.weight.data = torch.diag(torch.tensor([2.0, 1, 1, 1, 1, 1, 1, 1]))
    assert expansion(layer, (8,)) == pytest.approx(3.0)


# --- certified points ---------------------------------------------------------------------------------------------


@functools.cache
def linear_classifier() -> nn.Module:
    """A head alone: its certified radii are the distances to the boundary."""
    data, net = load_data("digits"), nn.Sequential(nn.Flatten(), NormalisedHead(64, 10))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for p in net.parameters():
            p.data.normal_()
    optimiser = torch.optim.Adam(net.parameters(), 3e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.multi_margin_loss(4 * net(data.x_train), data.y_train).backward()
        optimiser.step()
    return net.eval()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_certified_points_of_a_trained_network_are_not_broken(dtype) -> None:
    net, x = sn.load(finished().file("model.safetensors")), load_data("digits").x_test[:40]
    proof = certify(net, dtype=dtype)
    tried = attack_certified(net, proof, x, steps=6) + search_rounding(net, proof, x, tries=4)
    assert tried.tried > 300 and tried.broken == 0 and 0 < tried.nearest < 1


@pytest.mark.parametrize("dtype, nearest", [("float64", 1e-11), ("float32", 1e-3)])
def test_not_even_where_the_certified_radius_is_the_distance_to_the_boundary(dtype, nearest: float) -> None:
    net, x = linear_classifier(), load_data("digits").x_test[:100]
    proof = certify(net, dtype=dtype, input_shape=(1, 8, 8))
    assert float((proof.radius(x) > 0).double().mean()) > 0.9
    tried = attack_certified(net, proof, x, steps=5) + search_rounding(net, proof, x, tries=10)
    assert tried.tried > 1000 and tried.broken == 0 and 0 < tried.nearest < nearest


def test_attacks_refute_certificates_that_promise_a_little_too_much() -> None:
    net, x = linear_classifier(), load_data("digits").x_test[:100]
    proof = certify(net, input_shape=(1, 8, 8))

    def wrong(error: float) -> Attempts:
        false = dataclasses.replace(proof, lipschitz=1 - error)
        return attack(net, false, x)

    attack = functools.partial(attack_certified, steps=8)
    assert wrong(1e-8).broken > 100 and wrong(1e-10).broken == 0
    attack = search_rounding
    assert wrong(2e-11).broken > 100


def test_points_that_are_not_certified_are_no_attempts() -> None:
    net = nn.Sequential(nn.Flatten(), NormalisedHead(4, 2)).eval()
    net[1].weight.data[1] = net[1].weight.data[0]
    proof = certify(net, input_shape=(4,))
    assert attack_certified(net, proof, torch.rand(5, 4)) == Attempts(0, 0, 1.0)


# --- what the bound is for, and what it costs ---------------------------------------------------------------------


def test_a_step_from_power_iterations_expands_and_ours_does_not() -> None:
    net = sn.load(finished().file("model.safetensors"))
    flows = [m for m in net.modules() if isinstance(m, Flow)]
    assert max(expansion(f, f.field.state_shape or ()) for f in flows) <= 1 + 1e-12
    for flow in flows:
        flow.step_size = 2 / flow.field.linear.norm_estimate() ** 2
    assert max(expansion(f, f.field.state_shape or ()) for f in flows) > 1 + 1e-3
