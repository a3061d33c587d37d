"""Lift, flow, head: what is computed, what is proved, and what the exact solution keeps."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

import stablenets as sn
from stablenets.core.claims import Claims
from stablenets.core.component import build, config
from stablenets.core.errors import ClaimError, InputError
from stablenets.core.properties import (
    Cocoercive,
    Decreases,
    DivergenceFree,
    Expansive,
    FirstIntegral,
    Invariant,
    Lipschitz,
    OneSidedLipschitz,
    Positive,
    Preserves,
    QuasiPositive,
)
from stablenets.fields import Contracting, ConvexGradient, EquilibriumContracting, FreeField, SkewLinear, Tanh
from stablenets.fields.exact import exact_flow
from stablenets.fields.examples import large
from stablenets.integrators import RK4, Cayley, Euler
from stablenets.layers import AdaptiveFlow, Affine, Flow, Lift, NormalisedHead
from stablenets.linear import Conv2d, Dense, SkewDense
from stablenets.networks import NeuralODE
from stablenets.systems import HarmonicOscillator, Pendulum
from stablenets.testing import check_component, falsify

EXAMPLES = list(NeuralODE.examples())


def dense(time: float = 3.0, **rest) -> NeuralODE:
    field = large(ConvexGradient(Dense(6, 9), Tanh()), 3.0)
    return NeuralODE(Lift(4, 6), field, NormalisedHead(6, 3), time=time, **rest).double().train().eval()


def test_the_conformance_suite():
    assert [str(f) for f in check_component(NeuralODE) if not f.ok] == []


def test_it_is_its_three_parts():
    """Against the formula, with scipy's solver for the flow."""
    integrate = pytest.importorskip("scipy.integrate")
    for net in EXAMPLES:
        net = net.double().train().eval()
        x = torch.rand(2, *net.image_shape, dtype=torch.float64)
        y = net.lift(x)

        def slope(t, v, net=net, shape=y.shape):
            return net.field(torch.from_numpy(v).view(shape), t).detach().flatten().numpy()

        end = integrate.solve_ivp(
            slope, (0, net.time), y.detach().flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-12
        ).y[:, -1]
        exact = net.head(torch.from_numpy(end).view(y.shape))
        tolerance = 0.5 if isinstance(net.integrator, Euler) else 3e-2  # as many steps as stability needs, no more
        tolerance = 5e-3 if isinstance(net.flow, AdaptiveFlow) else tolerance
        assert (net(x) - exact).abs().max() < tolerance
        assert net.classes == exact.shape[1]


@pytest.mark.parametrize("time", [0.3, 10.0])
@pytest.mark.parametrize("method", [RK4(), Euler()], ids=lambda m: type(m).__name__)
def test_convex_gradients_make_it_non_expansive_for_any_time(time, method):
    net = dense(time, integrator=method)
    head = net.head.claims().get(Lipschitz)
    assert net.claims().get(Lipschitz) == head and net.exact_claims().get(Lipschitz) == head
    (attempt,) = falsify(net, [head], (4,), count=4, steps=1)
    assert not attempt.refuted, str(attempt)


def test_a_contracting_end_shrinks_distances():
    """The classifier of chapter 5.2: its flow brings all states together, at the proved rate or faster."""
    field = large(Contracting(ConvexGradient(Dense(5, 8), Tanh()), rate=0.5), 1.0)
    net = NeuralODE(Lift(4, 5), field, NormalisedHead(5, 3), time=4.0, steps=60).double().eval()
    exact = exact_flow(field.claims(), 4.0).get(Lipschitz).bound
    assert exact == pytest.approx(math.exp(-2), rel=1e-9)
    x, y = torch.randn(2, 20, 5, dtype=torch.float64)
    assert ((net.flow(x) - net.flow(y)).norm(dim=1) <= exact * (1 + 1e-6) * (x - y).norm(dim=1)).all()
    euler = NeuralODE(net.lift, field, net.head, time=4.0, steps=400, integrator=Euler()).double().eval()
    assert euler.claims().get(Lipschitz).bound < 0.5 * net.head.claims().get(Lipschitz).bound


def test_nothing_is_claimed_of_free_fields_and_their_solutions():
    net = EXAMPLES[2]
    assert NeuralODE(net.lift, net.field, net.head).integrator.rtol == 1e-6, "adaptive where nothing gives the steps"
    assert not net.claims() and not net.exact_claims() and net.claims().lost


@pytest.mark.parametrize("i", [0, 1])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_certified_and_verified(tmp_path, i, dtype):
    net = list(NeuralODE.examples())[i].train().eval()
    sn.save(net, tmp_path / "m.safetensors")
    certificate = sn.certify(net, dtype=dtype)
    certificate.save(tmp_path / "c.json")
    verdict = sn.verify(tmp_path / "m.safetensors", tmp_path / "c.json")
    assert verdict.ok, verdict.reason
    changed = json.loads((tmp_path / "c.json").read_text())
    flow = next(layer for layer in changed["layers"] if layer["kind"] == "Flow")
    flow["h"] *= 1.01
    (tmp_path / "c.json").write_text(json.dumps(changed))
    assert not sn.verify(tmp_path / "m.safetensors", tmp_path / "c.json").ok


@pytest.mark.parametrize("net", EXAMPLES, ids=range(len(EXAMPLES)))
def test_saved_and_loaded(tmp_path, net):
    net = net.float().train().eval()
    twin = sn.networks.Network.from_pretrained(net.save_pretrained(tmp_path / "net"))
    x = torch.rand(3, *net.image_shape)
    assert torch.equal(twin(x), net(x)) and config(twin) == config(net) == config(build(config(net)))
    assert len({id(p) for p in net.parameters()}) == len(list(net.state_dict().keys())) - sum(
        not isinstance(v, torch.Tensor) or "singular_vector" in k for k, v in net.state_dict().items()
    ), "each weight is stored once"


def test_every_parameter_learns():
    for net in NeuralODE.examples():
        net.train()
        net(torch.randn(16, *net.image_shape)).square().sum().backward()
        assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_gradients_flow_through_reversible_steps():
    field = SkewLinear(SkewDense(4))
    make = {"integrator": Cayley(), "steps": 5, "input_shape": (3,)}
    nets = [
        NeuralODE(Lift(3, 4), field, NormalisedHead(4, 2), **make, gradient=g)
        for g in (None, sn.gradients.Reversible())
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    x, found = torch.randn(5, 3), []
    for net in nets:
        field.zero_grad()
        net(x).square().sum().backward()
        found.append(field.linear.raw.grad.clone())
    torch.testing.assert_close(*found)
    assert "gradient" in config(nets[1]) and "gradient" not in config(nets[0])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: NeuralODE(nn.Identity(), FreeField(nn.Tanh()), nn.Linear(3, 2)), InputError, "input_shape"),
        (lambda: NeuralODE(Lift(2, 5), ConvexGradient(Dense(4, 4)), nn.Linear(4, 2)), InputError, r"\(4,\), the field"),
        (
            lambda: NeuralODE(Affine(Dense(2, 4)), ConvexGradient(Dense(4, 4)), nn.Linear(5, 2)),
            InputError, "do not fit",
        ),
        (
            lambda: NeuralODE(Lift(1, 2), ConvexGradient(Conv2d(2, 2, 3, 4)), nn.Flatten(2), input_shape=(1, 4, 4)),
            InputError, "nn.Flatten",
        ),
        (
            lambda: NeuralODE(nn.Linear(2, 4), FreeField(nn.Linear(4, 4)), nn.Linear(4, 2), integrator=Euler()),
            ClaimError, "steps",
        ),
        (lambda: NeuralODE(nn.Linear(2, 4), FreeField(nn.Tanh()), nn.Linear(4, 2), time=0.0), InputError, "time"),
        (
            lambda: NeuralODE(
                nn.Conv2d(1, 2, 1), ConvexGradient(Conv2d(2, 2, 3, 4)), nn.Flatten(), input_shape=(1, 4, 4)
            ).claims(),
            ClaimError, "Conv2d",
        ),
    ],
)  # fmt: skip
def test_error_texts(make, error, words):
    with pytest.raises(error, match=words):
        make()


# --- exact solutions ----------------------------------------------------------------------------------------------

FIELDS = [
    (large(ConvexGradient(Dense(3, 5))), 2.0),
    (large(Contracting(ConvexGradient(Dense(4, 6), Tanh()), Dense(4, 4), rate=0.7)), 1.5),
    (large(EquilibriumContracting(Dense(3, 6), Dense(3, 6), gate=Dense(3, 6), rate=0.4)), 1.0),
    (HarmonicOscillator(), 2.0),
    (Pendulum(), 0.8),
    (SkewLinear(SkewDense(4)), 1.0),
]


@pytest.mark.parametrize(("field", "time"), FIELDS, ids=lambda v: type(v).__name__)
def test_exact_flows_keep_what_is_claimed(field, time):
    """Attacked on an approximation that is accurate to about 1e-8, so violations are compared with that."""
    field = field.double()
    solved = Flow(field, RK4(), time=time, steps=60)
    claims = exact_flow(field.claims(), time)
    assert claims
    for claim in claims:
        (attempt,) = falsify(solved, [claim], field.state_shape or (2,), count=4, steps=0)
        assert attempt.violation <= 1e-6, f"{attempt}"


def test_constants_of_exact_flows_are_attained():
    """x' = a x, for which exp(a t) is the factor itself; and each constant is at most an ulp or so larger."""
    for a in (-2.0, 0.0, 0.7):
        bound = exact_flow(Claims([OneSidedLipschitz(a)]), 1.3).get(Lipschitz).bound
        assert math.exp(a * 1.3) <= bound <= math.exp(a * 1.3) * (1 + 1e-12)
    least = exact_flow(Claims([Lipschitz(2.0)]), 0.5).get(Expansive).bound
    assert math.exp(-1) * (1 - 1e-12) <= least <= math.exp(-1)
    v = Invariant("V", lambda x: x.square().sum(1), degree=2)
    factor = exact_flow(
        sn.Claims(EquilibriumContracting(Dense(2, 3), Dense(2, 3), gate=Dense(2, 3), rate=0.5).claims()), 2.0
    )
    assert factor.get(Decreases).factor == pytest.approx(math.exp(-2.0), rel=1e-12)
    kept = exact_flow(Claims([FirstIntegral(v), DivergenceFree(), Cocoercive(1.0)]), 1.0)
    assert exact_flow(Claims([OneSidedLipschitz(-1.0)]), 0.0) == (Lipschitz(1.0),), "and nothing else"
    assert Preserves(v) in kept and kept.get(Lipschitz) == Lipschitz(1.0)
    assert exact_flow(Claims([QuasiPositive()]), 1.0) == (Positive(),), "no volume"


def test_times_of_exact_flows():
    assert exact_flow(Claims([OneSidedLipschitz(1.0)]), 1e6).get(Lipschitz) is None
    for time in (-1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="finite time"):
            exact_flow(Claims(), time)
