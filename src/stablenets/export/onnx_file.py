"""ONNX files: written, compared with the network before they get their name, and evaluated through onnxruntime."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ..core.errors import InputError, message
from .matmul import DECOMPOSITIONS
from .place import placed
from .program import program
from .statement import FORMAT, statement

if TYPE_CHECKING:
    from ..certify import Certificate

PREFIX = "stablenets."
AGREEMENT = {torch.float32: 1e-5, torch.float64: 1e-11}  # relative to the largest score


def to_onnx(
    net: nn.Module,
    path: str | os.PathLike[str],
    *,
    certificate: Certificate | None = None,
    dtype: torch.dtype = torch.float64,
    input_shape: tuple[int, ...] | None = None,
) -> Path:
    """Write a network as an ONNX file: input "image" (batch, ...), output "scores" (batch, classes), any batch size.

    In float32 the graph holds plain convolutions; in float64 matrix products in their place, since onnxruntime has no
    float64 convolutions on CPUs. The file says of itself which network it is and what is proved in which arithmetic
    (`metadata_props`, keys "stablenets.*"); the certificate is in it, and beside it as certificate.json. The file is
    evaluated by onnxruntime and compared with the network before it gets its name.

    Args:
        net: a `Network`, or any module of layers, in evaluation mode.
        path: file to write, ending in .onnx.
        certificate: what `certify(net)` returned.
        dtype: torch.float64 or torch.float32. A certificate covers a file of its own dtype only.
        input_shape: shape of one input, without the batch. A `Network` knows its own.

    Returns:
        `path`.

    Raises:
        ClaimError: in training mode or under autocast.
        InputError: onnx, onnxscript or onnxruntime is not installed; the certificate is for other weights; the network
            cannot be written as ONNX, or the file cannot be written.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _import(name)
    metadata = statement(net, dtype, certificate)
    lowered = DECOMPOSITIONS if dtype == torch.float64 else None
    graph = program(net, dtype=dtype, input_shape=input_shape, decompositions=lowered)
    with placed(path, ".onnx", certificate) as file:
        model = _converted(graph, type(net).__name__)
        model.model.metadata_props.update({PREFIX + key: value for key, value in metadata.items()})
        model.save(file)
        _compare(load(file), graph)
    return Path(path)


def _converted(graph: ExportedProgram, name: str) -> torch.onnx.ONNXProgram:
    """The program as ONNX, without the exporter's notes and noise."""
    try:
        with _quiet():
            model = torch.onnx.export(
                graph, (), dynamo=True, input_names=["image"], output_names=["scores"],
                dynamic_shapes=({0: "batch"},), verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        given = f"{name} cannot be written as ONNX ({str(error).splitlines()[0]:.120})"
        raise InputError(message(given, "layers that ONNX has operations for", "Use export.to_torch.")) from error
    assert model is not None
    _strip(model.model)
    return model


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        todo = "Install them: pip install 'stablenets[export]'"
        raise InputError(message(f"{name} is not installed", "the packages for export", todo)) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of the exporter about PyTorch's own code and packages that are not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def _strip(model: Any) -> None:
    """Remove what the exporter notes about where each operation came from: it names folders of this machine."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _compare(exported: Exported, graph: ExportedProgram) -> None:
    """Evaluate the written file and the program on random inputs, in batches of 1 and 3."""
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 3):
        x = torch.rand(batch, *exported.input_shape, generator=generator, dtype=exported.dtype)
        with torch.no_grad():
            expected = graph.module()(x)
        apart = float((exported(x) - expected).abs().max() / expected.abs().max().clamp(min=1))
        if not apart <= AGREEMENT[exported.dtype]:
            given = f"the ONNX file and the network disagree by {apart:.2g}"
            raise InputError(message(given, f"at most {AGREEMENT[exported.dtype]:g}", "Please report this bug."))


@dataclass(frozen=True)
class Exported:
    """An ONNX file, callable: inputs (batch, ...) to scores (batch, classes), by onnxruntime on the CPU.

    The graph is evaluated as it is written, without onnxruntime's rewriting.

    Attributes:
        dtype: of the arithmetic; inputs are converted to it.
        input_shape: shape of one input.
        metadata: what the file says of itself: "network", "weights_sha256", "dtype", "certified", "statement", ...
        certificate: the content of the certificate inside the file, or None. It is the exporter's word: what can be
            verified is the model file that was exported, by `stablenets verify`.
    """

    dtype: torch.dtype
    input_shape: tuple[int, ...]
    metadata: dict[str, str]
    certificate: dict[str, Any] | None = field(repr=False)
    _session: Any = field(repr=False, compare=False)

    def __call__(self, x: Tensor) -> Tensor:
        """Scores (batch, classes), in `dtype`.

        Raises:
            InputError: for inputs of another shape.
        """
        if tuple(x.shape[1:]) != self.input_shape:
            needed = f"(batch, {', '.join(map(str, self.input_shape))})"
            raise InputError(message(f"inputs of shape {tuple(x.shape)}", needed))
        image = x.detach().cpu().to(self.dtype).contiguous().numpy()
        return torch.from_numpy(self._session.run(["scores"], {"image": image})[0])


def load(path: str | os.PathLike[str]) -> Exported:
    """Read a file that `to_onnx` wrote. Nothing in it is executed but its graph.

    Programs of `to_torch` are not read here: `torch.export.load` unpickles, so that a file may run any code. Use it
    yourself on files that you trust.

    Raises:
        InputError: the file is missing, damaged or not one of ours, or onnxruntime is not installed.
    """
    path = Path(path)
    if path.suffix != ".onnx" or not path.is_file():
        given = f"{path} is not an ONNX file" if path.exists() else f"there is no file {path}"
        todo = "torch.export.load reads .pt2 files; it unpickles, so use it on files that you trust only."
        raise InputError(message(given, "a file written by export.to_onnx", todo if path.suffix == ".pt2" else ""))
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common base
        given = f"onnxruntime cannot read {path} ({' '.join(str(error).split()):.160})"
        raise InputError(message(given, "an intact file written by export.to_onnx")) from error
    entries = session.get_modelmeta().custom_metadata_map
    metadata = {key.removeprefix(PREFIX): value for key, value in entries.items() if key.startswith(PREFIX)}
    if metadata.get("format") != FORMAT:
        raise InputError(message(f"{path} was not written by stablenets", f"a file of format {FORMAT}"))
    certificate = json.loads(metadata.pop("certificate", "null"))
    dtype, shape = getattr(torch, metadata["dtype"]), session.get_inputs()[0].shape
    return Exported(dtype, tuple(shape[1:]), metadata, certificate, session)
