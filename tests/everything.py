"""Every module of the package, imported: so that every component is registered, wherever it lives."""

from __future__ import annotations

import importlib
import pkgutil

import stablenets

for _module in pkgutil.walk_packages(stablenets.__path__, "stablenets."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)
