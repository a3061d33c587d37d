"""Images and labels for training and testing, checked once when they are put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, message


@dataclass(frozen=True, eq=False)
class ImageData:
    """A set of images in classes, split into a training and a test part; valid by construction.

    Args:
        name: what the data are called in reports and errors.
        classes: the name of each class, at least two.
        x_train: float32 (n, channels, height, width) in [0, 1].
        y_train: int64 (n,), indices into `classes`.
        x_test: as `x_train`, the same image shape.
        y_test: as `y_train`.

    Raises:
        InputError: any of this does not hold.

    >>> x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 0])
    >>> data = ImageData("noise", ("cat", "dog"), x, y, x[:2], y[:2])
    >>> data.image_shape, len(data.subset(train=3).x_train)
    ((1, 8, 8), 3)
    """

    name: str
    classes: tuple[str, ...]
    x_train: Tensor = field(repr=False)
    y_train: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)
    y_test: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        check(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        _, channels, height, width = self.x_train.shape
        return channels, height, width

    def subset(self, train: int | None = None, test: int | None = None) -> Self:
        """The first `train` training and the first `test` test images; `None` keeps all.

        Raises:
            InputError: fewer than one, or more than there are.
        """
        n, m = _first("training", train, self.y_train, self.name), _first("test", test, self.y_test, self.name)
        return type(self)(self.name, self.classes, self.x_train[:n], self.y_train[:n], self.x_test[:m], self.y_test[:m])


def check(data: ImageData) -> None:
    """Check that `data` is what `ImageData` promises.

    Raises:
        InputError: naming the data, the part, the first bad image or label, and what to do.
    """
    if len(data.classes) < 2:
        raise InputError(message(f"{data.name}: {len(data.classes)} classes", "at least 2"))
    for part, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        _check_images(f"{data.name}: x_{part}", x)
        _check_labels(f"{data.name}: y_{part}", y, len(data.classes))
        if len(x) != len(y):
            given = f"{data.name}: {len(x)} images in x_{part} but {len(y)} labels in y_{part}"
            raise InputError(message(given, "one label per image"))
    if data.x_train.shape[1:] != data.x_test.shape[1:]:
        train, test = tuple(data.x_train.shape[1:]), tuple(data.x_test.shape[1:])
        given = f"{data.name}: training images of shape {train}, test images of shape {test}"
        raise InputError(message(given, "one shape (channels, height, width)"))


def scaled(images: np.ndarray) -> Tensor:
    """Bytes (n, C, H, W) as float32 in [0, 1].

    >>> scaled(np.array([[[[0, 51, 255]]]], dtype=np.uint8)).tolist()
    [[[[0.0, 0.20000000298023224, 1.0]]]]
    """
    return torch.from_numpy(images.astype(np.float32, order="C")).div_(255)


def _check_images(what: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.ndim != 4 or x.numel() == 0:
        needed = "a float32 tensor (n, channels, height, width) with at least one image"
        raise InputError(message(f"{what} is {_describe(x)}", needed))
    low, high = (float(v) for v in torch.aminmax(x))  # NaN if any pixel is
    if low >= 0 and high <= 1:
        return
    if bool((bad := ~torch.isfinite(x)).any()):
        first = int(bad.flatten(1).any(1).nonzero()[0])
        given, todo = f"{what} holds NaN or infinite values, first in image {first}", "Repair or remove it."
        raise InputError(message(given, "finite values in [0, 1]", todo))
    todo = "Divide by 255." if low >= 0 and 1 < high <= 255 else "Scale the images."
    raise InputError(message(f"{what} has values from {low:g} to {high:g}", "values in [0, 1]", todo))


def _check_labels(what: str, y: Tensor, classes: int) -> None:
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.ndim != 1:
        raise InputError(message(f"{what} is {_describe(y)}", "an int64 tensor (n,)"))
    bad = ((y < 0) | (y >= classes)).nonzero()
    if len(bad):
        first = int(bad[0])
        given = f"{what} holds the label {int(y[first])} at index {first}"
        raise InputError(message(given, f"labels from 0 to {classes - 1}, one of {classes} classes"))


def _describe(x: object) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"


def _first(what: str, n: int | None, y: Tensor, name: str) -> int:
    n = len(y) if n is None else n
    if not 1 <= n <= len(y):
        raise InputError(message(f"{n} {what} images of {name}", f"a number from 1 to {len(y)}"))
    return n
