"""A user's own images in a folder, one sub-folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, message
from .image_data import ImageData, scaled
from .split import shuffle, split


def read_folder(root: Path) -> ImageData:
    """The images in `root/train/CLASS/` and `root/test/CLASS/`, or in `root/CLASS/`, of which a fifth is for testing.

    The images are grey or colour (RGB), 8 bits per channel, all of one size. They are shuffled (the same way each
    time), so that the first n are of all classes; the random fifth is fixed, too (see `split`). Files and folders
    whose name starts with a dot are passed over.

    Raises:
        InputError: no classes, an empty class, different classes for training and testing, a file that is no image
            or a damaged one, or images of different size or kind (the first one that differs is named).
    """
    parts = [root / "train", root / "test"]
    present = [part.is_dir() for part in parts]
    if all(present):
        classes, others = (_classes(part) for part in parts)
        if set(classes) != set(others):
            odd = ", ".join(sorted(set(classes) ^ set(others)))
            raise InputError(message(f"{root}: only one of train and test has {odd}", "the same classes in both"))
        train, test = (_files(part, classes) for part in parts)
        x, y = _read(train + test)
        train_index, test_index = shuffle(len(train)), len(train) + shuffle(len(test))
    elif any(present):
        missing = parts[present.index(False)]
        todo = "Or put the folders of the classes directly into it; then a fifth is for testing."
        raise InputError(message(f"there is no folder {missing}", f"both train and test in {root}", todo))
    else:
        classes = _classes(root)
        files = _files(root, classes)
        for name, n in zip(classes, np.bincount([label for _, label in files]), strict=True):
            if n < 2:
                given = f"{root / name} holds one image"
                raise InputError(message(given, "at least 2, to train and to test with"))
        x, y = _read(files)
        train_index, test_index = split(y.numpy())
    return ImageData(str(root), tuple(classes), x[train_index], y[train_index], x[test_index], y[test_index])


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(message(f"{folder} cannot be read ({error})", "a readable folder")) from None


def _classes(folder: Path) -> list[str]:
    names = [path.name for path in _visible(folder) if path.is_dir()]
    if len(names) < 2:
        given = f"{folder} has {len(names)} sub-folders"
        raise InputError(message(given, "one sub-folder of images for each of at least 2 classes"))
    return names


def _files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Every image file with its label."""
    files = []
    for label, name in enumerate(classes):
        here = _visible(folder / name)
        if not here:
            raise InputError(message(f"{folder / name} is empty", "images of the class", "Add some or remove it."))
        files += [(path, label) for path in here]
    return files


def _read(files: list[tuple[Path, int]]) -> tuple[Tensor, Tensor]:
    images = []
    for path, _ in files:
        images.append(_image(path))
        if images[-1].shape != images[0].shape:
            given = f"{path} is {_size(images[-1])}, but {files[0][0]} is {_size(images[0])}"
            raise InputError(message(given, "images of one size, all grey or all colour", "Resize or convert it."))
    stack = np.stack(images)
    stack = stack[:, None] if stack.ndim == 3 else stack.transpose(0, 3, 1, 2)
    return scaled(stack), torch.tensor([label for _, label in files])


def _image(path: Path) -> np.ndarray:
    """Bytes (height, width) of a grey image or (height, width, 3) of a colour image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            # bilevel and palette images become what they show, exactly
            wanted = {"L": "L", "1": "L", "RGB": "RGB", "P": "RGB"}.get(image.mode)
            if wanted is not None and "transparency" not in image.info:
                return np.asarray(image.convert(wanted))
            mode = "transparent" if wanted else image.mode
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        given = f"{path} is no image or a damaged one ({error})"
        raise InputError(message(given, "an image file that Pillow reads", "Remove it.")) from None
    given = f"{path} is an image of the kind {mode}"
    raise InputError(message(given, "a grey or RGB image of 8 bits per channel", "Convert it."))


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]} x {image.shape[1]} {'grey' if image.ndim == 2 else 'colour'}"
