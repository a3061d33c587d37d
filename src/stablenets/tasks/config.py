"""Options as TOML: read with the type of every value checked, written so that reading gives the same."""

from __future__ import annotations

import json
import math
import shlex
import tomllib
import types
import typing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import InputError, message, unknown_name
from .options import KINDS, ClassifyConfig, Config, DenoiseConfig, GenerateConfig, RestoreConfig, SimulateConfig

C = TypeVar("C", ClassifyConfig, SimulateConfig, GenerateConfig, DenoiseConfig, RestoreConfig)
COUNTS = (
    *("epochs", "batch_size", "train_limit", "test_limit", "evaluate_every", "attack_steps", "threads", "flow_steps"),
    *("patch", "hidden", "dense_width", "width", "horizon"),
    *("points", "depth", "solver_steps", "probes", "samples"),
    *("filters", "kernel_size", "stride", "crop", "iterations"),
)
AT_LEAST_ZERO = ("weight_decay", "dense_blocks", "shift", "margin", "gamma", "beta", "steps", "refine", "likelihood")
POSITIVE = ("low", "peak", "temperature", "radius", "time", "rate", "step")


def kind_of(options: type) -> str:
    """The name of the task whose options these are."""
    return next(kind for kind, known in KINDS.items() if known is options)


def words_of(options: type) -> list[str]:
    """The words of the command whose options these are, without "stablenets"."""
    return [kind_of(options), *(["train"] if options is DenoiseConfig else [])]


def read_table(path: Path, options: type = ClassifyConfig) -> dict[str, Any]:
    """The options that a TOML file sets, by the names and in the types of the fields of `options`.

    Raises:
        InputError: no readable TOML file, of another kind, an unknown option (the nearest are named) or a value of a
            wrong type.
    """
    expected = kind_of(options)
    needed = 'a TOML file of options, like `data = "mnist"`'
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(message(f"there is no file {path}", needed, "Check the path.")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(message(f"{path} cannot be read ({error})", needed)) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(message(f"{path} is not valid TOML ({error})", needed)) from None
    kind = table.pop("kind", expected)
    if kind != expected:
        raise InputError(message(f"{path} has kind = {kind!r}", f"kind = {expected!r}"))
    hints = typing.get_type_hints(options)
    for name, value in table.items():
        if name not in hints:
            raise InputError(f"{path}: {unknown_name('option', name, hints)}")
        table[name] = _typed(f"{path}: {name}", value, hints[name])
    return table


def read(path: Path, options: type[C] = ClassifyConfig) -> C:
    """The options in a TOML file; those that it does not set have their defaults.

    Raises:
        InputError: see `read_table` and `check`.
    """
    return check(options(**read_table(path, options)), f"{path}: ")


def text(config: Config) -> str:
    r"""The options as TOML; what is None is left out.

    >>> text(ClassifyConfig(data="digits", time=1.0)).splitlines()[:2]
    ['kind = "classify"', 'data = "digits"']
    """
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if value is not None]
    return "\n".join([f'kind = "{kind_of(type(config))}"', *lines]) + "\n"


def command(config: Config) -> str:
    """The command line that has these options.

    >>> command(ClassifyConfig(data="digits", channels=(16, 64), blocks=(1, 1), flip=True))
    'stablenets classify --data digits --channels 16 64 --blocks 1 1 --flip'
    """
    words = ["stablenets", *words_of(type(config))]
    for field in fields(config):
        value, option = getattr(config, field.name), f"--{field.name.replace('_', '-')}"
        if value == field.default and field.name != "data":
            continue
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        else:
            words += [option, *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def check(config: C, where: str = "") -> C:
    """`config`, if every value is of the right type and in its range. Names are looked up where they are used.

    Raises:
        InputError: naming the option.
    """
    hints = typing.get_type_hints(type(config))
    for name, hint in hints.items():
        config = replace(config, **{name: _typed(f"{where}{name}", getattr(config, name), hint)})
    for names, good, needed in (
        (COUNTS, lambda v: v >= 1, "at least 1"),
        (AT_LEAST_ZERO, lambda v: 0 <= v < math.inf, "at least 0"),
        (POSITIVE, lambda v: 0 < v < math.inf, "a positive number"),
        (("channels",), lambda v: min(v, default=0) >= 1, "numbers of at least 1, one for each stage"),
        (("blocks",), lambda v: min(v, default=-1) >= 0, "numbers of at least 0, one for each stage"),
        (("mean",), lambda v: len(v) > 0 and all(map(math.isfinite, v)), "numbers, one for each channel"),
        (("equilibrium",), lambda v: all(map(math.isfinite, v)), "finite numbers"),
        (("test",), lambda v: 0 <= v < 1, "a share from 0 to less than 1"),
        (("radii",), lambda v: min(v, default=0) > 0 and max(v) < math.inf, "positive numbers"),
        (("seed",), lambda v: 0 <= v < 2**63, "a number from 0 to 2^63 - 1"),
    ):
        for name in hints.keys() & set(names):
            value = getattr(config, name)
            if value is not None and not good(value):
                raise InputError(message(f"{where}{name} is {_shown(value)}", needed))
    if not isinstance(config, ClassifyConfig):
        return config
    if config.channels is not None and config.blocks is not None and len(config.channels) != len(config.blocks):
        given = f"{where}channels is {_shown(config.channels)} and blocks is {_shown(config.blocks)}"
        raise InputError(message(given, "one number for each stage in both"))
    if config.schedule == "one-cycle" and config.low > config.peak:
        given = f"{where}low is {config.low:g} and peak is {config.peak:g}"
        raise InputError(message(given, "low <= peak", "These are the learning rates of the cycle."))
    return config


def _typed(what: str, value: Any, hint: Any) -> Any:
    """`value` as a value of the type `hint`; an integer will do for a float, a list for a tuple."""
    if isinstance(hint, types.UnionType):  # X | None
        if value is None:
            return None
        hint = next(a for a in typing.get_args(hint) if a is not types.NoneType)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_typed(what, v, arguments[0]) for v in value)
    if origin is typing.Literal and value in arguments:
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if origin is None and type(value) is hint:
        return value
    names = {int: "a whole number", float: "a number", str: "a string in quotes", bool: "true or false"}
    if origin is tuple:
        needed = f"a list, each entry {names[arguments[0]]}"
    elif origin is typing.Literal:
        needed = f"one of {', '.join(arguments)}"
    else:
        needed = names[hint]
    raise InputError(message(f"{what} is {_shown(value)}", needed))


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) or "empty" if isinstance(value, (list, tuple)) else repr(value)


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
