"""ADef and `deform`, against a slow implementation with scipy, image by image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor, nn

from stablenets.attack import ADef, MaskingWarning
from stablenets.attack.adef import smooth
from stablenets.core.errors import InputError
from stablenets.data import load_data
from stablenets.linear.deform import deform, size


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A small CNN trained for a moment, and 120 test images."""
    data = load_data("digits")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(512, 10))
        optimiser = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(5):
            for part in torch.randperm(len(data.y_train)).split(50):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(data.x_train[part]), data.y_train[part]).backward()
                optimiser.step()
    return net.eval(), data.x_test[:120], data.y_test[:120]


def slow_deform(image: np.ndarray, tau: np.ndarray) -> np.ndarray:
    place = np.stack(np.meshgrid(*map(np.arange, image.shape[1:]), indexing="ij")) + tau.transpose(2, 0, 1)
    return np.stack([map_coordinates(channel, place, order=1, mode="nearest") for channel in image])


def slow_adef(net: nn.Module, image: np.ndarray, label: int, attack: ADef) -> np.ndarray | None:
    """One image by the formulas, in numpy; only the network's gradients are torch's."""

    def scores(x: np.ndarray, k: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        z = torch.tensor(x, dtype=torch.float32)[None].requires_grad_()
        out = net(z)[0]
        gradient = None if k is None else torch.autograd.grad(out[k] - out[label], z)[0][0].double().numpy()
        return out.detach().double().numpy(), gradient

    classes = [k for k in np.argsort(-scores(image)[0], kind="stable") if k != label][: attack.candidates]
    smoother = gaussian_filter if attack.sigma else lambda field, *_, **__: field
    slopes = [np.gradient(image, axis=axis) for axis in (1, 2)]
    tau = np.zeros((*image.shape[1:], 2))
    for _ in range(attack.steps):
        z = slow_deform(image, tau)
        fields = []
        for k in classes:
            out, gradient = scores(z, k)
            assert gradient is not None
            slope = [slow_deform(part, tau) for part in slopes]
            alpha = [(gradient * part).sum(0) for part in slope]
            once = [smoother(part, attack.sigma, mode="constant", truncate=4.0) for part in alpha]
            row = np.concatenate([part.ravel() for part in once])[None]  # of least norm: <S alpha, w> = -f
            w = np.linalg.lstsq(row, np.array([out[label] - out[k]]), rcond=None)[0].reshape(2, *image.shape[1:])
            fields.append(np.stack([smoother(p, attack.sigma, mode="constant", truncate=4.0) for p in w], -1))
        sizes = [np.linalg.norm(field, axis=-1).max() for field in fields]
        best = int(np.argmin(sizes))
        tau = tau + min(1 + attack.overshoot, attack.longest_step / sizes[best]) * fields[best]
        if np.linalg.norm(tau, axis=-1).max() > attack.limit:
            return None
        if scores(slow_deform(image, tau))[0].argmax() != label:
            return tau
    return None


@pytest.mark.parametrize(
    "attack",
    [
        ADef(halvings=0),
        ADef(9, 1.5, sigma=1.0, halvings=0),
        ADef(1, sigma=0.0, longest_step=math.inf, overshoot=0.1, halvings=0, steps=20),
    ],
    ids=["default", "all candidates", "no filter, any step"],
)
def test_the_same_fields_as_a_slow_implementation(digits: tuple[nn.Module, Tensor, Tensor], attack: ADef) -> None:
    net, x, y = digits[0], digits[1][:25], digits[2][:25]
    found = attack.fields(net, x, y)
    agreed = 0
    for i in range(len(x)):
        if found.size[i] == 0:
            continue
        slow = slow_adef(net, x[i].double().numpy(), int(y[i]), attack)
        assert (slow is not None) == bool(found.broken[i])
        if slow is not None:
            assert np.abs(found.tau[i].numpy() - slow).max() < 1e-3  # gradients are float32, and paths may drift
            assert float(found.size[i]) == pytest.approx(np.linalg.norm(slow, axis=-1).max(), rel=1e-3)
            agreed += 1
    assert agreed >= 15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deform_is_bilinear_interpolation_clamped_at_the_border(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(6, 3, 5, 7, generator=g, dtype=dtype)
    for scale in (0.0, 0.01, 0.7, 3.0, 50.0):
        tau = scale * torch.randn(6, 5, 7, 2, generator=g, dtype=torch.float64)
        expected = [slow_deform(a.double().numpy(), b.numpy()) for a, b in zip(x, tau, strict=True)]
        off = (deform(x, tau).double() - torch.from_numpy(np.stack(expected))).abs().max()
        assert float(off) <= (1e-13 if dtype == torch.float64 else 3e-8)
        assert float(deform(x, tau).max()) <= float(x.max()) and float(deform(x, tau).min()) >= float(x.min())
    assert torch.equal(deform(x, torch.zeros(6, 5, 7, 2)), x)
    down = torch.zeros(6, 5, 7, 2)
    down[..., 0] = 1.0  # looks one row down: the image moves up
    assert torch.equal(deform(x, down)[:, :, :-1], x[:, :, 1:])
    one = torch.full((1, 5, 7, 2), 0.3)
    assert torch.equal(deform(x, one.expand(6, -1, -1, -1))[2:3], deform(x[2:3], one))


def test_the_filter_is_scipys_and_symmetric() -> None:
    eye = torch.eye(30, dtype=torch.float64).view(30, 6, 5)
    for sigma in (0.5, 1.3):
        matrix = smooth(eye, sigma).flatten(1)
        expected = np.stack([gaussian_filter(e, sigma, mode="constant", truncate=4.0).ravel() for e in eye.numpy()])
        assert np.abs(matrix.numpy() - expected).max() < 1e-14
        assert torch.allclose(matrix, matrix.T, atol=1e-15)
    assert torch.equal(smooth(eye, 0.0), eye)


def test_every_field_makes_the_image_it_claims(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    attack = ADef()
    found = attack.fields(net, x, y)
    with torch.no_grad():
        right, after = net(x).argmax(1) == y, net(found.x_adv).argmax(1) == y
    assert torch.equal(found.x_adv, deform(x, found.tau)) and torch.equal(attack(net, x, y), found.x_adv)
    assert (
        float(right.double().mean()) > 0.9
        and torch.equal(found.broken, ~after)
        and torch.equal(found.size == 0, ~right)
    )
    assert float(found.broken.double().mean()) > 0.97
    measured = found.tau.norm(dim=3).flatten(1).amax(1)
    assert bool((measured[found.broken] == found.size[found.broken]).all()) and float(measured.max()) <= attack.limit
    assert bool((found.tau[~found.broken] == 0).all()) and found.x_adv.dtype == x.dtype
    few = ADef(batch_size=7).fields(net, x, y)
    assert torch.equal(few.broken, found.broken) and torch.allclose(few.tau, found.tau, atol=1e-3)


def test_settings_help(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits

    def mean(attack: ADef) -> float:
        found = attack.fields(net, x, y).size
        return float(torch.where(found.isfinite(), found, attack.limit)[found > 0].mean())

    default = mean(ADef())
    assert default < mean(ADef(halvings=0)) < 1.3 * default
    assert default < mean(ADef(longest_step=math.inf)) and default < mean(ADef(1)) + 1e-3
    limited = ADef(limit=0.5).fields(net, x, y)
    assert 0.0 < float(limited.broken.double().mean()) < 1.0
    assert float(limited.size[limited.broken].max()) <= 0.5


def test_targets(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits[0], digits[1][:60], digits[2][:60]
    targets = (y + 3) % 10
    found = ADef(limit=6.0).fields(net, x, y, targets)
    with torch.no_grad():
        answers = net(found.x_adv).argmax(1)
    assert torch.equal(answers == targets, found.broken)
    assert float(found.broken.double().mean()) > 0.7
    free = ADef(limit=6.0).fields(net, x, y)
    both = found.broken & free.broken
    assert float(found.size[both].mean()) > float(free.size[both].mean())


def test_a_blind_network_is_not_broken_and_the_user_is_told() -> None:
    def blind(x: Tensor) -> Tensor:
        return torch.stack([x.flatten(1).sum(1).round(), x.flatten(1).sum(1).round() - 1.0], 1)

    x = torch.rand(4, 1, 6, 6)
    with pytest.warns(MaskingWarning):
        found = ADef().fields(blind, x, torch.zeros(4, dtype=torch.int64))
    assert not bool(found.broken.any()) and torch.equal(found.x_adv, x) and bool((found.tau == 0).all())


def test_colour_images_and_what_cannot_be_deformed() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(75, 3)).double()
    x = torch.rand(8, 3, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        y = net(x).argmax(1)
    found = ADef().fields(net, x, y)
    assert torch.equal(found.x_adv, deform(x, found.tau)) and bool(found.broken.any())
    for bad in (torch.rand(2, 75), torch.rand(2, 3, 1, 25)):
        with pytest.raises(InputError, match="images"):
            ADef().fields(net, bad.double(), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="labels from"):
        ADef().fields(net, x, y, y + 5)
    for make in (
        lambda: ADef(0),
        lambda: ADef(limit=0.0),
        lambda: ADef(limit=math.inf),
        lambda: ADef(sigma=-1.0),
        lambda: ADef(overshoot=math.nan),
        lambda: ADef(halvings=-1),
    ):
        with pytest.raises(InputError):
            make()
    for call in (lambda: deform(x, torch.zeros(8, 5, 2)), lambda: deform(x, torch.full((8, 5, 5, 2), math.nan))):
        with pytest.raises(InputError, match="needed"):
            call()
    assert size(torch.zeros(2, 3, 3, 2)).tolist() == [0.0, 0.0]
