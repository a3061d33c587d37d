"""`verify(model, certificate)`: an independent yes or no, with what was proved or the first step that fails.

Nothing here is shared with the code that makes certificates: the model file is parsed byte by byte, the architecture
is read from its stored configuration by `checker.architecture`, and every number of the certificate is proved again in
numpy and in exact rational arithmetic. The statement is that of docs/certificates.md.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .checker import denoiser
from .checker.architecture import Layer, layers
from .checker.flows import affordable_steps
from .checker.model_file import ModelFile, read_model
from .checker.norms import TALLY
from .checker.proofs import prove_head, prove_layer
from .checker.running import prove_growth
from .checker.shapes import states
from .checker.strict import Rejected, entries, items, kind, natural, number, open_file, parse, text

SCHEMA = "stablenets/certificate/2"
SIZE_LIMIT = 64 * 2**20
LONGEST_REASON = 500  # characters: names in a forged file may be of any length
KEYS = (
    "schema", "network", "weights_sha256", "dtype", "classes", "input", "lipschitz", "head", "rounding", "float32",
    "layers", "versions",
)  # fmt: skip
LAYER_KEYS = ("name", "kind", "theorem", "method", "lipschitz", "rounding", "output_norm")
FLOW_KEYS = ("field", "integrator", "linear", "norm_bound", "norm_theorem", "h", "steps", "step_limit")
FIELD_KEYS = {
    "ConvexGradient": ("activation",),
    "Contracting": ("activation", "rate"),
    "TimedTwoLayer": ("activation", "outer", "outer_norm_bound", "outer_norm_theorem"),
    "SkewLinear": ("terms", "deviation"),
}
HEADS = {"Linear": "out_features", "NormalisedHead": "classes", "TruncatedHead": "classes"}  # and what counts classes


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
    tally: Counter[str] = Counter()
    before = TALLY.set(tally)
    try:
        with np.errstate(all="ignore"):  # what overflows is not proved
            content = _content(certificate_path)
            if isinstance(content, dict) and content.get("format") == denoiser.FORMAT:
                return Verdict(True, denoiser.prove_denoiser(model_path, content))
            return Verdict(True, _verify(model_path, _certificate(content), tally))
    except Rejected as error:
        return Verdict(False, _printable(str(error)))
    except RecursionError:
        return Verdict(False, "the network is nested too deeply")
    except (OSError, MemoryError, ArithmeticError, ValueError) as error:
        return Verdict(False, _printable(f"the check could not be finished ({error})"))
    finally:
        TALLY.reset(before)


def _printable(reason: str) -> str:
    """A reason that may quote a forged file, made fit for a terminal."""
    reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}..."
    return "".join(c if c.isprintable() else "?" for c in reason)


def _content(path: str | os.PathLike[str]) -> Any:
    """What the certificate's file holds."""
    with open_file(path, "the certificate") as file:
        if (length := os.fstat(file.fileno()).st_size) > SIZE_LIMIT:
            raise Rejected(f"the certificate has {length} bytes, over {SIZE_LIMIT}")
        return parse(file.read(length), "the certificate")


def _certificate(content: Any) -> dict[str, Any]:
    """The certificate, with all its keys and of the right form."""
    if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
        raise Rejected(f"the certificate is not of schema {SCHEMA}")
    certificate = entries(content, KEYS, "the certificate")
    if certificate["dtype"] not in ("float64", "float32"):
        raise Rejected(
            f"the certificate is for {certificate['dtype']!r} arithmetic; proofs are for float64 and float32"
        )
    if (certificate["float32"] is None) != (certificate["dtype"] == "float64"):
        raise Rejected(f"the certificate is for {certificate['dtype']}, which what it says of float32 does not fit")
    text(certificate["network"], "network")
    entries(certificate["input"], ("shape", "norm_limit", "scaling"), "input")
    entries(certificate["head"], ("name", "kind", "constants"), "head")
    if not isinstance(certificate["versions"], dict):
        raise Rejected("versions is not an object")
    for name, version in certificate["versions"].items():
        text(version, f"the version of {name}")
    for i, claim in enumerate(items(certificate["layers"], "layers")):
        flow = isinstance(claim, dict) and claim.get("kind") == "Flow"
        keys = LAYER_KEYS
        if flow:
            field = str(claim.get("field"))
            if field not in FIELD_KEYS:
                raise Rejected(f"not covered by the checker: layer {i} of the certificate says field {field!r}")
            keys += FLOW_KEYS + FIELD_KEYS[field]
        entries(claim, keys, f"layer {i} of the certificate")
        for key in ("name", "kind", "theorem", "method", "norm_theorem", "outer_norm_theorem"):
            if key in keys:
                text(claim[key], f"{key} of layer {i} of the certificate")
    return certificate


def _verify(model_path: str | os.PathLike[str], certificate: dict[str, Any], tally: Counter[str]) -> str:
    """Prove a certificate; returns what was proved. `tally` counts the proofs of norm bounds by their kind."""
    model = read_model(model_path)
    if model.sha256() != certificate["weights_sha256"]:
        raise Rejected("the certificate is for other weights: its sha256 is not that of the model")
    network = layers(model.config)
    shapes = states(network, _input_shape(certificate["input"]))
    _same_tensors(model, network)
    affordable_steps(network, model)
    if certificate["network"] != kind(model.config, "the network").removeprefix("torch."):
        raise Rejected(f"the certificate is for a {certificate['network']}")
    _same_layers(certificate["layers"], network)

    limit = number(certificate["input"]["norm_limit"], "norm_limit", positive=True)
    bound, product, scaling = (limit, 0.0), Fraction(1), Fraction(1)
    for i, (layer, claim) in enumerate(zip(network, certificate["layers"], strict=True)):
        proved, bound = prove_layer(layer, claim, model, shapes[i], bound)
        product *= proved if i < len(network) - 1 else 1
        scaling *= proved if layer.kind == "Normalise" else 1
    lipschitz = number(certificate["lipschitz"], "lipschitz", positive=True)
    if Fraction(lipschitz) < product:
        raise Rejected(f"lipschitz {lipschitz!r} is below the product of the layers, {float(product)!r}")
    if Fraction(number(certificate["input"]["scaling"], "scaling")) < scaling:
        raise Rejected(f"scaling {certificate['input']['scaling']!r} is below the proved {float(scaling)!r}")
    prove_head(network[-1], _constants(certificate, network[-1]), model)
    rounding = number(certificate["rounding"], "rounding")
    if rounding < bound[1]:
        raise Rejected(f"rounding {rounding!r} is below that of the last layer, {bound[1]!r}")
    growth = "" if certificate["float32"] is None else f"; {prove_growth(network, certificate, model)}"
    flows = sum(layer.kind == "Flow" for layer in network)
    proofs = ", ".join(f"{count} {how}" for how, count in sorted(tally.items())) or "none needed"
    where = f"inputs of shape {shapes[0]} and norm" if isinstance(shapes[0], tuple) else "inputs of norm"
    return (
        f"proved: with L = {lipschitz:.9g} every difference of scores i and j is L c_ij-Lipschitz, and scores "
        f"evaluated in float64 are within {rounding:.2e} on {where} at most {limit:g}{growth} "
        f"({len(network)} layers, {flows} of them flows; norm bounds proved: {proofs})"
    )


def _input_shape(given: dict[str, Any]) -> tuple[int, ...] | None:
    """The shape of the inputs that the certificate speaks of; None: whatever the network takes."""
    if given["shape"] is None:
        return None
    shape = tuple(natural(n, "the input shape") for n in items(given["shape"], "the input shape"))
    if not shape:
        raise Rejected("the input shape is empty")
    return shape


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
    if not network or network[-1].kind not in HEADS:
        raise Rejected("the network does not end in a linear layer")


def _constants(certificate: dict[str, Any], head: Layer) -> list[list[float]]:
    """The pairwise constants of the head, one row per class."""
    claim, classes = certificate["head"], head.given[HEADS[head.kind]]
    if (claim["name"], claim["kind"]) != (head.name, head.kind):
        raise Rejected(f"the head of the certificate is not {head.name!r} ({head.kind})")
    if natural(certificate["classes"], "classes") != classes:
        raise Rejected(f"the certificate is for {certificate['classes']} classes, the network has {classes}")
    constants = [items(row, "a row of the head's constants") for row in items(claim["constants"], "the constants")]
    if [len(row) for row in constants] != [classes] * classes:
        raise Rejected(f"the head's constants are not a table of {classes} x {classes}")
    return [[number(c, "a constant of the head") for c in row] for row in constants]
