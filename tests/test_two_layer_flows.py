"""Certificates of contracting flows and of residual branches with time: attacked, sharp, checked, forged."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stablenets as sn
from stablenets import cli
from stablenets.certify import certify, rounding
from stablenets.certify.checker.architecture import layers
from stablenets.certify.checker.strict import Rejected
from stablenets.core.component import config
from stablenets.core.errors import ClaimError
from stablenets.fields import Contracting, ConvexGradient, LeakyReLU, Softplus, Tanh, TimedTwoLayer
from stablenets.gradients import Checkpointed, ContinuousAdjoint, DiscreteAdjoint
from stablenets.integrators import RK4, SSPRK3, Euler, Heun, Integrator, Midpoint
from stablenets.layers import Affine, Chain, Flow, NormalisedHead
from stablenets.linear import AlmostOrthogonal, Conv2d, Dense
from stablenets.networks import ContractingNet, NeuralODE, OdeNet
from stablenets.tasks import classify
from stablenets.tasks.options import ClassifyConfig
from stablenets.testing.boundary import attack_certified
from test_certify import images
from test_running import attain, checked_growth, with_head
from test_verify import Files, trained_looking


def contracting(activation: Any = None, rate: float = 0.7) -> Contracting:
    return Contracting(ConvexGradient(Conv2d(1, 4, 3, 4), activation), rate=rate)


def timed(activation: Any = None) -> TimedTwoLayer:
    return TimedTwoLayer(Conv2d(1, 4, 3, 4), Conv2d(1, 4, 3, 4), activation)


def dense(rate: float = 0.7) -> nn.Module:
    field = Contracting(ConvexGradient(AlmostOrthogonal(Dense(16, 9))), rate=rate)
    return nn.Sequential(nn.Flatten(), Flow(field, Euler(), time=1.5, steps=3))


# a flow, and how much of its bound the worst machine reaches at least
FLOWS: dict[str, Callable[[], tuple[nn.Module, float]]] = {
    "contracting, dense": lambda: (dense(), 0.02),
    "contracting, fast": lambda: (dense(30.0), 0.02),
    "contracting, Euler": lambda: (Flow(contracting(Tanh()), Euler(), time=1.0), 0.02),
    "contracting, Heun": lambda: (Flow(contracting(LeakyReLU(0.1)), Heun(), steps=2), 0.005),
    "contracting, RK4": lambda: (Flow(contracting(Softplus()), RK4(), steps=2), 0.005),
    "timed, Euler": lambda: (Flow(timed(), Euler(), time=1.0, steps=3), 0.005),
    "timed, Midpoint": lambda: (Flow(timed(Tanh()), Midpoint(), time=0.05, steps=2), 0.01),
    "timed, RK4": lambda: (Flow(timed(LeakyReLU(0.1)), RK4(), time=0.05, steps=2), 0.01),
}
every_flow = pytest.mark.parametrize("name", FLOWS)


@every_flow
def test_the_worst_machine_stays_within_the_float32_bound(name):
    layer, share = FLOWS[name]()
    net, shape = with_head(layer)
    attain(net, share, shape)


@every_flow
def test_the_checker_proves_the_growth(tmp_path, name):
    checked_growth(tmp_path, *with_head(FLOWS[name]()[0]))


@every_flow
def test_the_float64_bound_covers_the_measured_error(monkeypatch, name):
    """The analysis is parametrised by u: with float32's u it must cover the measured float32 error."""
    net, shape = with_head(FLOWS[name]()[0])
    monkeypatch.setattr(rounding, "U", 2.0**-24)
    cert = certify(net, input_shape=shape)
    x = images(200, size=4).reshape(200, *shape)
    x *= cert.norm_limit / x.flatten(1).norm(dim=1).max()
    double = cert.logits(x)
    measured = float((net.float()(x).double() - double).detach().norm(dim=1).max())
    assert 0 < measured <= cert.rounding < 1e8 * measured


@every_flow
def test_the_constant_holds_for_jacobians(name):
    net, shape = with_head(FLOWS[name]()[0])
    flow = next(m for m in net.modules() if isinstance(m, Flow)).double()
    claim = next(c for c in certify(net, input_shape=shape).layers if c.kind == "Flow")
    for x in 3 * torch.randn(8, *flow.field.state_shape, dtype=torch.float64):
        slopes = torch.autograd.functional.jacobian(lambda z: flow(z[None])[0], x).reshape(x.numel(), -1)
        assert float(torch.linalg.matrix_norm(slopes, 2)) <= claim.lipschitz * (1 + 1e-9)


@pytest.mark.parametrize(
    ("rate", "weight", "h", "one"), [(0.5, 1.0, 0.4, 0.8), (0.5, 1.0, 1.2, 0.8), (2.0, 0.3, 0.1, 0.8)]
)
def test_contraction_is_attained(rate, weight, h, one):
    """By the slow side of one dimension, 1 - h c where the gradient is flat, or by its fast side, |1 - h (c + w^2)|."""
    field = Contracting(ConvexGradient(Dense(1, 1)), rate=rate)
    with torch.no_grad():
        field.gradient.linear.weight.fill_(weight)
    for steps in (1, 3):
        net = nn.Sequential(Flow(field, Euler(), h=h, steps=steps), nn.Linear(1, 2)).double().eval()
        assert certify(net).layers[0].lipschitz == pytest.approx(one**steps, rel=1e-9)
    y = Euler().step(field, torch.tensor([[1.0], [2.0], [-1.0], [-2.0]], dtype=torch.float64), h).detach()
    assert max(float((y[0] - y[1]).abs()), float((y[2] - y[3]).abs())) == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("method", [Euler(), Heun(), SSPRK3(), RK4()], ids=lambda m: type(m).__name__)
def test_expansion_is_attained(method: Integrator[Any]):
    """x' = 2 x where the unit is active."""
    field = TimedTwoLayer(Dense(1, 1), Dense(1, 1))
    with torch.no_grad():
        for p, value in ((field.inner.weight, 4.0), (field.outer.weight, 0.5), (field.drift, 3.0)):
            p.fill_(value)
    net = nn.Sequential(Flow(field, method, time=0.6, steps=2), nn.Linear(1, 2)).double().eval()
    y = net[0](torch.tensor([[1.0], [2.0]], dtype=torch.float64))
    claim: Any = certify(net).layers[0]
    assert claim.lipschitz == pytest.approx(float((y[1] - y[0]).detach()), rel=1e-9)
    assert claim.step_limit is None and claim.outer_norm_bound == pytest.approx(0.5)


def test_the_radius_behind_a_contraction_is_the_true_one():
    """Where every gradient is flat the flow is a multiplication, and the boundary a hyperplane."""
    field = Contracting(ConvexGradient(Dense(6, 4)), rate=1.0)
    with torch.no_grad():
        field.gradient.bias.fill_(-1e3)
    net = nn.Sequential(Flow(field, Euler(), time=2.0, steps=4), nn.Linear(6, 2)).double().eval()
    cert, x = certify(net, input_shape=(6,)), torch.randn(20, 6, dtype=torch.float64)
    radius, answer = cert.radius(x), cert.logits(x).argmax(1)
    towards = net[1].weight[1] - net[1].weight[0]
    unit = torch.where(answer == 0, 1.0, -1.0)[:, None] * towards / towards.norm()
    assert cert.lipschitz == pytest.approx((1 - 2.0 / 4) ** 4, rel=1e-9)
    near = radius < 0.9 * (cert.norm_limit - x.norm(dim=1))
    assert int(near.sum()) > 5
    for share, kept in ((0.999, True), (1.001, False)):
        moved = cert.logits((x + share * radius[:, None] * unit).detach()).argmax(1)
        assert bool(((moved == answer) == kept)[near].all())


def test_a_flow_with_time_in_exact_fractions():
    """Two units, all stage times exact: what float64 and float32 are off by is within the bounds."""
    field = TimedTwoLayer(Dense(2, 2), Dense(2, 2))
    net = nn.Sequential(Flow(field, RK4(), time=0.7, steps=3), nn.Linear(2, 2))
    net = trained_looking(net, seed=3).requires_grad_(False)
    with torch.no_grad():
        field.drift.copy_(torch.tensor([1.5, -2.5]))
    numbers = lambda p: [[Fraction(float(v)) for v in row] for row in p.reshape(len(p), -1)]  # noqa: E731
    a, b, v, outer = map(numbers, (field.inner.weight, field.bias, field.drift, field.outer.weight))
    w, c = map(numbers, (net[1].weight, net[1].bias))
    h = Fraction(net[0].step_size)

    def slope(x: list[Fraction], t: Fraction) -> list[Fraction]:
        z = [sum(p * q for p, q in zip(a[i], x, strict=True)) + b[i][0] + t * v[i][0] for i in range(2)]
        s = [max(Fraction(0), y) for y in z]
        return [sum(outer[i][k] * s[i] for i in range(2)) for k in range(2)]

    def scores(x: list[Fraction]) -> list[Fraction]:
        plus = lambda x, size, k: [p + size * q for p, q in zip(x, k, strict=True)]  # noqa: E731
        for n in range(3):
            k1 = slope(x, n * h)
            k2 = slope(plus(x, h / 2, k1), n * h + h / 2)
            k3 = slope(plus(x, h / 2, k2), n * h + h / 2)
            k4 = slope(plus(x, h, k3), n * h + h)
            x = [x[i] + h * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]) / 6 for i in range(2)]
        return [sum(p * q for p, q in zip(row, x, strict=True)) + e[0] for row, e in zip(w, c, strict=True)]

    x = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    exact = torch.tensor(
        [[float(s) for s in scores([Fraction(float(t)) for t in row])] for row in x], dtype=torch.float64
    )
    wide, narrow = certify(net, input_shape=(2,)), certify(net, dtype="float32", input_shape=(2,))
    assert float((wide.logits(x) - exact).norm(dim=1).max()) <= wide.rounding
    off = (narrow.logits(x).double() - exact).norm(dim=1)
    assert 0 < float(off.max()) < 1e-3
    narrow.radius(x)  # raises where a float32 score is farther off than its bound


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "contracting": lambda: ContractingNet((1, 4, 4), 3, channels=(3,), dense_width=5),
    "ode": lambda: OdeNet((1, 4, 4), 3, channels=(3,), hidden=4, time=0.5),
}


@functools.cache
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = NETWORKS[name]()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.2).add_(0.1 * torch.randn_like(p))
    return net.eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nothing_within_a_certified_radius_changes_an_answer(name, dtype):
    net = network(name)
    cert, x = certify(net, dtype=dtype), torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    assert float((cert.radius(x) > 1e-5).double().mean()) > 0.5
    done = attack_certified(net, cert, x, steps=10)
    assert done.tried > 500 and done.broken == 0


@pytest.fixture(params=list(NETWORKS))
def files(request, tmp_path) -> Files:
    return Files(tmp_path).write(network(request.param))


def flow_of(content: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in content["layers"] if c["kind"] == "Flow")


# by what each claim is multiplied; a rescaled matrix has a smaller norm than its theorem says
LESS = {"lipschitz": 1 - 1e-6, "norm_bound": 0.3, "rounding": 0.5, "output_norm": 1 - 1e-6, "step_limit": 1 + 1e-6}


@pytest.mark.parametrize(
    ("name", "key"), [*[(name, key) for name in NETWORKS for key in LESS], ("ode", "outer_norm_bound")]
)
def test_less_is_refused(tmp_path, name, key):
    files = Files(tmp_path).write(network(name))
    if (name, key) == ("ode", "step_limit"):
        files.edit(lambda c: flow_of(c).update(step_limit=1e-3))
    else:
        files.edit(lambda c: flow_of(c).update({key: flow_of(c)[key] * LESS.get(key, 1 - 1e-6)}))
    assert "(Flow)" in files.reason() and key.split("_")[-1] in files.reason().lower()
    assert key != "outer_norm_bound" or "outer: the norm bound" in files.reason()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"activation": "Tanh"}, "activation"),
        ({"linear": "Conv1d"}, "linear"),
        ({"integrator": "Heun"}, "integrator"),
        ({"h": 0.1}, "h, steps"),
        ({"step_limit": 5.0}, "step limit"),
        ({"field": "ConvexGradient"}, "unknown key"),
        ({"field": "SkewLinear"}, "no key"),
        ({"field": "Other"}, "not covered"),
        ({"outer": "Dense", "rate": 1.0}, "unknown key"),
    ],
)
def test_claims_of_another_flow_are_refused(files, change, named):
    files.edit(lambda c: flow_of(c).update(change))
    assert named in files.reason()


@pytest.mark.parametrize("rate", [0.9, 1.1, True, "1", None])
def test_another_rate_is_refused(tmp_path, rate):
    files = Files(tmp_path).write(network("contracting"))
    files.edit(lambda c: flow_of(c).update(rate=rate))
    assert "rate" in files.reason()


def test_a_slower_contraction_in_the_model_is_noticed(tmp_path):
    files = Files(tmp_path).write(network("contracting"))
    files.rewrite(lambda tensors, config, extra: config.update(rate=0.5))
    files.edit(lambda c: flow_of(c).update(rate=0.5))
    assert "Lipschitz constant" in files.reason() or "step limit" in files.reason()


@pytest.mark.parametrize("name", ["bias", "drift"])
def test_larger_biases_are_noticed(tmp_path, name):
    files = Files(tmp_path).write(network("ode"))

    def grow(tensors: dict[str, Tensor], config: Any, extra: Any) -> None:
        tensors[f"body.body.layers.1.field.{name}"] *= 1e3

    files.rewrite(grow)
    assert "output_norm" in files.reason()


def test_maps_exchanged_are_noticed(tmp_path):
    files = Files(tmp_path).write(network("ode"))

    def swap(tensors: dict[str, Tensor], config: Any, extra: Any) -> None:
        inner, outer = (f"body.body.layers.1.field.{name}.weight" for name in ("inner", "outer"))
        tensors[inner], tensors[outer] = tensors[outer].clone(), tensors[inner].clone()

    files.rewrite(swap)
    assert "norm bound" in files.reason()


def with_gradient(gradient: Any) -> dict[str, nn.Module]:
    field = ConvexGradient(Dense(6, 8))
    lift, head = Affine(Dense(4, 6)), NormalisedHead(6, 3)
    flow = Flow(field, Euler(), time=1.0, gradient=gradient)
    flows = Chain(Flow(field, Euler(), time=1.0), Flow(field, Heun(), time=0.5), gradient=gradient)
    ode = TimedTwoLayer(Dense(6, 8), Dense(6, 8))
    return {
        "flow": Chain(lift, flow, head),
        "chain": Chain(lift, flows, head),
        "ode": NeuralODE(lift, ode, head, integrator=RK4(), steps=2, gradient=gradient),
    }


@pytest.mark.parametrize("gradient", [Checkpointed(2), DiscreteAdjoint(), ContinuousAdjoint()])
@pytest.mark.parametrize("kind", ["flow", "chain", "ode"])
def test_how_steps_are_differentiated_is_no_obstacle(tmp_path, kind, gradient):
    net = trained_looking(with_gradient(gradient)[kind], scale=1.5)
    files = Files(tmp_path).write(net)
    verdict = sn.verify(files.model, files.certificate)
    assert verdict.ok, verdict.reason
    plain = trained_looking(with_gradient(None)[kind], scale=1.5)
    plain.load_state_dict(net.state_dict())
    assert certify(plain).layers == certify(net).layers
    for forged in ({"type": "Sorcery"}, {"type": "Backpropagation", "more": 1}, None):
        content = config(net)
        (content if kind == "ode" else content["layers"][1])["gradient"] = forged
        with pytest.raises(Rejected, match=r"Sorcery|more|description"):
            layers(content)


def test_a_rotation_is_refused_by_name():
    field = Contracting(ConvexGradient(Dense(4, 6)), Dense(4, 4))
    net = nn.Sequential(Flow(field, Euler(), h=0.1), nn.Linear(4, 2)).eval()
    with pytest.raises(ClaimError, match="a flow of Contracting with a rotation; needed: flows of ConvexGradient"):
        certify(net)


def test_constants_of_long_flows_do_not_vanish(tmp_path):
    """0.9^9000 is below every float64."""
    field = Contracting(ConvexGradient(Dense(2, 2)), rate=1.0)
    net = trained_looking(nn.Sequential(Flow(field, Euler(), h=0.1, steps=9000), nn.Linear(2, 2)), scale=1.0)
    files = Files(tmp_path).write(net)
    verdict = sn.verify(files.model, files.certificate)
    assert verdict.ok, verdict.reason
    assert math.isfinite(float(certify(net).radius(torch.ones(1, 2))))


@pytest.mark.parametrize("network", ["contracting-net", "ode-net"])
def test_runs_are_certified_and_verified(tmp_path, capsys, network):
    options = replace(
        ClassifyConfig(), data="digits", network=network, epochs=1, train_limit=200, test_limit=10, attack_steps=2,
        radii=(0.1,), channels=(4,), threads=1, out=str(tmp_path / "run"),
    )  # fmt: skip
    run = classify.run(options)
    assert run.has("certificate.json") and not run.has("uncertified.txt")
    for words in (["certify", str(run.path), "--dtype", "float32"], ["verify", str(run.path)]):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 0, capsys.readouterr()
    shown = capsys.readouterr().out
    assert "OK: proved" in shown and ("||B|| <=" in shown) == (network == "ode-net")
