"""One layer at a time: what the certificate says of it, proved again from the weights."""

from __future__ import annotations

import math
from fractions import Fraction as Q
from typing import Any

import numpy as np

from . import rounding
from .architecture import Layer
from .linear_maps import build_map
from .maps import Dense
from .model_file import ModelFile
from .norms import U
from .rounding import Bound
from .runge_kutta import METHODS, Method, power, root
from .shapes import Shape, size
from .strict import Rejected, natural, number

MAX_STEPS = 100_000
SPARE = 1 - 2.0**-49  # linear layers are proved this much tighter than claimed, which pays for rounding the product


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
    lipschitz = number(claim["lipschitz"], f"{what}: lipschitz", positive=True)
    claimed = number(claim["output_norm"], f"{what}: output_norm"), number(claim["rounding"], f"{what}: rounding")
    if layer.kind == "Flow":
        proved, after = _flow(layer, claim, model, before, what)
    elif layer.kind in ("Linear", "NormalisedHead"):
        proved, after = _affine(layer, lipschitz, model, before, what)
    else:
        proved, after = _fixed(layer, shape, before, what)
    if Q(lipschitz) < proved:
        raise Rejected(f"{what}: the Lipschitz constant {lipschitz!r} is below the proved {float(proved)!r}")
    if not claimed[0] >= after[0]:
        raise Rejected(f"{what}: output_norm {claimed[0]!r} is below the proved {after[0]!r}")
    if not claimed[1] >= after[1]:
        raise Rejected(f"{what}: rounding {claimed[1]!r} is below the proved {after[1]!r}")
    return proved, claimed


def _fixed(layer: Layer, shape: Shape, before: Bound, what: str) -> tuple[Q, Bound]:
    """Layers without weights."""
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
    if layer.kind in ("Lift", "Identity", "Flatten", "PixelShuffle", "PixelUnshuffle"):
        return Q(1), before
    raise Rejected(f"not covered by the checker: {what}")


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

    Rows of a `NormalisedHead` are w / max(||w||, 1e-12). Norms are summed exactly here; an evaluation that sums them
    in any other order is off by less than (n / 2 + 4) u.
    """
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


def _flow(layer: Layer, claim: dict[str, Any], model: ModelFile, before: Bound, what: str) -> tuple[Q, Bound]:
    """Steps of a Runge-Kutta method along -A^T sigma(A x + b)."""
    given = {"field": "ConvexGradient", "linear": layer.given["linear"].kind}
    given |= {k: layer.given[k] for k in ("integrator", "activation")}
    for key, value in given.items():
        if claim[key] != value:
            raise Rejected(f"{what}: the certificate says {key} {claim[key]!r}, the network has {value}")
    method = METHODS[given["integrator"]]
    h, steps = frozen(layer, model)
    if number(claim["h"], f"{what}: h", positive=True) != h or natural(claim["steps"], f"{what}: steps") != steps:
        raise Rejected(f"{what}: h, steps are {claim['h']!r}, {claim['steps']} but the model's are {h!r}, {steps}")
    if steps > MAX_STEPS:
        raise Rejected(f"not covered by the checker: {what} with over {MAX_STEPS} steps")
    norm = number(claim["norm_bound"], f"{what}: norm_bound", positive=True)
    linear = build_map(layer.given["linear"], model, layer.path("field.linear"))
    if not linear.proves(norm):
        raise Rejected(f"{what}: the norm bound {norm!r} cannot be proved")
    smoothness = Q(norm) ** 2  # the slopes of all activations are at most 1
    _prove_limit(claim["step_limit"], method, smoothness, what)
    one = method.lipschitz(Q(h) * smoothness)
    field = rounding.Field.of(linear, model.tensor(layer.path("field.bias")), given["activation"], norm)
    r, e = before
    up = float(one) if one == 1 else math.nextafter(float(min(one, Q(10) ** 300)), math.inf)
    for _ in range(steps):
        r, e = rounding.step(method, field, h, up, r, e)
    return power(one, steps), (r, e)


def _prove_limit(limit: Any, method: Method, smoothness: Q, what: str) -> None:
    """The claimed step limit must be one that the contractivity of the method proves; null where it proves none."""
    largest = 2 * method.radius()
    if limit is None:
        if largest and float(smoothness) > 0:
            raise Rejected(f"{what}: step_limit is null, but the method has one")
    elif not Q(number(limit, f"{what}: step_limit", positive=True)) * smoothness <= largest:
        raise Rejected(f"{what}: the step limit {limit!r} is above the proved {float(largest / smoothness)!r}")


def frozen(layer: Layer, model: ModelFile) -> tuple[float, int]:
    """Frozen step size and number of steps of a Flow."""
    what = f"the frozen steps of {layer.name}"
    state = model.extra[layer.path("_extra_state")]
    if not isinstance(state, dict) or sorted(state) != ["step_count", "step_size"]:
        raise Rejected(f"{what} are not a step_size and a step_count")
    return number(state["step_size"], what, positive=True), natural(state["step_count"], what)
