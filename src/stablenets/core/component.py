"""Components: registered by name, rebuilt from their constructor arguments, and supplied with test cases."""

from __future__ import annotations

import abc
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

from torch import nn

from .errors import InputError, message, unknown_name

_CLASSES: dict[str, type[nn.Module]] = {}


class Component(nn.Module, abc.ABC):
    """Base of every extension point (`LinearMap`, `Field`, `Integrator`, `Network`, `Attack`, `Loss`).

    A direct subclass declared with ``root=True`` is an extension point with a registry of its own; every concrete
    class below it registers itself under its class name. A constructor argument is stored in an attribute of the
    same name: that is all `config` and `build` need to save and rebuild a component. A class is abstract or final:
    deriving from a registered class is a TypeError.
    """

    registry: ClassVar[dict[str, type]] = {}
    optional: ClassVar[tuple[str, ...]] = ()  # arguments that `config` leaves out where they are None

    def __init_subclass__(cls, *, root: bool = False) -> None:
        super().__init_subclass__()
        for base in cls.__mro__[1:]:
            if _CLASSES.get(base.__name__) is base:  # a subclass would inherit claims about methods it may override
                raise TypeError(f"{cls.__name__} derives from {base.__name__}, which is final; derive from its bases")
        if root:
            cls.registry = {}
            return
        if inspect.isabstract(cls) or abc.ABC in cls.__bases__:
            return
        known = _CLASSES.get(cls.__name__)  # one name space for all kinds: `build` has nothing but the name
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{cls.__name__!r} is already registered by {known.__module__}.{known.__qualname__}")
        cls.registry[cls.__name__] = cls
        _CLASSES[cls.__name__] = cls

    @classmethod
    @abc.abstractmethod
    def examples(cls) -> Iterator[Self]:
        """Small instances with trained-looking weights, on which the conformance suite attacks every claim."""


_EXTERNAL: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {}


def register_external(cls: type[nn.Module], arguments: tuple[str, ...]) -> None:
    """Let `config`/`build` handle a module that is not ours (e.g. `nn.Flatten`), given its constructor's arguments."""
    _EXTERNAL[f"torch.{cls.__name__}"] = (cls, arguments)


def forget(cls: type[Component]) -> None:
    """Take a class out of the registries again (`stablenets check` leaves no trace of the file that it checked)."""
    for registry in (cls.registry, _CLASSES):
        if registry.get(cls.__name__) is cls:
            del registry[cls.__name__]


def kebab(name: str) -> str:
    """The command line's spelling of a class name.

    >>> kebab("NonExpansiveNet"), kebab("RK4"), kebab("PGD")
    ('non-expansive-net', 'rk4', 'pgd')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def by_name(kind: str, registry: dict[str, type], name: str) -> type:
    """The registered class called `name` (as on the command line, or the class name itself)."""
    for key, cls in registry.items():
        if name in (key, kebab(key)):
            return cls
    raise unknown_name(kind, name, map(kebab, registry))


def arguments(cls: type) -> list[str]:
    """Names of the constructor's arguments, `*layers` of a container included."""
    if cls.__init__ is nn.Module.__init__:
        return []
    return [p for p in inspect.signature(cls.__init__).parameters if p != "self"]


def _argument(module: nn.Module, name: str) -> Any:
    """The argument that a module was made with. PyTorch's `bias=True` is stored as a parameter."""
    value = getattr(module, name)
    return True if name == "bias" and isinstance(value, nn.Parameter) else value


def config(value: Any) -> Any:
    """JSON-able description of a component: its type and the arguments that rebuild it.

    Raises:
        InputError: for a module that is not one of ours and not a known PyTorch layer.
    """
    if isinstance(value, nn.Sequential) and type(value).__name__ not in _CLASSES:
        return {"type": "Sequential", "layers": [config(v) for v in value]}
    if isinstance(value, (list, tuple, nn.ModuleList)):
        return [config(v) for v in value]
    if isinstance(value, nn.Module):
        name = type(value).__name__
        if _CLASSES.get(name) is type(value):
            names = arguments(type(value))
        elif _EXTERNAL.get(f"torch.{name}", (None,))[0] is type(value):
            name = f"torch.{name}"
            names = _EXTERNAL[name][1]
        else:
            raise InputError(
                message(
                    f"{name} cannot be saved",
                    f"a registered component or one of {', '.join(sorted(_EXTERNAL))}",
                    "Derive it from Field, LinearMap, Network... and store every argument of its constructor in an "
                    "attribute of the same name.",
                )
            )
        given = {a: _argument(value, a) for a in names}
        left_out = type(value).optional if isinstance(value, Component) else ()
        return {"type": name} | {a: config(v) for a, v in given.items() if v is not None or a not in left_out}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(message(f"{value!r} cannot be written to a config", "numbers, strings, lists or components"))


PACKAGES = ("linear", "fields", "systems", "integrators", "layers", "networks", "train", "attack", "inverse")


def _find(name: str) -> Callable[..., nn.Module] | None:
    """The class registered under `name`, importing the packages that register classes if need be."""
    if name not in _CLASSES and name not in _EXTERNAL:
        for package in PACKAGES:
            importlib.import_module(f"{__name__.split('.')[0]}.{package}")
    return _CLASSES.get(name) or _EXTERNAL.get(name, (None,))[0]


def build(description: Any) -> Any:
    """The inverse of `config`. Nothing but registered names can be constructed.

    >>> from stablenets.integrators import Euler
    >>> type(build(config(Euler()))).__name__
    'Euler'
    """
    if isinstance(description, list):
        return tuple(build(v) for v in description)
    if not isinstance(description, dict):
        return description
    name = description.get("type")
    rest = {k: build(v) for k, v in description.items() if k != "type"}
    if name == "Sequential":
        return nn.Sequential(*rest["layers"])
    cls = _find(str(name))
    if cls is None:
        raise unknown_name("component", str(name), [*_CLASSES, *_EXTERNAL])
    parameters = inspect.signature(cls).parameters if cls.__init__ is not nn.Module.__init__ else {}
    unknown = sorted(set(rest) - set(parameters))
    if unknown:
        raise InputError(message(f"{name} has no argument {unknown[0]!r}", f"one of {', '.join(parameters)}"))
    positional = [rest.pop(n) for n, p in parameters.items() if p.kind is p.POSITIONAL_ONLY and n in rest]
    many = next((n for n, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    return cls(*positional, *(rest.pop(many, ()) if many else ()), **rest)
