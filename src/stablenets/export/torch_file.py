"""Programs of `torch.export` on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from .place import placed
from .program import program
from .statement import statement

if TYPE_CHECKING:
    from ..certify import Certificate

STATEMENT = "stablenets.json"


def to_torch(
    net: nn.Module,
    path: str | os.PathLike[str],
    *,
    certificate: Certificate | None = None,
    dtype: torch.dtype = torch.float64,
    input_shape: tuple[int, ...] | None = None,
) -> Path:
    """Write a network as a `torch.export` program of plain convolutions and matrix products, for any batch size.

    What the file says of itself is in its extra file "stablenets.json", as in an ONNX file's metadata; the certificate
    is in it, and beside it as certificate.json. To read it: `torch.export.load(path, extra_files={"stablenets.json":
    ""})`. That unpickles: do it with files that you trust only.

    Args:
        net, certificate, dtype, input_shape: as for `to_onnx`.
        path: file to write, ending in .pt2.

    Returns:
        `path`.

    Raises:
        ClaimError: in training mode or under autocast.
        InputError: the certificate is for other weights, or the file cannot be written.
    """
    entries = {STATEMENT: json.dumps(statement(net, dtype, certificate), indent=1)}
    graph = program(net, dtype=dtype, input_shape=input_shape)
    with placed(path, ".pt2", certificate) as file:
        torch.export.save(graph, file, extra_files=entries)
    return Path(path)
