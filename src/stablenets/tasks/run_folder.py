"""The folder of one run: where its files are, how they are written, and what the run ran on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError, message
from . import config as toml
from .options import ClassifyConfig, Config


@dataclass(frozen=True)
class Run:
    """A run folder. A file is there when its part of the job is done, and it is there as a whole."""

    path: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """The run at `path`.

        Raises:
            InputError: there is none.
        """
        run = cls(Path(path))
        if not run.file("config.toml").is_file():
            given = f"{path} is not a run folder (no config.toml)" if run.path.exists() else f"{path} does not exist"
            raise InputError(message(given, "a folder that `stablenets` has written"))
        return run

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Config, environment: dict[str, Any]) -> Run:
        """A new run folder with config.toml and environment.json.

        Raises:
            InputError: `path` exists (and is not an empty folder) or cannot be written.
        """
        run = cls(Path(path))
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            used = any(run.path.iterdir())
        except FileExistsError:
            used = True
        except OSError as error:
            given = f"the folder {path} cannot be made ({error.strerror})"
            raise InputError(message(given, "a writable place", "Choose another one by --out.")) from None
        if used:
            words, todo = " ".join(toml.words_of(type(config))), "Choose another one by --out."
            if run.has("config.toml"):
                todo += f" Or go on with the run in it: stablenets {words} --resume {shlex.quote(str(path))}"
            raise InputError(message(f"{path} exists", "a new folder", todo))
        run.write_json("environment.json", environment)
        run.write_text("config.toml", toml.text(config))  # last: with it, this is a run folder
        return run

    def file(self, name: str) -> Path:
        """The path of a file of the run."""
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether a file of the run is there."""
        return self.file(name).is_file()

    @property
    def done(self) -> bool:
        """Whether every part of the job is there."""
        judged = self.has("certificate.json") or self.has("uncertified.txt")
        return self.has("model.safetensors") and judged and self.has("attack.json")

    @property
    def config(self) -> ClassifyConfig:
        """What config.toml says of a classifier.

        Raises:
            InputError: it is the run of another task.
        """
        return toml.read(self.file("config.toml"))

    @property
    def environment(self) -> dict[str, Any]:
        """What environment.json says.

        Raises:
            InputError: it is missing or damaged.
        """
        try:
            found = json.loads(self.file("environment.json").read_text(encoding="utf-8"))
            return found | {"seconds": float(found["seconds"])}
        except (OSError, ValueError, LookupError, TypeError) as error:
            given = f"{self.file('environment.json')} is not readable ({error})"
            raise InputError(message(given, "the file as written", "Take it from a backup, or train again.")) from None

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Work in the folder: no other process does so meanwhile, and the time is added to environment.json.

        Raises:
            InputError: another process works in it.
        """
        from filelock import FileLock, Timeout  # here, to keep it out of the command line's start

        began = time.perf_counter()
        try:
            with FileLock(self.file(".lock"), timeout=0):
                try:
                    yield
                finally:
                    environment = self.environment
                    environment["seconds"] = round(environment["seconds"] + time.perf_counter() - began, 1)
                    self.write_json("environment.json", environment)
        except Timeout:
            given = f"another process works in {self.path}"
            raise InputError(message(given, "a run that nobody works on", "Wait for it or stop it.")) from None
        except OSError as error:
            given = f"{self.path} cannot be written ({error.strerror})"
            raise InputError(message(given, "a writable folder")) from None

    def remove(self, *names: str) -> None:
        """Delete files of the run, if they are there."""
        for name in names:
            self.file(name).unlink(missing_ok=True)

    def write_text(self, name: str, content: str) -> None:
        """Write a text file, whole or not at all."""
        self._write(name, content.encode())

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, whole or not at all."""
        self.write_text(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def write_arrays(self, name: str, arrays: dict[str, Any]) -> None:
        """Write a compressed .npz file, whole or not at all."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        self._write(name, buffer.getvalue())

    def _write(self, name: str, content: bytes) -> None:
        path, temporary = self.file(name), self.file(f".{name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            given = f"{path} cannot be written ({error.strerror})"
            raise InputError(message(given, "a writable folder with free space")) from None


def machine() -> dict[str, Any]:
    """Versions and hardware, for environment.json."""
    import torch

    from .. import __version__

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "stablenets": __version__,
        "numpy": np.__version__,
        "cpu": f"{_processor()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": platform.platform(terse=True),
        "git": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, with "+" if files were changed; None elsewhere."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        return None
    try:
        words = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
