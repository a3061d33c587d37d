"""Certificates of `EulerDenoiser`: every number proved again from the model file.

The norm of a filter bank is bounded in another way than where the certificate was made: by the autocorrelations of its
filters, the coefficients of the trigonometric polynomial S(w)^H S(w), on a finer grid of frequencies.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .model_file import ModelFile, read_model
from .strict import Rejected, entries, items, kind, natural, number, text

FORMAT = "stablenets/denoiser/1"
KEYS = "format", "weights_sha256", "alpha", "levels", "alphas", "steps"
CONFIG = "type", "channels", "steps", "filters", "kernel_size", "stride", "levels", "width", "profile"
PROFILES = "HardTanh", "SoftShrink", "Tanh"  # odd, with slopes in [0, 1], and no options
GRID, WIDEST = 192, 31
UP = 1 + 1e-12  # far above the roundings of sigmoids and of the formulas for alpha
U = 2.0**-53


def prove_denoiser(model_path: Any, content: Any) -> str:
    """Prove a denoiser's certificate; returns what was proved.

    Raises:
        Rejected: naming the first step that fails.
    """
    claim = entries(content, KEYS, "the certificate")
    model = read_model(model_path)
    if model.sha256() != text(claim["weights_sha256"], "weights_sha256"):
        raise Rejected("the certificate is for other weights: its sha256 is not that of the model")
    sizes, levels = _architecture(model.config)
    if [number(v, "a level", positive=True) for v in items(claim["levels"], "levels")] != levels:
        raise Rejected("the certificate is for other noise levels than those of the model")
    stated = [_step(s, i) for i, s in enumerate(items(claim["steps"], "steps"))]
    if len(stated) != sizes["steps"]:
        raise Rejected(f"the certificate has {len(stated)} steps, and the model {sizes['steps']}")
    _same_tensors(model, sizes, len(levels))
    tau, theta, norms = [], [], []
    for i, norm in enumerate(stated):
        proved = _norm(model, i, sizes)
        if not proved <= norm <= 1:
            raise Rejected(f"step {i}: the filters' norm is proved to be at most {proved!r}; stated: {norm!r}, limit 1")
        norms.append(norm)
        tau.append(_sigmoid(model.tensor(f"blocks.{i}.tau_logit")))
        theta.append(_sigmoid(model.tensor(f"blocks.{i}.theta_logit")))
    alphas = [number(v, "an alpha", positive=True) for v in items(claim["alphas"], "alphas")]
    if len(alphas) != len(levels):
        raise Rejected(f"{len(alphas)} alphas for {len(levels)} levels")
    for j, alpha in enumerate(alphas):
        _at_least(alpha, norms, [t[j] for t in tau], [t[j] for t in theta], f"at noise level {levels[j]!r}")
    # between two levels, logits are interpolated, and alpha grows with tau and falls with theta
    overall = number(claim["alpha"], "alpha", positive=True)
    _at_least(overall, norms, [t.max() for t in tau], [t.min() for t in theta], "for all noise levels")
    return (
        f"proved: on images of every size, and for every noise level, the denoiser is {overall:.9g}-averaged, hence "
        f"1-Lipschitz ({len(norms)} steps; norms of filter banks by autocorrelations at {GRID} x {GRID} frequencies)"
    )


def _architecture(config: Any) -> tuple[dict[str, int], list[float]]:
    """Sizes and noise levels of the model."""
    if kind(config, "the network") != "EulerDenoiser":
        raise Rejected(f"not covered by the checker: denoisers of type {kind(config, 'the network')!r}")
    entries(config, (*CONFIG, "group_size") if "group_size" in config else CONFIG, "the configuration")
    if entries(config["profile"], ("type",), "the profile")["type"] not in PROFILES:
        raise Rejected(f"not covered by the checker: the activation {config['profile']['type']!r}")
    sizes = {k: natural(config[k], k) for k in ("channels", "steps", "filters", "kernel_size", "stride")}
    width = sizes["channels"] if config["width"] is None else natural(config["width"], "width", least=sizes["channels"])
    # z min(1, w / |z|) of a group z is the projection onto a ball, the gradient of Huber's function of |z|, and the
    # eigenvalues of its derivative lie in [0, 1]: groups may be of any size
    group = natural(config.get("group_size", 1), "group_size")
    if (
        sizes["filters"] % (4 * group)
        or sizes["kernel_size"] % 2 == 0
        or sizes["kernel_size"] > WIDEST
        or sizes["stride"] > 2
    ):
        raise Rejected(f"no filter bank closed under mirror images has the sizes {sizes}")
    if group > 1 and config["profile"]["type"] != "HardTanh":
        raise Rejected(f"no network has groups of filters with the activation {config['profile']['type']}")
    levels = [number(v, "a level", positive=True) for v in items(config["levels"], "the model's levels")]
    if not levels or levels != sorted(set(levels)):
        raise Rejected("the model's noise levels do not increase")
    return sizes | {"width": width, "group": group}, levels


def _step(value: Any, i: int) -> float:
    step = entries(value, ("norm", "theorem"), f"step {i}")
    text(step["theorem"], f"the theorem of step {i}")
    return number(step["norm"], f"the norm of step {i}")


def _same_tensors(model: ModelFile, sizes: dict[str, int], levels: int) -> None:
    side, quarter = sizes["kernel_size"] * sizes["stride"], sizes["filters"] // 4
    wanted: dict[str, tuple[int, ...]] = {}
    for i in range(sizes["steps"]):
        wanted[f"blocks.{i}.field.linear.weight"] = quarter, sizes["width"], side, side
        wanted[f"blocks.{i}.field.activation.log_width"] = levels, quarter // sizes["group"]
        wanted |= {f"blocks.{i}.tau_logit": (levels,), f"blocks.{i}.theta_logit": (levels,)}
    found = {name: e.shape for name, e in model.entries.items() if not name.endswith(".linear.singular_vector")}
    if found != wanted:
        odd = sorted(set(found.items()) ^ set(wanted.items()))[0]
        raise Rejected(f"the tensors are not those of the configuration: {odd[0]!r} of shape {odd[1]}")
    if set(model.extra) != {f"blocks.{i}.field._extra_state" for i in range(sizes["steps"])}:
        raise Rejected("the frozen scales of the model file are not those of its steps")
    for i in range(sizes["steps"]):
        if np.abs(model.tensor(f"blocks.{i}.field.activation.log_width")).max() > 80:
            raise Rejected(f"step {i}: a width of its activation is not a positive float32 number")


def _norm(model: ModelFile, i: int, sizes: dict[str, int]) -> float:
    """An upper bound of the norm of the scaled filter bank of step `i` on images of every size."""
    state = model.extra.get(f"blocks.{i}.field._extra_state")
    scale = number(entries(state, ("scale",), f"the frozen scale of step {i}")["scale"], "a scale", positive=True)
    w = model.tensor(f"blocks.{i}.field.linear.weight") * scale
    w = np.concatenate([w, w[:, :, :, ::-1], w[:, :, ::-1], w[:, :, ::-1, ::-1]])
    k, s, width = sizes["kernel_size"], sizes["stride"], sizes["width"]
    taps = w.reshape(len(w), width, k, s, k, s).transpose(0, 1, 3, 5, 2, 4).reshape(len(w), width * s * s, k, k)
    padded = np.pad(taps, ((0, 0), (0, 0), (k - 1, k - 1), (k - 1, k - 1)))
    parts, shifts = taps.shape[1], 2 * k - 1
    correlations = np.empty((shifts, shifts, parts, parts))
    for u in range(shifts):
        for v in range(shifts):
            moved = padded[:, :, u : u + k, v : v + k]
            correlations[u, v] = np.tensordot(taps, moved, axes=((0, 2, 3), (0, 2, 3)))
    turns = np.outer(np.arange(GRID), np.arange(shifts) - (k - 1)) % GRID * (2 * math.pi / GRID)
    phases = np.cos(turns) + 1j * np.sin(turns)
    # the polynomial at -w is the conjugate of that at w, and mirror images of filters mirror w in one direction
    half, largest = phases[: GRID // 2 + 1], 0.0
    for row in half:
        sums = np.tensordot(row, correlations, 1)
        values = np.linalg.eigvalsh(np.tensordot(half, sums, 1))
        largest = max(largest, float(values[:, -1].max()))
    # sums of so many terms, and LAPACK's backward error, all relative to the sum of absolute values
    sizes_sum = float(np.abs(taps).sum((0, 2, 3)).max() * np.abs(taps).sum((1, 2, 3)).max() * parts)
    square = largest + 8 * (len(w) * k * k + shifts * shifts + 64 * parts) * U * sizes_sum
    riesz = math.cos(math.pi * (k - 1) / GRID) ** 2  # of a polynomial of degree k - 1 in each direction, N > 2 degree
    return math.sqrt(square / riesz) * UP


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _at_least(alpha: float, norms: list[float], tau: list[Any], theta: list[Any], where: str) -> None:
    """Reject an alpha below the one that follows: (1 - theta) times that of a composition (Ogura & Yamada 2002)."""
    found = 0.0
    for norm, t, pull in zip(norms, tau, theta, strict=True):
        step = float(t) * norm * norm * UP
        if not 0 < step < 1:
            raise Rejected(f"a step of {float(t)!r} is not averaged")
        both = (found + step - 2 * found * step) / (1 - found * step) if found else step
        found = min(1.0, both * (1 - float(pull)) * UP + 1e-15)
    if not found <= alpha < 1:
        raise Rejected(f"alpha {alpha!r} {where} is below what is proved, {found!r}, or not below 1")
