"""Models on disk: safetensors with the configuration in the header. Never pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..core.component import build, config
from ..core.errors import InputError, message

FORMAT = "stablenets/1"
EXTRA = "_extra_state"


def split_state(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The module's tensors, and its other state (frozen steps): exact JSON numbers that no dtype cast can touch."""
    state = module.state_dict()
    tensors = {k: v.detach().contiguous() for k, v in state.items() if isinstance(v, Tensor)}
    return tensors, {k: v for k, v in state.items() if not isinstance(v, Tensor)}


def canonical(value: Any) -> str:
    """The one JSON text of a value, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def weights_hash(module: nn.Module) -> str:
    """sha256 of architecture, frozen steps and weights: config JSON, extra JSON, then each tensor by name."""
    tensors, extra = split_state(module)
    digest = hashlib.sha256()
    digest.update(canonical(config(module)).encode())
    digest.update(canonical(extra).encode())
    for name in sorted(tensors):
        t = tensors[name].cpu().contiguous()
        digest.update(f"{name}|{str(t.dtype).removeprefix('torch.')}|{list(t.shape)}|".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a component (a network, a layer, an `nn.Sequential` of layers) to a safetensors file.

    The file is written beside its final name and renamed, so that a crash leaves the old one.

    Raises:
        InputError: it cannot be written, or not be rebuilt: of an `nn.Sequential`, only the order is stored.
    """
    path = Path(path)
    for part in module.modules():
        if isinstance(part, nn.Sequential) and list(part._modules) != [str(i) for i in range(len(part))]:
            raise InputError(
                message(f"nn.Sequential with the names {', '.join(part._modules)}", "layers without names")
            )
    tensors, extra = split_state(module)
    header = {"format": FORMAT, "config": canonical(config(module)), "extra": canonical(extra)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({k: v.cpu().clone() for k, v in tensors.items()}, temporary, metadata=header)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(message(f"cannot write {path} ({reason})", "an existing, writable folder")) from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> nn.Module:
    """Rebuild what `save` wrote, in evaluation mode with the frozen steps of the file.

    Raises:
        InputError: when the file is missing, truncated, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(message(f"{path} does not exist", "a model file written by stablenets.save"))
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputError(message(f"{path} is not a readable safetensors file ({error})", "a complete file")) from error
    if header.get("format") != FORMAT:
        raise InputError(message(f"{path} was not written by stablenets", f"a file of format {FORMAT}"))
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and replaced at once
            module = build(json.loads(header["config"]))
        # assign: the file's dtype counts, not that of a fresh module
        module.load_state_dict(tensors | json.loads(header["extra"]), assign=True)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(message(f"{path} does not fit its own configuration ({first})", "an intact file")) from error
    for part in module.modules():  # not .eval(): that would take new steps; certify checks the ones in the file
        part.training = False
    return module
