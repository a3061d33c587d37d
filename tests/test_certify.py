"""Certificates: exact where the answer is known, never beaten by an attack, and refused where nothing is proved."""

from __future__ import annotations

import json
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stablenets import certify as sn_certify
from stablenets.certify import Certificate, rounding
from stablenets.certify.certificate import certify
from stablenets.core.errors import ClaimError, InputError
from stablenets.fields import ConvexGradient, FreeField, LeakyReLU, ReLU, SeparableHamiltonian, Softplus, Tanh
from stablenets.integrators import RK4, SSPRK3, Euler, Heun, Midpoint, StormerVerlet
from stablenets.layers import Affine, Chain, Flow, Lift, Normalise, NormalisedHead, save
from stablenets.linear import Conv2d, Dense
from stablenets.networks import NonExpansiveNet


def trained_looking(net: nn.Module, seed: int = 0, scale: float = 3.0) -> nn.Module:
    """Large, random weights and biases, with the steps frozen from them."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * scale / max(1, p[0].numel()) ** 0.5)
    return net.train().eval()


def small_net(seed: int = 0) -> NonExpansiveNet:
    torch.manual_seed(seed)
    net = NonExpansiveNet(
        (1, 8, 8), 4, patch=2, channels=(6, 24), blocks=(2, 1), hidden=9, dense_width=30, dense_blocks=2
    )
    return trained_looking(net, seed)  # type: ignore[return-value]


def images(n: int = 20, seed: int = 1, size: int = 8) -> Tensor:
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


def test_the_function_is_exported():
    assert sn_certify is certify


def test_radius_of_a_linear_classifier_is_the_distance_to_the_boundary():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).eval()
    x = torch.randn(200, 16)
    w, b = net[1].weight.double(), net[1].bias.double()
    scores = x.double() @ w.mT + b
    top, i = scores.max(1)
    distance = (top[:, None] - scores) / (w[i][:, None] - w[None]).norm(dim=2).clamp(min=1e-300)
    exact = distance.scatter(1, i[:, None], math.inf).min(1).values.detach()
    radius = certify(net).radius(x)
    assert (radius < exact).all(), "a certified radius may never exceed the true one"
    torch.testing.assert_close(radius, exact, rtol=1e-6, atol=1e-7)


def test_the_boundary_itself_is_not_certified():
    """The nearest point of the decision boundary lies outside the certified ball, however little."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).eval().requires_grad_(False)
    x = torch.randn(50, 3)
    w = net[1].weight[0].double() - net[1].weight[1].double()
    gap = x.double() @ w + float(net[1].bias[0].double() - net[1].bias[1].double())
    boundary = x.double() - (gap / w.square().sum())[:, None] * w
    assert ((boundary - x).norm(dim=1) > certify(net).radius(x)).all()


def test_a_mean_is_refused_where_the_size_of_the_image_is_unknown():
    net = nn.Sequential(Normalise((0.3,), (1.0,)), nn.Flatten(), nn.Linear(16, 2)).eval()
    with pytest.raises(ClaimError, match=r"certify\(net, input_shape="):
        certify(net)
    cert = certify(net, input_shape=(1, 4, 4))
    assert cert.layers[0].output_norm >= cert.norm_limit + 0.3 * 4


def test_images_of_another_size_are_refused():
    """The norm of a convolution depends on the image: 1 x 16 pixels stretch what 4 x 4 pixels do not."""
    net = small_net()
    with pytest.raises(InputError, match=r"\(1, 4, 16\).*\(1, 8, 8\)"):
        certify(net).radius(torch.rand(1, 1, 4, 16))
    with pytest.raises(InputError, match="batch of shape"):
        net(torch.rand(1, 1, 4, 16))


def test_a_constant_other_than_one_divides_the_radius():
    head = nn.Linear(1, 2)
    plain = certify(nn.Sequential(nn.Flatten(), head).eval())
    scaled = certify(nn.Sequential(Normalise((0.0,), (0.25,)), nn.Flatten(), head).eval())
    assert scaled.lipschitz == pytest.approx(4.0)
    x = torch.randn(30, 1, 1, 1) * 3
    torch.testing.assert_close(scaled.radius(x / 4), plain.radius(x) / 4, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_inputs_are_not_certified(value):
    x = images(3)
    x[1, 0, 2, 2] = value
    radius = certify(small_net()).radius(x)
    assert radius[1] == 0 and (radius[[0, 2]] > 0).all()


def test_ties_are_not_certified():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        net[1].weight[1] = net[1].weight[0]
        net[1].bias.copy_(torch.tensor([5.0, 5.0, 0.0]))
    assert (certify(net).radius(torch.randn(10, 4) * 0.1) == 0).all()


def test_a_tie_between_different_rows_has_radius_zero_exactly():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]))
        net[1].bias.zero_()
    assert certify(net).radius(torch.tensor([[0.5, 0.5, 3, 1], [0.0, 0, 0, 0]])).tolist() == [0.0, 0.0]


def test_inputs_beyond_the_norm_limit_are_not_certified():
    cert = certify(small_net())
    assert cert.radius(images(2) * 1e4).tolist() == [0.0, 0.0]


def test_no_random_direction_or_gradient_step_breaks_a_certified_point():
    net, x = small_net(3), images(60, 3)
    cert = certify(net)
    radius, label = cert.radius(x), cert.logits(x).argmax(1)
    assert (radius > 1e-4).float().mean() > 0.5
    exact = cert._net
    z = x.double()
    for trial in range(60):
        delta = torch.randn(z.shape, generator=torch.Generator().manual_seed(trial), dtype=torch.float64)
        if trial % 2:  # ascend the margin to the runner-up
            probe = (z + 1e-3 * delta).requires_grad_()
            scores = exact(probe)
            own = scores.gather(1, label[:, None])
            other = scores.scatter(1, label[:, None], -math.inf).max(1, keepdim=True).values
            delta = torch.autograd.grad((other - own).sum(), probe)[0]
        unit = delta / delta.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None, None]
        moved = z + unit * radius[:, None, None, None]
        assert (cert.logits(moved).argmax(1) == label)[radius > 0].all()


def test_pairwise_constants_and_lipschitz_constant_against_jacobians():
    """The score differences of the whole network, differentiated, never exceed L c_ij."""
    net, x = small_net(5), images(12, 5)
    cert = certify(net)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda v: cert._net(v[None])[0].flatten()))(x.double()).flatten(2)
    slopes = (jacobians[:, :, None] - jacobians[:, None]).norm(dim=-1).max(0).values
    bound = cert.lipschitz * torch.tensor(cert.constants, dtype=torch.float64)
    assert (slopes <= bound * (1 + 1e-12)).all()
    assert (slopes / bound.clamp(min=1e-9)).max() > 0.05, "the bound is not vacuous"


@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.2), Tanh(), Softplus()])
@pytest.mark.parametrize("integrator", [Euler(), Heun(), SSPRK3(), RK4()])
def test_rounding_bound_covers_the_measured_error(monkeypatch, activation, integrator):
    """The analysis is parametrised by u: with float32's u it must cover the measured float32 error."""
    net = Chain(
        Normalise((0.3,), (0.7,)),
        Lift(1, 3),
        Flow(ConvexGradient(Conv2d(3, 4, 3, 4), activation), integrator, steps=2),
        nn.AvgPool2d(2, divisor_override=2),
        nn.Tanh(),
        nn.Flatten(),
        Flow(ConvexGradient(Dense(12, 9), activation), integrator, time=2.0),
        nn.LeakyReLU(0.3),
        NormalisedHead(12, 5),
    )
    trained_looking(net)
    monkeypatch.setattr(rounding, "U", 2.0**-24)
    cert = certify(net, input_shape=(1, 4, 4))
    bound = cert.rounding
    x = images(200, size=4)
    x *= cert.norm_limit / x.flatten(1).norm(dim=1).max()  # up to the largest norm that the bound covers
    double = cert.logits(x)
    measured = float((net.float()(x).double() - double).detach().norm(dim=1).max())
    assert 0 < measured <= bound
    assert bound < 1e6 * measured, "the bound is not vacuous"


def test_rounding_in_float64_is_far_below_the_margins_that_matter():
    assert certify(trained_looking(NonExpansiveNet((1, 28, 28), 10))).rounding < 1e-7


def test_gamma_grows_with_the_length():
    assert rounding.gamma(100) == pytest.approx(100 * 2.0**-53)
    assert rounding.gamma(10) < rounding.gamma(11)


def test_refused_in_training_mode():
    with pytest.raises(ClaimError, match=r"training mode.*net\.eval\(\)"):
        certify(small_net().train())


def test_refused_under_autocast():
    net = small_net()
    cert = certify(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(ClaimError, match="autocast"):
            certify(net)
        with pytest.raises(ClaimError, match="autocast"):
            cert.radius(images(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_refused_in_low_precision(dtype):
    with pytest.raises(ClaimError, match="float32 or float64"):
        certify(small_net().to(dtype))


def test_refused_with_weights_that_are_not_finite():
    net = small_net()
    net.body.layers[-1].weight.data[0, 0] = math.nan
    with pytest.raises(ClaimError, match=r"body\.layers\.\d+\.weight holds NaN"):
        certify(net)


def test_refused_with_a_stale_step():
    """Weights that grow in evaluation mode leave a step that their bound no longer allows."""
    net = small_net()
    net.body.layers[2].field.linear.weight.data *= 1.01
    with pytest.raises(ClaimError, match=r"body\.layers\.2 is longer than its limit"):
        certify(net)
    certify(net.train().eval())


def test_a_step_at_exactly_the_limit_passes_and_the_next_float_does_not():
    flow = Flow(ConvexGradient(Dense(4, 6)), Euler(), steps=1)
    net = trained_looking(nn.Sequential(flow, nn.Linear(4, 2)))
    flow.step_size = limit = certify(net).layers[0].step_limit
    assert certify(net).layers[0].lipschitz == 1.0
    flow.step_size = math.nextafter(limit, math.inf)
    with pytest.raises(ClaimError, match="longer than its limit"):
        certify(net)


def test_the_users_own_long_step_is_certified_with_its_true_constant():
    torch.manual_seed(0)
    field = ConvexGradient(Dense(4, 6))
    field.linear.weight.data *= 1.5
    field.bias.data += 100  # every unit active: the step is the linear map I - h A^T A
    net = nn.Sequential(Flow(field, Euler(), h=3.0, steps=2), nn.Linear(4, 2)).eval()
    a = field.linear.matrix()
    step = torch.eye(4, dtype=torch.float64) - 3.0 * a.mT @ a
    true = float(torch.linalg.matrix_norm(step @ step, 2))
    cert = certify(net)
    assert cert.lipschitz >= true > 1.5
    assert cert.layers[0].theorem.startswith("Lipschitz bound of a step beyond")


def test_midpoint_is_not_taken_for_non_expansive():
    net = nn.Sequential(Flow(ConvexGradient(Dense(4, 6)), Midpoint(), h=0.5), nn.Linear(4, 2)).eval()
    assert certify(net).lipschitz > 1


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)), r"1 \(BatchNorm1d\)"),
        (nn.Sequential(Flow(FreeField(nn.Linear(4, 4)), Euler(), h=1.0), nn.Linear(4, 2)), "FreeField"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), r"1 \(ReLU\)"),
        (nn.Sequential(nn.AvgPool2d(3, stride=1), nn.Flatten(), nn.Linear(4, 2)), "AvgPool2d"),
        (
            nn.Sequential(Flow(next(SeparableHamiltonian.examples()), StormerVerlet(), h=0.1), nn.Linear(4, 2)),
            "SeparableHamiltonian",
        ),
    ],
)
def test_what_is_not_known_is_refused_by_name(net, named):
    with pytest.raises(ClaimError, match=named):
        certify(net.eval())


def test_file_round_trip_and_json_is_strict(tmp_path):
    net = small_net()
    cert = certify(net)
    cert.save(tmp_path / "c.json")
    again = Certificate.load(tmp_path / "c.json", net)
    assert again.to_json() == cert.to_json()
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["schema"] == "stablenets/certificate/2" and content["dtype"] == "float64"
    assert [c["name"] for c in content["layers"]][-1] == content["head"]["name"]
    assert not list(tmp_path.glob(".*")), "no temporary file is left"


def test_a_certificate_of_other_weights_is_refused(tmp_path):
    certify(small_net(1)).save(tmp_path / "c.json")
    with pytest.raises(InputError, match="other weights"):
        Certificate.load(tmp_path / "c.json", small_net(2))


@pytest.mark.parametrize("key", ["lipschitz", "rounding"])
def test_a_certificate_edited_by_hand_is_refused(tmp_path, key):
    net = small_net()
    certify(net).save(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    content[key] *= 0.999
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"edited: '{key}'"):
        Certificate.load(tmp_path / "c.json", net)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_broken_certificate_file_is_refused(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match="not a readable certificate"):
        Certificate.load(tmp_path / "c.json", small_net())


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('{\n "schema"', '{\n "lipschitz": 1.0,\n "schema"', "a key occurs twice"),
        ('"rounding": ', '"rounding": NaN, "n": ', "NaN is not a JSON number"),
        ("certificate/2", "certificate/1", "of another version: certify the network again"),
        ('"dtype": "float64"', '"dtype": "bfloat16"', "'dtype' is missing or wrong"),
        ('"weights_sha256"', '"weights"', "'weights_sha256' is missing or wrong"),
        ('"shape": [', '"shape": ["1", ', "it has no input shape"),
        ('"input"', '"inputs"', "it has no input shape"),
    ],
)
def test_a_certificate_file_is_read_with_suspicion(tmp_path, old, new, named):
    net = small_net()
    certify(net).save(tmp_path / "c.json")
    text = (tmp_path / "c.json").read_text()
    assert old in text
    (tmp_path / "c.json").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=named):
        Certificate.load(tmp_path / "c.json", net)


def test_the_file_knows_the_shape_of_the_input(tmp_path):
    net = nn.Sequential(Normalise((0.3,), (0.5,)), nn.Flatten(), nn.Linear(16, 2)).eval()
    cert = certify(net, input_shape=(1, 4, 4))
    cert.save(tmp_path / "c.json")
    again = Certificate.load(tmp_path / "c.json", net)
    assert again.input_shape == (1, 4, 4) and again.scaling >= 2.0 == pytest.approx(cert.scaling)
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["input"] == {"shape": [1, 4, 4], "norm_limit": 8.0, "scaling": cert.scaling}


def test_every_layer_says_how_its_constant_was_obtained():
    for layer in certify(small_net()).to_json()["layers"]:
        assert layer["method"] and layer["theorem"]


def test_explain_names_every_layer_and_its_theorem():
    cert = certify(small_net())
    text = cert.explain()
    for layer in cert.layers:
        assert layer.name in text
    assert "circle contractive" in text and "float64" in text


def test_certifying_leaves_the_network_as_it_was():
    net = small_net()
    before = {k: v.clone() for k, v in net.state_dict().items() if isinstance(v, Tensor)}
    steps = [m.get_extra_state() for m in net.modules() if isinstance(m, Flow)]
    certify(net).radius(images(2))
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    assert steps == [m.get_extra_state() for m in net.modules() if isinstance(m, Flow)]
    assert not net.training and next(net.parameters()).dtype == torch.float32


def test_certificate_does_not_follow_later_changes_of_the_network():
    net, x = small_net(), images(4)
    cert = certify(net)
    before = cert.radius(x)
    for p in net.parameters():
        p.data *= 2
    torch.testing.assert_close(cert.radius(x), before, rtol=0, atol=0)


def test_radius_agrees_with_a_plain_numpy_computation():
    """Margins and constants computed by hand from the evaluated scores."""
    net, x = small_net(7), images(15, 7)
    cert = certify(net)
    scores = cert.logits(x).numpy()
    w = net.body.layers[-1].effective_weight().detach().double().numpy()
    for k, row in enumerate(scores):
        i = int(np.argmax(row))
        by_hand = min((row[i] - row[j]) / np.linalg.norm(w[i] - w[j]) for j in range(len(row)) if j != i)
        assert float(cert.radius(x[k : k + 1])[0]) == pytest.approx(by_hand, rel=1e-5, abs=1e-8)


def test_broadcasting_is_no_way_around_a_claim():
    """Three means on one channel would repeat it; a dense bias on (b, 1, n) would multiply the features."""
    net = nn.Sequential(Normalise((0.0,) * 3, (1.0,) * 3), nn.Flatten(), nn.Linear(48, 3)).eval()
    with pytest.raises(InputError, match="1 channels"):
        certify(net).radius(torch.rand(1, 1, 4, 4))
    flow = Flow(ConvexGradient(Dense(4, 20)), Euler(), steps=1)
    with pytest.raises(InputError, match="batch of shape"):
        certify(nn.Sequential(flow, nn.Flatten(), nn.Linear(80, 2)).eval()).radius(torch.rand(1, 1, 4))


def test_layers_are_final():
    with pytest.raises(TypeError, match="NormalisedHead, which is final"):
        type("Tempered", (NormalisedHead,), {"forward": lambda self, x: 30 * x})
    with pytest.raises(TypeError, match="NonExpansiveNet, which is final"):
        type("Louder", (NonExpansiveNet,), {})


@pytest.mark.parametrize("where", ["layer", "field", "instance"])
def test_hooks_and_replaced_forwards_are_refused(where):
    net = small_net()
    if where == "layer":
        net.body.layers[-1].register_forward_hook(lambda m, i, o: 30 * o)
    elif where == "field":
        net.body.layers[2].field.linear.register_forward_pre_hook(lambda m, i: (30 * i[0],))
    else:
        net.body.layers[-1].forward = lambda x: 30 * x
    with pytest.raises(ClaimError, match="hooks or a replaced forward"):
        certify(net)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_stale_weight_norm_is_refused():
    head = torch.nn.utils.weight_norm(nn.Linear(4, 2))
    with pytest.raises(ClaimError, match="hooks"):
        certify(nn.Sequential(nn.Flatten(), head).eval())


@pytest.mark.parametrize("state", [(-0.5, 3), (math.nan, 1), (0.1, 0), (math.inf, 1)])
def test_impossible_frozen_steps_are_refused(state):
    with pytest.raises(InputError, match="positive number of steps"):
        small_net().body.layers[2].set_extra_state({"step_size": state[0], "step_count": state[1]})


def test_the_mean_is_spread_over_the_image_that_the_layer_sees():
    net = nn.Sequential(nn.PixelShuffle(2), Normalise((100.0,), (1.0,)), nn.Flatten(), nn.Linear(16, 2)).eval()
    cert = certify(net, input_shape=(4, 2, 2))
    at_zero = float(net[:2](torch.zeros(1, 4, 2, 2)).norm())
    assert at_zero == 400 and cert.layers[1].output_norm >= at_zero + cert.norm_limit


def test_the_users_input_is_left_alone():
    net = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(4, 2)).eval()
    x = torch.full((1, 4), -60.0, dtype=torch.float64)
    assert certify(net).radius(x).item() == 0 and (x == -60).all()


# --- sizes that overflow, underflow, or mean something else ---------------------------------------------------------


def scaled(layer: nn.Module, size: float) -> nn.Module:
    layer = layer.double()
    for p in layer.parameters():
        p.data *= size
    return layer


@pytest.mark.parametrize(
    "body",
    [
        lambda: Flow(scaled(ConvexGradient(Dense(4, 4)), 1e3), Euler(), h=1e3, steps=1000),
        lambda: Flow(scaled(ConvexGradient(Dense(4, 4)), 1e80), Euler(), h=1.0, steps=3),
        lambda: nn.Sequential(scaled(nn.Linear(4, 4), 1e300), scaled(nn.Linear(4, 4), 1e300)),
        lambda: Normalise((0.0,) * 4, (1e-309,) * 4),
    ],
)
def test_bounds_that_overflow_are_refused(body):
    with pytest.raises(ClaimError, match="the bounds overflow at"):
        certify(nn.Sequential(body(), nn.Linear(4, 3)).eval(), input_shape=(4,))


def test_constants_that_overflow_are_refused():
    head = nn.Linear(2, 2).double()
    head.weight.data = 5e153 * torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    with pytest.raises(ClaimError, match="overflow when they are squared"):
        certify(nn.Sequential(head).eval())


def test_what_underflows_is_not_taken_for_exact():
    """x -> x, by way of 1e-400 x: evaluated in float64, every state is 0."""
    layers = [scaled(nn.Linear(2, 2, bias=False), size) for size in (1e-200, 1e-200, 1e200, 1e200)]
    for layer in layers:
        layer.weight.data = layer.weight.data.abs().max() * torch.eye(2, dtype=torch.float64)
    net = nn.Sequential(*layers, nn.Linear(2, 2).double()).eval()
    assert not net[:4](torch.ones(1, 2).double()).any(), "the exact state is far from zero"
    with pytest.raises(ClaimError, match="overflow"):
        certify(net)
    assert certify(nn.Sequential(layers[0], nn.Linear(2, 2).double()).eval()).layers[0].rounding > 1e-100


def test_rows_of_images_are_not_taken_for_samples():
    """The bias of a layer that acts on every row of an image would count once, and every row would get scores."""
    net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).eval(), torch.rand(3, 3, 4)
    with pytest.raises(ClaimError, match="rows of images"):
        certify(net, input_shape=(3, 4))
    with pytest.raises(InputError, match=r"\(3, 4\).*\(4,\)"):
        certify(net).radius(x)
    for first in (Lift(4, 4), nn.ReLU()):
        with pytest.raises(ClaimError, match="rows of images"):
            certify(nn.Sequential(first, *net).eval())
        assert certify(nn.Sequential(first, nn.Flatten(), *net).eval()).radius(x[0]).shape == (3,)
    for layer in (Affine(Dense(4, 4)), NormalisedHead(4, 3)):
        with pytest.raises(InputError, match=r"\(3, 3, 4\)"):
            layer(x)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_inputs_that_are_none(dtype):
    cert = certify(nn.Sequential(nn.Linear(4, 3)).eval(), dtype=dtype, input_shape=(4,))
    assert cert.radius(torch.zeros(0, 4)).shape == (0,)
    for wrong in (torch.zeros(4), torch.zeros(2, 4, dtype=torch.complex64)):
        with pytest.raises(InputError, match="real inputs of shape"):
            cert.radius(wrong)


@pytest.mark.parametrize("mean", [math.nan, math.inf])
def test_a_mean_that_is_no_number_is_refused(mean):
    with pytest.raises(InputError, match="all finite"):
        Normalise((mean,), (1.0,))


def test_names_in_a_sequential_cannot_be_saved(tmp_path):
    """They would be lost: the file could not be read back."""
    with pytest.raises(InputError, match="the names head"):
        save(nn.Sequential(OrderedDict(head=nn.Linear(4, 3))), tmp_path / "x.safetensors")
