"""`verify(model, certificate)`: an independent yes or no, with what was proved or the first step that fails.

Nothing here is shared with the code that makes certificates: the model file is parsed byte by byte, the architecture
is read from its stored configuration by `checker.architecture`, and every number of the certificate is proved again in
numpy and in exact rational arithmetic. The statement is that of docs/certificates.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from .checker.architecture import Layer, layers
from .checker.model_file import ModelFile, read_model
from .checker.proofs import prove_head, prove_layer
from .checker.shapes import states
from .checker.strict import Rejected, entries, items, kind, natural, number, parse, text

SCHEMA = "stablenets/certificate/1"
SIZE_LIMIT = 64 * 2**20
KEYS = (
    "schema", "network", "weights_sha256", "dtype", "classes", "input", "lipschitz", "head", "rounding", "layers",
    "versions",
)  # fmt: skip
LAYER_KEYS = ("name", "kind", "theorem", "lipschitz", "rounding", "output_norm")
FLOW_KEYS = (
    "field", "integrator", "linear", "activation", "norm_bound", "norm_theorem", "h", "steps", "step_limit",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """Whether a certificate is proved, and `reason`: what was proved, or the first step of the check that fails."""

    ok: bool
    reason: str


def verify(model_path: str | os.PathLike[str], certificate_path: str | os.PathLike[str]) -> Verdict:
    """Check a certificate against the model file it is about. Never raises on account of what the files hold.

    >>> verify("nothing.safetensors", "nothing.json")
    Verdict(ok=False, reason='the certificate cannot be read (No such file or directory)')
    """
    try:
        return Verdict(True, _verify(model_path, _certificate(certificate_path)))
    except Rejected as error:
        return Verdict(False, str(error))
    except RecursionError:
        return Verdict(False, "the network is nested too deeply")
    except (OSError, MemoryError, OverflowError) as error:
        return Verdict(False, f"the check could not be finished ({error})")


def _certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The certificate, with all its keys and of the right form."""
    try:
        if (size := Path(path).stat().st_size) > SIZE_LIMIT:
            raise Rejected(f"the certificate has {size} bytes, over {SIZE_LIMIT}")
        content = parse(Path(path).read_bytes(), "the certificate")
    except OSError as error:
        raise Rejected(f"the certificate cannot be read ({error.strerror})") from None
    if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
        raise Rejected(f"the certificate is not of schema {SCHEMA}")
    certificate = entries(content, KEYS, "the certificate")
    if certificate["dtype"] != "float64":
        raise Rejected(f"the certificate is for {certificate['dtype']!r} arithmetic; the proof is for 'float64'")
    text(certificate["network"], "network")
    entries(certificate["input"], ("norm_limit",), "input")
    entries(certificate["head"], ("name", "kind", "constants"), "head")
    if not isinstance(certificate["versions"], dict):
        raise Rejected("versions is not an object")
    for name, version in certificate["versions"].items():
        text(version, f"the version of {name}")
    for i, claim in enumerate(items(certificate["layers"], "layers")):
        flow = isinstance(claim, dict) and claim.get("kind") == "Flow"
        entries(claim, LAYER_KEYS + FLOW_KEYS if flow else LAYER_KEYS, f"layer {i} of the certificate")
        for key in ("name", "kind", "theorem", *(("norm_theorem",) if flow else ())):
            text(claim[key], f"{key} of layer {i} of the certificate")
    return certificate


def _verify(model_path: str | os.PathLike[str], certificate: dict[str, Any]) -> str:
    """Prove a certificate; returns what was proved."""
    model = read_model(model_path)
    if model.sha256() != certificate["weights_sha256"]:
        raise Rejected("the certificate is for other weights: its sha256 is not that of the model")
    network = layers(model.config)
    shapes = states(network)
    _same_tensors(model, network)
    if certificate["network"] != kind(model.config, "the network").removeprefix("torch."):
        raise Rejected(f"the certificate is for a {certificate['network']}")
    _same_layers(certificate["layers"], network)

    limit = number(certificate["input"]["norm_limit"], "norm_limit", positive=True)
    bound, product = (limit, 0.0), Fraction(1)
    for i, (layer, claim) in enumerate(zip(network, certificate["layers"], strict=True)):
        proved, bound = prove_layer(layer, claim, model, shapes[i], bound)
        product *= proved if i < len(network) - 1 else 1
    lipschitz = number(certificate["lipschitz"], "lipschitz", positive=True)
    if Fraction(lipschitz) < product:
        raise Rejected(f"lipschitz {lipschitz!r} is below the product of the layers, {float(product)!r}")
    prove_head(network[-1], _constants(certificate, network[-1]), model)
    rounding = number(certificate["rounding"], "rounding")
    if rounding < bound[1]:
        raise Rejected(f"rounding {rounding!r} is below that of the last layer, {bound[1]!r}")
    flows = sum(layer.kind == "Flow" for layer in network)
    where = f"inputs of shape {shapes[0]} and norm" if isinstance(shapes[0], tuple) else "inputs of norm"
    return (
        f"proved: with L = {lipschitz:.9g} every difference of scores i and j is L c_ij-Lipschitz, and scores "
        f"evaluated in float64 are within {rounding:.2e} on {where} at most {limit:g} "
        f"({len(network)} layers, {flows} of them flows, every norm bound proved by Cholesky factorisation)"
    )


def _same_tensors(model: ModelFile, network: list[Layer]) -> None:
    """The model file holds the tensors and frozen steps of the architecture, and no others."""
    expected = {name: shape for layer in network for name, shape in layer.tensors.items()}
    for name, shape in expected.items():
        if name not in model.entries or model.entries[name].shape != shape:
            raise Rejected(f"the model file has no tensor {name} of shape {list(shape)}")
    for name in model.entries:
        if name not in expected:
            raise Rejected(f"the model file has the tensor {name}, which its architecture does not")
        model.tensor(name)  # finite
    steps = {layer.path("_extra_state") for layer in network if layer.kind == "Flow"}
    if steps != set(model.extra):
        raise Rejected("the frozen steps of the model file are not those of its flows")


def _same_layers(claims: list[Any], network: list[Layer]) -> None:
    """The certificate lists the layers of the network, in order."""
    for claim, layer in zip(claims, network, strict=False):
        if (claim["name"], claim["kind"]) != (layer.name, layer.kind):
            raise Rejected(
                f"the certificate lists {claim['name']!r} ({claim['kind']}) where the network has {layer.name!r} "
                f"({layer.kind})"
            )
    if len(claims) != len(network):
        raise Rejected(f"the certificate lists {len(claims)} layers, the network has {len(network)}")
    if not network or network[-1].kind not in ("Linear", "NormalisedHead"):
        raise Rejected("the network does not end in a linear layer")


def _constants(certificate: dict[str, Any], head: Layer) -> list[list[float]]:
    """The pairwise constants of the head, one row per class."""
    claim, classes = certificate["head"], head.tensors[head.path("weight")][0]
    if (claim["name"], claim["kind"]) != (head.name, head.kind):
        raise Rejected(f"the head of the certificate is not {head.name!r} ({head.kind})")
    if natural(certificate["classes"], "classes") != classes:
        raise Rejected(f"the certificate is for {certificate['classes']} classes, the network has {classes}")
    constants = [items(row, "a row of the head's constants") for row in items(claim["constants"], "the constants")]
    if [len(row) for row in constants] != [classes] * classes:
        raise Rejected(f"the head's constants are not a table of {classes} x {classes}")
    return [[number(c, "a constant of the head") for c in row] for row in constants]
