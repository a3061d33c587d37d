"""One layer at a time: what the certificate says of it, proved again from the weights."""

from __future__ import annotations

import math
from fractions import Fraction as Q
from typing import Any

import numpy as np

from . import rounding
from .architecture import Layer
from .flows import prove_flow
from .linear_maps import build_map
from .maps import Dense
from .model_file import ModelFile
from .norms import U
from .rounding import Bound
from .runge_kutta import root
from .shapes import Shape, size
from .strict import Rejected, number

SPARE = 1 - 2.0**-49  # linear layers are proved this much tighter than claimed, which pays for rounding the product


# permutations, added zeros, sorting, absolute values, features left out: 1-Lipschitz, and evaluated without rounding
EXACT = (
    *("Lift", "Identity", "Flatten", "PixelShuffle", "PixelUnshuffle"),
    *("GroupSort", "Abs", "TruncatedHead"),
)


def prove_layer(layer: Layer, claim: dict[str, Any], model: ModelFile, shape: Shape, before: Bound) -> tuple[Q, Bound]:
    """Prove the claims on one layer.

    Args:
        layer: as the model file describes it.
        claim: its entry in the certificate.
        model: where its weights are.
        shape: of its input.
        before: what is proved of its input: (norm, rounding error).

    Returns:
        A proved Lipschitz constant (at most the claimed one), and (norm, rounding error) as claimed after the layer.

    Raises:
        Rejected: when a claim does not follow.
    """
    what = f"layer {layer.name} ({layer.kind})"
    lipschitz = number(claim["lipschitz"], f"{what}: lipschitz")
    claimed = number(claim["output_norm"], f"{what}: output_norm"), number(claim["rounding"], f"{what}: rounding")
    if layer.kind == "Flow":
        proved, after = prove_flow(layer, claim, model, before, what)
    elif layer.kind == "Affine":
        proved, after = _map(layer, lipschitz, model, before, what)
    elif layer.kind in ("Linear", "NormalisedHead"):
        proved, after = _affine(layer, lipschitz, model, before, what)
    else:
        proved, after = _fixed(layer, shape, before, what)
    if layer.kind not in (*EXACT, "ReLU"):
        after = rounding.underflow(sum(before), after)
    if Q(lipschitz) < proved:
        raise Rejected(f"{what}: the Lipschitz constant {lipschitz!r} is below the proved {float(proved)!r}")
    if not claimed[0] >= after[0]:
        raise Rejected(f"{what}: output_norm {claimed[0]!r} is below the proved {after[0]!r}")
    if not claimed[1] >= after[1]:
        raise Rejected(f"{what}: rounding {claimed[1]!r} is below the proved {after[1]!r}")
    return proved, claimed


def _fixed(layer: Layer, shape: Shape, before: Bound, what: str) -> tuple[Q, Bound]:
    """Layers whose constant does not depend on weights."""
    if layer.kind in ("ReLU", "LeakyReLU", "Tanh"):
        return Q(1), rounding.activation(layer.kind, *before)
    if layer.kind == "AvgPool2d":
        pixels, divisor = math.prod(layer.given["window"]), layer.given["divisor"]
        return root(Q(pixels)) / divisor, rounding.pooling(pixels, divisor, *before)
    if layer.kind == "Normalise":
        mean, least = math.hypot(*layer.given["mean"]), min(layer.given["std"])
        if mean and shape is None:
            raise Rejected(f"not covered by the checker: the network does not determine the image size at {what}")
        count = 1 if shape is None else size(shape) // len(layer.given["std"])
        if isinstance(shape, tuple) and shape[0] != len(layer.given["std"]):
            raise Rejected(f"{what} does not fit states of shape {shape}")
        return 1 / Q(least), rounding.normalise(mean * math.sqrt(count), least, *before)
    if layer.kind == "Householder":
        return Q(1), rounding.householder(*before)
    if layer.kind in EXACT:
        return Q(1), before
    raise Rejected(f"not covered by the checker: {what}")


def _map(layer: Layer, lipschitz: float, model: ModelFile, before: Bound, what: str) -> tuple[Q, Bound]:
    """A x + b: the claimed constant is a norm bound of the linear map A."""
    linear = build_map(layer.given["linear"], model, layer.path("linear"))
    proved = lipschitz * SPARE
    if not linear.proves(proved):
        raise Rejected(f"{what}: the norm bound {lipschitz!r} cannot be proved")
    return Q(proved), rounding.linear(linear, model.tensor(layer.path("bias")), lipschitz, *before)


def _affine(layer: Layer, lipschitz: float, model: ModelFile, before: Bound, what: str) -> tuple[Q, Bound]:
    """A linear layer or head: its claimed constant is a norm bound."""
    weight, error = rows(layer, model)
    proved = lipschitz * SPARE
    if not Dense(weight).proves(proved - error * lipschitz):
        raise Rejected(f"{what}: the norm bound {lipschitz!r} cannot be proved")
    bias = model.tensor(layer.path("bias")) if layer.path("bias") in layer.tensors else np.zeros(len(weight))
    return Q(proved), rounding.affine(weight, bias, lipschitz, *before)


def rows(layer: Layer, model: ModelFile) -> tuple[np.ndarray, float]:
    """The matrix of a linear layer or head, and how far (relative to each row) any float64 evaluation of it may be.

    That of a `TruncatedHead` is the identity on the features that it keeps. Rows of a `NormalisedHead` are
    w / max(||w||, 1e-12). Norms are summed exactly here; an evaluation that sums them in any other order is off by less
    than (n / 2 + 4) u.
    """
    if layer.kind == "TruncatedHead":
        return np.eye(layer.given["classes"]), 0.0
    weight = model.tensor(layer.path("weight"))
    if layer.kind == "Linear":
        return weight, 0.0
    with np.errstate(over="ignore"):
        norms = np.array([math.sqrt(math.fsum(np.square(w))) for w in weight])
    if not np.isfinite(norms).all():
        raise Rejected(f"layer {layer.name}: the weights are too large")
    return weight / np.maximum(norms, 1e-12)[:, None], (weight.shape[1] / 2 + 8) * U


def prove_head(layer: Layer, constants: list[list[float]], model: ModelFile) -> None:
    """Prove c_ij >= ||w_i - w_j|| for all pairs of rows of the last layer.

    Raises:
        Rejected: for the first pair that is not proved.
    """
    weight, error = rows(layer, model)
    for i, row in enumerate(weight):
        distance = np.sqrt(np.square(weight - row).sum(1))
        # 2 error for rows of norm 1 at most; the difference, the squares, their sum and the root round
        least = (distance + 2 * error) * (1 + (weight.shape[1] + 8) * U)
        least[i] = 0
        for j in np.flatnonzero(~(np.array(constants[i]) >= least))[:1]:
            raise Rejected(
                f"the head's constant for the scores {i} and {j} is {constants[i][j]!r}, below {float(least[j])!r}"
            )
