"""What studies share that train the non-expansive network and others side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..core.errors import InputError, message
from ..tasks import classify
from ..tasks.options import ClassifyConfig
from ..tasks.run_folder import Run

NETWORKS = {"non-expansive": "non-expansive-net", "resnet": "res-net"}


def open_runs(folder: Path, config: ClassifyConfig, networks: Mapping[str, str] = NETWORKS) -> dict[str, Run]:
    """For each network its run in `folder`, see `open_run`."""
    return {name: open_run(folder / name, replace(config, network=network)) for name, network in networks.items()}


def open_run(path: Path, config: ClassifyConfig) -> Run:
    """The run with these options at `path`: the one that is there, finished or not, else a new one.

    Raises:
        InputError: a run that is there has other options.
    """
    wanted = replace(config, out=str(path))
    if not Run(path).has("config.toml"):
        return classify.create(wanted)
    found = Run(path).config
    if found != replace(classify.settled(wanted), precision=found.precision):  # that is the machine's choice
        todo = "Choose another folder by --out, or delete this one."
        raise InputError(message(f"{path} is a run with other options", "the options of this study", todo))
    return Run(path)


def free(folder: Path) -> Path:
    """`folder` if it does not exist yet, else the first of folder-2, folder-3, ... that does not."""
    number, candidate = 1, folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate
