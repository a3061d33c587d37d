"""How far predictions are from what was observed, and from what their structure keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ..core.properties import Decreases, Dissipates, FirstIntegral, Preserves
from ..data import Trajectories
from ..layers import Flow

Units = Callable[[np.ndarray], Tensor]  # states in the units of the data -> as the model sees them


def errors(found: Trajectories, data: Trajectories) -> dict[str, float | None]:
    """Root mean square error over all entries and times but the first; and relative to the spread of the data.

    None where nothing can be compared, or a prediction became infinite.
    """
    pairs = [(a.states[1:], b.states[1:]) for a, b in zip(found.items, data.items, strict=True)]
    if not any(len(a) for a, _ in pairs):
        return {"rmse": None, "relative": None}
    wrong = float(np.sqrt(np.mean(np.concatenate([(a - b).ravel() ** 2 for a, b in pairs]))))
    truth = np.concatenate([b for _, b in pairs])
    spread = float(np.sqrt(np.mean((truth - truth.mean(0)) ** 2)))
    if not math.isfinite(wrong):
        return {"rmse": None, "relative": None}
    return {"rmse": wrong, "relative": wrong / spread if spread else None}


def kept(flow: Flow, units: Units, found: Trajectories, data: Trajectories) -> list[dict[str, Any]]:
    """What the field keeps or lets fall, and how well the predictions do: one row per function of the state.

    `drift` is the largest change of the function since the first state (for one that falls: the largest rise between
    two times), relative to its largest absolute value on the data; `data` is the same of the observed states. `proved`
    says whether it holds for each step exactly, or only up to the integrator's error.
    """
    rows = []
    step = flow.claims()
    for claim in flow.field.claims():
        if not isinstance(claim, (FirstIntegral, Dissipates)):
            continue
        falls = isinstance(claim, Dissipates)
        what = claim.function if isinstance(claim, Dissipates) else claim.invariant
        falling = any(isinstance(c, Decreases) and c.function == what for c in step)
        values = [[what.function(units(item.states)).detach().numpy() for item in part.items] for part in (found, data)]
        every = np.concatenate(values[1])
        size = max(float(np.abs(every).max()), 1e-300)
        drifts = [max((_drift(v, falls) for v in part), default=0.0) for part in values]
        rows.append(
            {"name": what.name, "falls": falls, "proved": falling if falls else Preserves(what) in step}
            | {k: d / size if math.isfinite(d) else None for k, d in zip(("drift", "data"), drifts, strict=True)}
        )
    return rows


def _drift(values: np.ndarray, falls: bool) -> float:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return 0.0
    return max(0.0, float(np.diff(values).max())) if falls else float(np.abs(values - values[0]).max())
