"""Layers that keep norms: activations, rotations, heads; attacked, certified, verified, and forged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stablenets as sn
from stablenets.certify import rounding, skew_rounding
from stablenets.certify.checker import skew as checked
from stablenets.certify.verify import verify
from stablenets.core.errors import ClaimError, InputError
from stablenets.core.properties import Lipschitz, jacobian, norm, spectral
from stablenets.fields import ConvexGradient, SkewLinear
from stablenets.integrators import Cayley, Euler, Exponential
from stablenets.layers import (
    Abs,
    Affine,
    Chain,
    Flow,
    GroupSort,
    Householder,
    Hybrid,
    MaxMin,
    Normalise,
    TruncatedHead,
    claims,
    leaves,
)
from stablenets.linear import AlmostOrthogonal, Conv2d, Dense, SkewConv2d, SkewDense


def trained_looking(net: nn.Module, scale: float = 3.0, seed: int = 0) -> nn.Module:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(scale).add_(0.05 * torch.randn(p.shape, generator=g))
    return net.train().eval()


# --- activations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4])
def test_group_sort_sorts_neighbouring_channels(size: int):
    x = torch.randn(5, 12, 3, 2)
    y = GroupSort(size)(x)
    for i in range(0, 12, size):
        torch.testing.assert_close(y[:, i : i + size], x[:, i : i + size].sort(1, descending=True).values)


def test_max_min_is_a_sort_of_pairs():
    assert MaxMin().group_size == 2
    assert MaxMin()(torch.tensor([[1.0, 2.0, 4.0, 3.0]])).tolist() == [[2.0, 1.0, 4.0, 3.0]]


def test_householder_reflects_one_half_plane():
    layer, x = Householder(2).double(), torch.randn(200, 2, dtype=torch.float64)
    a = layer.angle.data.fill_(0.7).item()
    reflection = torch.tensor([[math.cos(a), math.sin(a)], [math.sin(a), -math.cos(a)]], dtype=torch.float64)
    kept = math.sin(a / 2) * x[:, 0] - math.cos(a / 2) * x[:, 1] >= 0
    torch.testing.assert_close(layer(x), torch.where(kept[:, None], x, x @ reflection))


def test_householder_starts_as_max_min_and_is_continuous():
    layer, x = Householder(6).double(), torch.randn(50, 6, 2, dtype=torch.float64)
    torch.testing.assert_close(layer(x), MaxMin()(x))
    layer.angle.data.normal_(std=3)
    edge = torch.stack([layer.angle.div(2).cos(), layer.angle.div(2).sin()], 1).flatten()[None]  # v.z = 0
    torch.testing.assert_close(layer(edge * (1 + 1e-12)), edge, atol=1e-11, rtol=0)


@pytest.mark.parametrize("layer", [MaxMin(), GroupSort(3), Abs(), *Householder.examples()], ids=str)
def test_activations_keep_the_norm_of_states_and_of_gradients(layer: nn.Module):
    layer, x = layer.double(), torch.randn(40, 6, dtype=torch.float64)
    torch.testing.assert_close(norm(layer(x)), norm(x))
    m = jacobian(layer, x).detach()
    torch.testing.assert_close(m.mT @ m, torch.eye(6, dtype=torch.float64).expand_as(m))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (MaxMin(), (1, 5)),
        (GroupSort(3), (1, 4, 3)),
        (Householder(4), (1, 6)),
        (Householder(2), (1, 4)),
        (MaxMin(), (4,)),
    ],
    ids=str,
)
def test_channels_that_do_not_fit_are_refused(layer, shape):
    with pytest.raises(InputError, match="channels in dimension 1"):
        layer(torch.zeros(shape))


@pytest.mark.parametrize("make", [lambda: GroupSort(1), lambda: Householder(3), lambda: Householder(0)])
def test_sizes_that_make_no_sense(make):
    with pytest.raises(InputError, match="channels"):
        make()


# --- affine layers and heads --------------------------------------------------------------------------------------


def test_affine_adds_one_bias_per_channel():
    for linear in (Dense(5, 3), Conv2d(2, 3, 3, (4, 5))):
        layer = Affine(linear).double()
        layer.bias.data.normal_()
        x = torch.randn(2, *linear.input_shape, dtype=torch.float64)
        shift = (layer(x) - linear(x)).detach()
        torch.testing.assert_close(shift, layer.bias.data.view(-1, *[1] * (x.dim() - 2)).expand_as(shift))
        assert layer.claims().get(Lipschitz) == Lipschitz(linear.norm_bound())


def test_truncated_head_takes_the_first_features():
    x = torch.randn(4, 7)
    assert torch.equal(TruncatedHead(3)(x), x[:, :3])
    for shape in ((4, 2), (4, 7, 7)):
        with pytest.raises(InputError, match="at least 3 features"):
            TruncatedHead(3)(torch.zeros(shape))


def test_pairs_of_truncated_scores_are_root_two_lipschitz():
    cert = sn.certify(Chain(TruncatedHead(3)).eval(), input_shape=(5,))
    for i, row in enumerate(cert.constants):
        for j, c in enumerate(row):
            assert i == j or (0 <= c - math.sqrt(2) < 1e-9 and c * c >= 2)
    x = torch.tensor([[2.0, 1.0, 0.0, 0.5, 0.5]])
    assert float(cert.radius(x)) == pytest.approx(1 / math.sqrt(2), rel=1e-9) and float(cert.radius(x)) < 2**-0.5


@pytest.mark.parametrize("window", [1, 2, 3, 4, (2, 8), 5, 7])
def test_scaled_average_pooling_is_one_lipschitz_exactly(window):
    pixels = window**2 if isinstance(window, int) else window[0] * window[1]
    pool = nn.AvgPool2d(window, divisor_override=math.isqrt(pixels))
    assert claims(pool).get(Lipschitz) == Lipschitz(1.0)
    mean = Fraction(claims(nn.AvgPool2d(window)).get(Lipschitz).bound)
    assert 0 <= mean - Fraction(1, math.isqrt(pixels)) < 1e-16


def test_other_constants_are_rounded_up():
    for pixels, divisor in ((2, 1), (6, 5), (3, 7)):
        bound = claims(nn.AvgPool2d((1, pixels), divisor_override=divisor)).get(Lipschitz).bound
        assert 0 <= Fraction(bound) ** 2 - Fraction(pixels, divisor**2) < 1e-15
    assert claims(Normalise((0.3, 0.4), (1.0, 1.0))).get(Lipschitz) == Lipschitz(1.0)
    assert claims(Normalise((0.3,), (0.25,))).get(Lipschitz) == Lipschitz(4.0)
    assert Fraction(claims(Normalise((0.3,), (0.3,))).get(Lipschitz).bound) * Fraction(0.3) > 1


# --- attack: training the weights to expand -----------------------------------------------------------------------


def skew_flow(linear: Any, integrator: Any, **step: Any) -> Flow:
    return Flow(SkewLinear(linear), integrator, **step)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "GroupSort": lambda: GroupSort(3),
    "Abs": Abs,
    "Householder": lambda: Householder(6),
    "Affine": lambda: Affine(AlmostOrthogonal(Dense(6, 8))),
    "perceptron": lambda: Chain(Affine(AlmostOrthogonal(Dense(6, 8))), MaxMin(), Affine(AlmostOrthogonal(Dense(8, 6)))),
    "Cayley, dense": lambda: skew_flow(SkewDense(6), Cayley(), h=1.0),
    "Cayley, zero": lambda: skew_flow(SkewConv2d(2, 3, (3, 4)), Cayley(), h=1.0),
    "Cayley, circular": lambda: skew_flow(SkewConv2d(2, 3, (3, 4), "circular"), Cayley(), h=1.0),
    "series of 4": lambda: skew_flow(SkewConv2d(2, 3, (3, 3), "circular"), Exponential(4), time=1.0),
    "series of 12": lambda: skew_flow(SkewConv2d(2, 3, (3, 4)), Exponential(), time=1.0),
    "series, one long step": lambda: skew_flow(SkewDense(6), Exponential(5), h=0.5),
    "series, own scale": lambda: skew_flow(SkewDense(6), Exponential(7), steps=2),
    "Hybrid": lambda: Hybrid(ConvexGradient(Dense(6, 9)), SkewLinear(SkewDense(6)), time=0.5),
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_no_training_makes_a_layer_expand(name: str):
    """Adam at 1e-2 raises |f(x) - f(y)| / |x - y| over the weights and the points; then the steps are frozen."""
    layer = LAYERS[name]().double().train()
    shape = getattr(layer, "input_shape", None) or (4,)
    points = torch.randn(2, 8, *shape, dtype=torch.float64).requires_grad_()

    def expansion() -> Tensor:
        (fx, fy), (x, y) = layer(points.flatten(0, 1)).chunk(2), points
        return norm(fx - fy) / norm(x - y)

    optimiser = torch.optim.Adam([*layer.parameters(), points], lr=1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        (-expansion().sum()).backward()
        optimiser.step()
    layer.eval().requires_grad_(False)
    bound = claims(layer).get(Lipschitz).bound
    assert bound <= 1 + 1e-8 or name == "series, one long step"
    slopes = spectral(jacobian(layer, points.detach().flatten(0, 1)))
    assert float(torch.cat([expansion().detach(), slopes]).max()) <= bound + 1e-12


# --- certificates -------------------------------------------------------------------------------------------------


def rotations(linear: Any, integrator: Any, **step: Any) -> nn.Module:
    features = math.prod(linear.input_shape)
    return nn.Sequential(skew_flow(linear, integrator, **step), nn.Flatten(), TruncatedHead(min(features, 5)))


NETS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: nn.Sequential(
        nn.Flatten(),
        Affine(AlmostOrthogonal(Dense(16, 8))),
        MaxMin(),
        Affine(Dense(8, 6)),
        GroupSort(3),
        Abs(),
        Householder(6),
        sn.layers.NormalisedHead(6, 3),
    ),
    "convolutions": lambda: nn.Sequential(
        Normalise((0.2,), (0.5,)),
        Affine(Conv2d(1, 4, 3, (6, 5))),
        MaxMin(),
        nn.AvgPool2d(2, divisor_override=2),
        Householder(4),
        nn.Flatten(),
        TruncatedHead(7),
    ),
    "Cayley, dense": lambda: rotations(SkewDense(9), Cayley(), time=2.0),
    "Cayley, zero": lambda: rotations(SkewConv2d(2, 3, (4, 3)), Cayley(), h=0.5, steps=3),
    "series, dense": lambda: rotations(SkewDense(9), Exponential(), time=1.0),
    "series, zero": lambda: rotations(SkewConv2d(2, 3, (4, 3)), Exponential(8), time=1.0),
    "series, circular": lambda: rotations(SkewConv2d(2, 3, (4, 3), "circular"), Exponential(7), steps=2),
    "series that expands": lambda: rotations(SkewDense(9), Exponential(5), h=0.3, steps=3),
    "Hybrid": lambda: Chain(
        Hybrid(ConvexGradient(Dense(9, 5)), SkewLinear(SkewDense(9)), time=0.4),
        Hybrid(ConvexGradient(Dense(9, 5)), SkewLinear(SkewDense(9)), Cayley()),
        TruncatedHead(4),
    ),
}


def input_shape(net: nn.Module) -> tuple[int, ...]:
    """What the first layer with weights takes."""
    shapes = (getattr(layer, "input_shape", None) for _, layer in leaves(net) if list(layer.parameters()))
    return next(shape for shape in shapes if shape)


class Files:
    """A model file and its certificate, to be forged."""

    def __init__(self, folder: Path, net: nn.Module) -> None:
        self.model, self.certificate = folder / "model.safetensors", folder / "certificate.json"
        sn.save(net, self.model)
        sn.certify(net, input_shape=input_shape(net)).save(self.certificate)

    def verdict(self, index: int = 0, **change: Any) -> Any:
        """The verdict when numbers of a layer of the certificate are changed."""
        original = self.certificate.read_text()
        content = json.loads(original)
        content["layers"][index].update(change)
        self.certificate.write_text(json.dumps(content))
        verdict = verify(self.model, self.certificate)
        self.certificate.write_text(original)
        return verdict


@pytest.mark.parametrize("name", list(NETS))
def test_certificates_are_proved_and_every_number_of_them_is_needed(name: str, tmp_path):
    torch.manual_seed(0)
    files = Files(tmp_path, trained_looking(NETS[name]()))
    assert files.verdict().ok, files.verdict().reason
    for i, layer in enumerate(json.loads(files.certificate.read_text())["layers"]):
        for key in ("lipschitz", "output_norm", "norm_bound", "rounding", "deviation"):
            if layer.get(key):
                loose = key == "deviation" or (key == "lipschitz" and layer["kind"] == "Affine")
                factor = 0.5 if loose else 1 - 1e-6
                assert not files.verdict(i, **{key: layer[key] * factor}).ok, f"{key} of {layer['name']}"


def test_a_constant_above_one_multiplies_into_the_network_and_its_errors(tmp_path):
    net = trained_looking(nn.Sequential(NETS["series that expands"]()[0], NETS["series that expands"]()))
    one = next(m for m in net.modules() if isinstance(m, Flow))
    cert = sn.certify(net)
    first, second = (c for c in cert.layers if c.kind == "Flow")
    assert first.lipschitz >= one.integrator.transfer(one.field.claims(), 0.3).get(Lipschitz).bound ** 3 > 1.0001
    assert cert.lipschitz >= first.lipschitz * second.lipschitz
    assert second.rounding >= first.rounding * second.lipschitz
    true = torch.linalg.matrix_norm(jacobian(net[:2].double(), torch.zeros(1, 9).double())[0], 2)
    assert float(true.detach()) <= cert.lipschitz


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"terms": 13}, "terms"),
        ({"terms": None}, "terms"),
        ({"integrator": "Cayley"}, "integrator"),
        ({"field": "ConvexGradient"}, "key"),
        ({"linear": "SkewConv2d"}, "linear"),
        ({"steps": 1}, "h, steps are"),
        ({"step_limit": 9.0}, "step limit"),
        ({"step_limit": None}, "the method has one"),
        ({"deviation": 0.0}, "deviation"),
        ({"deviation": math.nan}, "NaN"),
        ({"activation": "ReLU"}, "unknown key"),
    ],
    ids=str,
)
def test_forged_numbers_of_a_rotation(change, reason, tmp_path):
    files = Files(tmp_path, trained_looking(NETS["series, dense"]()))
    assert reason in files.verdict(**change).reason


def test_a_stale_step_of_a_rotation_is_refused():
    net = trained_looking(NETS["series, zero"]())
    for p in net.parameters():
        p.data *= 4
    with pytest.raises(ClaimError, match="is longer than its limit"):
        sn.certify(net)
    sn.certify(net.train().eval())


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (lambda: rotations(SkewConv2d(2, 3, (4, 3), "circular"), Cayley(), h=1.0), "Fourier"),
        (lambda: rotations(SkewDense(4), Euler(), h=0.1), "Cayley or Exponential"),
        (lambda: rotations(SkewDense(40), Cayley(), h=1e9), "too large for a rounding analysis"),
    ],
)
def test_what_has_no_rounding_analysis_is_refused(net, reason):
    with pytest.raises(ClaimError, match=reason):
        sn.certify(net().eval())


@pytest.mark.parametrize("name", list(NETS))
def test_the_rounding_bound_covers_the_measured_error(name: str, monkeypatch):
    """The analysis is parametrised by u: with float32's u it must cover the measured float32 error."""
    torch.manual_seed(0)
    net = trained_looking(NETS[name]())
    monkeypatch.setattr(rounding, "U", 2.0**-24)
    shape = input_shape(net)
    cert = sn.certify(net, input_shape=shape)
    x = torch.randn(200, *shape)
    x *= cert.norm_limit / x.flatten(1).norm(dim=1).max()
    exact = cert.logits(x)
    measured = float((net.float()(x).double() - exact).detach().norm(dim=1).max())
    assert 0 < measured <= cert.rounding < 1e6 * measured


def test_the_checker_states_the_same_errors_in_its_own_words():
    for n, h in ((5, 0.3), (40, 2.0)):
        f = SkewLinear(SkewDense(n)).requires_grad_(False)
        size, absolute = f.linear.norm_bound(), f.linear.absolute_bound()
        ours = skew_rounding.cayley_error(f, h, size), skew_rounding.exponential_error(f, 7, h, size)
        theirs = checked.cayley_error(n, h, size, absolute), checked.series_error(7, h, size, absolute, n)
        assert ours == pytest.approx(theirs, rel=1e-8) and all(a >= b for a, b in zip(ours, theirs, strict=True))


def test_tied_scores_of_a_truncated_head_are_not_certified():
    cert = sn.certify(Chain(TruncatedHead(2)).eval(), input_shape=(3,))
    x: Tensor = torch.tensor([[0.5, 0.5, 0.0], [math.nan, 0.0, 0.0]])
    assert cert.radius(x).tolist() == [0.0, 0.0]
