"""Pictures of any size: read from files, as bytes (channels, height, width)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..core.errors import InputError, message
from .cbsd68 import IDS
from .download import local_folders

SUFFIXES = (".png", ".jpg", ".jpeg")
LUMA = 0.298936021293775, 0.587043074451121, 0.114020904255103  # of BT.601, as in the BSD68 benchmark
GREY_MODES = ("1", "L", "LA", "I;16", "I")


def read_picture(path: Path, channels: int | None = None) -> np.ndarray:
    """A PNG or JPEG file as uint8 (channels, height, width), upright; transparency is dropped.

    Args:
        channels: 1 or 3; colours become grey by their luma, grey becomes three equal colours. None: as in the file.

    Raises:
        InputError: there is no such file, or it is not a picture, or a damaged one.
    """
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            if upright.mode in ("I;16", "I"):  # 16 bits per pixel
                values = np.asarray(upright, dtype=np.float64)
                if values.size and not 0 <= values.min() <= values.max() < 2**16:
                    raise ValueError(f"its values go from {values.min():g} to {values.max():g}")
                pixels = np.rint(values / 257).astype(np.uint8)[None]
            elif upright.mode == "F":
                raise ValueError("its values are fractions, of an unknown range")
            elif upright.mode in GREY_MODES:
                pixels = np.asarray(upright.convert("L"))[None]
            else:
                pixels = np.asarray(upright.convert("RGB")).transpose(2, 0, 1)
    except FileNotFoundError:
        raise InputError(message(f"there is no file {path}", "a PNG or JPEG picture", "Check the path.")) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            message(f"{path} is not a readable picture ({reason:.120})", "a PNG or JPEG picture")
        ) from None
    if channels == 1 and len(pixels) == 3:
        pixels = np.rint(np.tensordot(LUMA, pixels.astype(np.float64), 1)).clip(0, 255).astype(np.uint8)[None]
    if channels == 3 and len(pixels) == 1:
        pixels = np.repeat(pixels, 3, 0)
    return np.array(pixels, order="C")  # a copy that may be written to, as PyTorch asks


def as_tensor(pixels: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bytes (channels, height, width) as a batch of one picture with values in [0, 1]."""
    return torch.from_numpy(pixels)[None].to(dtype) / 255


def as_bytes(x: Tensor) -> np.ndarray:
    """A batch of one picture, values in [0, 1] (others are cut off), as bytes (channels, height, width)."""
    return x[0].detach().cpu().double().clamp(0, 1).mul(255).round().byte().numpy()


def picture_files(folder: Path) -> list[Path]:
    """The PNG and JPEG files in a folder and below, by name ("img2" before "img10").

    Raises:
        InputError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise InputError(message(f"there is no folder {folder}", "a folder of PNG or JPEG pictures", "Check the path."))
    found = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise InputError(message(f"{folder} holds no pictures", "PNG or JPEG files"))
    return sorted(found, key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", str(p))])


def read_pictures(files: Iterable[Path], channels: int, least: int = 1) -> list[np.ndarray]:
    """The pictures in the files.

    Raises:
        InputError: one is not a picture, or has a side of fewer than `least` pixels.
    """
    pictures = []
    for path in files:
        picture = read_picture(path, channels)
        if min(picture.shape[1:]) < least:
            given = f"{path} has {picture.shape[2]} x {picture.shape[1]} pixels"
            raise InputError(message(given, f"at least {least} x {least}"))
        pictures.append(picture)
    return pictures


def named_folder(name: str) -> Path | None:
    """The folder of a known collection of pictures on this machine ("bsds500", "bsd68", "set12"...), or None."""
    return next((folder / name for folder in local_folders() if (folder / name).is_dir()), None)


def training_files(data: str) -> tuple[list[Path], list[Path]]:
    """Files to train and to validate with.

    Args:
        data: "bsds500", of which train and test serve for training, and those of val that are not in the CBSD68
            benchmark for validation; or a folder, of which every tenth picture (at least one) serves for validation.

    Raises:
        InputError: nothing of that name, or fewer than two pictures.
    """
    if data == "bsds500":
        folder = named_folder(data)
        if folder is None:
            todo = "Put BSDS500 (train, val and test folders) into a folder bsds500 in $STABLENETS_DATA."
            raise InputError(message("the pictures of BSDS500 are not on this machine", "their folder", todo))
        kept = set(benchmark_files("cbsd68"))
        training = [*picture_files(folder / "train"), *picture_files(folder / "test")]
        return training, [p for p in picture_files(folder / "val") if p not in kept]
    files = picture_files(Path(data))
    if len(files) < 2:
        raise InputError(message(f"{data} holds one picture", "at least 2, to train and to validate with"))
    return [p for i, p in enumerate(files) if i % 10], files[::10]


def benchmark_files(name: str) -> list[Path]:
    """The files of a benchmark of denoising: "cbsd68" (colour), "bsd68", "set12", "kodak24", "set14" or "set5".

    Raises:
        InputError: they are not on this machine.
    """
    folder = named_folder("bsds500" if name == "cbsd68" else name)
    if folder is None:
        todo = f"Put its pictures into a folder {name} in $STABLENETS_DATA."
        raise InputError(message(f"the benchmark {name} is not on this machine", "its folder", todo))
    if name != "cbsd68":
        return picture_files(folder)
    return [folder / "val" / f"{i}.jpg" for i in IDS]


def random_crops(
    pictures: Sequence[np.ndarray],
    side: int,
    count: int,
    random: np.random.Generator,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Square crops (count, channels, side, side) in [0, 1] at random places of random pictures, turned and mirrored."""
    crops = []
    for _ in range(count):
        picture = pictures[int(random.integers(len(pictures)))]
        row, column = (random.integers(n - side + 1) for n in picture.shape[1:])
        crop = picture[:, row : row + side, column : column + side]
        turns, mirrored = int(random.integers(4)), int(random.integers(2))
        crop = np.rot90(crop, turns, (1, 2))
        crops.append(crop[:, :, ::-1] if mirrored else crop)
    return torch.from_numpy(np.stack(crops)).to(dtype) / 255
