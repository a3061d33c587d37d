"""Train a classifier, certify it, verify the certificate and attack it: `run`, and each part by itself."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ..certify import Certificate
from ..certify import certify as prove
from ..certify.reading import read as read_certificate
from ..certify.verify import Verdict
from ..certify.verify import verify as check_certificate
from ..core.component import kebab
from ..core.errors import ClaimError, InputError, message
from ..data import DeviceLoader, ImageData, ShiftFlip, data_sets
from ..layers import load, save
from ..train import Epoch, evaluate_accuracy, fast_training_dtype, fit
from . import attack as attacks
from . import attack_linf
from . import config as toml
from .build import (
    build_loss,
    build_network,
    complete,
    find_device,
    fingerprint,
    read_data,
    schedule,
    thread_count,
    threads,
)
from .options import ClassifyConfig
from .progress import Progress, silent
from .run_folder import Run, machine

# what holds radii that were proved, or attacks that were judged, in the arithmetic of a certificate
JUDGED = ("attack.json", "smallest.npz", "attack-linf.json", "deformations.json", "refuted.json")


def run(config: ClassifyConfig, progress: Progress = silent) -> Run:
    """Do the whole job in a new run folder: train, certify, verify, attack.

    Raises:
        InputError: an option or the data cannot be used, or the folder exists.
        TrainingError: loss or weights became infinite or NaN; the last good checkpoint is in the folder.
        KeyboardInterrupt: after Ctrl-C; `resume` goes on from there.
    """
    return resume(create(config), progress)


def create(config: ClassifyConfig) -> Run:
    """A new run folder for `config`; everything that can be checked in advance is checked before it is made."""
    kept = settled(config)
    thread_count(kept)
    data = read_data(kept)
    build_loss(kept)
    net = build_network(kept, data)
    name = kept.data if kept.data in data_sets() else Path(kept.data).name
    environment = machine() | {
        "dtype": "float32" if kept.precision == "float32" else "bfloat16 in training, else float32",
        "seconds": 0.0,
        "command": toml.command(replace(config, data=kept.data, precision=kept.precision, out=None)),
        "data": name,
        "classes": list(data.classes),
        "image_shape": list(data.image_shape),
        "parameters": sum(p.numel() for p in net.parameters()),
    }
    return Run.create(config.out or f"runs/{Path(name).stem}-{kebab(type(net).__name__)}", kept, environment)


def settled(config: ClassifyConfig) -> ClassifyConfig:
    """What config.toml says of `config`: nothing in it depends on the machine or on where it was started.

    Raises:
        InputError: an option of a wrong type or out of its range, or a device that is not on this machine.
    """
    config = toml.check(config)
    device = find_device(config)
    if config.precision == "auto":
        fast = fast_training_dtype(device) is torch.bfloat16
        config = replace(config, precision="bfloat16" if fast else "float32")
    if config.data not in data_sets() and Path(config.data).exists():
        config = replace(config, data=str(Path(config.data).resolve()))
    return complete(replace(config, out=None))


def resume(run: Run, progress: Progress = silent) -> Run:
    """Do what is missing in a run folder, from the last checkpoint on; nothing if nothing is missing.

    On a CPU, with the same versions and number of threads, the weights are bitwise those of an uninterrupted run.

    Raises:
        InputError: a file in the folder cannot be used, or is of another run.
        ClaimError: proof and attack contradict each other, or the certificate does not pass its check.
    """
    if not run.has("model.safetensors"):
        train(run, progress)
    if not (run.has("certificate.json") or run.has("uncertified.txt")):
        progress("certifying", 0, 0, "")
        certified = certify(run) is not None
        if certified and not (verdict := verify(run)).ok:
            run.remove("certificate.json")
            given = f"the new certificate is not confirmed ({verdict.reason})"
            raise ClaimError(message(given, "a true proof", "Please report this bug."))
        progress("certifying", 1, 1, "proved, and verified" if certified else "nothing can be proved")
    if not run.has("attack.json"):
        attack(run, progress=progress)
    return run


def train(run: Run, progress: Progress = silent) -> None:
    """Train from the last checkpoint (or the start) to the end: metrics.jsonl, checkpoint and model.safetensors."""
    with run.work():
        config = run.config
        with threads(config):
            run.write_json(
                "environment.json", run.environment | {"threads": thread_count(config)}
            )  # maybe not as before
            data = read_data(config)
            device = find_device(config)
            net = build_network(config, data).to(device)
            augment = ShiftFlip(config.shift, config.flip) if config.shift or config.flip else None
            loader = DeviceLoader(
                data.x_train, data.y_train, config.batch_size, seed=config.seed, device=device, augment=augment
            )
            lines: list[str] = []
            accuracy = ""

            def on_step(step: int, total: int, loss: float) -> None:
                progress("training", step, total, f"loss {loss:.3f}{accuracy}")

            def on_epoch(epoch: Epoch) -> None:
                nonlocal accuracy
                lines.append(json.dumps(asdict(epoch)) + "\n")
                run.write_text("metrics.jsonl", "".join(lines))
                if epoch.test_accuracy is not None:
                    accuracy = f", test accuracy {100 * epoch.test_accuracy:.1f} %"
                progress("training", epoch.step, config.epochs * len(loader), f"loss {epoch.loss:.3f}{accuracy}")

            fit(
                net,
                build_loss(config),
                loader,
                epochs=config.epochs,
                schedule=schedule(config),
                weight_decay=config.weight_decay,
                evaluate=functools.partial(evaluate_accuracy, x=data.x_test, y=data.y_test),
                evaluate_every=config.evaluate_every,
                checkpoint=run.file("checkpoint.safetensors"),
                resume=True,
                settings={"seed": config.seed, "augment": repr(augment), "data": fingerprint(data)},
                on_step=on_step,
                on_epoch=on_epoch,
                mixed_precision=config.precision == "bfloat16",
            )
            save(net, run.file("model.safetensors"))


def certify(run: Run, *, dtype: Literal["float64", "float32"] = "float64") -> Certificate | None:
    """Write certificate.json; or, for a network of which nothing can be proved, the reason into uncertified.txt.

    `dtype` is the arithmetic in which the answers are to hold.

    Raises:
        ClaimError: nothing can be proved in float32; the folder is left as it is.
    """
    with run.work(), threads(run.config):
        net = load(run.file("model.safetensors"))
        try:
            certificate = prove(net, dtype=dtype)
        except ClaimError as error:
            if dtype == "float32":  # that nothing is proved of float32 does not refute a float64 certificate
                raise
            run.remove("certificate.json")
            run.write_text("uncertified.txt", f"{error}\n")
            return None
        if not _proved(run, certificate):
            run.remove(*JUDGED)
        certificate.save(run.file("certificate.json"))
        run.remove("uncertified.txt")
        run.write_json("certified.json", certified_accuracy(certificate, read_data(run.config), run.config.radii))
        return certificate


def _proved(run: Run, certificate: Certificate) -> bool:
    """Whether the folder holds a certificate for the same weights and the same arithmetic."""
    if not run.has("certificate.json"):
        return False
    try:
        known = read_certificate(run.file("certificate.json"))
    except InputError:
        return False
    return (known["weights_sha256"], known["dtype"]) == (certificate.weights_sha256, certificate.dtype)


def certified_accuracy(certificate: Certificate, data: ImageData, radii: Sequence[float]) -> dict[str, Any]:
    """What is proved of *all* test images: the fractions answered rightly, and so in the whole ball of each radius."""
    right = certificate.logits(data.x_test).argmax(1) == data.y_test
    radius = certificate.radius(data.x_test)
    sizes = sorted({0.0, *radii})
    return {
        "n": len(right),
        "dtype": certificate.dtype,
        "radii": sizes,
        "clean_accuracy": float(right.double().mean()),
        "certified_accuracy": attacks.proved_accuracy(right, radius, sizes),
    }


def verify(run: Run) -> Verdict:
    """Check certificate.json against model.safetensors with code that `certify` does not use.

    Raises:
        InputError: the run has no certificate.
    """
    if not run.has("certificate.json"):
        why = run.file("uncertified.txt").read_text(encoding="utf-8").strip() if run.has("uncertified.txt") else ""
        todo = why or f"Run: stablenets certify {shlex.quote(str(run.path))}"
        raise InputError(message(f"{run.path} has no certificate.json", "a certified run", todo))
    return check_certificate(run.file("model.safetensors"), run.file("certificate.json"))


def attack(
    run: Run,
    *,
    steps: int | None = None,
    radii: tuple[float, ...] | None = None,
    test_limit: int | None = None,
    name: str = "PGD",
    norm: float = 2,
    progress: Progress = silent,
) -> None:
    """Attack the trained network and write attack.json, samples.npz and smallest.npz; with norm=inf attack-linf.json.

    Options that are None are those of the run, whose radii are l2 radii; those for l-infinity are
    `attack_linf.RADII`. `name` is that of a registered attack.

    Raises:
        InputError: an option or a file cannot be used; or the certificate was edited or belongs to other weights.
        ClaimError: an attack succeeded within a certified radius. The files are written all the same.
    """
    config = run.config
    config = replace(
        config,
        attack_steps=config.attack_steps if steps is None else steps,
        radii=radii or (config.radii if norm == 2 else attack_linf.RADII),
        test_limit=config.test_limit if test_limit is None else test_limit,
    )
    toml.check(config)
    task = attacks if norm == 2 else attack_linf
    with run.work(), threads(config):
        task.attack(run, config, read_data(config), find_device(config), progress, name)
