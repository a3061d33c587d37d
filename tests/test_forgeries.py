"""Forgeries that a checker meets, beside those in test_verify.py: each is refused, by a reason that names it."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import stablenets as sn
from stablenets.certify.checker import strict
from stablenets.certify.verify import verify
from stablenets.fields import ConvexGradient, ReLU
from stablenets.integrators import Euler
from stablenets.layers import Chain, Flow, Normalise
from stablenets.linear import Dense
from test_verify import Files, certificate_layers, dense_flow, files, join, original, split, trained_looking

__all__ = ["files", "original"]  # fixtures


def small(seed: int = 0, width: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    flows = [Flow(ConvexGradient(Dense(6, width)), Euler(), steps=1) for _ in range(2)]
    return trained_looking(Chain(Normalise((0.2,) * 6, (0.5,) * 6), *flows, nn.Linear(6, 3)), seed=seed)


def written(folder: Path, net: nn.Module, dtype: Any = "float64") -> Files:
    made = Files(folder)
    sn.save(net, made.model)
    sn.certify(net, dtype=dtype, input_shape=(6,)).save(made.certificate)
    return made


@pytest.fixture
def pair(tmp_path) -> Files:
    return written(tmp_path, small())


@pytest.fixture
def single(tmp_path) -> Files:
    """A float32 certificate."""
    made = written(tmp_path, small(), "float32")
    verdict = verify(made.model, made.certificate)
    assert verdict.ok, verdict.reason
    return made


# --- the two files do not belong together ---------------------------------------------------------------------------


def test_the_certificate_of_another_network(tmp_path, pair):
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", small(seed=1))
    assert "other weights" in verify(pair.model, other.certificate).reason
    wider = written(tmp_path / "other", small(width=9))
    assert "other weights" in verify(pair.model, wider.certificate).reason


def test_the_certificate_of_another_network_with_the_hash_of_this_one(tmp_path, pair):
    digest = json.loads(pair.certificate.read_text())["weights_sha256"]
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", small(seed=1))
    other.edit(lambda c: c.update(weights_sha256=digest))
    assert "layers.1 (Flow): h, steps are" in verify(pair.model, other.certificate).reason


def test_layers_swapped_in_the_model(pair):
    """Both flows fit in either place, and the hash is recomputed: only the numbers tell them apart."""

    def swap(tensors, config, extra):
        for name in list(tensors):
            if name.startswith("layers.1."):
                twin = name.replace("layers.1.", "layers.2.")
                tensors[name], tensors[twin] = tensors[twin], tensors[name]

    pair.rewrite(swap)
    assert "layers.1 (Flow)" in pair.reason() or "layers.2 (Flow)" in pair.reason()


def test_one_bit_of_every_tensor(pair):
    header, body = split(pair.model)
    for name, entry in header.items():
        if name != "__metadata__":
            flipped = bytearray(body)
            flipped[entry["data_offsets"][0]] ^= 1
            join(pair.model, header, bytes(flipped))
            assert "other weights" in pair.reason()


# --- float32 --------------------------------------------------------------------------------------------------------


def test_a_float64_certificate_relabelled(pair):
    pair.edit(lambda c: c.update(dtype="float32"))
    assert "for float32, which what it says of float32 does not fit" in pair.reason()


def test_a_float32_certificate_relabelled(single):
    single.edit(lambda c: c.update(dtype="float64"))
    assert "for float64, which what it says of float32 does not fit" in single.reason()


@pytest.mark.parametrize("dtype", ["bfloat16", "", None, 64, ["float64"], {}])
def test_another_dtype(pair, dtype):
    pair.edit(lambda c: c.update(dtype=dtype))
    assert "proofs are for float64 and float32" in pair.reason()


def test_the_growth_of_the_float32_error_is_proved(single):
    content = json.loads(single.certificate.read_text())
    for key, index in (("state", None), ("scores", 0), ("scores", 2)):
        forged = json.loads(json.dumps(content))
        if index is None:
            forged["float32"][key] *= 1 - 1e-6
        else:
            forged["float32"][key][index] *= 1 - 1e-6
        single.certificate.write_text(json.dumps(forged))
        assert "float32: the growth" in single.reason()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"unit_roundoff": 2.0**-53}, "not 2^-24"),
        ({"scores": [1.0, 1.0]}, "2 scores, the network has 3"),
        ({"scores": [1.0, None, 1.0]}, "is not a number"),
        ({"state": -1.0}, "negative"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_other_forms_of_the_float32_part(single, change, named):
    single.edit(lambda c: c["float32"].update(change))
    assert named in single.reason()


@pytest.mark.parametrize("value", [[], {}, 1.0, "x", True])
def test_no_float32_part_at_all(single, value):
    single.edit(lambda c: c.update(float32=value))
    assert "float32" in single.reason()


def test_float64_weights_under_a_float32_certificate(single):
    def widen(tensors, config, extra):
        for name, value in tensors.items():
            tensors[name] = value.double()

    single.rewrite(widen)
    assert "float32: the weights" in single.reason() and "are F64" in single.reason()


def test_the_verdict_says_what_float32_covers(single):
    reason = verify(single.model, single.certificate).reason
    assert "evaluated in float32, the error of a difference of scores grows by at most" in reason
    assert "bounded input by input, when a radius is computed" in reason


# --- the input ------------------------------------------------------------------------------------------------------


def test_a_smaller_scaling_of_the_input(pair):
    pair.edit(lambda c: c["input"].update(scaling=c["input"]["scaling"] * (1 - 1e-6)))
    assert "scaling" in pair.reason()


@pytest.mark.parametrize("shape", [[5], [6, 2], [1, 8, 8], [], [-6], [6.0], "6", 6, [True]])
def test_another_shape_of_the_input(pair, shape):
    pair.edit(lambda c: c["input"].update(shape=shape))
    assert "shape" in pair.reason()


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_a_duplicate_key_anywhere(pair):
    text = pair.certificate.read_text()
    for key in ('"norm_bound"', '"scaling"', '"constants"', '"torch"', '"kind"'):
        where = text.index(key)
        pair.certificate.write_text(f"{text[:where]}{key}: 1.0, {text[where:]}")
        assert f"the key {key.replace(chr(34), chr(39))} occurs twice" in pair.reason()


def test_a_duplicate_tensor(pair):
    header, body = split(pair.model)
    name = next(n for n in header if n != "__metadata__")
    text = json.dumps(header)
    join(pair.model, (text[:-1] + f', "{name}": {json.dumps(header[name])}}}').encode(), body)
    assert "occurs twice" in pair.reason()


@pytest.mark.parametrize(
    "number",
    ["1e400", "-1e400", "9" * 18, "1" * 10**6, "0." + "1" * 10**6 + "e999", "NaN", "-Infinity", "1e308", "5e-324"],
)
@pytest.mark.parametrize("key", ["h", "norm_bound", "output_norm"])
def test_huge_and_tiny_numbers(pair, key, number):
    text = pair.certificate.read_text()
    start = text.index(f'"{key}":') + len(key) + 3
    stop = min(text.index(c, start) for c in ",\n")
    pair.certificate.write_text(text[:start] + number + text[stop:])
    assert len(pair.reason()) < 600


@pytest.mark.parametrize(
    "text", ["[" * 10**6, '{"a":' * 10**6, "[" * 10**5 + "]" * 10**5, '{"a":' * 10**5 + "1" + "}" * 10**5]
)
def test_deep_nesting(pair, text):
    pair.certificate.write_text(text)
    assert "the certificate" in pair.reason()
    join(pair.model, text.encode(), split(pair.model)[1])
    pair.certificate.write_text("{}")
    assert pair.reason()
    with pytest.raises(strict.Rejected):
        strict.parse(text, "it")


def test_a_deeply_nested_network(pair):
    header, body = split(pair.model)
    config = '{"type": "Sequential", "layers": [' * 5000 + "]}" * 5000
    header["__metadata__"]["config"] = config
    join(pair.model, header, body)
    assert pair.reason()


def test_names_are_made_fit_for_a_terminal(pair):
    """Escape sequences, lone surrogates and endless names of a forger are not passed on."""
    for name in ("\x1b[2J\x07", "\ud800", "x" * 10**6, "\n\n\r"):
        pair.edit(lambda c, name=name: c.update({name: 1}))
        reason = pair.reason()
        assert len(reason) < 600 and reason.isprintable()
        reason.encode()
        pair.edit(lambda c, name=name: c.pop(name))
        header, body = split(pair.model)
        clean = json.dumps(header)
        header[name] = {"dtype": "F32", "shape": [0], "data_offsets": [len(body), len(body)]}
        join(pair.model, header, body)
        reason = pair.reason()
        assert len(reason) < 600 and reason.isprintable()
        config = json.loads(json.loads(clean)["__metadata__"]["config"])
        header = json.loads(clean)
        header["__metadata__"]["config"] = json.dumps(config | {"type": name})
        join(pair.model, header, body)
        reason = pair.reason()
        assert len(reason) < 600 and reason.isprintable()
        join(pair.model, clean.encode(), body)


# --- files that are no files, and large ones ------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize(
    "kind", ["pipe", "folder", "link to a folder", "link to a device", "link to nothing", "link in a circle"]
)
def test_things_that_are_no_files(pair, tmp_path, kind):
    strange = tmp_path / "strange"
    if kind == "pipe":
        os.mkfifo(strange)  # opening or reading it in the ordinary way would wait for ever
    elif kind == "folder":
        strange.mkdir()
    else:
        target = {"link to a folder": tmp_path, "link to a device": "/dev/zero", "link to nothing": "none"}
        strange.symlink_to(target.get(kind, strange))
    for verdict in (verify(pair.model, strange), verify(strange, pair.certificate)):
        assert not verdict.ok and "cannot be read" in verdict.reason


def test_a_link_to_a_file_is_that_file(pair, tmp_path):
    (tmp_path / "link").symlink_to(pair.certificate)
    assert verify(pair.model, tmp_path / "link").ok


@pytest.mark.parametrize("which", ["model", "certificate"])
def test_a_gigabyte_of_zeros_is_refused_without_being_read(pair, which):
    path: Path = getattr(pair, which)
    with path.open("wb") as file:
        file.truncate(2**30)  # takes no room on the disk
    tracemalloc.start()
    assert "bytes" in pair.reason()
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("text", ["[],", "{},", '{"a":1},'])
def test_many_small_objects_are_refused_before_they_are_made(pair, text):
    """Of a text within the limit of size, a hundred times as much memory could be made."""
    pair.certificate.write_text("[" + text * (2 * 10**6) + "0]")
    tracemalloc.start()
    assert "lists and objects" in pair.reason()
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_a_header_of_zeros(pair):
    """A length that fits, in front of nothing."""
    with pair.model.open("wb") as file:
        file.write((2**25).to_bytes(8, "little"))
        file.truncate(2**30)
    assert "not valid JSON" in pair.reason()


@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300, 3e38, 1e-45])
def test_extreme_weights_never_raise(tmp_path, value):
    """Sums overflow, squares vanish: refused or proved, without an error or a warning."""
    net = dense_flow(Euler(), ReLU(), h=0.1)
    made = Files(tmp_path).write(trained_looking(net).double())
    for name in ("layers.0.field.linear.weight", "layers.0.field.bias", "layers.1.weight", "layers.1.bias"):

        def spoil(tensors, config, extra, name=name):
            tensors[name].view(-1)[0] = value

        made.rewrite(spoil)
        verdict = verify(made.model, made.certificate)
        assert not verdict.ok or abs(value) < 1


def test_a_bound_lowered_a_little_in_every_place(single):
    """By a relative 1e-6, every number of the certificate that bounds something."""
    content = json.loads(single.certificate.read_text())
    for key in ("norm_bound", "output_norm", "rounding"):
        forged = json.loads(json.dumps(content))
        certificate_layers(forged, "Flow")[key] *= 1 - 1e-6
        single.certificate.write_text(json.dumps(forged))
        assert "layers.1 (Flow)" in single.reason()
    for path in (("lipschitz",), ("rounding",), ("input", "scaling")):
        forged = json.loads(json.dumps(content))
        inner = forged if len(path) == 1 else forged[path[0]]
        inner[path[-1]] *= 1 - 1e-6
        single.certificate.write_text(json.dumps(forged))
        assert path[-1] in single.reason()
