"""A network as a folder, on disk or as a repository of the Hugging Face hub.

`config.json` is for readers and for the hub; the network is in `model.safetensors`, which also holds the frozen steps
and can be verified by itself. `certificate.json` is there if the network is certified.

The hub's own `PyTorchModelHubMixin` would lose the frozen steps: it stores tensors only, and takes a network that it
loads out of training mode, which takes new steps.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ..core.component import config
from ..core.errors import ClaimError, InputError, message
from ..layers.files import load, save, weights_hash

if TYPE_CHECKING:
    from ..certify import Certificate

MODEL, CONFIG, CERTIFICATE = "model.safetensors", "config.json", "certificate.json"


def write(net: nn.Module, folder: str | os.PathLike[str], certificate: Certificate | None) -> Path:
    """Write the files of `net` into `folder`, which is made if need be."""
    folder = Path(folder)
    if any(part.training for part in net.modules()):
        raise ClaimError(message("the network is in training mode", "frozen steps", "Call net.eval() first."))
    if certificate is not None and certificate.weights_sha256 != weights_hash(net):
        given = "the certificate is for other weights"
        raise InputError(message(given, "that of this network as it is now", "Certify it again."))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CERTIFICATE).unlink(missing_ok=True)  # that of other weights must not stay beside these
        save(net, folder / MODEL)
        (folder / CONFIG).write_text(json.dumps(config(net), indent=1) + "\n", encoding="utf-8")
        if certificate is not None:
            certificate.save(folder / CERTIFICATE)
    except OSError as error:
        raise InputError(message(f"{folder} cannot be written ({error.strerror})", "a writable folder")) from None
    return folder


def read(source: str | os.PathLike[str], revision: str | None) -> nn.Module:
    """The module in a folder, or in the hub's repository of that name."""
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(str(source), revision)
    if not (folder / MODEL).is_file():
        given = f"{source} has no {MODEL}"
        raise InputError(message(given, "a folder that save_pretrained has written", "Check the name."))
    net = load(folder / MODEL)
    if (folder / CONFIG).is_file():
        try:
            stated = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(message(f"{folder / CONFIG} is not readable ({error})", "the file as written")) from None
        if stated != json.loads(json.dumps(config(net))):
            given = f"{CONFIG} and {MODEL} of {source} are of different networks"
            raise InputError(message(given, "the files of one network, as written together"))
    return net


def _download(name: str, revision: str | None) -> Path:
    """The hub's copy of a repository, from its cache if there is no network (or HF_HUB_OFFLINE=1)."""
    from huggingface_hub import errors, snapshot_download  # here, since it takes a second to import

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[MODEL, CONFIG, CERTIFICATE]))
    except (errors.HFValidationError, errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        given = f"there is no folder {name}, and no repository of that name could be had from the hub ({reason:.120})"
        raise InputError(message(given, "a folder that save_pretrained has written", "Check the name.")) from None


def upload(net: nn.Module, name: str, certificate: Certificate | None, private: bool) -> str:
    """Write the files of `net` into a repository of the hub; returns its address."""
    from huggingface_hub import create_repo, upload_folder

    with tempfile.TemporaryDirectory() as folder:
        write(net, folder, certificate)
        address = create_repo(name, private=private, exist_ok=True)
        news = f"Upload {type(net).__name__}"
        upload_folder(repo_id=name, folder_path=folder, commit_message=news, delete_patterns=CERTIFICATE)
    return str(address)
