"""Plants one error at a time in a copy of the package and runs the tests that should notice.

    python tests/mutants.py            all of them (over ten minutes)
    python tests/mutants.py averaged   those whose name contains a word

Prints who caught what; exits with 1 when an error survives. To add one, append a `Mutant` in a file of `planted/`: the
text to replace must occur exactly once in the file. Keep the selection of tests small: it says where the error *should*
be noticed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import multiprocessing
import os
import pkgutil
import shutil
import sys
import tempfile
import time
from pathlib import Path

import planted
from planted.mutant import Mutant

ROOT = Path(__file__).resolve().parent.parent
PRELOAD = ["torch", "numpy", "scipy.integrate", "scipy.linalg", "hypothesis", "pytest", "safetensors.torch"]


MUTANTS: list[Mutant] = [
    mutant
    for module in pkgutil.iter_modules(planted.__path__)
    for mutant in getattr(importlib.import_module(f"planted.{module.name}"), "MUTANTS", [])
]


class Recorder:
    """A pytest plugin: the first test that failed, and how many ran."""

    def __init__(self) -> None:
        self.failed, self.ran = "", 0

    def pytest_runtest_logreport(self, report) -> None:
        self.ran += report.when == "call"
        if report.failed and not self.failed:
            self.failed = report.nodeid.split("tests/")[-1]

    def pytest_collectreport(self, report) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid} (cannot be imported)"


def run(source: str, arguments: list[str], answer) -> None:
    """In a child process: run pytest on the package in `source`, and send (first failure, number of tests run)."""
    sys.dont_write_bytecode = True
    import pytest

    recorder = Recorder()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "addopts=",
            "-o",
            f"pythonpath={source} {ROOT / 'tests'}",
        ]
        pytest.main([*arguments, *options, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")], [recorder])
    where = sys.modules["stablenets"].__file__ or ""
    if not where.startswith(source):
        recorder.failed, recorder.ran = f"the tests ran on {where}", 0
    answer.send((recorder.failed, recorder.ran))


def test(context, source: Path, tests: tuple[str, ...]) -> tuple[str, int]:
    """Run a selection of tests on the package in `source`."""
    receive, send = context.Pipe(duplex=False)
    os.chdir(ROOT / "tests")
    child = context.Process(target=run, args=(str(source), list(tests), send))
    child.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return "the interpreter crashed", 0
    finally:
        child.join()


def main(word: str = "") -> int:
    """Plant every error whose name contains `word`; the number of survivors decides the exit code."""
    chosen = [m for m in MUTANTS if word in m.name]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)  # torch is imported once, not once per error
    survivors, start = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        for tests in sorted({m.tests for m in chosen}):
            failed, ran = test(context, source, tests)
            if failed or not ran:
                print(f"{' '.join(tests)}: {failed or 'selects no test'}, before any error is planted")
                return 1
        print(f"{'error':36} {'file':28} caught by")
        for mutant in chosen:
            path = source / "stablenets" / mutant.file
            original = path.read_text()
            if original.count(mutant.old) != 1:
                print(f"{mutant.name:36} {mutant.file:28} {original.count(mutant.old)} places hold {mutant.old!r}")
                survivors += 1
                continue
            path.write_text(original.replace(mutant.old, mutant.new))
            failed, _ = test(context, source, mutant.tests)
            path.write_text(original)
            survivors += not failed
            print(f"{mutant.name:36} {mutant.file:28} {failed or 'NOBODY'}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} errors were caught, in {time.monotonic() - start:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
