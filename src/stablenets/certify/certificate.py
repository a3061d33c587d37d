"""From claims to numbers: what is proved about a network, as an object and as a file."""

from __future__ import annotations

import copy
import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from torch import Tensor, nn

from .._version import __version__
from ..core.errors import ClaimError, InputError, message
from ..layers import Affine, Flow, Normalise, NormalisedHead, TruncatedHead, leaves, weights_hash
from .arithmetic import plain_float32, refuse_autocast
from .layer import LayerCertificate, certify_layer
from .radii import before_rounding, check, float32_radii, float64_radii, within
from .reading import DTYPES, SCHEMA, close, read
from .rounding import Extent
from .running import Growth, analyse, growth
from .running_bounds import U
from .words import explain

UP = 1 + 1e-12  # constants are rounded up
HEADS = (NormalisedHead, TruncatedHead, nn.Linear)


@dataclass(frozen=True)
class Certificate:
    """Certified l2 radii of a classifier; made by `certify`. See docs/certificates.md for the statement proved.

    Attributes:
        dtype: "float64" or "float32", the arithmetic in which the network is evaluated.
        lipschitz: constant of everything before the head.
        constants: upper bounds of ||w_i - w_j||, (classes, classes).
        rounding: bound on the error of the scores evaluated in *float64*, for inputs of norm at most `norm_limit`.
        scaling: Lipschitz constant of the change of units of the input (`Normalise`), a part of `lipschitz`.
        layers: one certificate per layer, the head last.
        growth: in float32, what `Growth` says; None in float64.
    """

    network: str
    weights_sha256: str
    dtype: str
    lipschitz: float
    constants: tuple[tuple[float, ...], ...]
    rounding: float
    norm_limit: float
    scaling: float
    layers: tuple[LayerCertificate, ...]
    growth: Growth | None
    versions: dict[str, str]
    input_shape: tuple[int, ...] | None
    _exact: nn.Module = field(repr=False, compare=False)  # in float64
    _net: nn.Module = field(repr=False, compare=False)  # in `dtype`

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Scores (batch, classes) evaluated on the CPU in `dtype`, the arithmetic that the certificate speaks of.

        Raises:
            InputError: for inputs of another shape than the network's: its norms hold for that shape only; for complex
                ones.
            ClaimError: where the arithmetic is not what the certificate speaks of, see `plain_float32`.
        """
        refuse_autocast()
        shape, first = self.input_shape, next(iter(leaves(self._exact)))[1]
        if shape is None and isinstance(first, nn.Linear):  # which would act on every row of an image
            shape = (first.in_features,)
        if x.dim() < 2 or x.is_complex() or shape not in (None, tuple(x.shape[1:])):
            given = f"{x.dtype} inputs of shape {tuple(x.shape[1:])}"
            raise InputError(message(given, f"real inputs of shape {shape or '(features,)'}, with a batch first"))
        if self.growth is None:
            return torch.cat([self._net(part.cpu().double().clone()) for part in x.split(500)])
        with plain_float32():
            return torch.cat([self._net(part.cpu().float().clone()) for part in x.split(500)])

    @torch.no_grad()
    def radius(self, x: Tensor) -> Tensor:
        """Certified l2 radii (batch,) in float64: no perturbation of at most this norm changes the predicted class.

        0 where nothing is certified: ties, NaN, infinities, inputs beyond `norm_limit`. In float32, `x` and the
        perturbed inputs are rounded to float32 before they enter the network; the radius allows for that.

        Raises:
            InputError, ClaimError: see `logits`.
        """
        evaluated, x = self.logits(x), x.cpu().double()
        if not len(x):
            return x.new_zeros(0)
        constants = torch.tensor(self.constants, dtype=torch.float64)
        if self.growth is None:
            radius = float64_radii(evaluated, constants, self.lipschitz, self.rounding)
        else:
            parts = zip(x.split(100), evaluated.split(100), strict=True)
            radius = before_rounding(torch.cat([self._running(*part, constants) for part in parts]), x)
        return within(torch.where(torch.isfinite(evaluated).all(1), radius, 0.0), x, self.norm_limit)

    def _running(self, x: Tensor, evaluated: Tensor, constants: Tensor) -> Tensor:
        """Radii in float32 around `x` as rounded to float32, given its float32 scores."""
        layers = [layer for _, layer in leaves(self._exact)]
        scores = analyse(zip(layers, self.layers, strict=True), x.float().double())
        check(evaluated, scores, constants)
        return float32_radii(scores, constants, self.lipschitz)

    def explain(self) -> str:
        """The certificate in words."""
        return explain(self)

    def to_json(self) -> dict[str, Any]:
        """The content of the file, see docs/certificates.md."""
        head, growth = self.layers[-1], self.growth
        return {
            "schema": SCHEMA,
            "network": self.network,
            "weights_sha256": self.weights_sha256,
            "dtype": self.dtype,
            "classes": len(self.constants),
            "input": {
                "shape": None if self.input_shape is None else list(self.input_shape),
                "norm_limit": self.norm_limit,
                "scaling": self.scaling,
            },
            "lipschitz": self.lipschitz,
            "head": {
                "name": head.name,
                "kind": head.kind,
                "constants": [list(row) for row in self.constants],
            },
            "rounding": self.rounding,
            "float32": growth and {"unit_roundoff": U, "state": growth.state, "scores": list(growth.scores)},
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

        Args:
            input_shape: as in `certify`; by default the network's own, or else the one that the file gives.

        Raises:
            InputError: when the file is broken, was edited, or belongs to other weights.
        """
        path = Path(path)
        content = read(path)
        if content["weights_sha256"] != weights_hash(net):
            given = f"{path} belongs to other weights"
            raise InputError(message(given, "the certificate of this network", "Run certify again."))
        shape = input_shape or getattr(net, "image_shape", None) or content["input"]["shape"]
        fresh = certify(net, dtype=content["dtype"], input_shape=shape and tuple(shape))
        expected = json.loads(json.dumps(fresh.to_json()))
        for key in expected:
            if key != "versions" and not close(expected[key], content.get(key)):
                raise InputError(
                    message(f"{path} was edited: {key!r} is not what these weights give", "the file as written")
                )
        return fresh


def certify(
    net: nn.Module,
    *,
    dtype: Literal["float64", "float32"] = "float64",
    input_shape: tuple[int, ...] | None = None,
) -> Certificate:
    """Prove certified radii for a classifier built from stablenets' layers.

    Nothing is cached: every norm bound is computed afresh in float64 and every frozen step is checked against it.

    Args:
        net: a `Network`, a `Chain` or an `nn.Sequential` in evaluation mode, ending in a linear layer
            (`NormalisedHead`, `TruncatedHead` or `nn.Linear`) that gives one score per class.
        dtype: arithmetic in which the answers are to hold. In "float64" one bound of the rounding error, about 1e-10,
            covers all inputs; in "float32" it is bounded for each input, which needs float32 weights, and radii shrink
            by about a hundredth.
        input_shape: shape of one input, without the batch. A `Network` knows its own.

    Raises:
        ClaimError: in training mode, under autocast, for weights that are not finite or of less than float32
            precision, for a layer about which too little is known (it is named), for a step that no bound allows, for
            bounds that overflow; in float32 for an arithmetic with less precision (see `plain_float32`).

    >>> from stablenets.networks import NonExpansiveNet
    >>> net = next(NonExpansiveNet.examples()).eval()
    >>> certify(net).radius(torch.rand(3, 1, 4, 4)).shape
    torch.Size([3])
    """
    refuse_autocast()
    if dtype not in DTYPES:
        raise InputError(message(f"dtype={dtype!r}", " or ".join(map(repr, DTYPES))))
    if any(m.training for m in net.modules()):
        raise ClaimError(message("the network is in training mode", "frozen steps", "Call net.eval() first."))
    list(leaves(net))  # a layer that is not known is named before anything else
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        if value.dtype not in (torch.float32, torch.float64):
            raise ClaimError(message(f"{name} is {value.dtype}", "float32 or float64 weights", "Call net.float()."))
        if dtype == "float32" and value.dtype != torch.float32:
            todo = "Call net.float(), then net.train().eval(), which takes new steps."
            raise ClaimError(message(f"{name} is {value.dtype}", "float32 weights for a float32 certificate", todo))
        if not torch.isfinite(value).all():
            raise ClaimError(message(f"{name} holds NaN or infinite values", "finite weights"))
    exact = copy.deepcopy(net).cpu().double()
    for part, original in zip(exact.modules(), net.modules(), strict=True):
        part.training = original.training
    layers = list(leaves(exact))
    modules = [layer for _, layer in layers]
    head_name, head = layers[-1]
    if not isinstance(head, HEADS):
        needed = f"one of {', '.join(cls.__name__ for cls in HEADS)}"
        raise ClaimError(message(f"the last layer, {head_name} ({type(head).__name__})", needed))
    shape = input_shape or getattr(net, "image_shape", None)
    if shape is None and any(isinstance(layer, Normalise) and any(layer.mean) for _, layer in layers):
        raise ClaimError(message("a mean is subtracted from inputs of unknown size", "certify(net, input_shape=...)"))
    if shape is None and dtype == "float32":
        raise ClaimError(message("a float32 certificate for inputs of unknown size", "certify(net, input_shape=...)"))
    norm_limit = 2 * math.sqrt(math.prod(shape)) if shape else 100.0
    flat = isinstance(modules[0], nn.Linear) if shape is None else len(shape) == 1
    x, total, scaling, done = Extent(norm_limit, 0.0), 1.0, 1.0, []
    state = torch.zeros(1, *shape, dtype=torch.float64) if shape else None
    for name, layer in layers:
        if isinstance(layer, nn.Linear) and not flat:
            todo = "Put nn.Flatten() before it, or say of what shape the inputs are: certify(net, input_shape=...)."
            raise ClaimError(message(f"{name} (Linear) might act on the rows of images", "features", todo))
        certificate, x = certify_layer(name, layer, x, 1 if state is None else math.prod(state.shape[2:]))
        with torch.no_grad():
            state = None if state is None else layer(state)  # only its shape matters
        flat = _flat(layer, flat) if state is None else state.dim() == 2
        done.append(certificate)
        total = total if layer is head else math.nextafter(total * certificate.lipschitz, math.inf)
        if isinstance(layer, Normalise):
            scaling = math.nextafter(scaling * certificate.lipschitz, math.inf)
        if not all(map(math.isfinite, (certificate.lipschitz, x.norm, x.error, total))):
            given = f"the bounds overflow at {name} ({certificate.kind})"
            raise ClaimError(message(given, "smaller weights, or a smaller scaling of the inputs"))
    constants = _pairwise(head)
    if not all(map(math.isfinite, (c for row in constants for c in row))):
        raise ClaimError(message(f"the weights of {head_name} overflow when they are squared", "smaller ones"))
    return Certificate(
        network=type(net).__name__,
        weights_sha256=weights_hash(net),
        dtype=dtype,
        lipschitz=1.0 if all(c.lipschitz == 1.0 for c in done[:-1]) else total,
        constants=constants,
        rounding=x.error,
        norm_limit=norm_limit,
        scaling=scaling,
        layers=tuple(done),
        growth=growth(zip(modules, done, strict=True), tuple(shape)) if shape and dtype == "float32" else None,
        versions=_versions(),
        input_shape=tuple(shape) if shape else None,
        _exact=exact,
        _net=exact if dtype == "float64" else copy.deepcopy(net).cpu(),
    )


def _pairwise(head: NormalisedHead | TruncatedHead | nn.Linear) -> tuple[tuple[float, ...], ...]:
    """Upper bounds of ||w_i - w_j||, not 0 for equal rows.

    The norm of a normalised row is off by n / 2 + 4 roundings, differently for every order of its sum, here and where
    the number is verified: nearly equal rows may be further apart than it seems.
    """
    with torch.no_grad():
        w = head.weight if isinstance(head, nn.Linear) else head.effective_weight()
        w = w.double()  # sqrt(2) rounded to float32 would be too small
        spare = 3 * (w.shape[1] + 16) * 2.0**-53 if isinstance(head, NormalisedHead) else 1e-300
        distances = (w[:, None] - w[None]).norm(dim=2) * UP + spare
    return tuple(tuple(row) for row in distances.tolist())


def _flat(layer: nn.Module, before: bool) -> bool:
    """Whether states are known to be (batch, features) after a layer, for inputs of any shape."""
    if isinstance(layer, Flow):
        return len(layer.input_shape or ()) == 1
    if isinstance(layer, Affine):
        return len(layer.linear.output_shape) == 1
    return before or isinstance(layer, (nn.Flatten, nn.Linear, NormalisedHead, TruncatedHead))


def _versions() -> dict[str, str]:
    return {
        "stablenets": __version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }
