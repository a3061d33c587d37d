"""How an exported file gets its name, with its certificate beside it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError, message

if TYPE_CHECKING:
    from ..certify import Certificate


@contextlib.contextmanager
def placed(path: str | os.PathLike[str], suffix: str, certificate: Certificate | None) -> Iterator[Path]:
    """Where to write a file that is to become `path`: it does if nothing is raised, and certificate.json stands beside.

    Raises:
        InputError: `path` does not end in `suffix` or cannot be written, or another certificate.json is beside it.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise InputError(message(f"{path}", f"a file that ends in {suffix}"))
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
            yield Path(folder, path.name)
            if certificate is not None:
                _beside(path.with_name("certificate.json"), certificate)
            for file in Path(folder).iterdir():  # large ONNX models come with a second file of data
                os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise InputError(message(f"{path} cannot be written ({error.strerror})", "a writable folder")) from None


def _beside(path: Path, certificate: Certificate) -> None:
    if not path.exists():
        certificate.save(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = (found["weights_sha256"], found["dtype"]) == (certificate.weights_sha256, certificate.dtype)
    except (ValueError, TypeError, KeyError):
        same = False
    if not same:
        given = f"{path} is another certificate"
        raise InputError(message(given, "a folder of its own for each network", "Export into another folder."))
