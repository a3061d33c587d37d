"""The averaged denoiser: its claim attacked, its constants, noise levels, files; DnCNN beside it."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch.func import jacrev

from stablenets.attack import refute
from stablenets.certify.denoiser import DenoiserCertificate
from stablenets.core.errors import ClaimError, InputError
from stablenets.core.properties import Averaged, Lipschitz
from stablenets.fields import FilterGradient, HardTanh, ReLU, Scaled, SoftShrink, Tanh, filter_gradient
from stablenets.layers import load, save
from stablenets.linear import FilterBank
from stablenets.networks import ChannelWise, DnCNN, EulerDenoiser
from stablenets.networks.shipped import denoiser_for, pretrained_denoiser, shipped

PROFILES = [HardTanh(), SoftShrink(), Tanh()]


def trained_looking(seed: int = 0, spread: float = 1.0, **arguments) -> EulerDenoiser:
    """Random filters, widths, steps and pulls, far from the initial ones."""
    torch.manual_seed(seed)
    net = EulerDenoiser(1, **({"steps": 3, "filters": 8, "levels": (0.1, 0.3)} | arguments)).double()
    for name, p in net.named_parameters():
        p.data = torch.randn_like(p) * spread + (1.0 if "tau" in name else -2.0 if "theta" in name else 0.0)
    return net.eval()


def alpha(net: EulerDenoiser, sigma: float | None = None) -> float:
    claim = net.claims(sigma).get(Averaged)
    assert claim is not None
    return claim.alpha


def violation(claim: Averaged, derivative: torch.Tensor) -> float:
    """The largest eigenvalue of J^T J + (1 - alpha)/alpha (I - J)^T (I - J) - I: positive where it is contradicted."""
    eye = torch.eye(len(derivative), dtype=derivative.dtype)
    rest = eye - derivative
    form = derivative.mT @ derivative + (1 - claim.alpha) / claim.alpha * rest.mT @ rest - eye
    return float(torch.linalg.eigvalsh(form)[-1])


def derivative(net: EulerDenoiser, y: torch.Tensor, sigma: float) -> torch.Tensor:
    d = y.numel()
    return jacrev(lambda v: net(v.view(y.shape), sigma).flatten())(y.flatten()).view(d, d).detach()


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("stride, width", [(1, None), (2, None), (2, 2)])
def test_it_is_averaged(profile, stride, width):
    net = trained_looking(1, profile=profile, stride=stride, width=width)
    y = torch.randn(4, 1, 6, 7, dtype=torch.float64)
    for sigma in (0.1, 0.17):
        claim = Averaged(alpha(net, sigma))
        for one in y:
            assert violation(claim, derivative(net, one[None] * sigma, sigma)) < 1e-9
    if width is None:
        assert refute(net.at(sigma), claim, y * sigma, steps=5).violation < 1e-9


@pytest.mark.parametrize("group_size, filters", [(2, 16), (4, 16), (3, 12)])
def test_it_is_averaged_with_groups(group_size, filters):
    net = trained_looking(2, group_size=group_size, filters=filters, spread=0.7)
    y = torch.randn(6, 1, 7, 6, dtype=torch.float64)
    claim = Averaged(alpha(net, 0.17))
    assert max(violation(claim, derivative(net, one[None] * 0.17, 0.17)) for one in y) < 1e-9
    assert refute(net.at(0.17), claim, y * 0.17, steps=5).violation < 1e-9


def test_a_group_is_projected_onto_a_ball():
    """Against each group by itself; and within a group only the direction counts once it is long."""
    field = FilterGradient(FilterBank(1, 24), Scaled(HardTanh(), 2), group_size=3)
    z = torch.randn(24, 50) * 2
    found = field.respond(z).view(4, 3, 2, 50)
    for image, group in itertools.product(range(4), range(2)):
        one = torch.stack([z[image * 6 + member * 2 + group] for member in range(3)])
        expected = one / one.norm(dim=0).clamp(min=1)
        assert torch.allclose(found[image, :, group], expected, atol=1e-6)
    assert torch.allclose(field.widths(), torch.ones(24, 1))


def test_without_derivatives_the_places_are_taken_a_few_at_a_time(monkeypatch):
    """And the result is the same but for rounding, whatever their number."""
    net = trained_looking(3)
    y = torch.randn(2, net.channels, 12, 11, dtype=torch.float64)
    whole = net(y, 0.3)
    assert whole.requires_grad
    for size in (1, 40, 1000):
        monkeypatch.setattr(filter_gradient, "FITTING", size)
        with torch.no_grad():
            assert torch.allclose(net(y, 0.3), whole, rtol=0, atol=1e-13)


def test_groups_that_do_not_fit():
    bank = FilterBank(1, 16)
    for size, widths, profile in (
        (2, 4, HardTanh()),
        (3, 1, HardTanh()),
        (0, 4, HardTanh()),
        (2, 2, Tanh()),
        (1, 3, Tanh()),
    ):
        with pytest.raises(InputError, match=r"widths|HardTanh"):
            FilterGradient(bank, Scaled(profile, widths), group_size=size)
    with pytest.raises(InputError, match="a multiple of 4 group_size"):
        EulerDenoiser(1, filters=12, group_size=2)


def test_jacobians_are_those_of_finite_differences():
    net, sigma, e = trained_looking(2, profile=Tanh()), 0.2, 1e-6
    y, v = torch.randn(2, 1, 1, 6, 7, dtype=torch.float64)
    found = (net(y + e * v, sigma) - net(y - e * v, sigma)).flatten() / (2 * e)
    assert (found - derivative(net, y, sigma) @ v.flatten()).norm() < 1e-7 * v.norm()


def test_the_constant_of_one_step_is_sharp():
    """Unit slopes (a wide HardTanh) and no pull: I - 2 tau A^T A, with A^T A of norm 1 on a large image."""
    net = trained_looking(3, steps=1, filters=4, stride=1)
    block = net.blocks[0]
    block.field.activation.log_width.data.fill_(9.0)
    block.theta_logit.data.fill_(-30.0)
    block.tau_logit.data.fill_(1.0)
    claim = Averaged(alpha(net, 0.2))
    assert claim.alpha == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-4)
    y = torch.randn(1, 1, 20, 20, dtype=torch.float64) * 0.1
    jacobian = derivative(net, y, 0.2)
    assert violation(claim, jacobian) < 1e-9
    assert violation(Averaged(0.95 * claim.alpha), jacobian) > 0.01


def test_a_pull_lowers_the_constant_by_its_share():
    net = trained_looking(4, steps=1, filters=4)
    free, pulled = [], []
    for logit, found in ((-30.0, free), (0.0, pulled)):
        net.blocks[0].theta_logit.data.fill_(logit)
        found.append(alpha(net, 0.2))
    assert pulled[0] == pytest.approx(free[0] / 2, rel=1e-4)


def test_constants_compose():
    """Steps of tau without pull: the formula of Ogura & Yamada, here by hand."""
    net = trained_looking(5)
    for block in net.blocks:
        block.theta_logit.data.fill_(-40.0)
    taus = [float(block.shares(0.0)[0]) for block in net.blocks]
    a = taus[0]
    for t in taus[1:]:
        a = (a + t - 2 * a * t) / (1 - a * t)
    assert alpha(net, 0.1) == pytest.approx(a, rel=1e-4) and alpha(net, 0.1) >= a


def test_one_constant_covers_all_noise_levels():
    for seed in range(3):
        net = trained_looking(seed)
        assert all(alpha(net, s) <= alpha(net) for s in (0.01, 0.1, 0.13, 0.2, 0.29, 0.3, 2.0))


def test_it_is_averaged_while_training_too():
    net = trained_looking(6).train()
    net.blocks[0].field.linear.weight.data *= 5
    assert alpha(net) < 1
    y = torch.randn(2, 1, 6, 7, dtype=torch.float64)
    trained = Averaged(alpha(net, 0.2))
    net.eval()
    assert alpha(net, 0.2) == pytest.approx(trained.alpha, rel=1e-6)
    assert refute(net.at(0.2), trained, y, steps=5).violation < 1e-9


def test_weights_that_grew_after_freezing_lose_the_claim():
    net = trained_looking(7)
    field = net.blocks[1].field
    field.linear.weight.data *= 3  # the frozen scale is for the old ones
    assert field.claims().get(Lipschitz).bound == pytest.approx(9, rel=1e-6)
    assert not net.claims()
    with pytest.raises(ClaimError, match="no theorem says"):
        DenoiserCertificate.of(net)


@pytest.mark.parametrize("name", ["activation.log_width", "tau_logit", "theta_logit"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 200.0, -200.0])
def test_parameters_that_make_no_finite_network_lose_the_claim(name, value):
    """exp(200) and exp(-200) are no float32 widths; sigmoid(inf) and sigmoid(200) are 1, which no step may be."""
    net = trained_looking(7, levels=(0.1,)).float()
    block = net.blocks[1]
    owner = block.field.activation if "." in name else block
    getattr(owner, name.split(".")[-1]).data[0] = value
    allowed = name == "theta_logit" and math.isfinite(value)  # no pull, or nothing but the pull
    assert bool(net.claims()) == bool(net.claims(0.1)) == allowed
    if allowed:
        assert net(torch.rand(1, 1, 9, 9), 0.1).isfinite().all()
    else:
        with pytest.raises(ClaimError, match="no theorem says"):
            DenoiserCertificate.of(net)


def test_less_than_float32_is_not_certified():
    for net in (trained_looking(7).half(), trained_looking(7).bfloat16()):
        with pytest.raises(ClaimError, match="float32 or float64 weights"):
            DenoiserCertificate.of(net)


def test_squares_of_groups_that_overflow_do_no_harm():
    """A group of more than 1e19 widths in float32 is dropped: it would have been one width long."""
    net = trained_looking(3, group_size=2).float()
    exact = copy.deepcopy(net).double()
    for widths in (-60.0, -75.0):
        for twin in (net, exact):
            for block in twin.blocks:
                block.field.activation.log_width.data.fill_(widths)
        y = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
        found, expected = net(y, 0.1), exact(y.double(), 0.1)
        assert float((found - expected).norm()) < 1e-5 * float(y.norm())


def test_noise_levels():
    net = trained_looking(8)
    y = torch.randn(1, 1, 9, 8, dtype=torch.float64)
    assert torch.allclose(net(10 * y, 10.0), 10 * net(y, 1.0), atol=1e-12), "above the highest level it is scaled"
    assert torch.allclose(net(y / 10, 0.01), net(y, 0.1) / 10, atol=1e-12), "and below the lowest one"
    assert not torch.allclose(net(y, 0.1) * 3, net(3 * y, 0.3))
    assert [round(net.place(s), 6) for s in (0.05, 0.1, math.sqrt(0.03), 0.3, 1)] == [0, 0, 0.5, 1, 1]
    assert torch.allclose(net(-y, 0.2), -net(y, 0.2), atol=1e-14), "it is odd"


def test_images_of_every_size():
    net = trained_looking(9)
    for size in ((5, 5), (5, 40), (33, 17), (16, 16)):
        assert net(torch.rand(2, 1, *size, dtype=torch.float64), 0.1).shape == (2, 1, *size)


def test_saved_and_loaded(tmp_path):
    net = trained_looking(10).float()
    save(net, tmp_path / "net.safetensors")
    twin = load(tmp_path / "net.safetensors")
    y = torch.rand(1, 1, 12, 9)
    assert torch.equal(net(y, 0.2), twin(y, 0.2)) and not twin.training


def test_steps_carry_gradients():
    net = trained_looking(11).train()
    net(torch.rand(2, 1, 8, 8, dtype=torch.float64), 0.2).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"levels": (0.2, 0.1)}, "increasing noise levels"),
        ({"levels": (0.1, -1.0)}, "a positive number"),
        ({"steps": 0}, "steps"),
        ({"width": 0, "channels": 3}, "at least as many"),
        ({"profile": ReLU()}, "an odd activation"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, words):
    arguments = {"width": 1} | arguments if "channels" in arguments else arguments
    with pytest.raises(InputError, match=words):
        EulerDenoiser(**({"filters": 4} | arguments | ({"width": 2} if "channels" in arguments else {})))


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_noise_levels_that_are_none(sigma):
    for net in (trained_looking(12), DnCNN(1, depth=2, width=4)):
        with pytest.raises(InputError, match="noise level"):
            net(torch.rand(1, 1, 9, 9, dtype=torch.float64), sigma)
        with pytest.raises(InputError, match="noise level"):
            net.at(sigma)


# --- DnCNN --------------------------------------------------------------------------------------------------------


def test_nothing_is_claimed_of_dncnn():
    torch.manual_seed(0)
    net = DnCNN(1, depth=4, width=8).double().eval()
    assert not net.claims() and not net.at(0.1).claims()
    with pytest.raises(ClaimError, match="no theorem says that DnCNN is averaged"):
        DenoiserCertificate.of(net)
    y = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    assert refute(net.at(0.1), Lipschitz(1.0), y, steps=20).violation > 0, "and rightly so"


# --- certificates, and the networks that come with the package ----------------------------------------------------


def test_certificates(tmp_path):
    net = trained_looking(13)
    certificate = DenoiserCertificate.of(net)
    certificate.save(tmp_path / "c.json")
    again = DenoiserCertificate.load(tmp_path / "c.json")
    assert again == certificate and "averaged" in again.words
    again.check(net)
    for alpha in (certificate.alpha * 0.9, math.nan):
        with pytest.raises(ClaimError, match="the certificate says"):
            DenoiserCertificate(**{**vars(certificate), "alpha": alpha}).check(net)
    with pytest.raises(ClaimError, match="for other weights"):
        certificate.check(trained_looking(14))
    with pytest.raises(ClaimError, match="training mode"):
        DenoiserCertificate.of(net.train())
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(InputError, match="not a denoiser's certificate"):
        DenoiserCertificate.load(tmp_path / "c.json")


def test_what_comes_with_the_package_is_certified():
    from importlib import resources

    assert "grey" in shipped()
    for name in shipped():
        net = pretrained_denoiser(name)
        folder = resources.files("stablenets.networks") / "weights"
        with resources.as_file(folder / f"{name}.json") as file:
            DenoiserCertificate.load(file).check(net)
        with resources.as_file(folder / f"{name}.safetensors") as file:
            assert file.stat().st_size < 1_000_000
        net = net.double()
        y = torch.randn(1, net.channels, 10, 9, dtype=torch.float64) * 0.3 + 0.5
        claim = net.claims(0.1).get(Averaged)
        assert claim is not None and refute(net.at(0.1), claim, y, steps=5).violation < 1e-9


def test_colour_images_by_a_grey_denoiser():
    grey = trained_looking(15)
    net, y = ChannelWise(grey, 3), torch.randn(2, 3, 6, 7, dtype=torch.float64)
    assert all(torch.equal(net(y, 0.2)[:, i], grey(y[:, i, None], 0.2)[:, 0]) for i in range(3))
    assert net.claims(0.2) == grey.claims(0.2)
    with pytest.raises(InputError, match="a denoiser of grey images"):
        ChannelWise(net)
    assert denoiser_for(3).channels == 3 and denoiser_for(1).channels == 1


def test_names_that_are_none():
    with pytest.raises(InputError, match="unknown denoiser 'gray'"):
        pretrained_denoiser("gray")


@torch.no_grad()
def test_repeated_application_converges():
    """|x_(k+1) - x_k| never grows, on a picture of noise and edges, in float64."""
    net = pretrained_denoiser("grey").double()
    x = (torch.arange(32) // 8 % 2).double().expand(1, 1, 32, 32) * 0.6 + 0.1 * torch.randn(1, 1, 32, 32).double()
    residuals = []
    for _ in range(60):
        new = net(x, 0.1)
        residuals.append(float((new - x).norm()))
        x = new
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(residuals))
    assert residuals[-1] < 0.2 * residuals[0]


def test_dncnn_starts_with_little_noise():
    """With the usual last layer it removes noise as large as the image, and a short training ends with none removed."""
    torch.manual_seed(0)
    y = torch.rand(4, 3, 24, 24)
    assert float((DnCNN(3, depth=8, width=32)(y, 0.1) - y).norm()) < 0.05 * float(y.norm())
