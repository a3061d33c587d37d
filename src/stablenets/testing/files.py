"""Check the components of a user's own file."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from ..core.component import Component, forget
from ..core.errors import InputError, message
from .component import check_component, extension_points
from .findings import Finding


def check_file(path: str | os.PathLike[str], *, seed: int = 0) -> dict[str, list[Finding]]:
    """Import a Python file and run `check_component` on every component that it registers.

    The file is imported under a private name, with its folder on the module path; afterwards its components are
    forgotten, so that it may be edited and checked again.

    Returns:
        the findings, by class name.

    Raises:
        InputError: when the file is missing, cannot be imported, or registers nothing.
    """
    path = Path(path).resolve()
    if not path.is_file() or path.suffix != ".py":
        raise InputError(message(f"{path} is not a Python file", "an existing file that ends in .py"))
    name = f"_stablenets_check_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    found: list[type[Component]] = []
    try:
        _import(path, name)
        found = _components(name)
        if not found:
            raise InputError(
                message(
                    f"{path.name} registers no component",
                    "a concrete class derived from Field, LinearMap, Integrator, Layer, Network...",
                    "A class with abstract methods left, or with ABC among its bases, is not registered.",
                )
            )
        return {cls.__name__: check_component(cls, seed=seed) for cls in found}
    finally:
        for cls in _components(name):
            forget(cls)
        sys.modules.pop(name, None)


def _components(name: str) -> list[type[Component]]:
    return [c for p in extension_points().values() for c in p.registry.values() if c.__module__ == name]


def _import(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(message(f"{path} cannot be imported", "a Python file"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a stranger's file may raise anything
        given = f"{path.name} cannot be imported ({type(error).__name__}: {error})"
        raise InputError(message(given, "a file that Python can import")) from error
    finally:
        sys.path.remove(str(path.parent))
    return module
