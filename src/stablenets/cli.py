"""The command line. Nothing heavy is imported before a command runs: `stablenets --help` must be quick."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn, get_args

import cyclopts.config
from cyclopts import App, ArgumentCollection, CoercionError, Parameter

from . import __version__
from .commands.classify import attack, certify, classify, export, verify
from .commands.deform import deform
from .commands.denoise import denoise, restore
from .commands.generate import generate
from .commands.refute import refute
from .commands.shared import FAILED, INTERRUPTED, USAGE
from .commands.show import check, demo, list_, report, study, table
from .commands.simulate import simulate
from .tasks.options import KINDS


def whole_numbers(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse 1.5 where a whole number is needed: it would be rounded without a word."""

    def whole(hint: Any) -> bool:
        return hint is int or any(map(whole, get_args(hint)))

    for argument in arguments:
        for token in argument.tokens:
            if "." in token.value and whole(argument.hint):
                raise CoercionError(argument=argument, token=token, target_type=int)


def from_toml(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take the options that the command line does not give from the file of --config, then from that of --recipe."""
    for option in ("--config", "--recipe"):
        for argument in arguments:
            if argument.name == option and argument.tokens and commands and commands[-1] in KINDS:
                from .tasks.config import read_table
                from .tasks.recipes import find

                given = argument.tokens[0].value
                path = find(given) if option == "--recipe" else Path(given)
                values = {
                    name.replace("_", "-"): value for name, value in read_table(path, KINDS[commands[-1]]).items()
                }
                cyclopts.config.Dict(values, source=str(path), use_commands_as_keys=False)(app, commands, arguments)


app = App(
    name="stablenets",
    help="Neural networks whose stability is proved: train, attack, certify, report.\n\nStart with: stablenets demo",
    version=__version__,
    config=(whole_numbers, from_toml),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(consume_multiple=True, negative_iterable=()),
)


COMMANDS = (
    *(demo, classify, attack, certify, deform, refute, verify, export),
    simulate,
    restore,
    generate,
    *(study, report, table, list_, check),
)
for command in COMMANDS:
    app.command(command, name=command.__name__.rstrip("_"))
app.command(denoise)


def main(words: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0; 1 if a check fails; 2 with one line on stderr for bad input; 130 on Ctrl-C."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda text, *_: print_error(f"warning: {text}")
            code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.exit(code if isinstance(code, int) else 0)
    except KeyboardInterrupt as interrupt:
        print_error(" ".join(map(str, ["interrupted.", *interrupt.args])))
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # nobody reads what is written
        sys.stdout = None  # type: ignore[assignment]
        sys.exit(FAILED)
    except cyclopts.CycloptsError as error:
        print_error(f"error: {' '.join(str(error).split())}")
        sys.exit(USAGE)
    except Exception as error:
        if not is_ours(error):
            raise
        print_error(f"error: {' '.join(str(error).split())}")
        sys.exit(USAGE)


def is_ours(error: BaseException) -> bool:
    """Whether an error is meant for the user. (If it is, its module has been imported.)"""
    from .core.errors import StableNetsError

    return isinstance(error, StableNetsError)


def print_error(line: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
