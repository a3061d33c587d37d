"""Flows along fields of two layers at the limits of numbers: what overflows is not proved, and no check is endless."""

from __future__ import annotations

import copy
import time
from fractions import Fraction as Q

import pytest
import torch
from torch import nn

import stablenets as sn
from stablenets.certify import certify, running_flow
from stablenets.certify.checker import flows
from stablenets.certify.checker.architecture import layers
from stablenets.certify.checker.runge_kutta import LARGE, power
from stablenets.certify.checker.strict import Rejected
from stablenets.certify.radii import check
from stablenets.certify.running import analyse
from stablenets.core.errors import ClaimError
from stablenets.fields import Contracting, ConvexGradient, TimedTwoLayer
from stablenets.integrators import Euler, Midpoint
from stablenets.layers import Flow
from stablenets.layers.chain import leaves
from stablenets.linear import Dense
from test_verify import Files


def decaying(rate: float, h: float, *, before: float = 1.0, after: float = 1.0, steps: int = 1) -> nn.Module:
    """Euler steps of a fast decay between two linear layers, whose weights are scaled."""
    torch.manual_seed(0)
    flow = Flow(Contracting(ConvexGradient(Dense(2, 2)), rate=rate), Euler(), h=h, steps=steps)
    net = nn.Sequential(nn.Linear(2, 2), flow, nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.mul_(before)
        net[0].bias.zero_()
        net[2].weight.mul_(after)
    return net.eval()


def test_norms_behind_huge_constants_are_checked(tmp_path):
    """States are multiplied by -1e305, which is still a float."""
    net = decaying(1e305, 1.0, after=1e-140).double()
    cert = certify(net, input_shape=(2,))
    x = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    with torch.no_grad():
        assert 1e303 < float(net[:2](x).abs().max()) <= cert.layers[1].output_norm
    files = Files(tmp_path)
    sn.save(net, files.model)
    cert.save(files.certificate)
    assert sn.verify(files.model, files.certificate).ok
    files.edit(lambda c: c["layers"][1].update(output_norm=1e302))
    assert "output_norm" in files.reason()


def test_a_rate_beyond_float32_is_refused(tmp_path, monkeypatch):
    """1e39 is infinite in float32, however small the states are."""
    net = decaying(1e39, 1.5e-30, before=1e-12)
    with torch.no_grad():
        assert not net(torch.ones(1, 2)).isfinite().all()
    with pytest.raises(ClaimError, match=r"a rate of 1e\+39 \(1\); needed: one below 1e\+32, a float32 number"):
        certify(net, dtype="float32", input_shape=(2,))
    monkeypatch.setattr(running_flow, "STEPS", (1e-30, 1e60))
    files = Files(tmp_path)
    sn.save(net, files.model)
    certify(net, dtype="float32", input_shape=(2,)).save(files.certificate)
    assert "a rate of 1e+39 in float32" in files.reason()


def test_powers_of_small_constants_stay_short():
    x = Q(3, 2**106)
    began = time.process_time()
    found = power(x, 10**5)
    assert found == 1 / LARGE and time.process_time() - began < 0.05
    assert x**15 <= power(x, 15) <= x**15 * (1 + Q(1, 2**100))
    assert power(Q(0), 7) == 0 and power(x, 19) >= x**19


def test_many_flows_may_not_take_endless_steps(tmp_path, monkeypatch):
    net = nn.Sequential(*(decaying(1.0, 0.1, steps=40)[1] for _ in range(3)), nn.Linear(2, 2)).eval()
    files = Files(tmp_path).write(net)
    assert sn.verify(files.model, files.certificate).ok
    monkeypatch.setattr(flows, "MOST_STEPS", 100)
    assert "flows with over 100 steps together" in files.reason()


@pytest.mark.parametrize("channels", [[], [1] * 54])
def test_an_ode_net_has_as_many_widths_as_an_image_has_halvings(channels):
    """Its layers are listed before they are counted: a header of 64 MB could ask for tens of millions."""
    sizes = {"image_shape": [1, 8, 8], "classes": 3, "channels": channels, "hidden": 4, "time": 1.0, "steps": 2}
    with pytest.raises(Rejected, match="widths"):
        layers({"type": "OdeNet", **sizes})


def flushed(net: nn.Module, x: torch.Tensor) -> None:
    """Where numbers below 2^-126 are zero, float32 scores must still be within their bounds."""
    cert = certify(net, dtype="float32", input_shape=tuple(x.shape[1:]))
    with torch.no_grad():
        exact = copy.deepcopy(net).double()(x.double())
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        evaluated = cert.logits(x)
    finally:
        torch.set_flush_denormal(False)
    assert not evaluated.any() and exact.all()
    layers = [layer for _, layer in leaves(cert._exact)]
    check(evaluated, analyse(zip(layers, cert.layers, strict=True), x.double()), torch.tensor(cert.constants))


def test_what_is_flushed_to_zero_may_decay_fast():
    """1e-39 is no normal number, and 1e20 times as much is one."""
    net = decaying(1e20, 1.0)[1:].eval()
    with torch.no_grad():
        net[1].bias.zero_()
    flushed(net, torch.full((1, 2), 1e-39))


def test_what_is_flushed_to_zero_may_drift_long():
    torch.manual_seed(0)
    field = TimedTwoLayer(Dense(2, 2), Dense(2, 2))
    net = nn.Sequential(Flow(field, Midpoint(), h=1e20), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        field.inner.weight.mul_(1e-20)
        field.drift.fill_(1e-39)
        net[1].bias.zero_()
    flushed(net, torch.zeros(1, 2))
