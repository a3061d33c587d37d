"""Continuous normalising flows: log-determinants, likelihoods, round trips, samples; the densities to learn from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablenets.core.errors import InputError
from stablenets.core.properties import jacobian
from stablenets.data.densities import DENSITIES, density
from stablenets.fields import ConvexGradient, FreeField, SkewLinear, TimedField, WithDivergence
from stablenets.fields.examples import large
from stablenets.gradients import DiscreteAdjoint
from stablenets.integrators import RK4, Dopri5
from stablenets.linear import Dense, SkewDense
from stablenets.networks import ContinuousNormalisingFlow, flow_matching_loss
from stablenets.testing import check_component

TIGHT = Dopri5(1e-8, 1e-10)


def flow(features: int = 3, **rest) -> ContinuousNormalisingFlow:
    field = large(TimedField.perceptron(features, 12), 1.5).double()
    return ContinuousNormalisingFlow(field, rest.pop("integrator", TIGHT), shape=(features,), **rest)


def test_the_conformance_suite():
    found = [f for c in (WithDivergence, ContinuousNormalisingFlow) for f in check_component(c)]
    assert [str(f) for f in found if not f.ok] == []


def test_log_determinants_are_those_of_the_jacobian():
    """At rtol 1e-8, against slogdet of the derivative of the whole solve by automatic differentiation."""
    net, z = flow(), torch.randn(4, 3, dtype=torch.float64)
    x, log_det = net.transport(z)
    fixed = ContinuousNormalisingFlow(net.field, RK4(), steps=400, shape=(3,))
    explicit = torch.linalg.slogdet(jacobian(fixed, z)).logabsdet
    assert (log_det - explicit).abs().max() <= 1e-6
    assert log_det.abs().max() > 0.1, "not near the identity"
    assert (x - net(z)).abs().max() <= 1e-6
    back = net.log_likelihood(x)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0).log_prob(z).sum(1)
    assert (back - (normal - explicit)).abs().max() <= 1e-6, "change of variables"


def test_linear_flows_have_gaussian_densities():
    """x' = S x keeps the normal distribution; x' = -A^T (A x) shrinks it to a normal one of known covariance."""
    x = torch.randn(5, 3, dtype=torch.float64)
    turned = ContinuousNormalisingFlow(SkewLinear(SkewDense(3)).double(), TIGHT)
    normal = -0.5 * x.square().sum(1) - 1.5 * math.log(2 * math.pi)
    assert (turned.log_likelihood(x) - normal).abs().max() <= 1e-7
    matrix = torch.randn(3, 3, dtype=torch.float64) / 2
    field = FreeField(torch.nn.Linear(3, 3, bias=False)).double()
    field.module.weight.data = matrix
    shrunk = ContinuousNormalisingFlow(field, TIGHT, shape=(3,))
    m = torch.linalg.matrix_exp(matrix)
    exact = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), m @ m.mT).log_prob(x)
    assert (shrunk.log_likelihood(x) - exact).abs().max() <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trips(dtype):
    net, z = flow().to(dtype), torch.randn(20, 3, dtype=dtype)
    if dtype == torch.float32:
        net = ContinuousNormalisingFlow(net.field, Dopri5(1e-6, 1e-7), shape=(3,))
    assert (net.inverse(net(z)) - z).abs().max() <= 1e-5


def test_likelihoods_integrate_to_one():
    line = torch.linspace(-6, 6, 121, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    net = ContinuousNormalisingFlow(large(TimedField.perceptron(2, 8), 0.8).double(), RK4(), steps=20, shape=(2,))
    with torch.no_grad():
        assert float(net.log_likelihood(grid).exp().sum() * 0.1**2) == pytest.approx(1, abs=1e-3)


def test_the_trace_of_images_and_nonlinear_fields():
    field = FreeField(torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3, padding=1), torch.nn.Tanh())).double()
    f = WithDivergence(field, shape=(2, 3, 3))
    x = torch.randn(2, 19, dtype=torch.float64)
    explicit = jacobian(lambda v: field(v), x[:, :-1].view(2, 2, 3, 3)).diagonal(dim1=1, dim2=2).sum(1)
    assert (f(x)[:, -1] - explicit).abs().max() <= 1e-12
    assert torch.equal(f(x)[:, :-1].view(2, 2, 3, 3), field(x[:, :-1].view(2, 2, 3, 3)))


def test_hutchinsons_estimate_is_unbiased_and_fixed_during_a_solve():
    field, x = large(ConvexGradient(Dense(4, 6))).double(), torch.randn(3, 5, dtype=torch.float64)
    exact = WithDivergence(field)(x)[:, -1]
    many = WithDivergence(field, probes=4000)
    found = many(x)[:, -1]
    spread = torch.stack([WithDivergence(field, probes=1, seed=s)(x)[:, -1] for s in range(50)])
    assert torch.equal(many(x, 0.7), many(x)), "the same signs at every evaluation"
    assert ((found - exact).abs() <= 5 * spread.std(0) / 4000**0.5).all() and (spread.std(0) > 0).all()
    net = flow(probes=1, integrator=RK4(), steps=8)
    x = torch.randn(6, 3, dtype=torch.float64)
    assert torch.equal(net.log_likelihood(x, seed=1), net.log_likelihood(x, seed=1))
    assert not torch.equal(net.log_likelihood(x, seed=1), net.log_likelihood(x, seed=2))
    exact = ContinuousNormalisingFlow(net.field, RK4(), steps=8, shape=(3,)).log_likelihood(x)
    found = ContinuousNormalisingFlow(net.field, RK4(), steps=8, shape=(3,), probes=400).log_likelihood(x)
    assert (found - exact).abs().max() < 0.5


def test_hutchinsons_signs_belong_to_places():
    """Samples that are done leave the batch of a solve with steps of their own: others would get their signs."""
    field, x = large(ConvexGradient(Dense(4, 6))).double(), torch.randn(6, 5, dtype=torch.float64)
    estimate = WithDivergence(field, probes=3)
    assert torch.allclose(estimate(x)[:2], estimate(x[:2]), rtol=1e-12), "whatever follows in the batch"
    with pytest.raises(InputError, match=r"time for every sample.*joint=True"):
        flow(probes=2, integrator=Dopri5(joint=False)).log_likelihood(x[:, :3])
    with pytest.raises(InputError, match="times=1"):
        flow().path(x[:, :3], 1)


def test_gradients_of_the_likelihood_against_finite_differences():
    net = ContinuousNormalisingFlow(large(TimedField.perceptron(2, 5, 1), 1.0).double(), RK4(), steps=5, shape=(2,))
    x, weight = torch.randn(4, 2, dtype=torch.float64), net.field.module[0].weight
    net.log_likelihood(x).mean().backward()
    for i, j in ((0, 0), (3, 2)):
        values = []
        for change in (1e-5, -1e-5):
            with torch.no_grad():
                weight[i, j] += change
                values.append(net.log_likelihood(x).mean())
                weight[i, j] -= change
        assert float(weight.grad[i, j]) == pytest.approx(float(values[0] - values[1]) / 2e-5, rel=1e-7)


def test_the_discrete_adjoint_gives_the_same_gradients():
    field, x, found = large(TimedField.perceptron(2, 5, 1), 1.0).double(), torch.randn(4, 2, dtype=torch.float64), []
    for gradient in (None, DiscreteAdjoint()):
        field.zero_grad()
        net = ContinuousNormalisingFlow(field, RK4(), steps=4, shape=(2,), gradient=gradient)
        net.log_likelihood(x).mean().backward()
        found.append([p.grad.clone() for p in field.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_flow_matching_finds_the_field_of_a_shifted_normal_distribution():
    """x = z0 + m independent of z: E[x - z | x_t] for N(0, 1) and N(m, 1) is known, and is the minimum of the loss."""
    m = torch.tensor([1.5, -1.0], dtype=torch.float64)

    def best(x, t):
        t = torch.as_tensor(t, dtype=x.dtype)
        variance = (1 - t) ** 2 + t**2
        return m + (2 * t - 1) / variance * (x - t * m)

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20000, 2, generator=generator, dtype=torch.float64) + m

    def loss(field):
        return float(flow_matching_loss(field, x, torch.Generator().manual_seed(1)))

    least = loss(best)
    for other in (lambda x, t: best(x, t) + 0.1, lambda x, t: 0.9 * best(x, t), lambda x, t: best(x, 1 - t)):
        assert loss(other) > least + 5e-3


def test_flow_matching_goes_along_straight_lines():
    """With all data at one point c, (x_t - t c) / (1 - t) = z has the mean 0 and the variance 1 at every t."""
    c, seen = torch.tensor([2.0, -3.0], dtype=torch.float64), []

    def field(x, t):
        seen.append((x, t))
        return torch.zeros_like(x)

    flow_matching_loss(field, c.expand(20000, 2), torch.Generator().manual_seed(0))
    ((x, t),) = seen
    z = ((x - t * c) / (1 - t))[(t < 0.9)[:, 0]]
    assert z.mean(0).abs().max() < 0.03 and (z.var(0) - 1).abs().max() < 0.05


def test_samples_depend_on_the_seed_alone():
    net = flow()
    assert torch.equal(net.sample(4, seed=3), net.sample(4, seed=3))
    assert not torch.equal(net.sample(4, seed=3), net.sample(4, seed=4))
    path = net.path(torch.randn(2, 3, dtype=torch.float64), 5)
    assert path.shape == (5, 2, 3) and torch.allclose(path[-1], net(path[0]), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ContinuousNormalisingFlow(TimedField.perceptron(2, 4)), "shape"),
        (lambda: ContinuousNormalisingFlow(TimedField.perceptron(2, 4), shape=(2,), probes=0), "probes=0"),
        (lambda: ContinuousNormalisingFlow(TimedField.perceptron(2, 4), shape=(2,), steps=0), "steps=0"),
        (lambda: flow()(torch.zeros(4, 2)), r"\(batch, \*\(3,\)\)"),
        (lambda: density("eight-gausians"), "Did you mean 'eight-gaussians'"),
    ],
)
def test_error_texts(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize("name", ["eight-gaussians", "checkerboard"])
def test_entropies_and_densities(name):
    """Against Monte Carlo, and against the share of the samples in a box."""
    d = density(name)
    x = d.sample(200_000, 1)
    log = d.log_density(x)
    assert d.entropy() == pytest.approx(-log.mean(), abs=4 * log.std() / 200_000**0.5 + 1e-3)
    corner = np.array([1.0, 0.0])
    line = np.arange(0, 1, 0.01) + 0.005
    grid = corner + np.stack(np.meshgrid(line, line), 2).reshape(-1, 2)
    inside = ((x >= corner) & (x < corner + 1)).all(1).mean()
    assert inside == pytest.approx(np.exp(d.log_density(grid)).sum() * 1e-4, abs=5e-3)


@pytest.mark.parametrize("name", sorted(DENSITIES))
def test_samples_of_densities(name):
    d = density(name)
    x = d.sample(1000, 0)
    assert x.shape == (1000, 2) and np.isfinite(x).all() and np.abs(x).max() < 4
    assert np.array_equal(x, d.sample(1000, 0)) and not np.array_equal(x, d.sample(1000, 1))
    assert 0.3 < x.std() < 2
