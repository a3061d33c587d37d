"""Neural networks whose stability is proved: vector fields and structure-preserving integrators."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from . import attack as attack
    from . import data as data
    from . import export as export
    from . import fields as fields
    from . import gradients as gradients
    from . import inverse as inverse
    from . import integrators as integrators
    from . import layers as layers
    from . import linear as linear
    from . import networks as networks
    from . import solvers as solvers
    from . import systems as systems
    from . import train as train
    from .certify import Certificate as Certificate
    from .certify import certify as certify
    from .certify.verify import verify as verify
    from .core.claims import Claims as Claims
    from .core.properties import Averaged as Averaged
    from .core.properties import Lipschitz as Lipschitz
    from .layers import Chain as Chain
    from .layers import Flow as Flow
    from .layers import claims as claims
    from .layers import load as load
    from .layers import save as save
    from .solvers import integrate as integrate
    from .solvers import steps as steps

_FOLDERS = (
    "attack",
    "data",
    "export",
    "fields",
    "gradients",
    "inverse",
    "integrators",
    "layers",
    "linear",
    "networks",
    "solvers",
    "systems",
    "train",
)
_HOMES = {
    "Certificate": "certify",
    "certify": "certify",
    "verify": "certify.verify",
    "Claims": "core.claims",
    "Averaged": "core.properties",
    "Lipschitz": "core.properties",
    "Chain": "layers",
    "Flow": "layers",
    "claims": "layers",
    "load": "layers",
    "save": "layers",
    "integrate": "solvers",
    "steps": "solvers",
}
__all__ = ["__version__", *_FOLDERS, *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


class _Package(ModuleType):
    """Imports a name when it is first used (PEP 562), so that `stablenets --help` need not wait for torch.

    `stablenets.certify` is both a folder and the function in it. The function it is: importing the folder, which
    would put the module there, puts the function.
    """

    def __getattr__(self, name: str) -> Any:
        if name in _FOLDERS:
            return importlib.import_module(f".{name}", self.__name__)
        if name in _HOMES:
            value = getattr(importlib.import_module(f".{_HOMES[name]}", self.__name__), name)
            setattr(self, name, value)
            return value
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        folder_of_its_function = _HOMES.get(name) == name and isinstance(value, ModuleType)
        super().__setattr__(name, getattr(value, name) if folder_of_its_function else value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
