"""Weights that flow on O(d), second-order and timed fields."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from stablenets.core.errors import InputError
from stablenets.core.properties import Cocoercive, Lipschitz
from stablenets.fields import ReLU, SecondOrder, TimedField, WeightFlow
from stablenets.fields.examples import large
from stablenets.fields.timed import with_time
from stablenets.fields.weight_flow import cayley, polished
from stablenets.gradients import Checkpointed, DiscreteAdjoint
from stablenets.integrators import RK4, Dopri5
from stablenets.layers import Flow
from stablenets.linear import Dense
from stablenets.solvers import integrate
from stablenets.testing import check_component


def field(features: int = 6, *, scale: float = 3.0, **rest) -> WeightFlow:
    return large(WeightFlow(features, 8, **rest), scale)


@pytest.mark.parametrize("cls", [TimedField, SecondOrder, WeightFlow])
def test_the_conformance_suite(cls):
    assert [str(f) for f in check_component(cls) if not f.ok] == []


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize(("features", "steps"), [(4, 2000), (24, 200)])
def test_weights_stay_orthogonal(dtype, most, features, steps):
    """Over a long time, with weights far from the initial ones, also between the steps of the path."""
    f = field(features, time=20.0, steps=steps).to(dtype)
    eye = torch.eye(features, dtype=torch.float64)
    first = f.weights(0.0)
    with torch.no_grad():
        for t in np.linspace(0, 20, 37):
            w = f.weights(float(t)).to(dtype).double()
            assert torch.linalg.matrix_norm(w.mT @ w - eye, 2) <= most
            assert torch.linalg.matrix_norm(w, 2) <= 1 + 6e-8 * features**0.5
        assert (f.weights(20.0) - first).norm() > 1, "and they do move"


def test_weights_stay_orthogonal_however_fast_they_turn():
    f = field(5, steps=4).double()
    with torch.no_grad():
        f.weights.outer.weight.mul_(1e8)
        for t in (0.1, 0.5, 0.77, 1.0, 1.4):
            w = f.weights(t)
            assert float((w.mT @ w - torch.eye(5, dtype=torch.float64)).norm()) <= 1e-13


def test_weights_solve_their_equation():
    """Against scipy's solver of W' = W S(W, t): order 2."""
    solve = pytest.importorskip("scipy.integrate").solve_ivp
    errors = []
    for steps in (20, 40, 80):
        f = field(3, scale=1.0, time=1.0, steps=steps).double()

        def slope(t, w, f=f):
            w = torch.from_numpy(w).view(3, 3)
            return (w @ f.weights.generator(w, t)).flatten().detach().numpy()

        start = f.weights(0.0).detach().flatten().numpy()
        end = solve(slope, (0, 1), start, rtol=1e-11, atol=1e-12).y[:, -1]
        errors.append(float((f.weights(1.0).flatten().detach() - torch.from_numpy(end)).abs().max()))
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (np.abs(rates - 2) < 0.2).all() and errors[-1] > 1e-9


def test_cayley_and_the_polish():
    a = torch.randn(5, 5, dtype=torch.float64)
    q = cayley(a - a.mT)
    eye = torch.eye(5, dtype=torch.float64)
    assert (q.mT @ q - eye).abs().max() < 1e-14
    rough = q + 1e-5 * torch.randn(5, 5, dtype=torch.float64)
    before, after = (torch.linalg.matrix_norm(w.mT @ w - eye, 2) for w in (rough, polished(rough)))
    assert after <= 0.76 * before**2 and before > 1e-6


def test_claims_are_nearly_attained():
    f = field(4, convex=True, activation=ReLU()).double()
    f.bias.data.fill_(1e3)  # every unit active: x' = -W^T (W x + b)
    beta = f.claims().get(Cocoercive).beta
    x, y = torch.randn(2, 5, 4, dtype=torch.float64)
    d = f(x, 0.4) - f(y, 0.4)
    share = -beta * d.square().sum(1) / (d * (x - y)).sum(1)
    assert (share <= 1).all() and share.max() > 1 - 1e-5
    flow = Flow(f, RK4(), time=30.0)
    assert flow.eval().claims().get(Lipschitz) == Lipschitz(1.0) and flow.step_count >= 15


@pytest.mark.parametrize(
    "gradient", [None, DiscreteAdjoint(), Checkpointed(2)], ids=["backpropagation", "adjoint", "checkpointed"]
)
def test_gradients_against_finite_differences(gradient):
    """Twice in a row, since the weights' path is kept between solves."""
    f = field(3, scale=1.0, steps=4).double()
    x = torch.randn(2, 3, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return integrate(f, x, [0.0, 0.5, 1.0], integrator=RK4(), steps=3, gradient=gradient).states.square().sum()

    for _ in range(2):
        f.zero_grad()
        loss().backward()
    for p in (f.weights.start, f.weights.outer.weight, f.bias):
        values = []
        for change in (1e-6, -1e-6):
            with torch.no_grad():
                p.view(-1)[1] += change
            values.append(float(loss().detach()))
            with torch.no_grad():
                p.view(-1)[1] -= change
        slope = (values[0] - values[1]) / 2e-6
        assert float(p.grad.view(-1)[1]) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_gradients_in_time():
    f, x = field(3, steps=4).double(), torch.randn(2, 3, dtype=torch.float64)
    t = torch.tensor(0.37, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f(x, t).sum(), t)
    with torch.no_grad():
        ahead, behind = (float(f(x, 0.37 + d).sum()) for d in (1e-6, -1e-6))
    assert float(slope) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)


def test_the_path_is_solved_once_and_forgotten_when_weights_change():
    f = field(3)
    with torch.no_grad():
        assert f.weights.path() is f.weights.path()
        before = f(torch.ones(1, 3))
        f.weights.start.add_(0.1)
        assert not torch.equal(f(torch.ones(1, 3)), before)
    f(torch.ones(1, 3))
    twin = copy.deepcopy(f)
    assert torch.equal(twin(torch.ones(1, 3)), f(torch.ones(1, 3)))
    twin.load_state_dict(field(3, scale=1.0).state_dict())
    assert not torch.equal(twin(torch.ones(1, 3)), f(torch.ones(1, 3)))


def test_second_order_equations():
    """q'' = -q: cosines; and q'' = t, which needs the time."""
    a = Dense(2, 1)
    a.weight.data = torch.tensor([[-1.0, 0.0]])
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    found = integrate(SecondOrder(a).double(), x, [0.0, 1.0, 4.0], integrator=Dopri5(1e-9, 1e-11)).states[:, 0, 0]
    assert (found - torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64).cos()).abs().max() < 1e-7
    timed = nn.Linear(3, 1, bias=False)
    timed.weight.data = torch.tensor([[0.0, 0.0, 1.0]])
    end = integrate(SecondOrder(timed, timed=True).double(), 0 * x, [0.0, 2.0], integrator=RK4(), steps=4).states[-1]
    assert (end - torch.tensor([[8 / 6, 2.0]], dtype=torch.float64)).abs().max() < 1e-12
    bound = SecondOrder(a).claims().get(Lipschitz).bound
    assert 2**0.5 <= bound <= 2**0.5 * 1.001, "of (q, v) -> (v, -q), which is an isometry"


def test_times_for_every_sample():
    x = torch.randn(3, 2, 4, 4)
    t = torch.tensor([0.1, 0.2, 0.3])
    for given in (t, t.view(3, 1, 1, 1), t.double().view(3, 1)):
        assert torch.equal(with_time(x, given)[:, 2], t.view(3, 1, 1).expand(3, 4, 4))
    assert torch.equal(with_time(x, 0.5)[:, 2], torch.full((3, 4, 4), 0.5))
    f = TimedField.perceptron(2, 5)
    y = torch.randn(3, 2)
    each = torch.cat([f(y[i : i + 1], float(t[i])) for i in range(3)])
    assert torch.allclose(f(y, t.view(3, 1)), each)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WeightFlow(3, 4, steps=0), "steps=0"),
        (lambda: WeightFlow(3)(torch.zeros(2, 3), torch.zeros(2, 1)), "joint=True"),
        (lambda: SecondOrder(Dense(3, 2)), "from .2 d"),
        (lambda: SecondOrder(nn.Linear(3, 1))(torch.zeros(1, 3)), "as many velocities"),
    ],
)
def test_error_texts(make, words):
    with pytest.raises(InputError, match=words):
        make()
