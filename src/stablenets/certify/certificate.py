"""From claims to numbers: what is proved about a network, as an object and as a file."""

from __future__ import annotations

import copy
import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from .._version import __version__
from ..core.errors import ClaimError, InputError, message
from ..layers import Normalise, NormalisedHead, leaves, weights_hash
from .layer import FlowCertificate, LayerCertificate, certify_layer
from .rounding import Extent

SCHEMA = "stablenets/certificate/1"
DOWN = 1 - 1e-12  # radii are rounded down, constants up
UP = 1 + 1e-12


@dataclass(frozen=True)
class Certificate:
    """Certified l2 radii of a classifier; made by `certify`. See docs/certificates.md for the statement proved.

    Attributes:
        lipschitz: constant of everything before the head.
        constants: upper bounds of ||w_i - w_j||, (classes, classes).
        rounding: bound on the error of the scores evaluated in float64, for inputs of norm at most `norm_limit`.
        layers: one certificate per layer, the head last.
    """

    network: str
    weights_sha256: str
    dtype: str
    lipschitz: float
    constants: tuple[tuple[float, ...], ...]
    rounding: float
    norm_limit: float
    layers: tuple[LayerCertificate, ...]
    versions: dict[str, str]
    input_shape: tuple[int, ...] | None
    _net: nn.Module = field(repr=False, compare=False)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Scores (batch, classes) in float64 on the CPU, the arithmetic that the certificate speaks of.

        Raises:
            InputError: for inputs of another shape than the network's: its norms hold for that shape only.
        """
        refuse_autocast()
        if self.input_shape is not None and tuple(x.shape[1:]) != self.input_shape:
            raise InputError(
                message(
                    f"inputs of shape {tuple(x.shape[1:])}", f"inputs of shape {self.input_shape}, with a batch first"
                )
            )
        return torch.cat([self._net(part.cpu().double().clone()) for part in x.split(500)])

    @torch.no_grad()
    def radius(self, x: Tensor) -> Tensor:
        """Certified l2 radii (batch,) in float64: no perturbation of at most this norm changes the predicted class.

        0 where nothing is certified: ties, NaN, infinities, inputs beyond `norm_limit`.
        """
        scores = self.logits(x)
        constants = torch.tensor(self.constants, dtype=torch.float64) * self.lipschitz * UP
        top, winner = scores.max(1)
        margins = (top[:, None] - scores - 2 * math.sqrt(2) * self.rounding * UP) * DOWN
        radii = margins / constants[winner]
        radii.scatter_(1, winner[:, None], math.inf)
        radius = torch.minimum(
            radii.min(1).values, self.norm_limit * DOWN - x.cpu().double().flatten(1).norm(dim=1) * UP
        )
        good = torch.isfinite(scores).all(1) & (radius > 0)
        return torch.where(good, radius * DOWN, torch.zeros_like(radius))

    def explain(self) -> str:
        """The certificate in words."""
        worst = max(max(row) for row in self.constants)
        flows = [c for c in self.layers if isinstance(c, FlowCertificate)]
        lines = [
            f"{self.network}: every layer before the head together is {self.lipschitz:.12g}-Lipschitz in the l2 norm.",
            f"A difference of two scores changes by at most {self.lipschitz * worst:.6g} per unit of perturbation.",
            f"Evaluated in {self.dtype}, the scores are within {self.rounding:.2g} of their exact values for every "
            f"input of norm at most {self.norm_limit:.4g}; twice this, times sqrt(2), is taken off every margin.",
            "Layer by layer:",
        ]
        for c in self.layers:
            lines.append(f"  {c.name} ({c.kind}): {c.theorem}; Lipschitz constant {c.lipschitz:.12g}.")
            if isinstance(c, FlowCertificate):
                limit = "no limit" if c.step_limit is None else f"limit {c.step_limit:.6g}"
                lines.append(
                    f"    ||A|| <= {c.norm_bound:.9g} ({c.norm_theorem}); {c.steps} step(s) of h = {c.h:.6g}, {limit}."
                )
        lines.append(f"{len(flows)} flows; weights sha256 {self.weights_sha256[:16]}...")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The content of the file, see docs/certificates.md."""
        head = self.layers[-1]
        return {
            "schema": SCHEMA,
            "network": self.network,
            "weights_sha256": self.weights_sha256,
            "dtype": self.dtype,
            "classes": len(self.constants),
            "input": {"norm_limit": self.norm_limit},
            "lipschitz": self.lipschitz,
            "head": {
                "name": head.name,
                "kind": head.kind,
                "constants": [list(row) for row in self.constants],
            },
            "rounding": self.rounding,
            "layers": [asdict(c) for c in self.layers],
            "versions": self.versions,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the certificate as JSON, beside its final name first."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")
        os.replace(temporary, path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], net: nn.Module, *, input_shape: tuple[int, ...] | None = None
    ) -> Certificate:
        """Read a certificate back for the network it was made for.

        The numbers are taken from the file only if certifying `net` afresh gives the same ones.

        Raises:
            InputError: when the file is broken, was edited, or belongs to other weights.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text())
            stored = content["weights_sha256"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(message(f"{path} is not a readable certificate ({error})", "an intact file")) from error
        if stored != weights_hash(net):
            raise InputError(
                message(
                    f"{path} belongs to other weights",
                    "the certificate of this network",
                    "Run certify again.",
                )
            )
        fresh = certify(net, input_shape=input_shape)
        expected = json.loads(json.dumps(fresh.to_json()))
        for key in expected:
            if key != "versions" and not _close(expected[key], content.get(key)):
                raise InputError(
                    message(f"{path} was edited: {key!r} is not what these weights give", "the file as written")
                )
        return fresh


def _close(a: Any, b: Any) -> bool:
    """Equality up to the last digits in which LAPACK builds differ."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(_close, a, b))
    if isinstance(a, float):
        return isinstance(b, (int, float)) and math.isclose(a, b, rel_tol=1e-9)
    return a == b and type(a) is type(b)


def refuse_autocast() -> None:
    """bf16 and fp16 arithmetic void a certificate: a provably non-expansive network measured an expansion of 88."""
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise ClaimError(message("autocast is on", "float64 evaluation", "Leave the torch.autocast block."))


def certify(net: nn.Module, *, input_shape: tuple[int, ...] | None = None) -> Certificate:
    """Prove certified radii for a classifier built from stablenets' layers.

    Nothing is cached: every norm bound is computed afresh in float64 and every frozen step is checked against it.

    Args:
        net: a `Network`, a `Chain` or an `nn.Sequential` in evaluation mode, ending in a linear layer
            (`NormalisedHead` or `nn.Linear`) that gives one score per class.
        input_shape: shape of one input, without the batch. A `Network` knows its own.

    Raises:
        ClaimError: in training mode, under autocast, for weights that are not finite or of less than float32
            precision, for a layer about which too little is known (it is named), for a step that no bound allows.

    >>> from stablenets.networks import NonExpansiveNet
    >>> net = next(NonExpansiveNet.examples()).eval()
    >>> certify(net).radius(torch.rand(3, 1, 4, 4)).shape
    torch.Size([3])
    """
    refuse_autocast()
    if any(m.training for m in net.modules()):
        raise ClaimError(message("the network is in training mode", "frozen steps", "Call net.eval() first."))
    list(leaves(net))  # a layer that is not known is named before anything else
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        if value.dtype not in (torch.float32, torch.float64):
            raise ClaimError(message(f"{name} is {value.dtype}", "float32 or float64 weights", "Call net.float()."))
        if not torch.isfinite(value).all():
            raise ClaimError(message(f"{name} holds NaN or infinite values", "finite weights"))
    exact = copy.deepcopy(net).cpu().double()
    for part, original in zip(exact.modules(), net.modules(), strict=True):
        part.training = original.training
    layers = list(leaves(exact))
    head_name, head = layers[-1]
    if not isinstance(head, (NormalisedHead, nn.Linear)):
        raise ClaimError(
            message(f"the last layer, {head_name} ({type(head).__name__})", "a NormalisedHead or nn.Linear")
        )
    shape = input_shape or getattr(net, "image_shape", None)
    if shape is None and any(isinstance(layer, Normalise) and any(layer.mean) for _, layer in layers):
        raise ClaimError(message("a mean is subtracted from inputs of unknown size", "certify(net, input_shape=...)"))
    norm_limit = 2 * math.sqrt(math.prod(shape)) if shape else 100.0
    x, total, done = Extent(norm_limit, 0.0), 1.0, []
    state = torch.zeros(1, *shape, dtype=torch.float64) if shape else None
    for name, layer in layers:
        certificate, x = certify_layer(name, layer, x, 1 if state is None else math.prod(state.shape[2:]))
        with torch.no_grad():
            state = None if state is None else layer(state)  # only its shape matters
        done.append(certificate)
        total = total if layer is head else math.nextafter(total * certificate.lipschitz, math.inf)
    return Certificate(
        network=type(net).__name__,
        weights_sha256=weights_hash(net),
        dtype="float64",
        lipschitz=1.0 if all(c.lipschitz == 1.0 for c in done[:-1]) else total,
        constants=_pairwise(head),
        rounding=x.error,
        norm_limit=norm_limit,
        layers=tuple(done),
        versions=_versions(),
        input_shape=tuple(shape) if shape else None,
        _net=exact,
    )


def _pairwise(head: NormalisedHead | nn.Linear) -> tuple[tuple[float, ...], ...]:
    """Upper bounds of ||w_i - w_j||; a pair of equal rows gets the smallest positive number, not 0."""
    with torch.no_grad():
        w = head.effective_weight() if isinstance(head, NormalisedHead) else head.weight
        distances = (w[:, None] - w[None]).norm(dim=2) * UP + 1e-300
    return tuple(tuple(row) for row in distances.tolist())


def _versions() -> dict[str, str]:
    return {
        "stablenets": __version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }
