"""The data layer: what is valid, the readers, finding and downloading files, batches."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stablenets.core.errors import InputError
from stablenets.data import (
    DeviceLoader,
    ImageData,
    ShiftFlip,
    data_sets,
    load_data,
    read_folder,
    read_idx,
    read_npz,
    sources,
)
from stablenets.data import download as dl
from stablenets.data.loader import generator
from stablenets.data.split import shuffle, split

# ---------------------------------------------------------------------------------------------------- ImageData


def arrays(n: int = 6, m: int = 4, shape: tuple[int, ...] = (1, 5, 4)) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "x_train": torch.rand(n, *shape, generator=g),
        "y_train": torch.arange(n) % 3,
        "x_test": torch.rand(m, *shape, generator=g),
        "y_test": torch.arange(m) % 3,
    }


def image_data(**changed: torch.Tensor) -> ImageData:
    return ImageData("noise", ("a", "b", "c"), **{**arrays(), **changed})


def with_pixel(value: float) -> torch.Tensor:
    x = arrays()["x_train"].clone()
    x[3, 0, 1, 1] = value
    return x


def test_valid_data_are_kept_as_they_are():
    data = image_data()
    assert data.image_shape == (1, 5, 4)
    assert "tensor" not in repr(data)
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x_train": with_pixel(float("nan"))}, "noise: x_train holds NaN or infinite values, first in image 3"),
        ({"x_train": with_pixel(float("inf"))}, "NaN or infinite values, first in image 3"),
        ({"x_train": with_pixel(255.0)}, "to 255; needed: values in [0, 1]. Divide by 255."),
        ({"x_train": with_pixel(-0.5)}, "values from -0.5"),
        ({"x_train": arrays()["x_train"].double()}, "x_train is torch.float64 of shape (6, 1, 5, 4)"),
        ({"x_train": arrays()["x_train"][0]}, "x_train is torch.float32 of shape (1, 5, 4)"),
        ({"x_test": torch.rand(0, 1, 5, 4)}, "at least one image"),
        ({"x_test": torch.rand(4, 1, 4, 5)}, "training images of shape (1, 5, 4), test images of shape (1, 4, 5)"),
        ({"y_train": torch.arange(6) % 3 - 1}, "y_train holds the label -1 at index 0; needed: labels from 0 to 2"),
        ({"y_test": torch.tensor([0, 1, 3, 2])}, "y_test holds the label 3 at index 2"),
        ({"y_test": torch.zeros(4)}, "y_test is torch.float32 of shape (4,)"),
        ({"y_train": torch.zeros(5, dtype=torch.int64)}, "6 images in x_train but 5 labels in y_train"),
    ],
)
def test_invalid_data_are_refused(changed: dict[str, torch.Tensor], words: str):
    with pytest.raises(InputError) as error:
        image_data(**changed)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_arrays_of_numpy_and_single_classes_are_refused():
    with pytest.raises(InputError, match="x_train is a ndarray"):
        image_data(x_train=arrays()["x_train"].numpy())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1 classes; needed: at least 2"):
        ImageData("noise", ("a",), **arrays())


def test_subset_takes_the_first():
    data = image_data()
    part = data.subset(train=2, test=3)
    assert part.x_train.equal(data.x_train[:2]) and part.y_train.equal(data.y_train[:2])
    assert part.x_test.equal(data.x_test[:3]) and part.y_test.equal(data.y_test[:3])
    assert len(data.subset(test=1).x_train) == 6
    with pytest.raises(InputError, match="7 training images of noise; needed: a number from 1 to 6"):
        data.subset(train=7)
    with pytest.raises(InputError, match="0 test images of noise"):
        data.subset(test=0)


# ---------------------------------------------------------------------------------------------------- idx files


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_idx_is_read(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(images)))
    assert np.array_equal(read_idx(path), images)


# The cases are named by hand: a name made from gzip's bytes would hold the time of day.
GOOD_IDX = idx_bytes(np.arange(200, dtype=np.uint8).reshape(2, 10, 10))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(gzip.compress(GOOD_IDX)[:-20], "cannot be unpacked", id="truncated"),
        pytest.param(gzip.compress(GOOD_IDX)[:5], "cannot be unpacked", id="header only"),
        pytest.param(GOOD_IDX, "cannot be unpacked", id="not gzip"),
        pytest.param(gzip.compress(GOOD_IDX) + b"more", "cannot be unpacked", id="more after the end"),
        pytest.param(
            gzip.compress(GOOD_IDX[:-1]),
            "holds 199 bytes after a header for shape (2, 10, 10); needed: 200 bytes",
            id="a byte short",
        ),
        pytest.param(gzip.compress(GOOD_IDX + b"!"), "holds 201 bytes", id="a byte over"),
        pytest.param(gzip.compress(b""), "starts with nothing", id="empty"),
        pytest.param(gzip.compress(GOOD_IDX[:9]), "starts with 00 00 08 03", id="header cut"),
        pytest.param(gzip.compress(b"\0\0\x0d\3" + GOOD_IDX[4:]), "starts with 00 00 0d 03", id="floats"),
        pytest.param(gzip.compress(b"\0\0\x08\0"), "starts with 00 00 08 00", id="no sizes"),
        pytest.param(gzip.compress(b"\0\0\x08\4" + b"\xff" * 16), "needed: 3402823", id="absurd sizes"),
    ],
)
def test_damaged_idx_is_refused(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_idx(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


# ---------------------------------------------------------------------------------------- finding, downloading

CONTENT = np.random.default_rng(1).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
FILE = dl.DataFile("toy", "toy.bin", hashlib.sha256(CONTENT).hexdigest())


class Server(ThreadingHTTPServer):
    """Serves CONTENT at /toy.bin; remembers the ranges asked for; can break off and can ignore ranges."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.break_off_after: list[int] = []  # bytes, for the first requests
        self.knows_ranges = True
        self.content = CONTENT
        self.url = f"http://127.0.0.1:{self.server_address[1]}/toy.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.ranges.append(asked)
        if self.path != "/toy.bin":
            return self.send_error(404)
        content, first = self.server.content, 0
        if asked and self.server.knows_ranges:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                return self.send_error(416)
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        end = first + self.server.break_off_after.pop(0) if self.server.break_off_after else len(content)
        self.wfile.write(content[first:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(dl, "PAUSE", 0.0)
    with Server() as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty `here` (current), `mine` ($STABLENETS_DATA) and `cache`."""
    for name in ("here", "mine", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("STABLENETS_DATA", str(tmp_path / "mine"))
    return tmp_path


def put(folder: Path, content: bytes = CONTENT, name: str = FILE.name) -> Path:
    path = folder / FILE.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_files_are_looked_for_in_order(folders: Path):
    cached = put(folders / "cache")
    assert dl.find(FILE, folders / "cache") == cached
    put(folders / "shared" / "data")
    assert dl.find(FILE, folders / "cache") == Path("../shared/data/toy/toy.bin")
    mine = put(folders / "mine")
    assert dl.find(FILE, folders / "cache") == mine


@pytest.mark.parametrize("where", ["mine", "shared/data", "cache"])
def test_a_wrong_checksum_is_refused_wherever_the_file_is(folders: Path, where: str):
    put(folders / where, CONTENT[:-1] + b"?")
    with pytest.raises(InputError) as error:
        dl.find(dataclasses.replace(FILE, url="http://example.org/toy.bin"), folders / "cache")
    found = hashlib.sha256(CONTENT[:-1] + b"?").hexdigest()
    for word in ("toy/toy.bin has sha256 " + found, "needed: sha256 " + FILE.sha256, "example.org", "delete it"):
        assert word in str(error.value)


def test_the_default_cache_is_the_users(folders: Path, monkeypatch: pytest.MonkeyPatch):
    assert "stablenets" in dl.default_cache().parts
    monkeypatch.setattr(dl, "default_cache", lambda: folders / "cache")
    path = put(folders / "cache")
    assert dl.find(FILE) == path


def test_download(folders: Path, server: Server):
    file = dataclasses.replace(FILE, url=server.url)
    path = dl.find(file, folders / "cache")
    assert path.read_bytes() == CONTENT
    assert dl.find(file, folders / "cache") == path
    assert server.ranges == [None]
    assert not list(path.parent.glob("*.part"))


def test_a_partial_download_is_continued(folders: Path, server: Server):
    part = put(folders / "cache", CONTENT[:40_000], "toy.bin.part")
    path = dl.download(FILE, server.url, folders / "cache")
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=40000-"]
    assert not part.exists()


def test_a_broken_connection_is_continued(folders: Path, server: Server):
    server.break_off_after = [30_000, 20_000]
    assert dl.download(FILE, server.url, folders / "cache").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=30000-", "bytes=50000-"]


def test_what_arrived_is_kept_for_the_next_time(folders: Path, server: Server):
    server.break_off_after = [1000] * dl.ATTEMPTS
    with pytest.raises(InputError, match=r"connection closed after 1000 of \d+ bytes"):
        dl.download(FILE, server.url, folders / "cache")
    assert dl.download(FILE, server.url, folders / "cache").read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={1000 * dl.ATTEMPTS}-"


def test_a_server_without_ranges_sends_everything(folders: Path, server: Server):
    server.knows_ranges = False
    put(folders / "cache", CONTENT[:40_000], "toy.bin.part")
    assert dl.download(FILE, server.url, folders / "cache").read_bytes() == CONTENT
    assert len(server.ranges) == 1


@pytest.mark.parametrize("stale", [CONTENT, b"?" * 40_000, b"?" * len(CONTENT), CONTENT + b"!"])
def test_a_complete_or_foreign_part_does_no_harm(folders: Path, server: Server, stale: bytes):
    put(folders / "cache", stale, "toy.bin.part")
    assert dl.download(FILE, server.url, folders / "cache").read_bytes() == CONTENT


def test_other_content_is_refused_and_not_kept(folders: Path, server: Server):
    server.content = b"<html>please log in</html>"
    with pytest.raises(InputError, match="what arrived has sha256 .* needed: toy.bin with sha256 " + FILE.sha256):
        dl.download(FILE, server.url, folders / "cache")
    assert [path.name for path in (folders / "cache" / "toy").iterdir() if path.suffix != ".lock"] == []


def test_two_at_once_download_once(folders: Path, server: Server):
    threads = [threading.Thread(target=dl.download, args=(FILE, server.url, folders / "cache")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (folders / "cache" / "toy" / "toy.bin").read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_no_network(folders: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(dl, "PAUSE", 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    closed = dataclasses.replace(sources.MNIST, url=url)
    monkeypatch.setitem(sources.SOURCES, "mnist", sources.Source("closed", closed.load))
    with pytest.raises(InputError) as error:
        load_data("mnist", cache=folders / "cache")
    text = str(error.value)
    assert "\n" not in text
    for word in (url + "train-images-idx3-ubyte.gz", "refused", str(folders / "cache" / "mnist"), "STABLENETS_DATA"):
        assert word in text


def test_a_missing_page_is_named(folders: Path, server: Server):
    with pytest.raises(InputError, match=r"other\.bin could not be downloaded \(HTTP Error 404"):
        dl.download(FILE, server.url.replace("toy.bin", "other.bin"), folders / "cache")


def test_an_unwritable_cache_is_named(folders: Path):
    (folders / "cache" / "toy").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        dl.download(FILE, "http://127.0.0.1:9/toy.bin", folders / "cache")


def test_cifar10_says_where_to_put_the_files(folders: Path):
    with pytest.raises(InputError) as error:
        load_data("cifar10", cache=folders / "cache")
    for word in ("cifar10/cifar10_train_jpeg.npz", "no official download", str(folders / "cache"), "STABLENETS_DATA"):
        assert word in str(error.value)


def test_a_set_is_downloaded_and_read(folders: Path, server: Server, monkeypatch: pytest.MonkeyPatch):
    """Through `load_data`: four files of a small set, one of them from the server, the others already there."""
    rng = np.random.default_rng(2)
    contents = [
        gzip.compress(idx_bytes(rng.integers(0, 256, (5, 4, 4), dtype=np.uint8))),
        gzip.compress(idx_bytes(np.array([0, 9, 1, 2, 3], dtype=np.uint8))),
        gzip.compress(idx_bytes(np.full((2, 4, 4), 255, dtype=np.uint8))),
        gzip.compress(idx_bytes(np.array([4, 5], dtype=np.uint8))),
    ]
    hashes = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    toy = dataclasses.replace(sources.MNIST, name="toy", url=server.url + "?", sha256=hashes)
    for file, content in zip(toy.files()[1:], contents[1:], strict=True):
        put(folders / "mine", content, file.name)
    monkeypatch.setattr(Handler, "do_GET", _always(contents[0]))
    monkeypatch.setitem(sources.SOURCES, "toy", sources.Source("small", toy.load))
    data = load_data("toy", cache=folders / "cache")
    assert data.image_shape == (1, 4, 4) and data.y_train.tolist() == [0, 9, 1, 2, 3]
    assert bool((data.x_test == 1).all())


def _always(content: bytes):
    def do_get(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    return do_get


# ---------------------------------------------------------------------------------------------------- real data


def real(file: dl.DataFile) -> Path:
    """A file of a real data set, checked, from $STABLENETS_DATA or beside the checkout."""
    if not any((folder / file.folder / file.name).is_file() for folder in dl.local_folders()):
        pytest.skip(f"no {file.folder}/{file.name} in $STABLENETS_DATA or ../shared/data")
    return dl.find(file)


@pytest.fixture
def cifar10_test_file() -> Path:
    return real(sources.CIFAR10_JPEG[1]).resolve()


@pytest.mark.parametrize(
    ("name", "mean", "first_labels", "one_class"),
    [("fashion-mnist", 0.2860, [9, 0, 0, 3, 0], "ankle boot"), ("mnist", 0.1307, [5, 0, 4, 1, 9], "9")],
)
def test_real_idx_sets(name: str, mean: float, first_labels: list[int], one_class: str):
    for file in {"mnist": sources.MNIST, "fashion-mnist": sources.FASHION_MNIST}[name].files():
        real(file)
    data = load_data(name)
    assert data.name == name and data.classes[9] == one_class
    assert data.x_train.shape == (60_000, 1, 28, 28) and data.x_test.shape == (10_000, 1, 28, 28)
    assert float(data.x_train.mean()) == pytest.approx(mean, abs=1e-4)  # as published
    assert data.y_train[:5].tolist() == first_labels


def test_real_cifar10(cifar10_test_file: Path, folders: Path, monkeypatch: pytest.MonkeyPatch):
    """The first 2,000 test images, as both parts of a small set; decoding all takes too long here."""
    with np.load(cifar10_test_file) as full:
        ends, labels = full["offsets"][:2001], full["labels"][:2000]
        small = put(folders / "mine", b"", "small.npz")
        np.savez(small, jpeg=full["jpeg"][: ends[-1]], offsets=ends, labels=labels)
    file = dl.DataFile("toy", "small.npz", dl.sha256(small))
    monkeypatch.setattr(sources, "CIFAR10_JPEG", (file, file))
    data = load_data("cifar10")
    assert data.name == "CIFAR-10 (JPEG copy)" and data.x_train.shape == (2000, 3, 32, 32)
    assert data.y_test[:5].tolist() == [3, 8, 8, 0, 6]
    # of all official test images: 0.4942, 0.4851, 0.4504
    assert data.x_test.mean((0, 2, 3)).tolist() == pytest.approx([0.494, 0.485, 0.450], abs=0.01)


def test_digits():
    data = load_data("digits")
    assert len(data.y_train) == 1437 and len(data.y_test) == 360
    assert bool((data.x_train * 16 == (data.x_train * 16).round()).all()) and float(data.x_train.max()) == 1
    counts = torch.bincount(data.y_test)
    assert int(counts.min()) >= 34 and int(counts.max()) <= 38
    assert len(torch.unique(data.y_train[:60])) == 10  # in random order
    assert data.x_train.equal(load_data("digits").x_train)
    # the split must never change: results are compared with it
    assert (data.y_train[:8].tolist(), data.y_test[:8].tolist()) == DIGITS_START


DIGITS_START = ([8, 2, 6, 6, 7, 1, 9, 8], [2, 8, 6, 0, 7, 4, 9, 1])


# ---------------------------------------------------------------------------------------------------- split


def test_split_is_a_partition_and_stratified():
    labels = np.random.default_rng(3).integers(0, 7, 203)
    train, test = split(labels, seed=5)
    assert sorted([*train, *test]) == list(range(203)) and len(test) == 41
    for label in range(7):
        assert abs(np.sum(labels[test] == label) - np.sum(labels == label) / 5) < 1
    assert not np.array_equal(train, split(labels, seed=6)[0])
    assert np.array_equal(train, split(labels, seed=5)[0])
    assert sorted(shuffle(9, 1).tolist()) == list(range(9))


# ---------------------------------------------------------------------------------------------------- npz files


def save_npz(tmp_path: Path, **changed: object) -> Path:
    rng = np.random.default_rng(0)
    good: dict[str, object] = {
        "x_train": rng.integers(0, 256, (6, 8, 9), dtype=np.uint8),
        "y_train": np.arange(6) % 3,
        "x_test": rng.integers(0, 256, (4, 8, 9), dtype=np.uint8),
        "y_test": np.arange(4) % 3,
    }
    kept = {key: np.asarray(value) for key, value in {**good, **changed}.items() if value is not None}
    path = tmp_path / "own.npz"
    np.savez(path, **kept)  # type: ignore[arg-type]
    return path


def images(*shape: int, dtype: type = np.uint8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    full = rng.integers(0, 256, (6, *shape), dtype=np.uint8)
    full = full if dtype is np.uint8 else (full / 255).astype(dtype)
    return {"x_train": full, "x_test": full[:4]}


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [
        ((8, 9), (1, 8, 9)),
        ((1, 8, 9), (1, 8, 9)),
        ((3, 8, 9), (3, 8, 9)),
        ((2, 8, 9), (2, 8, 9)),
        ((8, 9, 1), (1, 8, 9)),
        ((8, 9, 3), (3, 8, 9)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_npz_shapes_and_types(tmp_path: Path, shape: tuple[int, ...], image_shape: tuple[int, ...], dtype: type):
    given = images(*shape, dtype=dtype)
    data = load_data(save_npz(tmp_path, **given))
    assert data.image_shape == image_shape and data.classes == ("0", "1", "2")
    x = given["x_train"].astype(np.float64) / (255 if dtype is np.uint8 else 1)
    if len(shape) == 3 and image_shape != shape:
        x = x.transpose(0, 3, 1, 2)
    assert np.allclose(data.x_train.numpy(), x.reshape(6, *image_shape), atol=1e-7)


def test_npz_class_names(tmp_path: Path):
    data = read_npz(save_npz(tmp_path, classes=["cat", "dog", "eel", "fox"]))
    assert data.classes == ("cat", "dog", "eel", "fox")


def float_images(value: float) -> np.ndarray:
    x = np.zeros((6, 8, 9))
    x[2, 3, 3] = value
    return x


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"y_test": None}, "has no y_test (it has x_train, y_train, x_test)"),
        ({"x_train": float_images(np.nan)}, "x_train holds NaN or infinite values, first in image 2"),
        ({"x_train": float_images(1e300)}, "x_train holds NaN or infinite values"),
        ({"x_train": float_images(200)}, "Divide by 255"),
        ({"x_train": float_images(1).astype(np.int64)}, "x_train has the type int64"),
        ({"x_train": np.array([None] * 6)}, "Python objects"),
        ({"y_train": np.array([None] * 6)}, "Python objects"),
        ({"x_train": np.zeros(6)}, "x_train has the shape (6,)"),
        (images(3, 8, 3), "x_train has the shape (6, 3, 8, 3)"),
        (images(28, 28, 4), "x_train has the shape (6, 28, 28, 4)"),
        ({"x_test": np.zeros((4, 9, 8), dtype=np.uint8)}, "training images of shape (1, 8, 9), test images"),
        ({"x_test": np.zeros((5, 8, 9), dtype=np.uint8)}, "5 images in x_test but 4 labels in y_test"),
        ({"y_train": np.arange(6) % 3 + 1}, "y_train holds labels from 1 to 3 but no label 0"),
        ({"y_train": np.arange(6) % 3 - 1}, "y_train holds labels from -1 to 1 but no label 0"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 10**9])}, "but no label 3"),
        ({"y_test": np.array([0, 1, 2, 3])}, "y_test holds the label 3 at index 3"),
        ({"y_test": np.array([0, 1, 2, -1])}, "y_test holds the label -1 at index 3"),
        ({"y_train": np.arange(6) % 3 / 1.0}, "y_train has the type float64"),
        ({"y_train": np.arange(6).reshape(6, 1) % 3}, "and the shape (6, 1)"),
        ({"y_train": np.zeros(6, dtype=int), "y_test": np.zeros(4, dtype=int)}, "1 classes; needed: at least 2"),
        ({"y_train": np.zeros(0, dtype=int), "x_train": np.zeros((0, 8, 9))}, "y_train is empty"),
        ({"classes": ["cat", "dog"]}, "y_train holds the label 2"),
    ],
)
def test_bad_npz_is_refused(tmp_path: Path, changed: dict[str, object], words: str):
    path = save_npz(tmp_path, **changed)
    with pytest.raises(InputError) as error:
        read_npz(path)
    assert words in str(error.value)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_truncated_npz_is_refused(tmp_path: Path, keep: float):
    path = save_npz(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"own\.npz"):
        load_data(path)


def test_every_damaged_byte_of_an_npz_is_an_input_error_or_harmless(tmp_path: Path):
    path = save_npz(tmp_path)
    content = bytearray(path.read_bytes())
    for i in range(0, len(content), 29):
        damaged = content.copy()
        damaged[i] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_npz(path)
        except InputError:
            continue


def test_files_that_are_no_npz_are_refused(tmp_path: Path):
    path = tmp_path / "own.npz"
    path.write_text("x_train, y_train")
    with pytest.raises(InputError, match=r"not an \.npz file"):
        load_data(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(InputError, match="holds a single array"):
        load_data(path)
    with pytest.raises(InputError, match="there is no file"):
        read_npz(tmp_path / "none.npz")


# ---------------------------------------------------------------------------------------------------- folders


def save_images(folder: Path, names: dict[str, int], mode: str = "L", size: tuple[int, int] = (7, 5)) -> Path:
    """`names`: class -> number of images. Image i of class k is filled with the value 10 k + i."""
    for k, (name, n) in enumerate(sorted(names.items())):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            colour = 10 * k + i
            Image.new(mode, size, colour if mode == "L" else (colour, 0, 255)).save(folder / name / f"{i}.png")
    return folder


def test_folder_with_train_and_test(tmp_path: Path):
    save_images(tmp_path / "train", {"cat": 6, "dog": 5})
    save_images(tmp_path / "test", {"cat": 2, "dog": 3})
    data = load_data(str(tmp_path))
    assert data.classes == ("cat", "dog") and data.image_shape == (1, 5, 7)
    assert len(data.x_train) == 11 and torch.bincount(data.y_test).tolist() == [2, 3]
    values = (data.x_train[:, 0, 0, 0] * 255).round().long()
    assert sorted(values.tolist()) == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14]
    assert data.y_train.equal(values // 10)  # labels stay with their images
    assert data.y_train.tolist() != sorted(data.y_train.tolist())


def test_folder_without_parts_is_split(tmp_path: Path):
    save_images(tmp_path, {"cat": 10, "dog": 10, "eel": 5}, mode="RGB")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"?")
    (tmp_path / "README.md").write_text("my images")
    data = read_folder(tmp_path)
    assert data.image_shape == (3, 5, 7)
    assert torch.bincount(data.y_train).tolist() == [8, 8, 4] and torch.bincount(data.y_test).tolist() == [2, 2, 1]
    both = torch.cat([data.x_train, data.x_test])[:, 0, 0, 0] * 255
    assert sorted(both.round().long().tolist()) == [*range(10), *range(10, 20), *range(20, 25)]
    assert bool((data.x_train[:, 2] == 1).all() and (data.x_train[:, 1] == 0).all())
    assert read_folder(tmp_path).x_train.equal(data.x_train)


def test_palette_and_bilevel_images_are_what_they_show(tmp_path: Path):
    save_images(tmp_path, {"a": 2, "b": 2}, mode="RGB")
    Image.new("RGB", (7, 5), (250, 100, 0)).quantize(4).save(tmp_path / "a" / "0.png")
    data = read_folder(tmp_path)
    shown = {tuple(x[:, 0, 0].mul(255).round().int().tolist()) for x in (*data.x_train, *data.x_test)}
    assert (250, 100, 0) in shown


def _bigger(folder: Path) -> None:
    Image.new("L", (8, 5)).save(folder / "dog" / "1.png")


def _colour(folder: Path) -> None:
    Image.new("RGB", (7, 5)).save(folder / "dog" / "1.png")


def _transparent(folder: Path) -> None:
    Image.new("RGBA", (7, 5)).save(folder / "dog" / "1.png")


def _deep(folder: Path) -> None:
    Image.fromarray(np.zeros((5, 7), dtype=np.uint16)).save(folder / "dog" / "1.png")


def _truncated(folder: Path) -> None:
    path = folder / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:45])


def _text(folder: Path) -> None:
    (folder / "dog" / "1.png").write_text("a dog")


def _nested(folder: Path) -> None:
    (folder / "dog" / "more").mkdir()


def _empty_class(folder: Path) -> None:
    (folder / "eel").mkdir()


def _single(folder: Path) -> None:
    save_images(folder, {"eel": 1})


def _train_only(folder: Path) -> None:
    (folder / "train").mkdir()


def _two_parts(folder: Path) -> None:
    save_images(folder / "train", {"cat": 1, "dog": 1})
    save_images(folder / "test", {"cat": 1, "eel": 1})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_bigger, ("dog/1.png is 5 x 8 grey", "cat/0.png is 5 x 7 grey")),
        (_colour, ("dog/1.png is 5 x 7 colour", "is 5 x 7 grey")),
        (_transparent, ("dog/1.png is an image of the kind RGBA",)),
        (_deep, ("dog/1.png is an image of the kind I",)),
        (_truncated, ("dog/1.png is no image or a damaged one",)),
        (_text, ("dog/1.png is no image or a damaged one",)),
        (_nested, ("dog/more is no image",)),
        (_empty_class, ("eel is empty",)),
        (_single, ("eel holds one image; needed: at least 2",)),
        (_train_only, ("there is no folder", "/test;")),
        (_two_parts, ("only one of train and test has dog, eel",)),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, spoil, words: tuple[str, ...]):
    save_images(tmp_path, {"cat": 3, "dog": 3})
    spoil(tmp_path)
    with pytest.raises(InputError) as error:
        read_folder(tmp_path)
    for word in words:
        assert word in str(error.value)


def test_a_folder_without_classes_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="has 0 sub-folders"):
        load_data(tmp_path)


# ---------------------------------------------------------------------------------------------------- load_data


def test_data_sets_have_one_line_each():
    assert {"digits", "mnist", "fashion-mnist", "cifar10"} <= set(data_sets())
    assert all(text and "\n" not in text for text in data_sets().values())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion-mnits", "Did you mean 'fashion-mnist'"),
        ("digit", "Did you mean 'digits'"),
        ("own/images", "there is nothing at own/images"),
        ("own.npz", "there is nothing at own.npz"),
        ("x" * 5000, "unknown data set"),
    ],
)
def test_unknown_names_and_paths(folders: Path, name: str, words: str):
    with pytest.raises(InputError) as error:
        load_data(name)
    assert words in str(error.value)


def test_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_text("1,2,3")
    with pytest.raises(InputError, match=r"data\.csv is neither an \.npz file nor a folder"):
        load_data(path)


def test_a_path_that_is_also_a_name(folders: Path):
    save_images(folders / "here" / "digits", {"cat": 2, "dog": 2})
    assert len(load_data("digits").classes) == 10
    assert load_data("./digits").classes == load_data(Path("digits")).classes == ("cat", "dog")


# ---------------------------------------------------------------------------------------------------- loader


def toy_loader(n: int = 10, batch_size: int = 3, **options) -> DeviceLoader:
    return DeviceLoader(torch.arange(n * 12.0).view(n, 1, 3, 4), torch.arange(n), batch_size, **options)


def labels(loader: DeviceLoader, epoch: int, start: int = 0) -> list[list[int]]:
    return [yb.tolist() for _, (_, yb) in loader.epoch(epoch, start=start)]


def test_every_sample_once_per_epoch():
    loader = toy_loader(drop_last=False)
    for epoch in range(3):
        batches = labels(loader, epoch)
        assert [len(batch) for batch in batches] == [3, 3, 3, 1] and len(loader) == 4
        assert sorted(i for batch in batches for i in batch) == list(range(10))
    for _, (xb, yb) in loader.epoch(0):
        assert xb.equal(loader.x[yb])  # inputs stay with their labels


@pytest.mark.parametrize(("n", "batch_size", "batches"), [(10, 3, 3), (9, 3, 3), (2, 3, 1), (3, 3, 1)])
def test_the_last_partial_batch_is_dropped_unless_it_is_the_only_one(n: int, batch_size: int, batches: int):
    loader = toy_loader(n, batch_size)
    assert len(loader) == len(labels(loader, 0)) == batches


def test_the_order_depends_on_seed_and_epoch_only():
    loader = toy_loader(seed=4)
    assert labels(loader, 2) == labels(toy_loader(seed=4), 2)
    assert labels(loader, 2) != labels(loader, 1) != labels(toy_loader(seed=5), 1)
    assert labels(toy_loader(seed=1), 2) != labels(toy_loader(seed=2), 1)
    state = torch.get_rng_state()
    labels(toy_loader(seed=-3), 0)
    assert torch.get_rng_state().equal(state)


def test_an_epoch_is_continued_where_it_stopped():
    loader = toy_loader(20, 3, augment=ShiftFlip())
    whole = list(loader.epoch(7))
    rest = list(loader.epoch(7, start=2))
    assert [step for step, _ in rest] == [2, 3, 4, 5]
    for (_, (xa, ya)), (_, (xb, yb)) in zip(whole[2:], rest, strict=True):
        assert xa.equal(xb) and ya.equal(yb)
    assert list(loader.epoch(7, start=len(loader))) == []
    with pytest.raises(InputError, match="start at step 7; needed: a number from 0 to 6"):
        list(loader.epoch(7, start=7))


def test_loader_refuses_bad_input():
    with pytest.raises(InputError, match="3 inputs and 2 labels"):
        DeviceLoader(torch.zeros(3, 1), torch.zeros(2), 1)
    with pytest.raises(InputError, match="0 inputs and 0 labels"):
        DeviceLoader(torch.zeros(0, 1), torch.zeros(0), 1)
    with pytest.raises(InputError, match="batch_size 0"):
        toy_loader(batch_size=0)


# ---------------------------------------------------------------------------------------------------- augment


def test_shift_flip_against_a_plain_loop():
    """Each image must equal one of all shifted and mirrored versions, and all of these must occur."""
    x = torch.rand(1, 2, 6, 5, generator=generator(0)).expand(400, -1, -1, -1)
    out = ShiftFlip(shift=1)(x, generator(1))
    versions = []
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            black = torch.zeros(2, 8, 7)
            black[:, 1:7, 1:6] = x[0]
            moved = black[:, dy : dy + 6, dx : dx + 5]
            versions += [moved, moved.flip(2)]
    counts = [int((out == version).flatten(1).all(1).sum()) for version in versions]
    assert sum(counts) == 400 and min(counts) >= 8  # 22 expected


def test_shift_flip_options():
    x = torch.rand(50, 3, 6, 5, generator=generator(0))
    assert ShiftFlip(shift=0, flip=False)(x, generator(1)).equal(x)
    flipped = ShiftFlip(shift=0)(x, generator(1))
    same = (flipped == x).flatten(1).all(1)
    assert 10 < int(same.sum()) < 40 and flipped[~same].equal(x[~same].flip(3))
    assert ShiftFlip()(x, generator(1)).equal(ShiftFlip()(x, generator(1)))
    assert not ShiftFlip()(x, generator(1)).equal(ShiftFlip()(x, generator(2)))
    with pytest.raises(InputError, match="shift of -1 pixels"):
        ShiftFlip(shift=-1)
