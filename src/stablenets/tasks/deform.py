"""Deform test images: how many pixels are proved to be harmless, and how many an attack needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..attack import ADef
from ..certify import Certificate, deformation_radius
from ..layers import load
from . import config as toml
from .attack import scores, uphold
from .build import find_device, read_data, threads
from .progress import Progress, silent
from .run_folder import Run

BATCH = 250
SHOWN = 6  # images stored with their fields, for each of two reasons to look at them


def deform(
    run: Run,
    *,
    limit: float = 3.0,
    candidates: int = 3,
    test_limit: int | None = None,
    progress: Progress = silent,
) -> None:
    """Write deformations.npz and deformations.json: radii in pixels, proved and found by ADef, for each test image.

    deformations.npz holds, for n images: `index` (places in the test set), `y`, `prediction`; `certified` (n,), the
    radius in pixels within which no deformation changes the answer, NaN without certificate.json; `found` (n,), the
    norm_T of the deformation found, 0 where the answer is wrong without one, inf where none was found. Of some images
    (`shown`, places among the n): `shown_x`, `shown_tau` (float64), `shown_adv` = deform(x, tau), `shown_prediction`.

    Args:
        limit: norm_T in pixels up to which a deformation counts, and radii are certified.
        candidates: classes that the attack tries to reach.
        test_limit: deform the first so many test images; by default as many as are attacked.

    Raises:
        InputError: an option or a file cannot be used; or the certificate was edited or belongs to other weights.
        ClaimError: a deformation within its certified radius changes an answer. The files are written all the same.
    """
    config = run.config
    config = toml.check(replace(config, test_limit=config.test_limit if test_limit is None else test_limit))
    attack = ADef(candidates, limit)
    with run.work(), threads(config):
        data, device = read_data(config), find_device(config)
        net = load(run.file("model.safetensors"))
        proof = Certificate.load(run.file("certificate.json"), net) if run.has("certificate.json") else None
        x, y = data.x_test[: config.test_limit], data.y_test[: config.test_limit]
        certified = torch.full((len(y),), torch.nan, dtype=torch.float64)
        if proof is not None:
            for s in _batches("certifying deformations", len(y), progress):
                certified[s] = deformation_radius(proof, x[s], limit=limit)
        prediction = (scores(net, x) if proof is None else proof.logits(x)).argmax(1)
        net.to(device)
        found, x_adv = torch.zeros_like(certified), torch.zeros_like(x)
        tau = torch.zeros(len(y), *x.shape[2:], 2, dtype=torch.float64)
        for s in _batches("deforming", len(y), progress):
            part = attack.fields(net, x[s].to(device), y[s].to(device))
            found[s], tau[s], x_adv[s] = part.size.cpu(), part.tau.cpu(), part.x_adv.cpu()
        refuted: list[int] = []
        if proof is not None:
            refuted, unmoved = _judged(proof, x, x_adv, found, certified)
            found[unmoved] = torch.inf
        shown = _worth_showing(found, certified)
        run.remove("deformations.json")  # while the arrays are another one's
        run.write_arrays(
            "deformations.npz",
            {
                "index": np.arange(len(y)),
                "y": y.numpy(),
                "prediction": prediction.numpy(),
                "certified": certified.numpy(),
                "found": found.numpy(),
                "shown": shown.numpy(),
                "shown_x": x[shown].numpy(),
                "shown_tau": tau[shown].numpy(),
                "shown_adv": x_adv[shown].numpy(),
                "shown_prediction": _answers(net, x_adv[shown].to(device)),
            },
        )
        run.write_json("deformations.json", _summary(attack, found, None if proof is None else certified, refuted))
    uphold(refuted, "a deformation")


def _batches(task: str, n: int, progress: Progress) -> Iterator[slice]:
    for start in range(0, n, BATCH):
        progress(task, start, n, "")
        yield slice(start, start + BATCH)
    progress(task, n, n, "")


def _judged(
    proof: Certificate, x: Tensor, x_adv: Tensor, found: Tensor, certified: Tensor
) -> tuple[list[int], list[int]]:
    """Images deformed within their certified radius: those answered otherwise in the certificate's arithmetic, which
    refute it, and those answered otherwise in another one only, where nothing was found that counts."""
    near = ((found > 0) & (found <= certified)).nonzero()[:, 0]
    if len(near) == 0:
        return [], []
    changed = proof.logits(x_adv[near]).argmax(1) != proof.logits(x[near]).argmax(1)
    return near[changed].tolist(), near[~changed].tolist()


def _worth_showing(found: Tensor, certified: Tensor) -> Tensor:
    """Places of the first images that were deformed, and of those with the widest gap between proof and attack."""
    deformed = ((found > 0) & torch.isfinite(found)).nonzero()[:, 0]
    gap = (found - certified.nan_to_num(0.0))[deformed]
    widest = deformed[gap.argsort(descending=True, stable=True)]
    return torch.cat([deformed[:SHOWN], widest[:SHOWN]]).unique()


@torch.no_grad()
def _answers(net: nn.Module, x: Tensor) -> np.ndarray:
    return net(x).argmax(1).cpu().numpy() if len(x) else np.zeros(0, dtype=np.int64)


def _summary(attack: ADef, found: Tensor, certified: Tensor | None, refuted: list[int]) -> dict[str, Any]:
    """deformations.json: everything is said of the images that are answered rightly."""
    right = found > 0
    broken = found[right & torch.isfinite(found)]
    return {
        "attack": {"name": "ADef", "candidates": attack.candidates, "sigma": attack.sigma, "steps": attack.steps},
        "limit": attack.limit,
        "n": len(found),
        "clean_accuracy": float(right.double().mean()),
        "success": len(broken) / max(int(right.sum()), 1),
        "found": _numbers(broken),
        "certified": None if certified is None else _numbers(certified[right]),
        "refuted": refuted,
        "sandwich_ok": not refuted,
    }


def _numbers(sizes: Tensor) -> dict[str, float] | None:
    """Mean, median and extremes, in pixels; None of nothing."""
    if len(sizes) == 0:
        return None
    least, most = (float(v) for v in sizes.aminmax())
    return {"mean": float(sizes.mean()), "median": float(sizes.median()), "least": least, "most": most}
