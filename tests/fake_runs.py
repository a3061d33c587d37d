"""Make run folders out of numpy only, for the tests of the report: no network is trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CLASSES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"]
RADII = [0.0, 36 / 255, 0.25, 0.4, 0.5, 0.65, 0.8, 0.99]


def blobs(n: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Some smooth images (n, C, H, W) in [0, 1]."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    centre, size = rng.uniform(0.25, 0.75, (2, n, channels, 1, 1)), rng.uniform(0.1, 0.4, (n, channels, 1, 1))
    distance = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
    return np.exp(-distance / size**2).astype(np.float32)


def make(
    path: Path,
    *,
    network: str = "non-expansive-net",
    certified: bool = True,
    attacked: bool = True,
    n: int = 100,
    shape: tuple[int, int, int] = (1, 12, 12),
    classes: list[str] | None = None,
    x: np.ndarray | None = None,
    y: np.ndarray | None = None,
    radii: list[float] | None = None,
    seed: int = 0,
) -> Path:
    """Write a run folder whose pieces agree with each other, and return its path.

    `x` (n, C, H, W) and `y` (n,) are the attacked test images; blobs by default, the same in every run of that shape.
    """
    names = CLASSES if classes is None else classes
    x = blobs(n, shape) if x is None else x
    y = np.random.default_rng(7).integers(0, len(names), len(x)) if y is None else y
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    (path / "config.toml").write_text(
        f'kind = "classify"\ndata = "blobs"\nnetwork = "{network}"\nepochs = 12\nmargin = 0.2\nseed = {seed}\n'
    )
    _json(path / "environment.json", _environment(names, x.shape[1:], network))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _metrics(rng, certified)))
    if certified:
        _json(path / "certificate.json", certificate(x.shape[1:], len(names)))
    else:
        (path / "uncertified.txt").write_text(
            "flow1 is a flow of FreeField; needed: flows of ConvexGradient in a certified network.\n"
        )
    if attacked:
        _attack(path, x, y, len(names), np.array(RADII if radii is None else radii), certified, rng)
    return path


def certificate(shape: tuple[int, ...], classes: int) -> dict:
    """A certificate of a network of three flows, with plausible numbers."""
    layers = [_layer("lift", "Lift", "appends zeros: isometry")]
    for i, (norm, steps) in enumerate([(1.91372, 2), (2.40418, 3), (1.20555, 1)]):
        layers.append(
            _layer(f"flow{i + 1}", "Flow", "circle contractivity (Dahlquist and Jeltsch 1979): h ≤ 2 β r")
            | {"field": "ConvexGradient", "integrator": "Euler", "linear": "Conv2d", "activation": "ReLU"}
            | {"norm_bound": norm, "norm_theorem": "circular convolution on a larger grid, SVD per frequency"}
            | {"h": 1 / steps, "steps": steps, "step_limit": 2 / norm**2}
        )
    layers.append(_layer("head", "NormalisedHead", "rows of norm 1; margins use ||w_i - w_j|| per pair of classes"))
    return {
        "schema": "stablenets/certificate/2",
        "network": "NonExpansiveNet",
        "weights_sha256": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "dtype": "float64",
        "classes": classes,
        "input": {"norm_limit": 2 * float(np.prod(shape)) ** 0.5},
        "lipschitz": 1.0,
        "head": {"name": "head", "kind": "NormalisedHead", "constants": [[1.4142135623731] * classes] * classes},
        "rounding": 3.1e-9,
        "layers": layers,
        "versions": {"stablenets": "0.1.0"},
    }


def _layer(name: str, kind: str, theorem: str) -> dict:
    numbers = {"lipschitz": 1.0, "rounding": 1e-10, "output_norm": 56.0}
    return {"name": name, "kind": kind, "theorem": theorem, **numbers}


def _environment(names: list[str], shape: tuple[int, ...], network: str) -> dict:
    return {
        "python": "3.11.2", "torch": "2.13.0", "stablenets": "0.1.0", "numpy": "2.4.6", "cpu": "A CPU with 2 cores",
        "threads": 2, "platform": "Linux", "dtype": "float32", "seconds": 754.2, "git": None,
        "command": f"stablenets classify --data blobs --network {network} --epochs 12", "classes": names,
        "data": "blobs", "image_shape": [int(size) for size in shape], "parameters": 131882,
    }  # fmt: skip


def _metrics(rng: np.random.Generator, certified: bool) -> list[dict]:
    rows = []
    for epoch in range(1, 13):
        gap = 0.28 * np.exp(-epoch / 3) + 0.01 * rng.random()
        row = {"epoch": epoch, "step": 235 * epoch, "loss": 0.05 + 2 * gap, "train_accuracy": 0.93 - gap}
        row |= {"test_accuracy": 0.89 - gap, "lr": 0.004, "seconds": 12.3}
        row["flow_steps"] = [1, 1 + epoch // 5, 2 + epoch // 4] if certified else []
        rows.append(row)
    return rows


def _attack(
    path: Path, x: np.ndarray, y: np.ndarray, classes: int, radii: np.ndarray, certified: bool, rng: np.random.Generator
) -> None:
    n = len(x)
    correct = rng.random(n) < 0.89
    answer = np.where(correct, y, (y + 1 + rng.integers(0, classes - 1, n)) % classes)
    logits = rng.normal(0, 0.1, (n, classes))
    logits[np.arange(n), answer] = 1.0
    radius = rng.gamma(3.0, 0.13, n) if certified else np.full(n, np.nan)
    needed = radius * rng.uniform(1.05, 1.6, n) if certified else rng.gamma(2.0, 0.07, n)
    after = np.searchsorted(radii, needed, side="left")
    smallest = np.where(correct, np.append(radii, np.inf)[after], 0.0)
    smallest = np.where(correct & (smallest == 0), radii[min(1, len(radii) - 1)], smallest)
    robust = [(correct & (smallest > r)).mean() for r in radii]
    proved = [(correct & (radius > r)).mean() for r in radii] if certified else None
    _json(
        path / "attack.json",
        {
            "attack": {"name": "PGD", "norm": 2, "steps": 100, "step_size": 0.05, "seed": 0},
            "n": n, "clean_accuracy": correct.mean(), "radii": radii.tolist(), "robust_accuracy": robust,
            "certified_accuracy": proved, "sandwich_ok": True,
        },
    )  # fmt: skip
    broken = np.flatnonzero(correct & np.isfinite(smallest))[:40]
    noise = rng.normal(size=x[:1].shape)
    unit = noise / np.linalg.norm(noise)
    other = (y + 1) % classes
    right = int(np.flatnonzero(correct)[0])
    arrays = {
        "x": x, "y": y, "logits": logits, "certified_radius": radius, "smallest_attack": smallest,
        "x_adv": (x[broken] + smallest[broken, None, None, None] * unit).clip(0, 1).astype(np.float32),
        "adv_index": broken, "adv_radius": smallest[broken], "adv_prediction": other[broken],
        "gallery_x": (x[right] + radii[:, None, None, None] * unit).clip(0, 1).astype(np.float32),
        "gallery_radius": radii, "gallery_index": np.array(right),
        "gallery_prediction": np.where(radii >= smallest[right], other[right], y[right]),
    }  # fmt: skip
    np.savez_compressed(path / "samples.npz", **arrays)


def _json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, default=float))
