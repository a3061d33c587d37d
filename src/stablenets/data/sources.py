"""The data sets known by name: where their files are, what they must hash to, how they are read."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, message
from .download import DataFile, find
from .idx import read_idx
from .image_data import ImageData, scaled
from .split import split

FASHION_CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGIT_CLASSES = tuple("0123456789")


@dataclass(frozen=True)
class Source:
    """A named data set: one line about it, and how to load it given a cache folder (None: the default one)."""

    summary: str
    load: Callable[[Path | None], ImageData]


@dataclass(frozen=True)
class IdxSet:
    """A data set in the four files of MNIST, published together at `url`."""

    name: str
    url: str
    classes: tuple[str, ...]
    sha256: tuple[str, str, str, str]  # of the files in the order of `files`

    def files(self) -> list[DataFile]:
        """Training images and labels, test images and labels."""
        names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
        return [DataFile(self.name, n, h, self.url + n) for n, h in zip(names, self.sha256, strict=True)]

    def load(self, cache: Path | None = None) -> ImageData:
        """Find or download the files and read them."""
        x_train, y_train, x_test, y_test = (read_idx(find(file, cache)) for file in self.files())
        return ImageData(
            self.name,
            self.classes,
            scaled(x_train[:, None]),
            torch.from_numpy(y_train.astype(np.int64)),
            scaled(x_test[:, None]),
            torch.from_numpy(y_test.astype(np.int64)),
        )


MNIST = IdxSet(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    DIGIT_CLASSES,
    (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
FASHION_MNIST = IdxSet(
    "fashion-mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    FASHION_CLASSES,
    (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
CIFAR10_JPEG = (
    DataFile(
        "cifar10",
        "cifar10_train_jpeg.npz",
        "d6c939fb2ffa123a986b05777750c06939b837c3d93ba0cbe8ac68424920fb3d",
    ),
    DataFile(
        "cifar10",
        "cifar10_test_jpeg.npz",
        "c10281898a646c1f665f43a541bede6fe8b3a7f251c8ae599c4dae2826df5c43",
    ),
)


def digits(cache: Path | None = None) -> ImageData:
    """The 1,797 hand-written digits of 8 x 8 pixels in scikit-learn: 1,437 for training, 360 for testing.

    They need no network. The split is fixed, and the same share of each digit is in both parts (see `split`).

    Args:
        cache: not used; there is nothing to download.

    Raises:
        InputError: scikit-learn is not installed.

    Reference: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository (1998), test part.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        given = "the data set 'digits' comes with scikit-learn, which is not installed"
        raise InputError(message(given, "scikit-learn", "Run: pip install scikit-learn")) from None
    x, y = load_digits(return_X_y=True)
    images = torch.from_numpy((x / 16).astype(np.float32).reshape(-1, 1, 8, 8))  # 17 grey levels
    labels = torch.from_numpy(y.astype(np.int64))
    train, test = split(y)
    return ImageData("digits", DIGIT_CLASSES, images[train], labels[train], images[test], labels[test])


def cifar10(cache: Path | None = None) -> ImageData:
    """CIFAR-10 from a lossy JPEG copy; numbers from it do not compare exactly with published ones."""
    (x_train, y_train), (x_test, y_test) = (read_jpeg_npz(find(file, cache)) for file in CIFAR10_JPEG)
    return ImageData("CIFAR-10 (JPEG copy)", CIFAR_CLASSES, scaled(x_train), y_train, scaled(x_test), y_test)


def read_jpeg_npz(path: Path) -> tuple[np.ndarray, Tensor]:
    """Images uint8 (n, 3, height, width) and labels int64 (n,) from the arrays `jpeg`, `offsets`, `labels`.

    Image i is the JPEG stream in the bytes `offsets[i]` to `offsets[i + 1]` of `jpeg`.
    """
    from PIL import Image

    with np.load(path, allow_pickle=False) as archive:
        stream, ends = archive["jpeg"].tobytes(), archive["offsets"].tolist()
        labels = torch.from_numpy(archive["labels"].astype(np.int64))
    images = [np.asarray(Image.open(io.BytesIO(stream[a:b]))) for a, b in itertools.pairwise(ends)]
    return np.stack(images).transpose(0, 3, 1, 2), labels


SOURCES = {
    "digits": Source("1,797 hand-written digits, grey 8 x 8, 10 classes; comes with scikit-learn", digits),
    "mnist": Source("60,000 + 10,000 hand-written digits, grey 28 x 28, 10 classes; 12 MB download", MNIST.load),
    "fashion-mnist": Source(
        "60,000 + 10,000 pieces of clothing, grey 28 x 28, 10 classes; 31 MB download", FASHION_MNIST.load
    ),
    "cifar10": Source(
        "CIFAR-10 (JPEG copy): 50,000 + 10,000 objects, colour 32 x 32, 10 classes; lossy, no download", cifar10
    ),
}
