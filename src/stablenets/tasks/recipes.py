"""Options that are known to work well together: TOML files of the package, chosen by name."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import unknown_name

FOLDER = Path(__file__).parents[1] / "recipes"


def names() -> list[str]:
    """The names of all recipes.

    >>> "cpl-s" in names()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find(name: str) -> Path:
    """The file of a recipe, to be read by `tasks.config.read`.

    Raises:
        InputError: there is none of that name; the nearest names are given.

    >>> find("certified-fashion").name
    'certified-fashion.toml'
    """
    if name not in names():
        raise unknown_name("recipe", name, names())
    return FOLDER / f"{name}.toml"


def summary(name: str) -> str:
    """One line about a recipe: the comment that its file begins with.

    >>> summary("certified-fashion")
    'Fashion-MNIST...'
    """
    return find(name).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
