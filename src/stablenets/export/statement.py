"""What an exported file says about itself: which network it is, what is proved of it, and in which arithmetic."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from torch import nn

from .._version import __version__
from ..core.errors import InputError, message
from ..layers.files import weights_hash

if TYPE_CHECKING:
    from ..certify import Certificate

FORMAT = "stablenets/export/1"


def statement(net: nn.Module, dtype: torch.dtype, certificate: Certificate | None) -> dict[str, str]:
    """Entries for the metadata of a file that evaluates `net` in `dtype`. `certificate` is the whole text, as JSON.

    Raises:
        InputError: the certificate is for other weights.
    """
    name, weights = str(dtype).removeprefix("torch."), weights_hash(net)
    entries = {
        "format": FORMAT,
        "stablenets": __version__,
        "network": type(net).__name__,
        "weights_sha256": weights,
        "dtype": name,
        "certified": "no",
        "statement": "Nothing is proved about this network.",
    }
    if certificate is None:
        return entries
    if certificate.weights_sha256 != weights:
        given = "the certificate is for other weights"
        raise InputError(message(given, "that of this network as it is now", "Certify it again."))
    exact = all(
        torch.equal(v, v.to(dtype).to(v.dtype)) for v in net.state_dict().values() if isinstance(v, torch.Tensor)
    )
    if not exact:
        entries["statement"] = f"The weights were rounded to {name}: the certificate does NOT cover this file."
    elif certificate.dtype != name:
        entries["statement"] = (
            f"This file evaluates in {name}. The certificate is for evaluation in {certificate.dtype} and does NOT "
            f"cover the answers of this file: its rounding errors in {name} are not bounded."
        )
    else:
        entries["certified"] = "yes"
        entries["statement"] = (
            f"The certificate covers this file, evaluated in {name} with every sum of products computed as such, in "
            "any order: no Winograd or FFT convolutions, no TF32, no lower precision."
        )
    return entries | {"certificate": json.dumps(certificate.to_json(), indent=1, allow_nan=False) + "\n"}
