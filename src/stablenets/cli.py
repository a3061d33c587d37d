"""The command line. Nothing heavy is imported before a command runs: `stablenets --help` must be quick."""

from __future__ import annotations

import contextlib
import functools
import json
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args

import cyclopts.config
from cyclopts import App, ArgumentCollection, CoercionError, Parameter

from . import __version__
from .tasks.options import KINDS, ClassifyConfig, SimulateConfig

Show = Literal["bars", "json", "none"]
USAGE, FAILED, INTERRUPTED = 2, 1, 130  # exit codes


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


@contextlib.contextmanager
def resumable(command: str) -> Iterator[None]:
    """Say on Ctrl-C which command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Go on with: {command}") from None


@app.command
def demo(*, out: Path | None = None, quick: bool = False, progress: Show = "bars") -> None:
    """Train, attack and certify two networks on bundled handwritten digits, in about a minute.

    For example:

        stablenets demo

    Args:
        out: New folder. By default runs/demo, or runs/demo-2 ... if that exists.
        quick: Train for a few epochs only, to see that everything works.
        progress: How to show progress.
    """
    study("demo", out=out, quick=quick, progress=progress)


@app.command
def classify(
    *,
    recipe: str | None = None,
    config: Path | None = None,
    resume: Path | None = None,
    progress: Show = "bars",
    options: Annotated[ClassifyConfig | None, Parameter(name="*")] = None,
) -> None:
    """Train an image classifier, certify it, verify the certificate, attack it and write a report.

    For example:

        stablenets classify --data fashion-mnist
        stablenets classify --data mnist --network res-net --out runs/baseline
        stablenets classify --data photos.npz --margin 0.5 --shift 2 --flip
        stablenets classify --recipe certified-fashion --seed 1
        stablenets classify --config experiment.toml --seed 1
        stablenets classify --resume runs/baseline

    Args:
        recipe: Name of a recipe (stablenets list), which gives options that the command line does not.
        config: TOML file with any of the options below (names with underscores). It wins over a recipe, and the command
            line over both.
        resume: Run folder to go on with; its options are those of its config.toml.
        progress: How to show progress.
    """
    from .console import shown
    from .core.errors import InputError, message
    from .tasks import classify as task
    from .tasks.run_folder import Run

    if resume is not None and (options is not None or config is not None or recipe is not None):
        raise InputError(message("--resume beside other options", "--resume RUN alone", "A run keeps its options."))
    with shown(progress) as show:
        run = task.create(options or ClassifyConfig()) if resume is None else Run.open(resume)
        with resumable(f"stablenets classify --resume {shlex.quote(str(run.path))}"):
            task.resume(run, show)
            page = write_report([run.path], run.file("report.html"))
    conclude([run.path], page, progress)


@app.command
def simulate(
    *,
    config: Path | None = None,
    resume: Path | None = None,
    model: Path | None = None,
    start: tuple[float, ...] = (),
    until: float | None = None,
    points: int = 201,
    progress: Show = "bars",
    options: Annotated[SimulateConfig | None, Parameter(name="*")] = None,
) -> None:
    """Learn the dynamics behind trajectories, with a structure of your choice, and predict; or roll out a model.

    For example:

        stablenets simulate --data pendulum.csv --structure separable-hamiltonian
        stablenets simulate --data epidemic.npz --structure positive-mass --noisy
        stablenets simulate --resume runs/pendulum-free
        stablenets simulate --model runs/pendulum-free --start 1 0 --until 20 --out rollout.csv
        stablenets simulate --model runs/pendulum-free --data new.csv --out predicted.csv

    Data are states at growing times, regular or not. A .csv file has a header, with a column t (or time), perhaps a
    column trajectory that says which rows belong together, and a column for each entry of the state. An .npz file has
    arrays t and x: t (n,) and x (n, d), perhaps trajectory (n,); or t (n,) or (m, n) and x (m, n, d). Positions come
    before momenta, in the same order. Entries should be of similar size.

    Args:
        config: TOML file with any of the options below (names with underscores). The command line wins over it.
        resume: Run folder to go on with; its options are those of its config.toml.
        model: Run folder of a learned model to roll out: from the first state of each trajectory of --data, or from
            --start.
        start: Initial state, a number for each entry, at time 0.
        until: Last time.
        points: How many times from 0 to --until.
        progress: How to show progress.
    """
    from .console import say, shown
    from .core.errors import InputError, message
    from .report.simulate import build_simulation, draw_simulation, sentence
    from .tasks import simulate as task
    from .tasks.run_folder import Run

    if model is not None:
        with shown(progress) as show:
            done = task.roll_out(Run.open(model), options or SimulateConfig(), start, until, points, show)
        return None if progress == "json" else say(done)
    if start or until is not None:
        raise InputError(message("--start or --until without --model", "--model RUN, a run that has learned"))
    if resume is not None and (options is not None or config is not None):
        raise InputError(message("--resume beside other options", "--resume RUN alone", "A run keeps its options."))
    with shown(progress) as show:
        run = task.create(options or SimulateConfig()) if resume is None else Run.open(resume)
        with resumable(f"stablenets simulate --resume {shlex.quote(str(run.path))}"):
            task.resume(run, show)
    draw_simulation(run.path, run.file("predictions.svg"))
    page = build_simulation(run.path, run.file("report.html"))
    if progress != "json":
        result = task.results(run)
        say(sentence(result))
        for row in result["kept"]:
            drift = "infinite" if row["drift"] is None else f"{row['drift']:.1e}"
            say(f"  {row['name']}: drift {drift}{', proved to be rounding alone' if row['proved'] else ''}")
        say(f"Roll it out: stablenets simulate --model {shlex.quote(str(run.path))} --start ... --until ...")
        say(f"The report: {page}")


@app.command
def attack(
    run: Path,
    /,
    *,
    steps: int | None = None,
    radii: tuple[float, ...] | None = None,
    test_limit: int | None = None,
    progress: Show = "bars",
) -> None:
    """Attack a trained network again by l2-PGD at several radii.

    For example:

        stablenets attack runs/baseline --steps 500 --radii 0.25 0.5

    Args:
        run: Run folder.
        steps: Gradient steps at each radius. The default is the run's own, as below.
        radii: l2 radii, in units of the pixels in [0, 1].
        test_limit: Attack the first so many test images.
        progress: How to show progress.
    """
    from .console import shown
    from .tasks import classify as task
    from .tasks.run_folder import Run

    with shown(progress) as show:
        task.attack(Run.open(run), steps=steps, radii=radii, test_limit=test_limit, progress=show)
    conclude([run], write_report([run], run / "report.html"), progress)


@app.command
def certify(run: Path, /, *, dtype: Literal["float64", "float32"] = "float64") -> int:
    """Prove certified radii for a trained network: writes certificate.json and certified.json, and explains them.

    For example:

        stablenets certify runs/baseline
        stablenets certify runs/baseline --dtype float32

    Args:
        run: Run folder.
        dtype: Arithmetic in which the answers hold. Radii are a little smaller in float32.
    """
    from .console import say
    from .tasks import classify as task
    from .tasks.run_folder import Run

    certificate = task.certify(found := Run.open(run), dtype=dtype)
    if certificate is None:
        say(f"Nothing is proved: {found.file('uncertified.txt').read_text().strip()}")
        return FAILED
    say(certificate.explain())
    proved = json.loads(found.file("certified.json").read_text(encoding="utf-8"))
    say(f"On all {proved['n']:,} test images: clean accuracy {proved['clean_accuracy']:.2%}; certified accuracy")
    for radius, accuracy in zip(proved["radii"], proved["certified_accuracy"], strict=True):
        say(f"  {accuracy:7.2%} at radius {radius:.4g}")
    return 0


@app.command
def verify(path: Path, certificate: Path | None = None, /) -> int:
    """Check a certificate against a model with independent code. Exit code 0: it holds; 1: it does not.

    For example:

        stablenets verify runs/baseline
        stablenets verify model.safetensors certificate.json

    Args:
        path: Run folder, or a model file.
        certificate: Certificate of the model file.
    """
    from .certify.verify import verify as check_certificate
    from .console import say
    from .core.errors import InputError, message
    from .tasks import classify as task
    from .tasks.run_folder import Run

    if certificate is None:
        verdict = task.verify(Run.open(path))
    else:
        for file in (path, certificate):
            if not file.is_file():
                raise InputError(message(f"there is no file {file}", "a model file and its certificate"))
        verdict = check_certificate(path, certificate)
    say(f"{'OK' if verdict.ok else 'NOT PROVED'}: {verdict.reason}")
    return 0 if verdict.ok else FAILED


@app.command
def export(
    run: Path,
    /,
    *,
    format: Literal["onnx", "torch"] = "onnx",
    dtype: Literal["float64", "float32"] = "float64",
    out: Path | None = None,
) -> None:
    """Write a trained network as plain convolutions and matrix products for other programs, with its certificate.

    For example:

        stablenets export runs/baseline
        stablenets export runs/baseline --dtype float32 --out deploy/model.onnx
        stablenets export runs/baseline --format torch

    Args:
        run: Run folder.
        format: An ONNX file (needs the packages of stablenets[export]), or a program of torch.export.
        dtype: Arithmetic of the file. Certificates are for float64 unless they say otherwise.
        out: File to write. By default model.onnx or model.pt2 in the run folder.
    """
    import torch

    from . import export as exports
    from .certify import Certificate
    from .console import say
    from .layers import load
    from .tasks.run_folder import Run

    found = Run.open(run)
    net = load(found.file("model.safetensors"))
    proof = Certificate.load(found.file("certificate.json"), net) if found.has("certificate.json") else None
    write, name = {"onnx": (exports.to_onnx, "model.onnx"), "torch": (exports.to_torch, "model.pt2")}[format]
    number = getattr(torch, dtype)
    say(f"Written: {write(net, out or found.file(name), certificate=proof, dtype=number)}")
    say(exports.statement(net, number, proof)["statement"])


@app.command
def report(*runs: Path, out: Path | None = None) -> None:
    """Write one self-contained page about one run, or comparing several.

    For example:

        stablenets report runs/baseline
        stablenets report runs/non-expansive runs/baseline --out comparison.html

    Args:
        runs: Run folders, or folders of run folders.
        out: Page to write. By default report.html in the folder, or beside the folders if there are several.
    """
    from .certify.verify import verify as check_certificate
    from .console import say
    from .core.errors import InputError, message

    if out is not None and out.suffix != ".html":  # nothing but a page is ever overwritten
        raise InputError(message(f"--out {out}", "a file that ends in .html"))
    for folder in (f for run in runs for f in (run, *sorted(run.glob("*/"))) if (f / "certificate.json").is_file()):
        verdict = check_certificate(folder / "model.safetensors", folder / "certificate.json")
        if not verdict.ok:  # a page that says "proved" must be right
            todo = f"Run: stablenets certify {shlex.quote(str(folder))}"
            raise InputError(message(f"{folder}: NOT PROVED, {verdict.reason}", "a certificate that holds", todo))
    if out is None and runs:
        out = (runs[0] if len(runs) == 1 else runs[0].parent) / "report.html"
    say(f"The report: {write_report(list(runs), out or Path('report.html'))}")


@app.command
def study(
    name: str,
    /,
    *,
    data: str | None = None,
    recipe: tuple[str, ...] = (),
    out: Path | None = None,
    quick: bool = False,
    progress: Show = "bars",
) -> None:
    """Run an experiment of the sources; finished parts of an earlier run are kept.

    For example:

        stablenets study robust-fashion
        stablenets study robust-fashion --data mnist
        stablenets study robust-fashion --quick
        stablenets study cpl-cifar10 --recipe cpl-s certified-cifar10-gpu

    Args:
        name: Name of the study (stablenets list).
        data: Another data set than the study's own.
        recipe: Names of recipes to compare in place of the study's own networks, if the study compares networks.
        out: Folder of the study. By default runs/NAME.
        quick: A small version, to see that everything works.
        progress: How to show progress.
    """
    from . import studies
    from .console import say, shown
    from .core.errors import InputError, message

    chosen = studies.find(name)
    if recipe and not chosen.takes_recipes:
        raise InputError(message(f"the study {name!r} with --recipe", "no recipe", "It has networks of its own."))
    job: Any = chosen.run
    if recipe:
        job = functools.partial(job, recipes=recipe)
    with shown(progress) as show, resumable("the same command; finished parts are kept"):
        folder = job(data=data, out=out, quick=quick, progress=show)
    if (folder / "report.html").is_file():
        conclude([folder], folder / "report.html", progress)
    elif progress != "json":  # it trained no classifiers: tables and figures stand in place of the page
        say("".join(table.read_text(encoding="utf-8") for table in sorted(folder.glob("*.md"))) + f"In {folder}")


@app.command
def table(
    *,
    field: tuple[str, ...] = (),
    integrator: tuple[str, ...] = (),
    property: tuple[str, ...] = (),
    format: Literal["text", "markdown", "json"] = "text",
) -> None:
    """Say which step keeps which property of which field: exactly, up to a computed step size, to an order, or not.

    What is proved is read from the components; for the rest violations are searched, which takes a minute for all.

    For example:

        stablenets table --field Pendulum
        stablenets table --property energy symplectic --integrator RK4 StormerVerlet
        stablenets table --format markdown > docs/table.md

    Args:
        field: Names of fields or systems (stablenets list). By default all.
        integrator: Names of integrators.
        property: Names of properties, such as energy, mass or non-expansive.
        format: Lines of text, a page, or JSON.
    """
    from .core.component import by_name
    from .core.errors import unknown_name
    from .fields import Field
    from .integrators import Integrator
    from .testing import show_table
    from .testing.table import cells, properties

    fields = [by_name("field", Field.registry, name).__name__ for name in field]
    methods = [by_name("integrator", Integrator.registry, name).__name__ for name in integrator]
    known = properties() if property else []
    for name in property:
        if name not in known:
            raise unknown_name("property", name, known)
    write = {"text": show_table.text, "markdown": show_table.markdown, "json": show_table.as_json}[format]
    sys.stdout.write(write(list(cells(fields, methods, property))).rstrip() + "\n")


@app.command(name="list")
def list_() -> None:
    """List data sets, networks, losses, studies and all other components, with one line each.

    For example:

        stablenets list
    """
    from . import catalogue
    from .console import listing

    for title, rows in catalogue.sections():
        listing(title, rows)


@app.command
def check(file: Path, /) -> int:
    """Run the conformance suite on the components in your own Python file. Exit code 1 if a claim is contradicted.

    For example:

        stablenets check my_field.py

    Args:
        file: Python file; it is executed.
    """
    from .console import say
    from .testing import check_file

    found = check_file(file)
    for name, findings in found.items():
        say(name)
        for finding in findings:
            say(f"  {finding}")
    return 0 if all(finding.ok for findings in found.values() for finding in findings) else FAILED


def write_report(runs: list[Path], out: Path) -> Path:
    """Build the page and return its path."""
    from .report import build
    from .report.simulate import build_simulation

    if len(runs) == 1 and (runs[0] / "predictions.npz").is_file():
        return build_simulation(runs[0], out)
    return build(runs, out)


def conclude(paths: list[Path], page: Path, progress: Show) -> None:
    """Print the table of results, how to check what is proved, and where the report is; for people only."""
    if progress == "json":
        return
    from .console import results, say

    for certified in results(paths):
        say(f"Check what is proved, by independent code: stablenets verify {shlex.quote(str(certified))}")
    say(f"The report: {page}")


if __name__ == "__main__":
    main()
