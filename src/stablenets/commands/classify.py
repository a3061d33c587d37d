"""Classifiers: train, attack, certify, verify, export."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..tasks.options import ClassifyConfig
from .shared import FAILED, Show, conclude, resumable, write_report


def classify(
    *,
    recipe: str | None = None,
    config: Path | None = None,
    resume: Path | None = None,
    progress: Show = "bars",
    options: Annotated[ClassifyConfig | None, Parameter(name="*")] = None,
) -> int:
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
    from ..console import shown
    from ..core.errors import InputError, message
    from ..tasks import classify as task
    from ..tasks.run_folder import Run

    if resume is not None and (options is not None or config is not None or recipe is not None):
        raise InputError(message("--resume beside other options", "--resume RUN alone", "A run keeps its options."))
    with shown(progress) as show:
        run = task.create(options or ClassifyConfig()) if resume is None else Run.open(resume)
        with resumable(f"stablenets classify --resume {shlex.quote(str(run.path))}"):
            task.resume(run, show)
            page = write_report([run.path], run.file("report.html"))
    return conclude([run.path], page, progress)


def attack(
    run: Path,
    /,
    *,
    attack: str = "pgd",
    norm: Literal["l2", "linf"] = "l2",
    steps: int | None = None,
    radii: tuple[float, ...] | None = None,
    test_limit: int | None = None,
    progress: Show = "bars",
) -> int:
    """Attack a trained network again: by PGD at several radii, or by another attack.

    An attack for small perturbations, such as ddn, runs once and finds a radius of its own for each image. Exit code
    1: an attack refutes a proof, in the arithmetic (float64 or float32) that the certificate speaks of.

    Certificates are for the l2 norm. In the l-infinity norm (the largest change of a pixel) they prove the l2 radius
    divided by the square root of the number of entries, and no more.

    For example:

        stablenets attack runs/baseline --steps 500 --radii 0.25 0.5
        stablenets attack runs/baseline --attack ddn
        stablenets attack runs/baseline --attack ensemble --test-limit 200
        stablenets attack runs/baseline --norm linf --radii 0.05 0.1

    Args:
        run: Run folder.
        attack: Name of an attack (stablenets list).
        norm: In which radii are measured. linf: results are in attack-linf.json, and in the report beside the others.
        steps: Gradient steps (at each radius). The default is the run's own, as below.
        radii: Radii, in units of the pixels in [0, 1]. linf: by default from 2/255 to 0.3.
        test_limit: Attack the first so many test images.
        progress: How to show progress.
    """
    from ..console import say, shown
    from ..tasks import classify as task
    from ..tasks.run_folder import Run

    found = Run.open(run)
    with shown(progress) as show:
        task.attack(
            found, steps=steps, radii=radii, test_limit=test_limit, name=attack,
            norm=math.inf if norm == "linf" else 2, progress=show,
        )  # fmt: skip
    page = write_report([run], run / "report.html")
    if norm == "linf" and progress != "json":
        say(_pixelwise(json.loads(found.file("attack-linf.json").read_text(encoding="utf-8"))))
    return conclude([run], page, progress)


def _pixelwise(table: dict[str, Any]) -> str:
    """The results of an attack in the l-infinity norm."""
    proved = table["certified_accuracy"] or [None] * len(table["radii"])
    rows = [
        f"  radius {radius:.4g}: {accuracy:.1%}" + ("" if sure is None else f", proved {sure:.1%}")
        for radius, accuracy, sure in zip(table["radii"], table["robust_accuracy"], proved, strict=True)
    ]
    note = "" if table["certified_accuracy"] is None else (
        f" Certificates are for the l2 norm; an l2 radius r proves r / sqrt({table['entries']}) in the l-infinity norm."
    )  # fmt: skip
    head = f"Under {table['attack']['name']} in the l-infinity norm, on {table['n']:,} test images:"
    return "\n".join([head, *rows]) + (f"\n{note.strip()}" if note else "")


def certify(run: Path, /, *, dtype: Literal["float64", "float32"] = "float64") -> int:
    """Prove certified radii for a trained network: writes certificate.json and certified.json, and explains them.

    For example:

        stablenets certify runs/baseline
        stablenets certify runs/baseline --dtype float32

    Args:
        run: Run folder.
        dtype: Arithmetic in which the answers hold. Radii are a little smaller in float32.
    """
    from ..console import say
    from ..tasks import classify as task
    from ..tasks.run_folder import Run

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


def verify(path: Path, certificate: Path | None = None, /) -> int:
    """Check a certificate against a model with independent code. Exit code 0: it holds; 1: it does not.

    For example:

        stablenets verify runs/baseline
        stablenets verify model.safetensors certificate.json

    Args:
        path: Run folder, or a model file.
        certificate: Certificate of the model file.
    """
    from ..certify.verify import verify as check_certificate
    from ..console import say
    from ..core.errors import InputError, message
    from ..tasks import classify as task
    from ..tasks.run_folder import Run

    if certificate is None and path.is_file():
        given = f"the file {path} without a certificate"
        raise InputError(message(given, "a run folder, or a model file and its certificate", "Add certificate.json."))
    if certificate is None:
        verdict = task.verify(Run.open(path))
    else:
        for file in (path, certificate):
            if not file.is_file():
                raise InputError(message(f"there is no file {file}", "a model file and its certificate"))
        verdict = check_certificate(path, certificate)
    say(f"{'OK' if verdict.ok else 'NOT PROVED'}: {verdict.reason}")
    return 0 if verdict.ok else FAILED


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

    from .. import export as exports
    from ..certify import Certificate
    from ..console import say
    from ..layers import load
    from ..tasks.run_folder import Run

    found = Run.open(run)
    net = load(found.file("model.safetensors"))
    proof = Certificate.load(found.file("certificate.json"), net) if found.has("certificate.json") else None
    write, name = {"onnx": (exports.to_onnx, "model.onnx"), "torch": (exports.to_torch, "model.pt2")}[format]
    number = getattr(torch, dtype)
    say(f"Written: {write(net, out or found.file(name), certificate=proof, dtype=number)}")
    say(exports.statement(net, number, proof)["statement"])
