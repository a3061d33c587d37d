"""Pictures, kernels and masks from files: what is read, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from stablenets.core.errors import InputError
from stablenets.data.cbsd68 import IDS
from stablenets.data.kernel_files import read_kernel, read_mask
from stablenets.data.pictures import (
    as_bytes,
    as_tensor,
    benchmark_files,
    named_folder,
    picture_files,
    random_crops,
    read_picture,
    read_pictures,
    training_files,
)

RANDOM = np.random.default_rng(0)
GREY, COLOUR = RANDOM.integers(0, 256, (7, 9), np.uint8), RANDOM.integers(0, 256, (7, 9, 3), np.uint8)


def test_grey_and_colour(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(COLOUR).save(tmp_path / "colour.png")
    Image.fromarray(np.dstack([COLOUR, GREY])).save(tmp_path / "alpha.png")
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(read_picture(tmp_path / "grey.png"), GREY[None])
    assert np.array_equal(read_picture(tmp_path / "deep.png"), GREY[None])
    for name in ("colour", "alpha"):
        assert np.array_equal(read_picture(tmp_path / f"{name}.png"), COLOUR.transpose(2, 0, 1))
    assert np.array_equal(read_picture(tmp_path / "grey.png", 3), np.repeat(GREY[None], 3, 0))
    luma = np.rint(COLOUR @ np.array([0.298936, 0.587043, 0.114021]))
    assert np.array_equal(read_picture(tmp_path / "colour.png", 1)[0], luma)


def test_bytes_come_back():
    assert np.array_equal(as_bytes(as_tensor(GREY[None], torch.float64)), GREY[None])
    assert as_bytes(torch.tensor([[[[-1.0, 2.0]]]])).tolist() == [[[0, 255]]]


@pytest.mark.parametrize("content", [b"no picture", b"\x89PNG\r\n\x1a\n", b""])
def test_files_that_are_no_pictures(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError, match="not a readable picture"):
        read_picture(tmp_path / "x.png")


def test_truncated_and_missing(tmp_path):
    Image.fromarray(COLOUR).resize((90, 70)).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable picture"):
        read_picture(tmp_path / "x.png")
    with pytest.raises(InputError, match="there is no file"):
        read_picture(tmp_path / "y.png")
    with pytest.raises(InputError, match="not a readable picture"):
        read_picture(tmp_path)


def test_folders(tmp_path):
    with pytest.raises(InputError, match="holds no pictures"):
        picture_files(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        picture_files(tmp_path / "none")
    for i in (10, 2, 1):
        Image.fromarray(GREY).save(tmp_path / f"p{i}.png")
    assert [p.name for p in picture_files(tmp_path)] == ["p1.png", "p2.png", "p10.png"]
    training, validation = training_files(str(tmp_path))
    assert [p.name for p in training] == ["p2.png", "p10.png"] and [p.name for p in validation] == ["p1.png"]
    with pytest.raises(InputError, match=r"has 9 x 7 pixels; needed: at least 8 x 8"):
        read_pictures(training, 1, 8)
    (tmp_path / "p2.png").unlink(), (tmp_path / "p10.png").unlink()
    with pytest.raises(InputError, match="one picture"):
        training_files(str(tmp_path))


def test_crops_are_parts_of_the_pictures():
    crops = random_crops([GREY[None]], 4, 6, np.random.default_rng(1)) * 255
    windows = {
        np.rot90(w, k)[:, ::m].tobytes()
        for i in range(4)
        for j in range(6)
        for w in [GREY[i : i + 4, j : j + 4]]
        for k in range(4)
        for m in (1, -1)
    }
    found = [c[0].round().byte().numpy().tobytes() for c in crops]
    assert all(c in windows for c in found) and len(set(found)) > 1
    again = random_crops([GREY[None]], 4, 6, np.random.default_rng(1)) * 255
    assert torch.equal(crops, again)


def test_bsds500_needs_its_pictures_alone(tmp_path, monkeypatch):
    """The published folders, without a list of the benchmark beside them."""
    numbers = [str(n) for n in (*IDS, 1, 2)]
    for part, names in (("train", ["3"]), ("test", ["4"]), ("val", numbers)):
        (tmp_path / "bsds500" / part).mkdir(parents=True)
        for name in names:
            Image.fromarray(COLOUR).save(tmp_path / "bsds500" / part / f"{name}.jpg")
    monkeypatch.setattr("stablenets.data.pictures.local_folders", lambda: [tmp_path])
    assert len(set(IDS)) == 68
    training, validation = training_files("bsds500")
    assert ([p.stem for p in training], [p.stem for p in validation]) == (["3", "4"], ["1", "2"])
    assert [p.stem for p in benchmark_files("cbsd68")] == numbers[:68]


@pytest.mark.skipif(named_folder("bsds500") is None, reason="BSDS500 is not on this machine ($STABLENETS_DATA)")
def test_benchmark_and_training_do_not_overlap():
    training, validation = training_files("bsds500")
    benchmark = benchmark_files("cbsd68")
    assert (len(training), len(validation), len(benchmark)) == (400, 32, 68)
    assert not {p.name for p in benchmark} & {p.name for p in [*training, *validation]}
    assert np.array_equal(read_picture(benchmark[0], 1), read_picture(benchmark_files("bsd68")[0], 1))


# --- kernels and masks --------------------------------------------------------------------------------------------


def test_kernels(tmp_path):
    kernel = np.array([[0.0, 1.0], [2.0, 1.0]])
    np.save(tmp_path / "k.npy", kernel)
    np.savez(tmp_path / "one.npz", k=kernel)
    np.savez(tmp_path / "two.npz", a=kernel, b=2 * kernel[:1])
    Image.fromarray((kernel * 100).astype(np.uint8)).save(tmp_path / "k.png")
    np.save(tmp_path / "huge.npy", kernel * 5e307)
    for name in ("k.npy", "one.npz", "two.npz:a", "k.png", "huge.npy"):
        assert np.allclose(read_kernel(str(tmp_path / name)), kernel / 4)
    assert read_kernel(str(tmp_path / "two.npz:b")).tolist() == [[0.0, 1.0]]
    with pytest.raises(InputError, match=r"holds 2 arrays; needed: one of a, b\. Write, for example"):
        read_kernel(str(tmp_path / "two.npz"))
    with pytest.raises(InputError, match="holds no array 'c'"):
        read_kernel(str(tmp_path / "two.npz:c"))


@pytest.mark.parametrize(
    "kernel, words",
    [
        (np.array([[1.0, np.nan]]), "NaN or infinite"),
        (np.zeros((2, 2)), "add up to 0"),
        (np.ones(3), r"shape \(3,\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.array([["a"]]), "of numbers"),
    ],
)
def test_kernels_that_are_none(tmp_path, kernel, words):
    np.save(tmp_path / "k.npy", kernel)
    with pytest.raises(InputError, match=words):
        read_kernel(str(tmp_path / "k.npy"))


def test_kernel_files_that_are_none(tmp_path):
    (tmp_path / "k.npz").write_bytes(b"PK damaged")
    with pytest.raises(InputError, match="not a readable kernel"):
        read_kernel(str(tmp_path / "k.npz"))
    np.save(tmp_path / "p.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match="not a readable kernel"):
        read_kernel(str(tmp_path / "p.npy"))
    with pytest.raises(InputError, match="there is no file"):
        read_kernel(str(tmp_path / "none.npz"))


def test_masks(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", (7, 9)), GREY >= 128)
    with pytest.raises(InputError, match="has 9 x 7 pixels; needed: 7 x 9"):
        read_mask(tmp_path / "m.png", (9, 7))
    Image.fromarray(GREY * 0).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="black everywhere"):
        read_mask(tmp_path / "m.png", (7, 9))
