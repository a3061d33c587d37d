"""Data by name or path."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.errors import InputError, message, unknown_name
from .folder import read_folder
from .image_data import ImageData
from .npz import read_npz
from .sources import SOURCES


def data_sets() -> dict[str, str]:
    """The data sets known by name, with one line about each.

    >>> sorted(data_sets())
    ['cifar10', 'digits', 'fashion-mnist', 'mnist']
    """
    return {name: source.summary for name, source in SOURCES.items()}


def load_data(name_or_path: str | Path, *, cache: Path | None = None) -> ImageData:
    """The data set of a name (see `data_sets`), or one's own images from an `.npz` file or a folder.

    Args:
        name_or_path: a name; or a path, read by `read_npz` or `read_folder`. A `str` that is both is a name;
            write `./mnist` for a folder `mnist`.
        cache: where downloads are kept; by default the user's cache folder.

    Raises:
        InputError: unknown name (the nearest are named), nothing at that path, or the data cannot be used.

    >>> data = load_data("digits")
    >>> data.image_shape, len(data.x_train), len(data.x_test)
    ((1, 8, 8), 1437, 360)
    """
    if isinstance(name_or_path, str) and name_or_path in SOURCES:
        return SOURCES[name_or_path].load(cache)
    path = Path(os.path.expanduser(name_or_path))
    if os.path.isdir(path):
        return read_folder(path)
    if os.path.isfile(path) and path.suffix.lower() == ".npz":
        return read_npz(path)
    needed = "an .npz file or a folder of images by class"
    if os.path.exists(path):
        raise InputError(message(f"{path} is neither an .npz file nor a folder", needed))
    if path.suffix or len(path.parts) > 1 or os.sep in str(name_or_path) or isinstance(name_or_path, Path):
        raise InputError(message(f"there is nothing at {path}", needed, "Check the path."))
    raise unknown_name("data set", name_or_path, SOURCES)
