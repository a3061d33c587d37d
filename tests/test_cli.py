"""The command line: its start, its messages and exit codes, and a few whole jobs."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

import stablenets as sn
from small_runs import TINY, WORDS, copied, finished
from stablenets import catalogue, cli
from stablenets.console import Bars
from stablenets.layers import load, weights_hash
from stablenets.tasks.run_folder import Run

COMMANDS = (
    "demo",
    "classify",
    "attack",
    "certify",
    "deform",
    "refute",
    "verify",
    "export",
    "report",
    "study",
    "list",
    "check",
)
MINE = '''
from stablenets.core.claims import Claims
from stablenets.core.properties import Lipschitz
from stablenets.layers import Layer


class Twice(Layer):
    """Doubles its input."""

    def forward(self, x):
        return 2 * x

    def claims(self):
        return Claims([Lipschitz({bound})])

    @classmethod
    def examples(cls):
        yield cls()
'''


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str, str]]:
    """Run a command line in this process: exit code, stdout, stderr."""

    def run(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(line.split())
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def python(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run Python in another process."""
    source = str(Path(sn.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, **options)  # type: ignore[call-overload]


# --- the start ----------------------------------------------------------------------------------------------------


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = python("-m", "stablenets", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0 and "stablenets demo" in done.stdout
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) <= 0.3, seconds


def test_a_model_file_is_verified_with_its_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(SystemExit) as done:
        cli.main(["verify", str(tmp_path / "model.safetensors")])
    assert done.value.code == 2 and "without a certificate" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, stablenets.cli as c\ntry: c.main(['classify', '--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'numpy', 'matplotlib', 'jinja2', 'accelerate') if m in sys.modules])"
    assert python("-c", code).stdout.splitlines()[-1] == "[]"


def test_the_package_adds_little_to_torch() -> None:
    code = "import time, torch; a = time.process_time(); import stablenets; print(time.process_time() - a)"
    assert float(python("-c", code).stdout) <= 0.3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, call: Callable) -> None:
    code, out, _ = call(f"{command} --help")
    assert code == 0 and f"    stablenets {command}" in out


def test_the_version(call: Callable) -> None:
    assert call("--version") == (0, f"{sn.__version__}\n", "")


# --- the names of the package -------------------------------------------------------------------------------------


def test_the_names_of_the_package_are_imported_when_used() -> None:
    code = """
import stablenets as sn, sys
assert "torch" not in sys.modules
import stablenets.certify
from stablenets.certify import Certificate
import stablenets.certify.verify
from stablenets import certify
assert certify is sn.certify and sn.certify.__name__ == "certify" and not hasattr(sn.certify, "__path__")
assert callable(sn.verify) and sn.verify("x", "y").ok is False
assert sn.Certificate is Certificate
flow = sn.Flow(sn.fields.ConvexGradient(sn.linear.Dense(4, 8)), sn.integrators.Euler(), time=1.0)
assert sn.claims(flow).get(sn.Lipschitz).bound == 1.0 and sn.claims(flow).get(sn.Averaged)
assert sn.attack.PGD(0.5) and sn.networks.NonExpansiveNet and sn.save and sn.load and sn.Chain and sn.Claims
assert {"Flow", "certify", "attack", "__version__"} <= set(dir(sn))
try: sn.nothing
except AttributeError as error: print(error)
"""
    done = python("-c", code)
    assert done.stderr == "" and done.stdout.strip() == "module 'stablenets' has no attribute 'nothing'"


def test_the_example_of_the_readme(tmp_path: Path) -> None:
    net = sn.networks.NonExpansiveNet((1, 8, 8), 10, patch=2, blocks=(1,), hidden=4, dense_width=8).eval()
    certificate = sn.certify(net)
    certificate.save(tmp_path / "certificate.json")
    sn.save(net, tmp_path / "model.safetensors")
    assert sn.verify(tmp_path / "model.safetensors", tmp_path / "certificate.json").ok
    assert weights_hash(sn.load(tmp_path / "model.safetensors")) == certificate.weights_sha256


# --- bad input: one line, exit code 2 -----------------------------------------------------------------------------


def is_one_line(result: tuple[int, str, str], *parts: str) -> bool:
    code, out, err = result
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, result
    return all(part in err for part in parts) or pytest.fail(err)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("clasify", 'Did you mean "classify"?'),
        ("classify --epohcs 3", "Did you mean --epochs?"),
        ("classify --epochs three", "--epochs"),
        ("classify --precision float8", "--precision"),
        ("classify --epochs -3", "epochs is -3; needed: at least 1"),
        ("classify --data mnits", "Did you mean 'mnist'?"),
        ("classify --data nowhere/own.npz", "there is nothing at nowhere/own.npz"),
        ("classify --data digits --network res-nte", "Did you mean 'res-net'?"),
        ("classify --data digits --loss hinge", "unknown loss 'hinge'"),
        ("classify --data digits --patch 3", "divisible by 3"),
        ("classify --config none.toml", "there is no file none.toml"),
        ("classify --resume none", "none does not exist"),
        ("classify --resume none --epochs 3", "--resume beside other options"),
        ("classify --data digits --out /dev/null/run", "/dev/null/run cannot be made"),
        ("classify --data digits --out /dev/null", "/dev/null"),
        ("attack none", "none does not exist"),
        ("certify none", "none does not exist"),
        ("verify none", "none does not exist"),
        ("verify none.safetensors none.json", "there is no file none.safetensors"),
        ("report", "no run was given"),
        ("report none", "none does not exist"),
        ("study robust", "Did you mean 'robust-fashion'?"),
        ("check none.py", "not a Python file"),
        ("attack", "RUN"),
    ],
)
def test_bad_words(line: str, complaint: str, call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_one_line(call(line), complaint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epohcs = 3", "Did you mean 'epochs'?"),
        ('epochs = "3"', "epochs is '3'; needed: a whole number"),
        ("epochs 3", "is not valid TOML"),
        ("epochs = -1", "epochs is -1; needed: at least 1"),
        ('data = "mnits"', "Did you mean 'mnist'?"),
    ],
)
def test_bad_toml(text: str, complaint: str, call: Callable, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(text + "\n")
    assert is_one_line(call(f"classify --config {tmp_path}/c.toml --out {tmp_path}/run"), complaint)


def arrays() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    return {"x_train": x, "y_train": np.array([0, 1, 0, 1]), "x_test": x, "y_test": np.array([0, 1, 1, 0])}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"y_test": np.array([0, 1, 2, 0])}, "label 2"),
        ({"x_train": np.full((4, 8, 8), np.nan)}, "NaN"),
        ({"x_test": np.zeros((4, 9, 9), np.float32)}, "one shape"),
        ({"y_train": np.array([0, 1, 0])}, "one label per image"),
        ({"x_train": np.full((4, 8, 8), 255.0)}, "Divide by 255"),
    ],
)
def test_bad_data(change: dict[str, np.ndarray], complaint: str, call: Callable, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", **arrays() | change)
    assert is_one_line(call(f"classify --data {tmp_path}/own.npz --out {tmp_path}/run"), complaint)
    assert not (tmp_path / "run").exists()


def test_truncated_data_and_a_wrong_checksum(call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "own.npz", **arrays())  # type: ignore[arg-type]
    whole = (tmp_path / "own.npz").read_bytes()
    (tmp_path / "own.npz").write_bytes(whole[: len(whole) // 2])
    assert is_one_line(call(f"classify --data {tmp_path}/own.npz --out {tmp_path}/run"), "own.npz is damaged")
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"not these")
    monkeypatch.setenv("STABLENETS_DATA", str(tmp_path))
    assert is_one_line(call(f"classify --data mnist --out {tmp_path}/run"), "train-images-idx3-ubyte.gz has sha256")


def test_files_of_a_run_that_are_not_ours_or_not_its_own(call: Callable, tmp_path: Path) -> None:
    run = copied(tmp_path)
    certificate, model = run.file("certificate.json"), run.file("model.safetensors")
    honest = certificate.read_text()
    certificate.write_text(json.dumps(json.loads(honest) | {"lipschitz": 0.5}))
    assert is_one_line(call(f"attack {run.path}"), "was edited")
    code, out, _ = call(f"verify {run.path}")
    assert code == 1 and out.startswith("NOT PROVED: ")
    certificate.write_text(json.dumps(json.loads(honest) | {"weights_sha256": "0" * 64}))
    assert is_one_line(call(f"attack {run.path}"), "other weights")
    code, out, _ = call(f"verify {model} {certificate}")
    assert code == 1 and "other weights" in out
    for content, complaint in ((b"\x02\0\0\0\0\0\0\0{}", "not written by stablenets"), (b"PK", "not a readable")):
        model.write_bytes(content)
        assert is_one_line(call(f"certify {run.path}"), complaint)
        assert is_one_line(call(f"attack {run.path}"), complaint)
    model.unlink()
    assert is_one_line(call(f"certify {run.path}"), "does not exist")
    checkpoint = run.file("checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    assert is_one_line(call(f"classify --resume {run.path}"), "checkpoint.safetensors is not a readable")


def test_an_existing_run_folder(call: Callable) -> None:
    run = finished()
    assert is_one_line(call(f"classify {WORDS} --out {run.path}"), f"{run.path} exists", "classify --resume")


def test_an_error_of_ours_shows_no_traceback_and_a_bug_does(call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(catalogue, "sections", bug)
    with pytest.raises(ZeroDivisionError):
        cli.main(["list"])


# --- whole jobs ---------------------------------------------------------------------------------------------------


def test_classify_from_toml_and_command_line(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('data = "digits"\nepochs = 7\nseed = 5\nradii = [0.9]\nflip = true\n')
    code, out, err = call(f"classify --config {tmp_path}/c.toml {WORDS} --no-flip --out {tmp_path}/run --progress json")
    assert (code, err) == (0, "")
    config = Run(tmp_path / "run").config
    assert (config.epochs, config.seed, config.radii, config.flip) == (1, 5, TINY.radii, False)
    lines = [json.loads(line) for line in out.splitlines()]
    assert ["training", 11, 11] in [line[:3] for line in lines] and ["attacking", 1, 1] in [line[:3] for line in lines]
    assert (tmp_path / "run" / "report.html").is_file()
    code, out, err = call(f"classify --resume {tmp_path}/run")  # nothing is left to do
    assert code == 0 and "0 (clean)" in out and "stablenets verify" in out and "report.html" in out and err == ""


def test_interrupted_and_resumed(tmp_path: Path, call: Callable) -> None:
    many = WORDS.replace("--epochs 1", "--epochs 10 --evaluate-every 10")
    words = [sys.executable, "-m", "stablenets", "classify", *many.split(), "--progress", "json"]
    environment = os.environ | {"PYTHONPATH": str(Path(sn.__file__).parents[1])}
    with subprocess.Popen(
        [*words, "--out", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())[:2] == ["training", 1]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == f"interrupted. Go on with: stablenets classify --resume {tmp_path / 'run'}\n"
    run = Run(tmp_path / "run")
    assert run.has("checkpoint.safetensors") and not run.has("model.safetensors")
    assert call(f"classify --resume {run.path} --progress none")[0] == 0
    assert call(f"classify {many} --out {tmp_path}/whole --progress none")[0] == 0
    one, other = (load(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert weights_hash(one) == weights_hash(other)


def test_attack_certify_verify_report(call: Callable, tmp_path: Path) -> None:
    run = copied(tmp_path)
    code, out, _ = call(f"attack {run.path} --steps 3 --radii 0.2 0.4 --test-limit 12 --progress none")
    assert code == 0 and "0.2" in out and "proved" in out
    assert json.loads(run.file("attack.json").read_text())["n"] == 12
    code, out, _ = call(f"certify {run.path}")
    assert code == 0 and "1-Lipschitz" in out
    code, out, _ = call(f"verify {run.path}")
    assert code == 0 and out.startswith("OK: ")
    code, out, _ = call(f"report {run.path}")
    assert code == 0 and out == f"The report: {run.path}/report.html\n"
    bare = copied(tmp_path, "res-net")
    code, out, _ = call(f"report {run.path} {bare.path}")
    assert code == 0 and (tmp_path / "report.html").is_file()
    code, out, _ = call(f"certify {bare.path}")
    assert code == 1 and out.startswith("Nothing is proved: ")
    assert is_one_line(call(f"verify {bare.path}"), "has no certificate.json")


def test_list_names_everything(call: Callable) -> None:
    code, out, _ = call("list")
    assert code == 0
    for name in (
        "fashion-mnist",
        "robust-fashion",
        "non-expansive-net",
        "multi-margin",
        "PGD",
        "Euler",
        "Dense",
        "Flow",
    ):
        assert f" {name} " in out
    assert "slopes in [0, 1]" in out  # brackets are not taken for colours
    for _, rows in catalogue.sections():
        assert rows and all(name and summary and "\n" not in summary for name, summary in rows)


def test_check(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(MINE.format(bound=2.0))
    (tmp_path / "wrong.py").write_text(MINE.format(bound=1.5))
    code, out, _ = call(f"check {tmp_path}/right.py")
    assert code == 0 and out.startswith("Twice\n") and "FAILED" not in out
    code, out, _ = call(f"check {tmp_path}/wrong.py")
    assert code == 1 and "FAILED" in out


def test_progress_for_people_is_a_line_now_and_then(call: Callable, tmp_path: Path) -> None:
    code, out, err = call(f"classify {WORDS} --out {tmp_path}/run")
    assert code == 0 and "under attack" in out
    assert "training 11/11" in err and "certifying done  proved, and verified" in err


def test_bars_are_drawn() -> None:
    with Progress(console=Console(file=io.StringIO(), force_terminal=True)) as bars:
        show = Bars(bars)
        show("a", 0, 0, "")
        assert bars.tasks[0].total is None
        show("a", 3, 4, "note")
        assert (bars.tasks[0].completed, bars.tasks[0].total, bars.tasks[0].fields["note"]) == (3, 4, "note")
