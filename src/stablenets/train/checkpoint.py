"""The whole state of a training in one safetensors file that is either complete or not there. Never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.errors import InputError, message
from ..layers.files import split_state
from .progress import Progress

FORMAT = "stablenets/checkpoint/1"


def save(
    path: str | os.PathLike[str], net: nn.Module, optimizer: Optimizer, progress: Progress, settings: Mapping[str, Any]
) -> None:
    """Write network, optimiser and progress to `path`, so that `load` continues bit by bit.

    The file holds the tensors `model.NAME` (parameters and buffers) and `optim.INDEX.NAME` (the optimiser's state of
    each parameter); its header holds the frozen steps of the flows, `progress` and `settings` as exact JSON. It is
    written under a temporary name, flushed to the disk and renamed: whenever the process is killed, `path` is either
    the old or the new state.

    Args:
        settings: what the training depends on, as JSON-able values; `load` refuses another.

    Raises:
        InputError: `path` cannot be written.
    """
    path = Path(path)
    tensors = state_tensors(net, optimizer)
    extra = split_state(net)[1]
    header = {"extra": extra, "progress": progress.json(), "settings": settings, "tensors": sorted(tensors)}
    temporary = path.with_name(f".{path.name}.tmp")  # one name, so that killed processes leave no pile of files
    try:
        copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
        save_file(copies, temporary, metadata={"format": FORMAT, "state": json.dumps(header)})
        _flush(temporary)
        os.replace(temporary, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise InputError(message(f"cannot write {path} ({error})", "a writable folder with free space")) from error


def load(path: str | os.PathLike[str], net: nn.Module, optimizer: Optimizer, settings: Mapping[str, Any]) -> Progress:
    """Restore, in place, what `save` wrote; parameters keep their memory format.

    Raises:
        InputError: `path` is missing, truncated, not a checkpoint, incomplete, or of a training with other settings.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(message(f"{path} does not exist", "a checkpoint written by stablenets"))
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        needed = "a complete checkpoint"
        raise InputError(message(f"{path} is not a readable safetensors file ({error})", needed)) from error
    if metadata.get("format") != FORMAT:
        raise InputError(message(f"{path} is not a checkpoint of stablenets", f"a file of format {FORMAT}"))
    header = json.loads(metadata["state"])
    _compare(path, header["settings"], json.loads(json.dumps(settings)))
    if missing := sorted(set(header["tensors"]) - set(tensors)):
        raise InputError(message(f"{path} lacks {missing[0]}", f"all its {len(header['tensors'])} tensors"))
    try:
        net.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")} | header["extra"])
        _restore_optimizer(optimizer, {k: v for k, v in tensors.items() if k.startswith("optim.")})
    except (RuntimeError, ValueError, LookupError) as error:
        first = str(error).splitlines()[-1].strip()
        needed = "the network it was saved from"
        raise InputError(message(f"{path} does not fit this network ({first})", needed)) from error
    return Progress.from_json(header["progress"])


def state_tensors(net: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """All tensors of a training: `model.NAME` and `optim.INDEX.NAME`.

    >>> net = nn.Linear(1, 1)
    >>> list(state_tensors(net, torch.optim.Adam(net.parameters())))
    ['model.weight', 'model.bias']
    """
    states = enumerate(optimizer.state.get(p, {}) for p in _parameters(optimizer))
    own = {f"optim.{i}.{k}": v for i, state in states for k, v in state.items()}
    return {f"model.{k}": v for k, v in split_state(net)[0].items()} | own


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = _parameters(optimizer)
    optimizer.state.clear()
    for key, value in tensors.items():
        _, index, name = key.split(".", 2)
        p = parameters[int(index)]
        if value.dim() > 0:  # fused kernels need the strides of the parameter, which the file does not have
            value = torch.empty_like(p, memory_format=torch.preserve_format).copy_(value)
        optimizer.state[p][name] = value.to(p.device, copy=True)


def _compare(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    differing = [k for k in {**there, **here} if there.get(k) != here.get(k)]
    if differing:
        what = "; ".join(f"{k} is {_short(there.get(k))} there and {_short(here.get(k))} here" for k in differing[:3])
        todo = "Resume with the same settings, or train anew in another folder."
        raise InputError(message(f"{path} belongs to another training ({what})", "equal settings", todo))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 50 else f"{text[:47]}..."


def _flush(path: Path) -> None:
    """Have the operating system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
