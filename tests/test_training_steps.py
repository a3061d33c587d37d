"""What a step costs: in training h goes into the weights, and in evaluation no norm is computed."""

from __future__ import annotations

import copy

import pytest
import torch

import everything  # noqa: F401 (fills the registries)
from stablenets.fields import ConvexGradient
from stablenets.fields.base import Field
from stablenets.integrators import Euler
from stablenets.layers import Flow, Layer
from stablenets.linear import Conv2d, Dense, LinearMap
from stablenets.networks import Network

FIELDS = [*ConvexGradient.examples(), ConvexGradient(Dense(40, 50)), ConvexGradient(Conv2d(2, 3, 3, 12))]


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f"{type(f.linear).__name__}-{type(f.activation).__name__}")
@pytest.mark.parametrize("batch", [1, 20])
def test_h_times_the_field_is_the_same_with_h_in_the_weights(field: ConvexGradient, batch: int) -> None:
    """Values and gradients, for states of more and of fewer numbers than the weights have."""
    cheap, plain = copy.deepcopy(field).double(), copy.deepcopy(field).double()
    results = []
    for f, scaled in ((cheap, ConvexGradient.scaled), (plain, Field.scaled)):
        torch.manual_seed(0)
        f.bias.data.normal_()
        x = torch.randn(batch, *field.linear.input_shape, dtype=torch.float64, requires_grad=True)
        h = torch.tensor(0.37, dtype=torch.float64, requires_grad=True)
        step = scaled(f, x, h)
        assert torch.allclose(x + step, Euler().step(f, x, 0.37), rtol=1e-12, atol=1e-12)
        assert torch.equal(Euler().step(f, x, h), x + f.scaled(x, h))
        (step * torch.randn(step.shape, dtype=torch.float64)).sum().backward()
        results.append([x.grad, h.grad, f.bias.grad, f.linear.weight.grad])
    for one, other in zip(*results, strict=True):
        assert one is not None and one.norm() > 0
        assert torch.allclose(one, other, rtol=1e-11, atol=1e-11)


def test_the_gradient_of_a_training_step_is_that_of_its_formula() -> None:
    """Through the step size as well, against differences."""
    flow = Flow(ConvexGradient(Dense(3, 4)), Euler(), steps=1).double()
    flow.field.linear.norm_estimate(200)  # so that further iterations change nothing
    x = torch.randn(9, 3, dtype=torch.float64)
    w = flow.field.linear.weight

    def loss() -> torch.Tensor:
        flow.field.linear.norm_estimate(200)
        return flow(x).square().sum()

    loss().backward()
    assert w.grad is not None
    for i in range(w.numel()):
        values = []
        for change in (1e-6, -1e-6):
            w.data.view(-1)[i] += change
            values.append(float(loss().detach()))
            w.data.view(-1)[i] -= change
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(w.grad.view(-1)[i]), rel=1e-5, abs=1e-6)


@pytest.fixture
def no_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a norm was computed")

    for cls in {LinearMap, *LinearMap.registry.values()}:
        for method in ("norm_bound", "norm_estimate", "training_norm"):
            if method in vars(cls):
                monkeypatch.setattr(cls, method, refuse)
    for name in ("svdvals", "svd", "matrix_norm", "eigvalsh"):
        monkeypatch.setattr(torch.linalg, name, refuse)


@pytest.mark.parametrize("kind", [*Layer.registry.values(), *Network.registry.values()], ids=lambda c: c.__name__)
def test_evaluation_computes_no_norm(kind: type, request: pytest.FixtureRequest) -> None:
    examples = [example.eval() for example in kind.examples()]
    shapes = [getattr(e, "image_shape", None) or getattr(e, "input_shape", None) or (4,) for e in examples]
    request.getfixturevalue("no_norms")
    for example, shape in zip(examples, shapes, strict=True):
        example(torch.randn(3, *shape))


def test_training_does_compute_one(request: pytest.FixtureRequest) -> None:
    flow = Flow(ConvexGradient(Dense(4, 8)), Euler(), steps=1).train()
    request.getfixturevalue("no_norms")
    with pytest.raises(AssertionError, match="a norm was computed"):
        flow(torch.randn(3, 4))
