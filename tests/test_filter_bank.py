"""Filter banks: mirrored borders, the adjoint, and one norm for images of every size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablenets.core.errors import InputError
from stablenets.linear import FilterBank, filter_bank
from stablenets.linear.mirror import Mirror

SIZES = [(5, 5), (7, 9), (8, 6), (6, 11), (23, 16)]
SHAPES = [(1, (0, 0)), (2, (0, 0)), (2, (1, 1)), (2, (0, 1)), (2, (1, 0))]


def randomised(
    seed: int, stride: int, offset, size=(8, 8), channels: int = 1, filters: int = 8, k: int = 3
) -> FilterBank:
    torch.manual_seed(seed)
    bank = FilterBank(channels, filters, k, stride=stride, offset=offset, image_size=size).double()
    bank.weight.data = torch.randn_like(bank.weight)
    return bank


def true_norm(bank: FilterBank) -> float:
    return float(torch.linalg.matrix_norm(bank.matrix(), 2))


def mirrored(i: int, n: int) -> int:
    """The pixel that stands at place i of the endless mirrored signal."""
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


def by_hand(bank: FilterBank, x: np.ndarray) -> np.ndarray:
    """The responses to one image, pixel by pixel."""
    w = bank.weight.detach().numpy()
    filters = np.concatenate([w, w[..., ::-1], w[..., ::-1, :], w[..., ::-1, ::-1]])
    (height, width), s, reach = x.shape[1:], bank.stride, bank.kernel_size // 2
    starts = [range(-o, n, s) for n, o in zip((height, width), bank.offset, strict=True)]
    out = np.zeros((len(filters), *map(len, starts)))
    for a, top in enumerate(starts[0]):
        for b, left in enumerate(starts[1]):
            rows = [mirrored(top - reach * s + i, height) for i in range(w.shape[2])]
            columns = [mirrored(left - reach * s + j, width) for j in range(w.shape[3])]
            straddles = sum(
                start < 0 < start + s or start < n < start + s for start, n in ((top, height), (left, width))
            )
            patch = x[:, rows][:, :, columns]
            out[:, a, b] = np.einsum("fcij,cij->f", filters, patch) * 0.5 ** (straddles / 2)
    return out


@pytest.mark.parametrize("stride, offset", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_responses_are_those_of_the_mirrored_image(stride, offset, size):
    bank = randomised(0, stride, offset, size, channels=2, filters=4)
    x = np.random.default_rng(0).standard_normal((2, *size))
    found = bank(torch.from_numpy(x)[None])[0].detach().numpy()
    assert np.abs(found - by_hand(bank, x)).max() < 1e-12


@pytest.mark.parametrize("stride, offset", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_one_bound_for_every_size(stride, offset, size):
    for seed in range(2):
        bank = randomised(seed, stride, offset, size, channels=1 + seed % 2, filters=4)
        assert true_norm(bank) <= bank.norm_bound()


@pytest.mark.parametrize("stride, offset", SHAPES)
def test_no_filters_can_be_trained_to_beat_the_bound(stride, offset):
    """Ascent on norm / bound, on a small image, where borders weigh most."""
    bank = randomised(1, stride, offset, (5, 6), filters=4)
    optimiser = torch.optim.Adam(bank.parameters(), lr=0.1)
    eye = torch.eye(30, dtype=torch.float64).view(30, 1, 5, 6)
    for _ in range(60):
        size = torch.linalg.matrix_norm(bank(eye).flatten(1), 2)
        optimiser.zero_grad()
        (-size / bank.training_norm()).backward()
        optimiser.step()
    best = true_norm(bank) / bank.norm_bound()
    assert 0.9 < best <= 1


@pytest.mark.parametrize("stride, offset", [(1, (0, 0)), (2, (1, 0))])
def test_large_images_attain_it(stride, offset):
    bank = randomised(3, stride, offset, (36, 36), filters=4)
    assert true_norm(bank) >= 0.985 * bank.norm_bound()


def test_the_norm_of_a_known_filter():
    """Four equal filters (1, 1; 1, 1) / 2 on the blocks of an image are twice an orthogonal projection."""
    bank = FilterBank(1, 4, 1).double()
    bank.weight.data.fill_(0.5)
    assert bank.norm_bound() == pytest.approx(2, rel=1e-12)
    assert true_norm(bank) == pytest.approx(2, rel=1e-12)


def test_without_mirror_images_a_border_may_exceed_the_symbol(monkeypatch):
    """The theorem needs a bank that is closed: single filters see a mirrored border twice as strongly."""
    worst = 0.0
    for seed in range(6):
        bank = randomised(seed, 1, (0, 0), (5, 5), filters=4)
        monkeypatch.setattr(FilterBank, "bank", lambda self, weight: torch.cat([weight] * 4))
        worst = max(worst, true_norm(bank) / bank.norm_bound())
        monkeypatch.undo()
    assert worst > 1.02


def test_blocks_across_an_edge_count_half(monkeypatch):
    """With the full weight they would break the bound: a filter that sees nothing but its own block."""
    bank = FilterBank(1, 4, 1, offset=(1, 1), image_size=(5, 5)).double()
    bank.weight.data.fill_(0.5)
    assert true_norm(bank) <= bank.norm_bound()
    monkeypatch.setattr(Mirror, "weights", lambda self, like: torch.ones(self.blocks, dtype=like.dtype))
    assert true_norm(bank) > 1.3 * bank.norm_bound()


@pytest.mark.parametrize("grid", [5, 7, 16])
def test_few_frequencies_are_enough_for_a_bound(grid, monkeypatch):
    """Riesz's factor covers what lies between the frequencies; the largest value on the grid alone does not."""
    missed = 0
    for seed in range(8):
        bank = randomised(seed, 2, (0, 0), filters=4)
        fine = bank.norm_bound()
        monkeypatch.setattr(filter_bank, "GRID", grid)
        coarse = bank.norm_bound()
        monkeypatch.undo()
        riesz = math.cos(math.pi * 2 / grid)
        assert coarse >= fine * math.cos(math.pi * 2 / filter_bank.GRID)
        missed += coarse * riesz < 0.999 * fine * math.cos(math.pi * 2 / filter_bank.GRID)
    assert missed > 0 or grid == 16


def test_the_training_norm_is_below_the_bound_and_near_it():
    for seed in range(4):
        bank = randomised(seed, 2, (1, 0))
        assert 0.9 * bank.norm_bound() < float(bank.training_norm().detach()) <= bank.norm_bound()
    bank.training_norm().backward()
    assert bank.weight.grad is not None and bank.weight.grad.abs().max() > 0


def test_a_single_weight_is_a_number():
    bank = FilterBank(1, 4, 1, stride=1)
    assert float(bank.weight.detach().abs()) == 1 and bank.norm_bound() == pytest.approx(2)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"filters": 6}, "filters in fours"),
        ({"kernel_size": 2}, "an odd number"),
        ({"kernel_size": 67, "image_size": (80, 80)}, "below 32"),
        ({"stride": 3}, "stride 1 or 2"),
        ({"offset": (2, 0)}, "offsets 0 or stride // 2"),
        ({"image_size": (1, 9)}, "at least"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        FilterBank(1, **({"filters": 4} | arguments))


def test_images_that_do_not_fit_are_refused():
    bank = FilterBank(1, 4, 5)
    with pytest.raises(InputError, match="a side of 3 pixels; needed: at least 5"):
        bank(torch.zeros(1, 1, 3, 9))
    with pytest.raises(InputError, match=r"needed: \(batch, 1, height, width\)"):
        bank(torch.zeros(1, 2, 9, 9))
