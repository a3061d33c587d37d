"""A user's own images and labels in an `.npz` file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, message
from .image_data import ImageData, scaled

KEYS = ("x_train", "y_train", "x_test", "y_test")
COLOURS = (1, 3)  # channels of a grey or a colour image


def read_npz(path: Path) -> ImageData:
    """The data in the arrays `x_train`, `y_train`, `x_test`, `y_test` of an `.npz` file.

    Images are uint8 (divided by 255) or floating-point in [0, 1], of shape (n, height, width),
    (n, channels, height, width), or (n, height, width, channels) with 1 or 3 channels. Labels are integers (n,).
    An optional array `classes` of strings names the classes; without it they are called 0, 1, ... and each must
    occur in `y_train`.

    Raises:
        InputError: the file is missing, damaged or lacks an array; or an array is not as described.

    >>> import tempfile
    >>> x, y = np.zeros((2, 8, 8), dtype=np.uint8), np.array([0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "own.npz"
    ...     np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    ...     read_npz(path).image_shape
    (1, 8, 8)
    """
    arrays = _arrays(path)
    y_train, y_test = (_labels(f"{path}: {key}", arrays[key]) for key in ("y_train", "y_test"))
    if "classes" in arrays:
        classes = tuple(str(name) for name in arrays["classes"].ravel())
    else:
        classes = _numbered(f"{path}: y_train", y_train)
    x_train, x_test = (_images(f"{path}: {key}", arrays[key]) for key in ("x_train", "x_test"))
    return ImageData(str(path), classes, x_train, y_train, x_test, y_test)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            given = f"{path} holds a single array"
            raise InputError(message(given, f"the arrays {', '.join(KEYS)}", "Write it with numpy.savez."))
        with archive:
            missing = [key for key in KEYS if key not in archive.files]
            if missing:
                given = f"{path} has no {', '.join(missing)} (it has {', '.join(archive.files) or 'no arrays'})"
                raise InputError(message(given, f"the arrays {', '.join(KEYS)}", "Write it with numpy.savez."))
            return {key: archive[key] for key in (*KEYS, "classes") if key in archive.files}
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(message(f"there is no file {path}", "an .npz file", "Check the path.")) from None
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):  # what numpy says of an object array, and of a file that it cannot read
            given, todo = f"{path} is not an .npz file or holds Python objects", "Save plain numbers."
        else:
            given, todo = f"{path} is damaged or no .npz file ({error})", "Write it again with numpy.savez."
        raise InputError(message(given, "an .npz file of numeric arrays", todo)) from None


def _images(what: str, x: np.ndarray) -> Tensor:
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        given = f"{what} has the type {x.dtype}"
        raise InputError(message(given, "uint8 from 0 to 255, or floating-point in [0, 1]", "Convert it."))
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4:
        x = _channels_first(what, x)
    else:
        needed = "(n, height, width), (n, channels, height, width) or (n, height, width, channels)"
        raise InputError(message(f"{what} has the shape {x.shape}", needed))
    if x.dtype == np.uint8:
        return scaled(x)
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and that is refused
        return torch.from_numpy(x.astype(np.float32, order="C"))


def _channels_first(what: str, x: np.ndarray) -> np.ndarray:
    _, first, height, last = x.shape
    if last in COLOURS and first not in COLOURS:
        return x.transpose(0, 3, 1, 2)
    if last not in COLOURS and (first in COLOURS or first < min(height, last)):
        return x
    needed = "a shape that tells channels from height and width: (n, channels, height, width) with few channels"
    raise InputError(message(f"{what} has the shape {x.shape}", needed, "Save grey images as (n, height, width)."))


def _labels(what: str, y: np.ndarray) -> Tensor:
    if y.ndim != 1 or y.dtype.kind not in "iu":
        given = f"{what} has the type {y.dtype} and the shape {y.shape}"
        raise InputError(message(given, "integers of shape (n,)", "Use y.ravel().astype(int)."))
    if len(y) == 0:
        raise InputError(message(f"{what} is empty", "at least one image with its label"))
    return torch.from_numpy(y.astype(np.int64))


def _numbered(what: str, y: Tensor) -> tuple[str, ...]:
    """The names 0, 1, ..., K - 1 of the labels in `y`, where each must occur: a typo must not make more classes."""
    found = torch.unique(y).tolist()
    missing = next((i for i, label in enumerate(found) if i != label), None)
    if missing is not None:
        given = f"{what} holds labels from {found[0]} to {found[-1]} but no label {missing}"
        todo = "Renumber them, or name all classes in an array `classes` of strings."
        raise InputError(message(given, "labels 0, 1, 2, ... that all occur", todo))
    return tuple(str(label) for label in found)
