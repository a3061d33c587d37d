"""Blur kernels and masks from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.errors import InputError, message
from .pictures import SUFFIXES, read_picture


def read_kernel(text: str) -> np.ndarray:
    """A blur kernel (rows, columns) in float64 with sum 1.

    Args:
        text: the path of an .npy file, of an .npz file with one array, of one array in it (`FILE.npz:NAME`), or of a
            picture.

    Raises:
        InputError: no such file or array, no matrix, NaN or infinite entries, or a sum that is not positive.
    """
    name, _, chosen = text.partition(".npz:")
    path = Path(f"{name}.npz" if chosen else text)
    if not path.is_file():
        raise InputError(message(f"there is no file {path}", "a kernel: .npy, .npz or a picture", "Check the path."))
    if path.suffix.lower() in SUFFIXES:
        kernel = read_picture(path, 1)[0].astype(np.float64)
    else:
        kernel = _array(path, chosen)
    if kernel.ndim != 2 or not kernel.size or kernel.dtype.kind not in "fiub":
        raise InputError(
            message(f"{text} holds an array of shape {kernel.shape}", "a kernel (rows, columns) of numbers")
        )
    kernel = kernel.astype(np.float64)
    if not np.isfinite(kernel).all():
        raise InputError(message(f"the kernel {text} holds NaN or infinite values", "finite numbers"))
    size = float(np.abs(kernel).max())
    kernel /= size or 1.0  # sums of huge entries overflow
    total = float(kernel.sum())
    if not total > 0:
        raise InputError(message(f"the entries of the kernel {text} add up to {total * size:g}", "a positive sum"))
    return kernel / total


def _array(path: Path, name: str) -> np.ndarray:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            names = sorted(content.files)
            if not name and len(names) != 1:
                todo = f"Write, for example, --kernel {path}:{names[0]}" if names else ""
                raise InputError(message(f"{path} holds {len(names)} arrays", f"one of {', '.join(names)}", todo))
            if name and name not in names:
                raise InputError(message(f"{path} holds no array {name!r}", f"one of {', '.join(names)}"))
            return content[name or names[0]]
    except InputError:
        raise
    except Exception as error:  # numpy raises whatever the damaged archive makes its parts raise
        raise InputError(message(f"{path} is not a readable kernel ({error})", "an .npy or .npz file")) from None


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A mask (height, width): 0 where the picture of the mask is black, 1 elsewhere.

    Raises:
        InputError: it is not a picture, has another size, or masks every pixel.
    """
    mask = (read_picture(path, 1)[0] >= 128).astype(np.float64)
    if mask.shape != size:
        given = f"the mask {path} has {mask.shape[1]} x {mask.shape[0]} pixels"
        raise InputError(message(given, f"{size[1]} x {size[0]}, the size of the image"))
    if not mask.any():
        raise InputError(message(f"the mask {path} is black everywhere", "white where pixels are known"))
    return mask
