"""Plants one error at a time in a copy of the package and runs the tests that should notice.

    python tests/mutants.py            all of them (two to three minutes)
    python tests/mutants.py averaged   those whose name contains a word

Prints who caught what; exits with 1 when an error survives. To add one, append a `Mutant`: the text to replace must
occur exactly once in the file. Keep the selection of tests small: it says where the error *should* be noticed.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRELOAD = ["torch", "numpy", "scipy.integrate", "scipy.linalg", "hypothesis", "pytest", "safetensors.torch"]


@dataclass(frozen=True)
class Mutant:
    """One planted error: in `file`, `old` becomes `new`; `tests` are pytest's arguments, relative to tests/."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def claims(keyword: str) -> tuple[str, ...]:
    return ("test_claims.py", "-k", keyword)


FIELD = "fields/gradient.py"
RK = "integrators/runge_kutta.py"
SPLIT = "integrators/symplectic.py"
PROPERTIES = "core/properties.py"
CONV = "linear/conv.py"
FLOW = "layers/flow.py"
CERTIFICATE = "certify/certificate.py"
LAYER_CERTIFICATE = "certify/layer.py"

MUTANTS = [
    # fields
    Mutant("norm bound not squared", FIELD, "slope[1] * size * size", "slope[1] * size", claims("test_fields")),
    Mutant("activation slope ignored", FIELD, "self.activation.slope[1] * size", "size", claims("slope_of")),
    Mutant(
        "cocoercivity too weak by half",
        FIELD,
        "Cocoercive(1 / smoothness)",
        "Cocoercive(0.5 / smoothness)",
        claims("bounds_of_a_gradient_field"),
    ),
    Mutant(
        "kinetic part not negated",
        "fields/hamiltonian.py",
        "return -self.kinetic(p, t)",
        "return self.kinetic(p, t)",
        claims("test_fields"),
    ),
    Mutant(
        "Hamiltonian bound: min for max", "fields/hamiltonian.py", "bound = max(", "bound = min(", claims("test_fields")
    ),
    # Runge-Kutta
    Mutant(
        "step limit doubled",
        RK,
        "return 2 * cocoercive.beta * r",
        "return 4 * cocoercive.beta * r",
        claims("test_steps and ConvexGradient"),
    ),
    Mutant(
        "contractivity radius doubled",
        RK,
        "exact = -1 / lowest",
        "exact = -2 / lowest",
        ("test_integrators.py", "-k", "contractivity"),
    ),
    Mutant(
        "SSPRK3 weights swapped",
        RK,
        "(1 / 6, 1 / 6, 2 / 3)",
        "(1 / 6, 2 / 3, 1 / 6)",
        ("test_integrators.py", "-k", "test_order"),
    ),
    Mutant(
        "RK4 stage from the wrong slope",
        RK,
        "(0.0, 1 / 2), (0.0, 0.0, 1.0)",
        "(1 / 2, 0.0), (0.0, 0.0, 1.0)",
        ("test_integrators.py", "-k", "test_order"),
    ),
    Mutant("stage times frozen", RK, "t + h * sum(row)", "t", ("test_integrators.py", "-k", "test_order")),
    Mutant(
        "averagedness halved",
        RK,
        "Averaged(h / limit * UP)",
        "Averaged(h / limit / 2 * UP)",
        claims("test_steps and ConvexGradient and Euler"),
    ),
    Mutant(
        "averagedness squared",
        RK,
        "Averaged(h / limit * UP)",
        "Averaged((h / limit) ** 0.5 * UP)",
        claims("averagedness_of_an_euler_step"),
    ),
    Mutant(
        "expansive bound too large",
        RK,
        "Expansive(math.nextafter(1 - increment, 0))",
        "Expansive(1 - increment / 2)",
        claims("test_steps and ConvexGradient"),
    ),
    Mutant(
        "increment without the inner stages",
        RK,
        "hl * (1 + sum(abs(c) * kj for",
        "hl * (1 + 0 * sum(abs(c) * kj for",
        claims("general_lipschitz"),
    ),
    Mutant(
        "monotone bound without its square",
        RK,
        ", (h * lipschitz.bound) ** 2\n",
        ", 0.0\n",
        claims("monotone_bound or beyond"),
    ),
    Mutant(
        "quadratic invariants promised",
        RK,
        "c.invariant.degree == 1",
        "c.invariant.degree in (1, 2)",
        claims("energy_is_claimed"),
    ),
    # splitting
    Mutant(
        "old force reused",
        SPLIT,
        "f.force(q, ",
        "f.force(x.chunk(2, 1)[0], ",
        ("test_integrators.py", "-k", "test_order"),
    ),
    Mutant(
        "kicks at the wrong time",
        SPLIT,
        "t + drifted * h",
        "t + kicked * h",
        ("test_integrators.py", "-k", "test_order"),
    ),
    Mutant(
        "drifts at the wrong time",
        SPLIT,
        "t + kicked * h",
        "t + drifted * h",
        ("test_integrators.py", "-k", "test_order"),
    ),
    Mutant(
        "shear bound too small",
        SPLIT,
        "(a + math.sqrt(a * a + 4)) / 2",
        "math.sqrt(a * a + 1)",
        claims("symplectic_euler_are_attained"),
    ),
    Mutant(
        "energy claimed by splitting",
        SPLIT,
        "claims.append(Symplectic())",
        "claims += [Symplectic(), *(__import__('stablenets').core.properties.Preserves(c.invariant) for c in field "
        "if hasattr(c, 'invariant'))]",
        claims("energy_is_claimed"),
    ),
    # linear maps
    Mutant(
        "adjoint off by 1e-4",
        "linear/dense.py",
        "return F.linear(y, self.weight.mT)",
        "return F.linear(y, self.weight.mT) * (1 + 1e-4)",
        ("test_component.py", "-k", "conformance and Dense"),
    ),
    Mutant(
        "adjoint without the flip",
        CONV,
        "self.weight.flip(2, 3).transpose",
        "self.weight.transpose",
        ("test_component.py", "-k", "conformance and Conv2d"),
    ),
    Mutant(
        "Fourier grid n for n + p",
        CONV,
        "max(n + p, self.kernel_size)",
        "max(n, self.kernel_size)",
        ("test_linear.py", "-k", "image_grid"),
    ),
    Mutant(
        "bound without its entries' error",
        "linear/bounds.py",
        ") + entry_error",
        ")",
        ("test_linear.py", "-k", "covers_its_rounding"),
    ),
    Mutant(
        "smallest frequency for the largest",
        "linear/bounds.py",
        "svdvals(matrices).max()",
        "svdvals(matrices)[..., 0].min()",
        ("test_linear.py", "-k", "conv_bounds"),
    ),
    Mutant(
        "power iteration without the root",
        "linear/base.py",
        "return math.sqrt(size)",
        "return size",
        ("test_linear.py", "-k", "power_iteration"),
    ),
    # claims
    Mutant(
        "Lipschitz: max for product",
        PROPERTIES,
        "Lipschitz(outwards(self.bound, first.bound, math.inf))",
        "Lipschitz(max(self.bound, first.bound))",
        ("test_properties.py", "-k", "closed"),
    ),
    Mutant(
        "averaged maps: the larger alpha",
        PROPERTIES,
        "(a + b - 2 * a * b) / (1 - a * b)",
        "max(a, b)",
        ("test_properties.py", "-k", "averaged"),
    ),
    Mutant(
        "invariants compared by name",
        PROPERTIES,
        "field(repr=False)",
        "field(compare=False, repr=False)",
        ("test_properties.py", "-k", "invariants"),
    ),
    Mutant(
        "a deaf falsifier",
        PROPERTIES,
        "(self.beta * norm(df).square() + inner(df, dx))",
        "0 * (norm(df) + norm(dx))",
        ("test_properties.py", "-k", "falsifiers"),
    ),
    # layers
    Mutant(
        "frozen from the estimate",
        FLOW,
        "self._set(self._schedule(self.field.claims() if",
        "self._set(self._schedule(self.field.claims(estimate) if",
        ("test_layers.py", "-k", "leaves_training"),
    ),
    Mutant(
        "one step too many",
        FLOW,
        "math.ceil(self.time / limit)",
        "math.ceil(self.time / limit) + 1",
        ("test_layers.py", "-k", "number_of_steps"),
    ),
    Mutant("claims of one step for all", FLOW, "[one] * count)", "[one])", claims("several_steps")),
    Mutant(
        "norms in evaluation",
        FLOW,
        "if self.training and self.follows:",
        "if self.follows:",
        ("test_layers.py", "-k", "evaluation"),
    ),
    Mutant(
        "pooling is non-expansive by 1/k^2",
        "layers/torch_layers.py",
        "pixels**0.5 / abs",
        "1 / abs",
        ("test_layers.py", "-k", "pytorch_layers"),
    ),
    Mutant(
        "any body is opened",
        "layers/chain.py",
        "isinstance(module, Composed) and forward is Composed.forward",
        "isinstance(getattr(module, 'body', None), nn.Module)",
        ("test_layers.py", "-k", "unknown_module"),
    ),
    Mutant(
        "1 / max(std)",
        "layers/isometries.py",
        "1 / min(self.std)",
        "1 / max(self.std)",
        ("test_component.py", "-k", "conformance and Normalise"),
    ),
    Mutant(
        "head taken for non-expansive",
        "layers/heads.py",
        "Lipschitz(spectral_norm_bound(w))",
        "Lipschitz(1.0)",
        ("test_component.py", "-k", "conformance and NormalisedHead"),
    ),
    Mutant(
        "hash blind to frozen steps",
        "layers/files.py",
        "digest.update(canonical(extra).encode())",
        "pass",
        ("test_layers.py", "-k", "hash"),
    ),
    Mutant("files lose their dtype", "layers/files.py", ", assign=True", "", ("test_layers.py", "-k", "last_bit")),
    # certificates
    Mutant(
        "rounding added to the margin",
        CERTIFICATE,
        "scores - 2 * math.sqrt(2)",
        "scores + 2 * math.sqrt(2)",
        ("test_certify.py", "-k", "linear_classifier"),
    ),
    Mutant(
        "one constant for all pairs",
        CERTIFICATE,
        "margins / constants[winner]",
        "margins / constants[0, -1]",
        ("test_certify.py", "-k", "linear_classifier"),
    ),
    Mutant(
        "stale steps certified",
        LAYER_CERTIFICATE,
        "not flow.step_size <= limit",
        "flow.step_size > 2 * limit",
        ("test_certify.py", "-k", "stale_step"),
    ),
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
