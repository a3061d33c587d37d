"""`load_run` reads a run folder into a `Run`: numpy arrays and plain dictionaries, no model code."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError, message
from .readers import field, read_json, read_jsonl, read_text, read_toml
from .results import Attack, Samples, read_attack, read_samples

RUN_FOLDER = "a run folder, as `stablenets classify` writes it"


@dataclass(frozen=True)
class Run:
    """One run folder. Pieces that were not computed (yet) are None."""

    path: Path
    name: str
    config: dict[str, Any]
    config_text: str
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    certificate: dict[str, Any] | None
    uncertified: str | None
    attack: Attack | None
    samples: Samples | None

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return [str(name) for name in self.environment["classes"]]

    @property
    def data(self) -> str:
        """The name of the data set."""
        return str(self.environment["data"])

    @property
    def network(self) -> str:
        """The name of the network, as on the command line."""
        return str(self.config.get("network", "network"))

    @property
    def certified(self) -> bool:
        """Whether the radii of the samples are proved."""
        return self.certificate is not None and self.samples is not None and self.samples.certified

    def command(self, verb: str) -> str:
        """The command that computes a missing piece: "stablenets attack runs/a"."""
        return f"stablenets {verb} {shlex.quote(str(self.path))}"


def find_runs(path: Path) -> list[Path]:
    """`path` itself if it is a run folder, else the run folders directly inside it, by name.

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    if (path / "config.toml").is_file():
        return [path]
    found = sorted(p.parent for p in path.glob("*/config.toml")) if path.is_dir() else []
    if not found:
        given = f"{path} is not a run folder" if path.exists() else f"{path} does not exist"
        raise InputError(message(given, f"{RUN_FOLDER} (config.toml, metrics.jsonl, environment.json, ...)"))
    return found


def load_run(path: Path) -> Run:
    """Read the run folder `path`.

    Returns:
        The Run; `certificate`, `attack` and `samples` are None where the run has none (yet).

    Raises:
        InputError: `path` is no run folder, or a file in it is missing, damaged or of another run.
    """
    path = Path(path)
    if not (path / "config.toml").is_file():
        raise InputError(message(f"{path} is not a run folder (no config.toml)", RUN_FOLDER))
    again = "Train the network again, or take the file from a backup."
    config, config_text = read_toml(path / "config.toml", "the options of the run", again)
    if (kind := config.get("kind", "classify")) != "classify":
        raise InputError(message(f"{path} is a run of `stablenets {kind}`", RUN_FOLDER))
    environment = read_json(path / "environment.json", "what the run ran on, as JSON", again)
    for name in ("classes", "data", "image_shape"):
        value = field(environment, name, path / "environment.json", again)
        if name != "data" and not (isinstance(value, list) and value):
            given = f"{name!r} in {path / 'environment.json'} is {value!r:.60}"
            raise InputError(message(given, "a list that is not empty", again))
    metrics = read_jsonl(path / "metrics.jsonl", "one JSON object per epoch", again)

    certificate, uncertified = None, None
    if (path / "certificate.json").exists():
        todo = f"Write it again: stablenets certify {shlex.quote(str(path))}"
        certificate = read_json(path / "certificate.json", "a certificate", todo)
        field(certificate, "lipschitz", path / "certificate.json", todo)
        layers = field(certificate, "layers", path / "certificate.json", todo)
        if not (isinstance(layers, list) and all(isinstance(layer, dict) for layer in layers)):
            given = f"'layers' in {path / 'certificate.json'} is {layers!r:.60}"
            raise InputError(message(given, "a list of layers", todo))
    elif (path / "uncertified.txt").exists():
        uncertified = read_text(path / "uncertified.txt", "one line", again).strip()

    attack, samples = None, None
    if (path / "attack.json").exists():
        todo = f"Attack again: stablenets attack {shlex.quote(str(path))}"
        attack = read_attack(path / "attack.json", todo)
        samples = read_samples(path / "samples.npz", attack.n, len(environment["classes"]), todo)
        if certificate is None and not np.isnan(samples.certified_radius).all():
            given = f"{path / 'samples.npz'} holds certified radii but certificate.json is missing"
            todo = f"Run `stablenets certify {shlex.quote(str(path))}`, then attack again."
            raise InputError(message(given, "the certificate that proves them", todo))
    name = path.resolve().name
    return Run(path, name, config, config_text, environment, metrics, certificate, uncertified, attack, samples)


def load_runs(paths: list[Path]) -> list[Run]:
    """Read several run folders (or folders of run folders) that are to be compared, with distinct names.

    Raises:
        InputError: see `load_run`; or none given, one given twice, or the runs are on different data.
    """
    folders = [folder for path in paths for folder in find_runs(path)]
    if not folders:
        raise InputError(message("no run was given", f"at least one path of {RUN_FOLDER}"))
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(message("a run folder was given twice", "different run folders", "Name each one once."))
    runs = [load_run(folder) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        for what in ("data", "classes", "image_shape"):
            if run.environment[what] != first.environment[what]:
                given = f"{first.path} and {run.path} differ in {what!r}"
                raise InputError(message(given, "runs on the same data", "Make one report for each data set."))
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else replace(run, name=f"{run.path.resolve().parent.name}/{run.name}")
        for run in runs
    ]
