"""The independent checker: it proves what is true, and refuses every forgery, by the first step that fails."""

from __future__ import annotations

import ast
import copy
import json
import math
import random
import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import stablenets as sn
from stablenets.certify.checker import architecture, maps, norms, runge_kutta, shapes, strict
from stablenets.certify.checker.flows import frozen
from stablenets.certify.checker.linear_maps import MapSpec
from stablenets.certify.checker.model_file import ModelFile, read_model
from stablenets.certify.checker.proofs import prove_layer
from stablenets.certify.verify import Verdict, verify
from stablenets.fields import ConvexGradient, FreeField, LeakyReLU, ReLU, SeparableHamiltonian, Softplus, Tanh
from stablenets.integrators import RK4, SSPRK3, Euler, Heun, Integrator, Midpoint, StormerVerlet
from stablenets.layers import Affine, Chain, Flow, Lift, Normalise, NormalisedHead, weights_hash
from stablenets.linear import Conv2d, Dense
from stablenets.networks import NonExpansiveNet, ResNet


def trained_looking(net: nn.Module, scale: float = 3.0, seed: int = 0) -> nn.Module:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(scale).add_(0.05 * torch.randn(p.shape, generator=g))
    return net.train().eval()


def small_net() -> nn.Module:
    torch.manual_seed(0)
    net = NonExpansiveNet(
        (1, 8, 8), 4, patch=2, channels=(6, 24), blocks=(2, 1), hidden=9, dense_width=30, dense_blocks=2
    )
    return trained_looking(net)


class Files:
    """A model file and its certificate, to be forged."""

    def __init__(self, folder: Path) -> None:
        self.model, self.certificate = folder / "model.safetensors", folder / "certificate.json"

    def write(self, net: nn.Module) -> Files:
        sn.save(net, self.model)
        sn.certify(net).save(self.certificate)
        return self

    def edit(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the certificate's content."""
        content = json.loads(self.certificate.read_text())
        change(content)
        self.certificate.write_text(json.dumps(content))

    def rewrite(self, change: Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], Any]) -> None:
        """Change tensors, configuration or frozen steps in the model file and, like a careful forger, the hash."""
        with safe_open(self.model, "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            header = file.metadata()
        config, extra = json.loads(header["config"]), json.loads(header["extra"])
        change(tensors, config, extra)
        dump = {"config": json.dumps(config), "extra": json.dumps(extra)}
        save_file(tensors, self.model, metadata=header | dump)
        digest = weights_hash(sn.load(self.model))
        self.edit(lambda c: c.update(weights_sha256=digest))

    def reason(self) -> str:
        """Why the pair is refused."""
        verdict = verify(self.model, self.certificate)
        assert not verdict.ok, verdict.reason
        return verdict.reason


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Files:
    files = Files(tmp_path_factory.mktemp("original")).write(small_net())
    verdict = verify(files.model, files.certificate)
    assert verdict.ok, verdict.reason
    return files


@pytest.fixture
def files(original, tmp_path) -> Files:
    copied = Files(tmp_path)
    shutil.copy(original.model, copied.model)
    shutil.copy(original.certificate, copied.certificate)
    return copied


def certificate_layers(content: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in content["layers"] if c["kind"] == kind)


# --- what is true is proved -----------------------------------------------------------------------------------------


def dense_flow(integrator: Integrator[Any], activation: Any, **step: Any) -> nn.Module:
    return Chain(Flow(ConvexGradient(Dense(6, 9), activation), integrator, **step), NormalisedHead(6, 4))


def conv_flow(integrator: Integrator[Any], activation: Any, padding: str, **step: Any) -> nn.Module:
    field = ConvexGradient(Conv2d(2, 3, 3, (4, 5), padding), activation)
    return nn.Sequential(Flow(field, integrator, **step), nn.Flatten(), nn.Linear(40, 4))


@pytest.mark.parametrize("integrator", [Euler(), Heun(), SSPRK3(), RK4(), Midpoint()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.3), Tanh(), Softplus()], ids=lambda m: type(m).__name__)
def test_flows_of_every_method_and_activation(tmp_path, integrator, activation):
    """Followed and own steps, also steps beyond the limit."""
    torch.manual_seed(0)
    own = {"h": 0.3, "steps": 3}
    followed = own if isinstance(integrator, Midpoint) else {"time": 2.0}
    for net in (
        dense_flow(integrator, activation, **followed),
        conv_flow(integrator, activation, "zero", **own),
        conv_flow(integrator, activation, "circular", **own),
    ):
        files = Files(tmp_path).write(trained_looking(net))
        verdict = verify(files.model, files.certificate)
        assert verdict.ok, verdict.reason
        files.edit(lambda c: c["layers"][0].update(rounding=c["layers"][0]["rounding"] * (1 - 1e-6)))
        assert "rounding" in files.reason()


def everything() -> nn.Module:
    return Chain(
        Lift(1, 2),
        nn.PixelUnshuffle(2),
        nn.Sequential(Flow(ConvexGradient(Conv2d(8, 30, 5, (9, 10))), Euler(), steps=1)),
        nn.PixelShuffle(2),
        nn.AvgPool2d(2, divisor_override=3),
        nn.ReLU(),
        nn.LeakyReLU(0.1),
        nn.Tanh(),
        nn.Identity(),
        nn.Flatten(),
        nn.Linear(180, 30, bias=False),
        nn.ReLU(),
        nn.Linear(30, 3),
    )


def tiny(**arguments: Any) -> nn.Module:
    sizes = {"patch": 2, "blocks": (1,), "hidden": 5, "dense_width": 7, "dense_blocks": 1}
    return NonExpansiveNet((1, 4, 4), 3, **(sizes | arguments))


def dense_steps(**step: Any) -> nn.Module:
    return Chain(Flow(ConvexGradient(Dense(5, 5)), Euler(), **step), nn.Linear(5, 2))


OTHERS: dict[str, Callable[[], nn.Module]] = {
    "wide": lambda: NonExpansiveNet((1, 28, 28), 10, patch=2, channels=(16, 64), blocks=(2, 2), dense_width=256),
    "default": lambda: NonExpansiveNet((1, 28, 28), 10),
    "time": lambda: tiny(time=1.0),
    "double": lambda: tiny().double(),
    "no blocks": lambda: tiny(blocks=(0,), dense_blocks=0),
    "everything": everything,
    "many steps": lambda: dense_steps(h=0.1, steps=300),
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_networks(tmp_path, name):
    torch.manual_seed(1)
    files = Files(tmp_path).write(trained_looking(OTHERS[name]()))
    verdict = verify(files.model, files.certificate)
    assert verdict.ok, verdict.reason
    assert verdict.reason.startswith("proved: with L = ")


def test_zero_weights(tmp_path):
    net = dense_steps(h=1.0)
    for p in net.parameters():
        p.data.zero_()
    files = Files(tmp_path).write(net.eval())
    assert verify(files.model, files.certificate).ok


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("padding", ["circular", "reflect"])
def test_zero_convolutions_have_norm_zero_and_a_huge_step(tmp_path, padding, dtype):
    linear = Conv2d(8, 8, 3, 12, padding)  # too large to be bounded as an explicit matrix
    linear.weight.data.zero_()
    assert linear.norm_bound() == 0
    flow = Flow(ConvexGradient(linear), Euler(), steps=1)
    verdict = checked(nn.Sequential(flow, Affine(linear), nn.Flatten(), NormalisedHead(1152, 3)), tmp_path, dtype)
    assert verdict.ok, verdict.reason


@pytest.mark.parametrize("apart", [0.0, 0.02])
def test_nearly_equal_rows_of_a_head(tmp_path, apart):
    """Summed in another order, the norm of a row of 3000 entries changes by more than 1e-12 of their distance."""
    head = NormalisedHead(3000, 3)
    head.weight.data[1] = head.weight[0] + apart / 3000**0.5 * torch.randn(3000)
    verdict = checked(nn.Sequential(head), tmp_path, "float64")
    assert verdict.ok, verdict.reason


def test_a_shape_that_only_the_certificate_knows(tmp_path):
    net = nn.Sequential(Normalise((0.3,), (0.5,)), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3))
    assert checked(net, tmp_path, "float64", (1, 4, 5)).ok
    files = Files(tmp_path)
    files.edit(lambda c: c["input"].update(shape=[1, 40, 50]))
    assert "does not fit" in files.reason()
    files.edit(lambda c: c["input"].update(shape=[]))
    assert "shape is empty" in files.reason()
    files.edit(lambda c: c["input"].update(shape=None))
    assert "does not determine the image size" in files.reason()


def checked(net: nn.Module, folder: Path, dtype: str, shape: tuple[int, ...] | None = None) -> Verdict:
    files = Files(folder)
    sn.save(net.train().eval(), files.model)
    shape = shape or next(net.children()).input_shape  # type: ignore[assignment]
    sn.certify(net, dtype=dtype, input_shape=shape).save(files.certificate)
    return verify(files.model, files.certificate)


def test_the_verdict_says_for_which_inputs(original):
    assert "inputs of shape (1, 8, 8) and norm at most 16" in verify(original.model, original.certificate).reason


# --- forged numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key", "named"),
    [
        ("Flow", "norm_bound", "body.layers.2 (Flow): the norm bound"),
        ("Flow", "lipschitz", "body.layers.2 (Flow): the Lipschitz constant"),
        ("Flow", "rounding", "body.layers.2 (Flow): rounding"),
        ("Flow", "output_norm", "body.layers.2 (Flow): output_norm"),
        ("NormalisedHead", "lipschitz", "body.layers.9 (NormalisedHead): the norm bound"),
        ("NormalisedHead", "rounding", "body.layers.9 (NormalisedHead): rounding"),
        ("NormalisedHead", "output_norm", "body.layers.9 (NormalisedHead): output_norm"),
    ],
)
def test_a_number_of_a_layer_lowered_a_little(files, kind, key, named):
    def lower(content):
        certificate_layers(content, kind)[key] *= 1 - 1e-6

    files.edit(lower)
    assert named in files.reason()


@pytest.mark.parametrize("layer", range(10))
def test_every_norm_and_constant_of_every_layer_is_proved(files, layer):
    for key in ("norm_bound", "lipschitz", "output_norm"):

        def lower(content, key=key):
            if key in content["layers"][layer]:
                content["layers"][layer][key] *= 1 - 1e-6

        before = files.certificate.read_text()
        files.edit(lower)
        if json.loads(before) != json.loads(files.certificate.read_text()):
            assert "layer body.layers." in files.reason()
        files.certificate.write_text(before)


@pytest.mark.parametrize("key", ["lipschitz", "rounding"])
@pytest.mark.parametrize("factor", [1 - 1e-6, 0.5, 0.0, -1.0])
def test_a_total_lowered(files, key, factor):
    files.edit(lambda c: c.update({key: c[key] * factor}))
    assert key in files.reason()


@pytest.mark.parametrize(("i", "j"), [(0, 1), (3, 2)])
def test_a_constant_of_the_head_lowered(files, i, j):
    def lower(content):
        content["head"]["constants"][i][j] *= 1 - 1e-6

    files.edit(lower)
    assert f"scores {i} and {j}" in files.reason()


@pytest.mark.parametrize("constants", [[], [[1.0]], [[9.0] * 4] * 3, [[9.0] * 3] * 4, 9.0, [[None] * 4] * 4])
def test_constants_of_another_form(files, constants):
    files.edit(lambda c: c["head"].update(constants=constants))
    assert "constant" in files.reason()


@pytest.mark.parametrize("limit", [32.0, 16.000001, 0.0, -1.0, "16", None, True])
def test_another_norm_limit(files, limit):
    files.edit(lambda c: c["input"].update(norm_limit=limit))
    assert "norm" in files.reason()


def test_claims_may_be_worse_than_what_is_proved(files):
    """Only claims that are too good are refused."""

    def worsen(content):
        content["lipschitz"] *= 2
        content["rounding"] *= 2
        content["head"]["constants"][0][1] *= 2

    files.edit(worsen)
    assert verify(files.model, files.certificate).ok


# --- forged steps ---------------------------------------------------------------------------------------------------


def test_a_step_of_the_certificate_only(files):
    files.edit(lambda c: certificate_layers(c, "Flow").update(h=certificate_layers(c, "Flow")["h"] * 1.01))
    assert "h, steps are" in files.reason()


def test_the_number_of_steps_of_the_certificate_only(files):
    files.edit(lambda c: certificate_layers(c, "Flow").update(steps=2))
    assert "h, steps are" in files.reason()


@pytest.mark.parametrize("factor", [1.01, 1 + 1e-9])
def test_a_step_beyond_its_limit_in_both_files(files, factor):
    """2.02 / L, with the hash recomputed: the map is no longer proved non-expansive."""

    h = factor * certificate_layers(json.loads(files.certificate.read_text()), "Flow")["step_limit"]

    def raise_step(tensors, config, extra):
        extra["body.layers.2._extra_state"]["step_size"] = h

    files.rewrite(raise_step)
    files.edit(lambda c: certificate_layers(c, "Flow").update(h=h))
    assert "body.layers.2 (Flow): the Lipschitz constant 1.0 is below the proved" in files.reason()


def test_a_step_beyond_its_limit_with_a_limit_to_match(files):
    def lift(content):
        certificate_layers(content, "Flow")["step_limit"] *= 1.01

    files.edit(lift)
    assert "step limit" in files.reason()


def test_a_missing_step_limit(files):
    files.edit(lambda c: certificate_layers(c, "Flow").update(step_limit=None))
    assert "step_limit is null" in files.reason()


def test_midpoint_has_no_step_limit(tmp_path):
    files = Files(tmp_path).write(trained_looking(dense_flow(Midpoint(), ReLU(), h=1e-3)))
    files.edit(lambda c: c["layers"][0].update(step_limit=1e-6))
    assert "step limit" in files.reason()


@pytest.mark.parametrize(
    "state", [{"step_size": 0.1}, {"step_size": -0.1, "step_count": 1}, {"step_size": 0.1, "step_count": 1.5}, [0.1, 1]]
)
def test_frozen_steps_of_another_form(state):
    flow = architecture.Layer("0", "Flow", {}, {})
    with pytest.raises(strict.Rejected, match="frozen steps of 0"):
        frozen(flow, ModelFile({}, {"0._extra_state": state}, {}, memoryview(b"")))


# --- forged weights and architectures -------------------------------------------------------------------------------


def test_changed_weights(files):
    data = bytearray(files.model.read_bytes())
    data[-5] ^= 1
    files.model.write_bytes(bytes(data))
    assert "other weights" in files.reason()


def test_changed_weights_and_hash(files):
    def scale(tensors, config, extra):
        tensors["body.layers.7.field.linear.weight"] *= 1.0001

    files.rewrite(scale)
    assert "body.layers.7 (Flow): the norm bound" in files.reason()


def test_changed_bias_and_hash(files):
    def shift(tensors, config, extra):
        tensors["body.layers.7.field.bias"] += 1.0

    files.rewrite(shift)
    assert "body.layers.7 (Flow)" in files.reason()


def test_changed_head_and_hash(files):
    def turn(tensors, config, extra):
        tensors["body.layers.9.weight"][0] *= -1

    files.rewrite(turn)
    assert "head" in files.reason().lower()


def test_wrong_hash(files):
    files.edit(lambda c: c.update(weights_sha256="0" * 64))
    assert "sha256" in files.reason()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(files, value):
    def spoil(tensors, config, extra):
        tensors["body.layers.2.field.bias"][1] = value

    files.rewrite(spoil)
    assert "body.layers.2.field.bias hold NaN or infinite values" in files.reason()


def test_swapped_layers(files):
    def swap(content):
        layers = content["layers"]
        layers[2], layers[3] = layers[3], layers[2]

    files.edit(swap)
    assert "where the network has 'body.layers.2'" in files.reason()


def test_swapped_contents_of_layers(files):
    def swap(content):
        layers = content["layers"]
        layers[7], layers[8] = {**layers[8], "name": layers[7]["name"]}, {**layers[7], "name": layers[8]["name"]}

    files.edit(swap)
    assert "body.layers.7" in files.reason()


@pytest.mark.parametrize("where", [0, 2, 9])
def test_missing_layer(files, where):
    files.edit(lambda c: c["layers"].pop(where))
    assert "the certificate lists" in files.reason()


def test_extra_layer(files):
    files.edit(lambda c: c["layers"].append(copy.deepcopy(c["layers"][-1])))
    assert "lists 11 layers, the network has 10" in files.reason()


@pytest.mark.parametrize(("key", "value"), [("kind", "Lift"), ("name", "body.layers.99")])
def test_renamed_layer(files, key, value):
    files.edit(lambda c: c["layers"][0].update({key: value}))
    assert "where the network has 'body.layers.0' (PixelUnshuffle)" in files.reason()


@pytest.mark.parametrize(
    ("key", "value"), [("integrator", "RK4"), ("linear", "Dense"), ("activation", "Tanh"), ("field", "FreeField")]
)
def test_another_kind_of_flow(files, key, value):
    files.edit(lambda c: certificate_layers(c, "Flow").update({key: value}))
    assert f"says {key} {value!r}" in files.reason()


def test_another_architecture_with_its_hash(tmp_path):
    """The same weights in a network that does something else: zero padding made circular."""
    torch.manual_seed(0)
    files = Files(tmp_path).write(trained_looking(conv_flow(Euler(), ReLU(), "zero", steps=1)))

    def change(tensors, config, extra):
        config["layers"][0]["field"]["linear"]["padding"] = "circular"

    files.rewrite(change)
    assert "norm bound" in files.reason()


def split_flow() -> nn.Module:
    return Chain(Flow(next(SeparableHamiltonian.examples()), StormerVerlet(), h=0.1), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (ResNet((1, 4, 4), 3, patch=2, blocks=(1,), dense_blocks=1), "the network is a ResNet"),
        (Chain(Flow(FreeField(nn.Linear(4, 4)), Euler(), h=1.0), nn.Linear(4, 2)), "layers.0 is a Flow of a FreeField"),
        (split_flow(), "layers.0 is a Flow of a SeparableHamiltonian"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(4, 2)), "0 is a torch.Conv2d"),
        (nn.Sequential(nn.AvgPool2d(3, stride=1), nn.Flatten(), nn.Linear(4, 2)), "overlapping or padded windows"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(4, 2)), "0 is a Flatten that mixes samples"),
    ],
)
def test_what_the_checker_does_not_know_is_named(files, net, named):
    sn.save(net.eval(), files.model)
    digest = weights_hash(sn.load(files.model))
    files.edit(lambda c: c.update(weights_sha256=digest))
    assert "not covered by the checker" in files.reason() and named in files.reason()


# --- broken certificates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 400])
def test_numbers_that_are_not_finite(files, constant):
    text = files.certificate.read_text()
    start = text.index('"lipschitz":') + len('"lipschitz":')
    stop = text.index(",", start)
    files.certificate.write_text(text[:start] + constant + text[stop:])
    assert "number" in files.reason()


def test_duplicate_keys(files):
    text = files.certificate.read_text()
    files.certificate.write_text(text.replace("{", '{"lipschitz": 1.0, ', 1))
    assert "the key 'lipschitz' occurs twice" in files.reason()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "1", '"x"', "[" * 100_000, "\ufeff{}", "{'a': 1}"])
def test_text_that_is_no_certificate(files, text):
    files.certificate.write_text(text)
    assert "the certificate" in files.reason()


def test_bytes_that_are_no_text(files):
    files.certificate.write_bytes(b"\xff\xfe{}")
    assert "not valid JSON" in files.reason()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_truncated_certificate(files, part):
    data = files.certificate.read_bytes()
    files.certificate.write_bytes(data[: int(len(data) * part)])
    assert "not valid JSON" in files.reason()


def test_certificate_of_a_gigabyte(files):
    with files.certificate.open("wb") as file:
        file.truncate(2**30)
    assert "bytes, over" in files.reason()


@pytest.mark.parametrize(
    "key",
    ["schema", "network", "weights_sha256", "dtype", "classes", "input", "lipschitz", "head", "rounding", "layers"],
)
def test_missing_keys_and_wrong_types(files, key):
    content = json.loads(files.certificate.read_text())
    for value in (None, [], {}, True, "x", -1, [[]], [None], {"norm_limit": {}}):
        files.certificate.write_text(json.dumps(content | {key: value}))
        assert files.reason()
    del content[key]
    files.certificate.write_text(json.dumps(content))
    assert f"no key {key!r}" in files.reason()


def test_unknown_keys(files):
    files.edit(lambda c: c.update(remark="trust me"))
    assert "unknown key 'remark'" in files.reason()


def test_unknown_keys_of_a_layer(files):
    files.edit(lambda c: c["layers"][0].update(norm_bound=0.1))
    assert "unknown key 'norm_bound'" in files.reason()


def test_random_edits_of_the_certificate_never_raise(files):
    """Every number replaced by something else, in turn and at random: refused or, when it says less, accepted."""
    draw = random.Random(0)
    content = json.loads(files.certificate.read_text())

    def places(value, path=()):
        if isinstance(value, dict):
            for k, v in value.items():
                yield from places(v, (*path, k))
        elif isinstance(value, list):
            for k, v in enumerate(value):
                yield from places(v, (*path, k))
        yield path

    every = [p for p in places(content) if p]
    for path in draw.sample(every, 60):
        edited = copy.deepcopy(content)
        inner = edited
        for k in path[:-1]:
            inner = inner[k]
        inner[path[-1]] = draw.choice([None, -1, 0, 1e300, 1e-320, "", [], {}, True, 2**53])
        files.certificate.write_text(json.dumps(edited))
        verify(files.model, files.certificate)


# --- broken model files ---------------------------------------------------------------------------------------------


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def join(path: Path, header: dict[str, Any] | bytes, body: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_missing_files(files, tmp_path):
    assert "cannot be read" in verify(tmp_path / "no", files.certificate).reason
    assert "cannot be read" in verify(files.model, tmp_path / "no").reason
    assert "cannot be read" in verify(tmp_path, files.certificate).reason
    assert "cannot be read" in verify(files.model, tmp_path).reason


@pytest.mark.parametrize("keep", [0, 4, 8, 9, 500, 3000, -1])
def test_truncated_model(files, keep):
    files.model.write_bytes(files.model.read_bytes()[:keep])
    assert "model file" in files.reason()


def test_trailing_bytes(files):
    files.model.write_bytes(files.model.read_bytes() + b"\0" * 8)
    assert "truncated or padded" in files.reason()


def test_a_gigabyte_of_zeros(files):
    with files.model.open("wb") as file:
        file.truncate(2**30)
    assert "not a model file" in files.reason()


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**40])
def test_a_header_longer_than_the_file(files, length):
    files.model.write_bytes(length.to_bytes(8, "little") + files.model.read_bytes()[8:])
    assert "announces a header" in files.reason()


def test_a_tensor_larger_than_the_file(files):
    header, body = split(files.model)
    header["body.layers.9.weight"]["shape"] = [2**40, 2**40]
    join(files.model, header, body)
    assert "do not fit its shape" in files.reason()


@pytest.mark.parametrize("offsets", [[0, 36], [36, 0], [-36, 0], [0], None, [2**53, 2**53 + 36]])
def test_offsets_that_overlap_or_leave_the_file(files, offsets):
    header, body = split(files.model)
    header["body.layers.3.field.bias"]["data_offsets"] = offsets
    join(files.model, header, body)
    assert "model file" in files.reason() or "offsets of" in files.reason()


@pytest.mark.parametrize("dtype", ["F16", "BF16", "I32", "F8_E4M3", 5])
def test_other_dtypes(files, dtype):
    header, body = split(files.model)
    header["body.layers.3.field.bias"]["dtype"] = dtype
    join(files.model, header, body)
    assert "dtype" in files.reason()


def test_half_precision_weights(files):
    sn.save(small_net().half(), files.model)
    assert "float32 and float64" in files.reason()


@pytest.mark.parametrize("text", [b"[]", b"{}", b"nonsense", b'{"a":1,"a":1}', b'{"__metadata__":{"format":"pt"}}'])
def test_headers_that_are_not_ours(files, text):
    join(files.model, text, b"")
    assert "model file" in files.reason()


def test_a_tensor_too_many_and_one_too_few(files):
    certificate = files.certificate.read_text()
    for change in ("add", "remove"):
        header, body = split(files.model)
        if change == "add":
            header["more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(body), len(body) + 4]}
            join(files.model, header, body + b"\0" * 4)
        else:
            del header["more"]
            header["body.layers.9.weighs"] = header.pop("body.layers.9.weight")
            join(files.model, header, body[:-4])
        files.certificate.write_text(certificate)
        digest = read_model(files.model).sha256()
        files.edit(lambda c, digest=digest: c.update(weights_sha256=digest))
        assert "tensor" in files.reason()


def test_random_bytes_flipped_in_the_model(files):
    data, draw = files.model.read_bytes(), random.Random(0)
    header = int.from_bytes(data[:8], "little") + 8
    for where in [*range(8), *draw.sample(range(8, header), 40), *draw.sample(range(header, len(data)), 20)]:
        flipped = bytearray(data)
        flipped[where] ^= 1 << draw.randrange(8)
        files.model.write_bytes(bytes(flipped))
        assert files.reason()


def test_an_architecture_of_absurd_size(files):
    header, body = split(files.model)
    config = json.loads(header["__metadata__"]["config"])
    for key, value in (("dense_blocks", 10**9), ("blocks", [10**9, 1]), ("patch", 10**9), ("classes", 10**12)):
        header["__metadata__"]["config"] = json.dumps(config | {key: value})
        join(files.model, header, body)
        digest = read_model(files.model).sha256()
        files.edit(lambda c, digest=digest: c.update(weights_sha256=digest))
        assert files.reason()


# --- the parts ------------------------------------------------------------------------------------------------------


def test_the_checker_imports_nothing_of_what_it_checks():
    folder = Path(norms.__file__).parent
    allowed = {"numpy", *sys.stdlib_module_names}
    own = {p.stem for p in folder.glob("*.py")}
    for path in (*folder.glob("*.py"), folder.parent / "verify.py"):
        allowed = allowed | {"flint"} if path.stem == "balls" else allowed - {"flint"}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {a.name.split(".")[0] for a in node.names} <= allowed
            elif isinstance(node, ast.ImportFrom):
                module = (node.module or node.names[0].name).split(".")
                if node.level == 0:
                    assert module[0] in allowed
                else:
                    assert node.level == 1 and (module[0] == "checker" if path.stem == "verify" else module[0] in own)


def matrices(kind: str, rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng(rows * 1000 + columns)
    w = rng.standard_normal((rows, columns)).astype(np.float32).astype(np.float64)
    if kind == "orthogonal":
        u, _, v = np.linalg.svd(w, full_matrices=False)
        return u @ v * 0.3
    if kind == "rank one":
        return np.outer(w[:, 0], w[0])
    return w * {"gaussian": 1.0, "tiny": 1e-30, "huge": 1e30}[kind]


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal", "rank one", "tiny", "huge"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 3), (33, 64), (65, 40), (200, 300)])
def test_norm_proofs_are_sharp(kind, shape):
    w = matrices(kind, *shape)
    true = np.linalg.svd(w, compute_uv=False)[0]
    assert maps.Dense(w).proves(true * (1 + 1e-11))
    assert not maps.Dense(w).proves(true * (1 - 1e-12)) and not maps.Dense(w).proves(true * (1 - 1e-6))
    assert not maps.Dense(w).proves(0.0) and not maps.Dense(w).proves(math.inf) and not maps.Dense(w).proves(math.nan)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (40, 40), (256, 1000), (400, 400)])
@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
def test_bounds_of_certificates_leave_room_for_the_proof(shape, kind):
    """`norm_bound` adds 32 max(m, n) 2^-52; the proof needs less, even for the tighter bound of a linear layer."""
    w = matrices(kind, *shape)
    layer = Dense(shape[1], shape[0]).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
    assert maps.Dense(w).proves(layer.norm_bound() * (1 - 2.0**-49))


def test_a_norm_is_never_proved_below_that_of_exact_matrices():
    """Integer matrices whose norm is known exactly: all ones, n x n, norm n."""
    for n in (1, 2, 7, 64, 100):
        ones = np.ones((1, n, n))
        assert not norms.prove(ones, math.nextafter(n, 0))
        assert not norms.prove(ones, n - n * 1e-14)
        assert norms.prove(ones, n * (1 + 1e-12))


def test_the_error_of_a_matrix_is_taken_off_the_bound():
    w = matrices("gaussian", 5, 5)[None]
    true = np.linalg.svd(w[0], compute_uv=False)[0]
    assert norms.prove(w, true * 1.1, 0.09 * true) and not norms.prove(w, true * 1.1, 0.11 * true)


def test_zero_matrices():
    assert norms.prove(np.zeros((1, 3, 2)), 5e-324) and not norms.prove(np.zeros((1, 3, 2)), 1.0, 1.1)


def test_tableaux_are_those_of_the_integrators():
    for name, method in runge_kutta.METHODS.items():
        theirs: Any = Integrator.registry[name]
        assert [[float(c) for c in row] for row in method.a] == [list(map(float, row)) for row in theirs.a]
        assert [float(c) for c in method.b] == pytest.approx(list(theirs.b), abs=1e-16)


@pytest.mark.parametrize("name", ["Euler", "Heun", "SSPRK3", "RK4"])
def test_contractivity_radii_are_one(name):
    method = runge_kutta.METHODS[name]
    assert method.radius() == 1
    assert not method.contractive(Fraction(1_000_001, 1_000_000))


def test_midpoint_is_not_circle_contractive():
    assert runge_kutta.METHODS["Midpoint"].radius() == 0
    assert not runge_kutta.METHODS["Midpoint"].contractive(Fraction(1, 10**6))


@pytest.mark.parametrize("name", list(runge_kutta.METHODS))
def test_lipschitz_constants_cover_linear_fields(name):
    """On x' = -g x the step is multiplication by the stability polynomial."""
    method = runge_kutta.METHODS[name]
    for hg in (0.1, 1.0, 1.99, 2.0, 2.01, 3.0, 7.0):
        k: list[float] = []
        for row in method.a:
            k.append(-hg * (1 + sum(float(c) * v for c, v in zip(row, k, strict=True))))
        factor = abs(1 + sum(float(c) * v for c, v in zip(method.b, k, strict=True)))
        bound = method.lipschitz(Fraction(hg))
        assert factor <= float(bound) * (1 + 1e-15)
        assert (bound == 1) == (hg <= 2 * method.radius())


def test_powers_and_roots_are_rounded_up():
    x = Fraction(1) + Fraction(1, 2**52)
    assert 0 <= runge_kutta.power(x, 1000) - x**1000 < Fraction(1, 2**100)
    assert runge_kutta.power(Fraction(10) ** 300, 10**9) > Fraction(sys.float_info.max)
    for value in (Fraction(2), Fraction(10) ** 40 + 1, Fraction(1, 3)):
        root = runge_kutta.root(value)
        assert 0 <= root * root - value <= value / 2**50


def layer(kind: str, **given: Any) -> architecture.Layer:
    return architecture.Layer(kind.lower(), kind, given, {})


def test_shapes_are_found_backwards():
    found = shapes.states(
        [
            layer("Normalise", mean=[0.1], std=[1.0]),
            layer("PixelUnshuffle", downscale_factor=2),
            layer("Lift", in_channels=4, out_channels=6),
            layer("Flow", linear=MapSpec("Conv2d", {}, {}, (6, 3, 4), (2, 3, 4))),
            layer("AvgPool2d", window=[2, 2], divisor=4),
            layer("Flatten"),
            layer("Linear", in_features=12, out_features=5),
        ]
    )
    assert found == [(1, 6, 8), (1, 6, 8), (4, 3, 4), (6, 3, 4), (6, 3, 4), (6, 1, 2), (12,), (5,)]


def test_shapes_known_by_their_size_alone():
    found = shapes.states(
        [layer("Normalise", mean=[0.1], std=[1.0]), layer("Flatten"), layer("Linear", in_features=16, out_features=2)]
    )
    assert found == [16, 16, (16,), (2,)]


@pytest.mark.parametrize(("shape", "pixels"), [(16, 16), ((1, 4, 5), 20), ((1,), 1)])
def test_the_mean_of_a_normalisation_counts_once_per_pixel(shape, pixels):
    given = layer("Normalise", mean=[0.3], std=[0.5])
    model = ModelFile({}, {}, {}, memoryview(b""))
    norm = (100 + 0.3 * math.sqrt(pixels)) / 0.5
    claim = {"lipschitz": 2.0, "rounding": 1e-9, "output_norm": norm * (1 + 1e-9)}
    assert prove_layer(given, claim, model, shape, (100.0, 0.0))[0] == 2
    with pytest.raises(strict.Rejected, match="output_norm"):
        prove_layer(given, claim | {"output_norm": norm * (1 - 1e-9)}, model, shape, (100.0, 0.0))
    with pytest.raises(strict.Rejected, match="does not determine the image size"):
        prove_layer(given, claim, model, None, (100.0, 0.0))


@pytest.mark.parametrize(
    "layers",
    [
        [layer("Flow", linear=MapSpec("Conv2d", {}, {}, (4,), (4,))), layer("Linear", in_features=5, out_features=2)],
        [
            layer("Flow", linear=MapSpec("Conv2d", {}, {}, (4, 2, 2), (4, 2, 2))),
            layer("Linear", in_features=16, out_features=2),
        ],
        [
            layer("Flow", linear=MapSpec("Conv2d", {}, {}, (3, 3, 3), (3, 3, 3))),
            layer("PixelUnshuffle", downscale_factor=2),
        ],
        [
            layer("Flow", linear=MapSpec("Conv2d", {}, {}, (3, 3, 3), (3, 3, 3))),
            layer("Lift", in_channels=2, out_channels=5),
        ],
        [
            layer("Flow", linear=MapSpec("Conv2d", {}, {}, (3, 3, 3), (3, 3, 3))),
            layer("AvgPool2d", window=[4, 1], divisor=4),
        ],
    ],
)
def test_layers_that_do_not_fit_together(layers):
    with pytest.raises(strict.Rejected, match="does not fit"):
        shapes.states(layers)
