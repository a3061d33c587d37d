"""Experiments of the sources. A study is one file: its docstring, and `run`; its name is the file's, with dashes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..core.errors import unknown_name
from ..tasks.progress import Progress


class Job(Protocol):
    """The function `run` of a study: does what is missing in the folder `out`, and returns the folder.

    Args:
        data: another data set than the study's own.
        out: folder of the study; None is runs/NAME.
        quick: a small version, to see that everything works.
        progress: is told how far it is.
    """

    def __call__(self, *, data: str | None, out: Path | None, quick: bool, progress: Progress) -> Path: ...


@dataclass(frozen=True)
class Study:
    """A study: its name, one line about it, and the function that runs it.

    `run` may have another argument `recipes`, names of recipes to compare in place of the study's own networks.
    """

    name: str
    summary: str
    run: Job

    @property
    def takes_recipes(self) -> bool:
        """Whether it does."""
        return "recipes" in inspect.signature(self.run).parameters


def names() -> list[str]:
    """The names of all studies; nothing is imported.

    >>> "robust-fashion" in names()
    True
    """
    return [m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]


def find(name: str) -> Study:
    """The study of that name.

    Raises:
        InputError: there is none; the nearest names are given.

    >>> find("demo").summary
    'Handwritten digits: ...'
    """
    if name not in names():
        raise unknown_name("study", name, names())
    module = importlib.import_module(f".{name.replace('-', '_')}", __name__)
    return Study(name, (module.__doc__ or "").strip().splitlines()[0], module.run)
