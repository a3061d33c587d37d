"""The Neural ODE for images, the CNN of its size, and the classifier that ends in a contracting flow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import stablenets as sn
from stablenets.core.claims import Claims
from stablenets.core.errors import InputError
from stablenets.core.properties import Lipschitz, OneSidedLipschitz, SymmetricJacobian
from stablenets.fields import Contracting, ConvexGradient, LeakyReLU, ReLU, Tanh, TimedTwoLayer
from stablenets.fields.examples import large
from stablenets.integrators import RK4, Euler
from stablenets.layers import Flow
from stablenets.linear import Dense
from stablenets.networks import ContractingNet, ConvNet, Network, OdeNet
from stablenets.tasks import config, recipes

SHAPE = (1, 8, 8)
NETWORKS: dict[str, Callable[[], Network]] = {
    "ode": lambda: OdeNet(SHAPE, 4, channels=(3, 6), hidden=5),
    "cnn": lambda: ConvNet(SHAPE, 4, channels=(3, 6), hidden=5),
    "contracting": lambda: ContractingNet(SHAPE, 4, channels=(3, 6), dense_width=7),
}


def trained_looking(name: str, seed: int = 0) -> Network:
    """With weights far from the initial ones, in float64."""
    torch.manual_seed(seed)
    net = NETWORKS[name]().double()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.5).add_(0.2 * torch.randn_like(p))
    return net.eval()


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian matrix at one input."""
    columns = torch.autograd.functional.jacobian(lambda z: f(z[None])[0], x)
    return columns.reshape(-1, x.numel())


def stretch(f: Callable[[Tensor], Tensor], x: Tensor) -> float:
    return float(torch.linalg.matrix_norm(jacobian(f, x), 2))


# --- the whole networks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_jacobians_obey_the_proved_constant(name: str) -> None:
    net = trained_looking(name)
    bound = net.claims().get(Lipschitz).bound
    worst = max(stretch(net, x) for x in torch.rand(10, *SHAPE, dtype=torch.float64))
    assert 1e-4 * bound < worst <= bound * (1 + 1e-12)
    assert name == "contracting" or worst > 1, "free layers stretch"


def test_the_neural_ode_and_the_cnn_have_exactly_the_same_size() -> None:
    ode, cnn = (sum(p.numel() for p in net((1, 28, 28), 10).parameters()) for net in (OdeNet, ConvNet))
    assert ode == cnn < 250_000


@pytest.mark.parametrize("name", ["ode", "contracting"])
def test_a_flow_of_features_is_certified_and_verified(name: str, tmp_path: Path) -> None:
    net = trained_looking(name)
    certificate = sn.certify(net)
    sn.save(net, tmp_path / "m")
    certificate.save(tmp_path / "c")
    verdict = sn.verify(tmp_path / "m", tmp_path / "c")
    assert verdict.ok, verdict.reason
    worst = max(stretch(net, x) for x in torch.rand(10, *SHAPE, dtype=torch.float64))
    assert worst <= certificate.lipschitz * (1 + 1e-12)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_cnn_is_certified_and_verified(depth: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = ConvNet(SHAPE, 4, channels=(3, 6), hidden=5, depth=depth).eval()
    certificate = sn.certify(net)
    assert certificate.lipschitz > 0.1
    x = torch.rand(20, *SHAPE)
    assert (certificate.radius(x) > 0).all()
    sn.save(net, tmp_path / "m")
    certificate.save(tmp_path / "c")
    verdict = sn.verify(tmp_path / "m", tmp_path / "c")
    assert verdict.ok, verdict.reason
    with torch.no_grad():
        net.get_parameter("body.layers.0.linear.weight").mul_(1.5)
    sn.save(net, tmp_path / "m")
    assert not sn.verify(tmp_path / "m", tmp_path / "c").ok


@pytest.mark.parametrize("net", [OdeNet, ConvNet, ContractingNet])
def test_widths_that_do_not_fit_are_refused(net: type[Network]) -> None:
    with pytest.raises(InputError, match="one convolution or more"):
        net(SHAPE, 4, channels=())
    with pytest.raises(InputError, match="fewer halvings"):
        net(SHAPE, 4, channels=(2, 2, 2, 2))


def test_the_recipes_differ_in_the_network_only() -> None:
    ode, *others = (config.read(recipes.find(f"{name}-mnist")) for name in ("neural-ode", "cnn", "contracting"))
    assert [replace(one, network=ode.network) for one in others] == [ode, ode]


# --- the Neural ODE -------------------------------------------------------------------------------------------------


def test_the_field_by_explicit_matrices() -> None:
    f = large(TimedTwoLayer(Dense(3, 5), Dense(3, 5), Tanh())).double().requires_grad_(False)
    a, b, bias, drift = (p.numpy() for p in (f.inner.matrix(), f.outer.matrix(), f.bias, f.drift))
    for x in np.random.default_rng(0).normal(size=(5, 3)):
        for t in (0.0, 0.3, 2.0):
            exact = b.T @ np.tanh(a @ x + bias + t * drift)
            assert np.abs(f(torch.from_numpy(x)[None], t)[0].numpy() - exact).max() < 1e-14
    slope = float(np.linalg.norm(a, 2) * np.linalg.norm(b, 2))
    assert f.claims().get(Lipschitz).bound == pytest.approx(slope, rel=1e-9)


def test_the_constant_of_the_field_is_attained() -> None:
    """Where A and B have one leading direction and all units are active."""
    f = TimedTwoLayer(Dense(3, 4), Dense(3, 4), ReLU()).double().requires_grad_(False)
    f.outer.weight.copy_(2 * f.inner.weight)
    f.bias.fill_(100.0)
    x = torch.zeros(3, dtype=torch.float64)
    assert stretch(f, x) == pytest.approx(f.claims().get(Lipschitz).bound, rel=1e-9)


def test_the_flow_is_the_solution_by_scipy() -> None:
    f = large(TimedTwoLayer(Dense(3, 5), Dense(3, 5), Tanh()), 1.0).double().requires_grad_(False)
    flow = Flow(f, RK4(), time=1.0, steps=40)
    x = torch.randn(3, dtype=torch.float64)
    exact = solve_ivp(
        lambda t, y: f(torch.from_numpy(y)[None], t)[0].numpy(), (0, 1), x.numpy(), rtol=1e-11, atol=1e-11
    )
    assert np.abs(flow(x[None])[0].numpy() - exact.y[:, -1]).max() < 1e-6


def test_the_flow_of_a_neural_ode_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    net = OdeNet(SHAPE, 4, channels=(3,), hidden=5)
    flow = next(m for m in net.modules() if isinstance(m, Flow))
    x = torch.rand(2, 3, 4, 4)
    assert flow(x).equal(x)


def test_there_is_one_shape_for_both_maps() -> None:
    with pytest.raises(InputError, match="the same shapes"):
        TimedTwoLayer(Dense(3, 4), Dense(3, 5))


# --- contraction ----------------------------------------------------------------------------------------------------


def strongly_monotone(seed: int) -> Contracting:
    field = Contracting(ConvexGradient(Dense(4, 6), Tanh()), rate=0.4)
    return large(field, seed=seed).double().requires_grad_(False)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 1.0, 1.3])
def test_euler_contracts_the_gradient_of_a_strongly_convex_function(seed: int, fraction: float) -> None:
    f = strongly_monotone(seed)
    size = f.claims().get(Lipschitz).bound
    h = 2 * fraction / size
    claim = Euler().transfer(f.claims(), h).get(Lipschitz).bound
    assert claim == pytest.approx(max(abs(1 - 0.4 * h), abs(1 - h * size)), rel=1e-9)
    assert (claim < 1) == (fraction < 1)
    step = lambda x: Euler().step(f, x, h)  # noqa: E731
    x = 2 * torch.randn(30, 4, dtype=torch.float64)
    assert max(stretch(step, one) for one in x) <= claim


@pytest.mark.parametrize("fraction", [0.2, 0.95, 1.2])
def test_both_ends_of_the_spectrum_attain_the_factor(fraction: float) -> None:
    """A quadratic V: its largest eigenvalue makes long steps stretch, its smallest, the rate, short ones contract."""
    f = Contracting(ConvexGradient(Dense(4, 2), LeakyReLU(1.0)), rate=0.4).double().requires_grad_(False)
    f.gradient.linear.weight.mul_(2)
    h = 2 * fraction / f.claims().get(Lipschitz).bound
    claim = Euler().transfer(f.claims(), h).get(Lipschitz).bound
    x = torch.randn(4, dtype=torch.float64)
    assert stretch(lambda z: Euler().step(f, z, h), x) == pytest.approx(claim, rel=1e-6)


def test_a_rotation_loses_it_and_so_does_a_jacobian_that_is_not_known_to_be_symmetric() -> None:
    torch.manual_seed(0)
    f = Contracting(ConvexGradient(Dense(4, 6)), Dense(4, 4), rate=0.4).double().requires_grad_(False)
    f.rotation.weight.mul_(4)
    size = f.claims().get(Lipschitz).bound
    h = 1 / size
    formula = max(abs(1 - 0.4 * h), abs(1 - h * size))
    x = torch.randn(50, 4, dtype=torch.float64)
    worst = max(stretch(lambda z: Euler().step(f, z, h), one) for one in x)
    assert formula < worst <= Euler().transfer(f.claims(), h).get(Lipschitz).bound
    known = [OneSidedLipschitz(-0.4), Lipschitz(2.0)]
    bare, symmetric = (
        Euler().transfer(Claims(c), 0.5).get(Lipschitz).bound for c in (known, [*known, SymmetricJacobian()])
    )
    assert symmetric == pytest.approx(0.8) and bare == pytest.approx(math.sqrt(1 - 0.4 + 1))


@pytest.mark.parametrize("time, rate", [(2.0, 1.0), (0.7, 3.0), (5.0, 0.1)])
def test_the_flow_contracts_as_proved_and_attains_it_where_no_unit_is_active(time: float, rate: float) -> None:
    torch.manual_seed(0)
    net = ContractingNet(SHAPE, 4, channels=(3,), dense_width=6, time=time, rate=rate).double().eval()
    with torch.no_grad():
        for p in net.flow.parameters():
            p.copy_(3 * torch.randn_like(p))
    flow, n = net.flow, net.flow.step_count
    proved = flow.claims().get(Lipschitz).bound
    assert proved == pytest.approx((1 - rate * time / n) ** n, rel=1e-9) and proved <= math.exp(-rate * time)
    x = 3 * torch.randn(20, 6, dtype=torch.float64)
    assert max(stretch(flow, one) for one in x) <= proved
    with torch.no_grad():
        next(m for m in flow.modules() if isinstance(m, ConvexGradient)).bias.fill_(-1e3)
    assert stretch(flow, x[0]) == pytest.approx(proved, rel=1e-9)


def test_the_exact_flow_contracts_at_the_rate_by_scipy() -> None:
    f = strongly_monotone(3)

    def solution(x: np.ndarray) -> np.ndarray:
        right = lambda t, y: f(torch.from_numpy(y)[None])[0].numpy()  # noqa: E731
        return solve_ivp(right, (0, 2), x, rtol=1e-10, atol=1e-10).y[:, -1]

    for x, y in np.random.default_rng(0).normal(size=(3, 2, 4)):
        assert np.linalg.norm(solution(x) - solution(y)) <= math.exp(-0.4 * 2) * np.linalg.norm(x - y) * (1 + 1e-7)


def test_nothing_is_claimed_of_the_classifier_but_the_product() -> None:
    """A stem that stretches a hundred times undoes the contraction, and the claim says so."""
    net = trained_looking("contracting")
    before = net.claims().get(Lipschitz).bound
    with torch.no_grad():
        net.get_parameter("body.layers.0.linear.weight").mul_(100)
    assert net.claims().get(Lipschitz).bound == pytest.approx(100 * before, rel=1e-6)
