"""Exported networks: the same function, as plain operations, that says what is proved of it and in which arithmetic."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import everything  # noqa: F401 (fills the registries)
import stablenets as sn
from small_runs import copied
from stablenets import cli, export
from stablenets.certify import certify
from stablenets.core.errors import ClaimError, InputError
from stablenets.data import load_data
from stablenets.export import matmul, onnx_file
from stablenets.layers import AdaptiveFlow, Flow, Layer, Lift, Normalise, NormalisedHead
from stablenets.networks import Network, NonExpansiveNet

DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def trained(seed: int = 0) -> NonExpansiveNet:
    generator = torch.Generator().manual_seed(seed)
    net = NonExpansiveNet((1, 8, 8), 10, patch=2, blocks=(1,), hidden=6, dense_width=12, dense_blocks=1)
    for p in net.parameters():
        p.data += 0.5 * torch.randn(p.shape, generator=generator)
    return net.eval()


@pytest.fixture(scope="module")
def net() -> NonExpansiveNet:
    return trained()


@pytest.fixture(scope="module")
def files(net: NonExpansiveNet, tmp_path_factory: pytest.TempPathFactory) -> dict[torch.dtype, Path]:
    """One ONNX file of each dtype, with the certificate of float64 evaluation."""
    proof = certify(net)
    folders = {dtype: tmp_path_factory.mktemp(str(dtype)) for dtype in DTYPES}
    return {d: export.to_onnx(net, f / "model.onnx", certificate=proof, dtype=d) for d, f in folders.items()}


def images() -> Iterator[Tensor]:
    yield load_data("digits").x_test[:50]
    for batch in (1, 2, 7):
        yield torch.rand(batch, 1, 8, 8)


def apart(f: Callable[[Tensor], Tensor], net: nn.Module, x: Tensor, dtype: torch.dtype) -> float:
    with torch.no_grad():
        return float((f(x.to(dtype)) - copy.deepcopy(net).to(dtype)(x.to(dtype))).abs().max())


# --- the same function --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_onnx_files_agree_with_the_network_on_batches_of_any_size(net, files, dtype) -> None:
    exported = export.load(files[dtype])
    assert (exported.dtype, exported.input_shape) == (dtype, (1, 8, 8))
    for x in images():
        assert apart(exported, net, x, dtype) <= TOLERANCE[dtype]
        assert exported(x).dtype == dtype and len(exported(x)) == len(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_graph_is_plain_and_all_else_is_computed_in_advance(net, files, dtype) -> None:
    graph = onnx.load(files[dtype]).graph
    kinds = [node.op_type for node in graph.node]
    moving = {"Reshape", "Transpose", "Pad", "Slice", "Unsqueeze", "Concat"}
    products = {torch.float32: {"Conv", "Gemm"}, torch.float64: {"MatMul", "Gemm"}}[dtype]
    assert set(kinds) <= moving | products | {"Add", "Relu", "Neg", "Mul"}
    flows = sum(isinstance(m, Flow) for m in net.modules())
    assert sum(kind in products for kind in kinds) == 2 * flows + 1, "two for each step, one for the head"


def test_steps_keep_all_their_digits(net, files) -> None:
    """In float32 a step may be rounded up, past its limit."""
    steps = {m.step_size for m in net.modules() if isinstance(m, Flow)}
    graph = onnx.load(files[torch.float64]).graph
    assert steps <= {float(onnx.numpy_helper.to_array(t)) for t in graph.initializer if not t.dims}


@pytest.mark.parametrize("dtype", DTYPES)
def test_programs_agree_before_and_after_the_trip(net, tmp_path, dtype) -> None:
    path = export.to_torch(net, tmp_path / "model.pt2", certificate=certify(net), dtype=dtype)
    extra = {"stablenets.json": ""}
    read = torch.export.load(path, extra_files=extra)
    for program in (read, export.program(net, dtype=dtype)):
        for x in images():
            assert apart(program.module(), net, x, dtype) <= TOLERANCE[dtype]
        targets = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
        assert {t for t in targets if "norm" in t or "flip" in t or "expand" in t} == set()
    said = json.loads(extra["stablenets.json"])
    assert said["certified"] == ("yes" if dtype == torch.float64 else "no")
    assert json.loads(said["certificate"]) == json.loads((tmp_path / "certificate.json").read_text())


@pytest.mark.parametrize("name", sorted(Network.registry))
def test_every_network_can_be_exported(name: str) -> None:
    for example in Network.registry[name].examples():
        for p in example.parameters():
            p.data += 0.1 * torch.randn_like(p)
        if any(isinstance(layer, AdaptiveFlow) for layer in example.modules()):  # its operations depend on the input
            with pytest.raises(InputError, match="cannot be traced"):
                export.program(example.eval())
            continue
        program = export.program(example.eval())
        assert apart(program.module(), example, torch.rand(4, *example.image_shape), torch.float64) <= 1e-12


def test_lifts_means_and_pooling_in_onnx(tmp_path: Path) -> None:
    layers = Normalise((0.3,), (0.5,)), nn.AvgPool2d(2), Lift(1, 3), nn.LeakyReLU(0.3), nn.Flatten(), nn.Linear(12, 2)
    net = nn.Sequential(*layers).eval()
    exported = export.load(export.to_onnx(net, tmp_path / "model.onnx", input_shape=(1, 4, 4)))
    assert apart(exported, net, torch.randn(4, 1, 4, 4), torch.float64) <= 1e-14
    assert exported.certificate is None and exported.metadata["certified"] == "no"


@pytest.mark.parametrize("name", sorted(Layer.registry))
def test_every_layer_is_exported_faithfully_or_refused_by_name(name: str) -> None:
    layer = next(Layer.registry[name].examples()).eval()
    shape = layer.input_shape or (4,)
    try:
        program = export.program(layer, input_shape=shape)
    except InputError as error:
        assert f"{name} cannot be traced" in str(error)
        return
    x = torch.randn(3, *shape)
    assert apart(program.module(), layer, x, torch.float64) <= 1e-15 * max(1e3, float(layer(x).abs().max()))


@pytest.mark.parametrize("stride, padding, dilation, groups", itertools.product((1, 2), (0, 2), (1, 2), (1, 2)))
def test_convolutions_as_matrix_products(stride: int, padding: int, dilation: int, groups: int) -> None:
    rest = [stride], [padding], [dilation], groups
    for n, convolution in ((1, F.conv1d), (2, F.conv2d)):
        x, bias = torch.randn(2, 4, *(9, 7)[:n], dtype=torch.float64), torch.randn(6, dtype=torch.float64)
        kernel = torch.randn(6, 4 // groups, *(3, 2)[:n], dtype=torch.float64)
        expected = convolution(x, kernel, bias, stride, padding, dilation, groups)
        assert torch.allclose(matmul.convolution(x, kernel, bias, *rest), expected, rtol=0, atol=1e-13)


def test_pooling_and_leaky_relu_by_other_operations() -> None:
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    for size, divisor in (([2], None), ([2, 3], None), ([3, 3], 3)):
        pooled = matmul.average_pooling(x, size, divisor_override=divisor)
        assert torch.allclose(pooled, F.avg_pool2d(x, size, divisor_override=divisor), rtol=0, atol=1e-15)
    assert torch.equal(matmul.leaky_relu(x, 0.2), F.leaky_relu(x, 0.2))
    with pytest.raises(InputError, match="padded windows; needed: windows inside the image"):
        matmul.average_pooling(x, [2], padding=[1])


# --- what it says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_carries_its_certificate_and_says_what_it_covers(net, files, dtype) -> None:
    exported, proof = export.load(files[dtype]), certify(net)
    assert exported.certificate == json.loads(json.dumps(proof.to_json()))
    assert json.loads(files[dtype].with_name("certificate.json").read_text()) == exported.certificate
    said = exported.metadata
    assert (said["network"], said["weights_sha256"]) == ("NonExpansiveNet", proof.weights_sha256)
    assert said["dtype"] == str(dtype).removeprefix("torch.")
    if dtype == torch.float64:
        assert said["certified"] == "yes" and "covers this file, evaluated in float64" in said["statement"]
    else:
        assert said["certified"] == "no" and "does NOT cover the answers of this file" in said["statement"]


def test_certified_radii_hold_for_the_scores_of_the_file(net, files) -> None:
    """What the float64 file answers is what the certificate is about, within its rounding."""
    proof, exported = certify(net), export.load(files[torch.float64])
    x = load_data("digits").x_test[:50]
    assert (exported(x) - proof.logits(x)).norm(dim=1).max() <= 2 * proof.rounding
    direction = F.normalize(torch.randn(50, 64, dtype=torch.float64)).view(50, 1, 8, 8)
    moved = x + (0.999 * proof.radius(x)).view(-1, 1, 1, 1) * direction
    sure = proof.radius(x) > 0
    assert sure.any() and torch.equal(exported(moved).argmax(1)[sure], exported(x).argmax(1)[sure])


def test_rounded_weights_are_not_those_of_the_certificate(net) -> None:
    double = copy.deepcopy(net).double()
    for part, original in zip(double.modules(), net.modules(), strict=True):
        part.training = original.training
    next(double.parameters()).data += 1e-12
    assert export.statement(double, torch.float64, certify(double))["certified"] == "yes"
    said = export.statement(double, torch.float32, certify(double))
    assert said["certified"] == "no" and "rounded to float32: the certificate does NOT cover" in said["statement"]
    with pytest.raises(InputError, match="certificate is for other weights"):
        export.statement(net, torch.float64, certify(double))


def test_no_file_names_a_folder_of_this_machine(net, files, tmp_path) -> None:
    home = str(Path(sn.__file__).parents[1]).encode()
    for path in (*files.values(), export.to_torch(net, tmp_path / "model.pt2")):
        assert home not in path.read_bytes() and b"stack_trace" not in path.read_bytes()


# --- what is refused ----------------------------------------------------------------------------------------------


def test_networks_without_frozen_steps_are_refused(net) -> None:
    with pytest.raises(ClaimError, match="training mode"):
        export.program(copy.deepcopy(net).train())
    with torch.autocast("cpu"), pytest.raises(ClaimError, match="autocast is on"):
        export.program(net)
    with pytest.raises(InputError, match=r"dtype=torch.bfloat16; needed: torch.float32 or torch.float64"):
        export.program(net, dtype=torch.bfloat16)
    with pytest.raises(InputError, match="unknown shape"):
        export.program(net.body)


def test_a_file_that_disagrees_is_never_left(tmp_path, monkeypatch) -> None:
    net, other = (nn.Sequential(NormalisedHead(4, 3)).eval() for _ in range(2))
    other.load_state_dict(net.state_dict())
    other[0].bias.data += 9e-7
    converted, graph = onnx_file._converted, export.program(other, input_shape=(4,))
    monkeypatch.setattr(onnx_file, "_converted", lambda _, name: converted(graph, name))
    with pytest.raises(InputError, match="the ONNX file and the network disagree by"):
        export.to_onnx(net, tmp_path / "model.onnx", input_shape=(4,))
    assert list(tmp_path.iterdir()) == []


def test_the_certificate_of_another_network_is_not_overwritten(net, tmp_path) -> None:
    certify(trained(1)).save(tmp_path / "certificate.json")
    before = (tmp_path / "certificate.json").read_bytes()
    with pytest.raises(InputError, match=r"certificate.json is another certificate.*Export into another folder"):
        export.to_torch(net, tmp_path / "model.pt2", certificate=certify(net))
    assert [f.name for f in tmp_path.iterdir()] == ["certificate.json"]
    assert (tmp_path / "certificate.json").read_bytes() == before


def test_missing_packages_are_named(net, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"onnxscript is not installed.*pip install 'stablenets\[export\]'"):
        export.to_onnx(net, tmp_path / "model.onnx")


def test_files_that_are_not_ours(net, files, tmp_path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        export.load(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(files[torch.float32].read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"onnxruntime cannot read .*model.onnx"):
        export.load(tmp_path / "model.onnx")
    foreign = onnx.load(files[torch.float32])
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "model.onnx")
    with pytest.raises(InputError, match="was not written by stablenets"):
        export.load(tmp_path / "model.onnx")
    export.to_torch(net, tmp_path / "model.pt2")
    with pytest.raises(InputError, match=r"not an ONNX file.*torch.export.load reads .pt2 files; it unpickles"):
        export.load(tmp_path / "model.pt2")
    with pytest.raises(InputError, match=r"a file that ends in \.onnx"):
        export.to_onnx(net, tmp_path / "model.txt")
    with pytest.raises(InputError, match=r"inputs of shape \(2, 3\); needed: \(batch, 1, 8, 8\)"):
        export.load(files[torch.float32])(torch.rand(2, 3))


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_writes_into_the_run_and_says_nothing_else(tmp_path: Path) -> None:
    run = copied(tmp_path)
    words = [sys.executable, "-W", "default", "-m", "stablenets", "export", str(run.path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"Written: {run.file('model.onnx')}"
    assert (
        "The certificate covers this file, evaluated in float64" in done.stdout and len(done.stdout.splitlines()) == 2
    )
    exported = export.load(run.file("model.onnx"))
    assert exported.certificate == json.loads(run.file("certificate.json").read_text())
    assert apart(exported, sn.load(run.file("model.safetensors")), next(images()), torch.float64) <= 1e-12


def test_the_command_for_a_program_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path)
    (tmp_path / "deploy").mkdir()
    with pytest.raises(SystemExit) as end:
        words = ["--format", "torch", "--dtype", "float32", "--out", str(tmp_path / "deploy" / "net.pt2")]
        cli.main(["export", str(run.path), *words])
    assert end.value.code == 0 and "does NOT cover" in capsys.readouterr().out
    assert {f.name for f in (tmp_path / "deploy").iterdir()} == {"net.pt2", "certificate.json"}
