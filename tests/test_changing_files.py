"""A model file that changes while `verify` reads it: what is hashed is what is judged, or the file is refused."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import stablenets as sn
from stablenets.certify.checker import model_file
from stablenets.certify.verify import verify
from stablenets.layers.files import weights_hash
from test_forgeries import small, written
from test_verify import Files

Swap = Callable[[Path, bytes], None]


def replace(path: Path, content: bytes) -> None:
    """Another file under the name."""
    other = path.with_suffix(".other")
    other.write_bytes(content)
    os.replace(other, path)


def overwrite(path: Path, content: bytes) -> None:
    """Other bytes in the same file, where its readers have it open."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


@pytest.fixture
def good(tmp_path: Path) -> Files:
    return written(tmp_path, small())


@pytest.fixture
def bad(good: Files) -> bytes:
    """The network of `good` with every weight three times as large: its certificate is false of it."""
    net = sn.load(good.model)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3)
    path = good.model.with_name("bad.safetensors")
    sn.save(net, path)
    assert path.stat().st_size == good.model.stat().st_size
    return path.read_bytes()


def after_hash(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    hashed = model_file.ModelFile.sha256

    def sha256(self: model_file.ModelFile) -> str:
        found = hashed(self)
        change()
        return found

    monkeypatch.setattr(model_file.ModelFile, "sha256", sha256)


@pytest.mark.parametrize("swap", [replace, overwrite])
def test_weights_swapped_after_the_hash_do_not_pass_for_those_hashed(
    good: Files, bad: bytes, swap: Swap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that is false of its weights, with their hash; then true weights take their place."""
    true = good.model.read_bytes()
    replace(good.model, bad)
    good.edit(lambda c: c.update(weights_sha256=weights_hash(sn.load(good.model))))
    after_hash(monkeypatch, lambda: swap(good.model, true))
    assert "other weights" not in (reason := good.reason()) and "layers.1 (Flow)" in reason
    assert good.model.read_bytes() == true


@pytest.mark.parametrize("swap", [replace, overwrite])
@pytest.mark.parametrize("content", ["other weights", "nothing"])
def test_what_was_hashed_is_proved_whatever_becomes_of_the_file(
    good: Files, bad: bytes, swap: Swap, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_hash(monkeypatch, lambda: swap(good.model, bad if content == "other weights" else b""))
    assert verify(good.model, good.certificate).ok
    assert "sha256" in good.reason() if content == "other weights" else "not a model file" in good.reason()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_grows_or_shrinks_while_it_is_read_is_refused(
    good: Files, change: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = model_file.parse

    def parse(data: Any, what: str) -> Any:
        if what == "the header of the model file":
            os.truncate(good.model, good.model.stat().st_size + change)
        return read(data, what)

    monkeypatch.setattr(model_file, "parse", parse)
    monkeypatch.setattr(model_file, "open_file", lambda path, what: io.FileIO(path))  # with no buffer that reads ahead
    assert "changed while it was read" in good.reason()


def test_the_model_file_is_opened_once(good: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            opened.append(str(path))
            return original(path, *args, **kwargs)

        return call

    for module, name in ((os, "open"), (io, "open"), (builtins, "open")):
        monkeypatch.setattr(module, name, counted(cast(Any, getattr(module, name))))
    monkeypatch.setattr("numpy.fromfile", None)
    assert verify(good.model, good.certificate).ok
    assert opened.count(str(good.model)) == 1


def test_files_larger_than_memory_are_refused_before_they_are_read(good: Files) -> None:
    """Holes in a file take no place on a disk, but do in memory."""
    os.truncate(good.model, 2**42)
    assert "bytes of weights" in good.reason()
