"""What there is to choose from, with one line about each: for `stablenets list`."""

from __future__ import annotations

import inspect

from . import attack, fields, integrators, inverse, layers, linear, networks, studies, systems, train
from .core.component import kebab
from .data import data_sets
from .tasks import recipes
from .testing import extension_points

# importing them fills the registries
PACKAGES = (linear, fields, systems, integrators, layers, networks, train, attack, inverse)
CHOSEN_BY_NAME = {"Network": "--network", "Loss": "--loss", "Attack": "--attack"}


def sections() -> list[tuple[str, list[tuple[str, str]]]]:
    """Titles, each with (name, one line) of what is under it."""
    found = [
        ("Data sets (--data)", sorted(data_sets().items())),
        ("Recipes (stablenets classify --recipe NAME)", [(name, recipes.summary(name)) for name in recipes.names()]),
        ("Studies (stablenets study NAME)", [(name, studies.find(name).summary) for name in studies.names()]),
    ]
    for point, base in sorted(extension_points().items()):
        option = CHOSEN_BY_NAME.get(point)
        named = networks.made_for_images() if base is networks.Network else base.registry if option else {}
        rows = [(kebab(n) if n in named else n, first_line(cls)) for n, cls in sorted(base.registry.items())]
        found.append((f"{point}{f' ({option})' if option else ''}: {first_line(base)}", rows))
    return found


def first_line(cls: type) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(cls) or "").split("\n", 1)[0]
