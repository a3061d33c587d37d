"""The certificate in words, and the tables of what the runs ran on."""

from __future__ import annotations

from typing import Any

from .plot import NOTHING
from .run import Run

COLUMNS = ("norm_bound", "h", "steps", "step_limit", "lipschitz")


def certificates(runs: list[Run]) -> list[dict[str, Any]]:
    """For each run: why nothing is proved, or what is proved and the layers it follows from."""
    found = []
    for i, run in enumerate(runs):
        entry: dict[str, Any] = {"run": i, "name": run.name, "reason": run.uncertified, "layers": None}
        if run.certificate is not None:
            entry |= _certificate(run, run.certificate)
        elif run.uncertified is None:
            entry["reason"] = f"It has not been certified; to do it: {run.command('certify')}"
        found.append(entry)
    return found


def environments(runs: list[Run]) -> dict[str, Any]:
    """Commands, options and machine of each run: rows of values, a column per run."""
    keys = [key for run in runs for key in run.environment if key not in ("classes", "image_shape")]
    rows = []
    for key in dict.fromkeys(keys):
        values = [_value(run.environment.get(key)) for run in runs]
        if any(run.environment.get(key) is not None for run in runs):
            same = len(set(values)) == 1
            rows.append({"key": key.replace("_", " "), "values": values[:1] if same else values})
    return {"rows": rows, "configs": [{"name": run.name, "text": run.config_text.strip()} for run in runs]}


def _certificate(run: Run, certificate: dict[str, Any]) -> dict[str, Any]:
    layers, lipschitz = certificate["layers"], certificate["lipschitz"]
    sentences = [
        "For every test image and every perturbation of it whose ℓ₂ norm is below the image's certified radius, "
        f"{run.name} gives the same answer: for all perturbations, not only for those an attack tries.",
        f"The network is a chain of {len(layers)} layers. For each, a theorem bounds how much it can stretch the "
        f"distance of two inputs; all layers before the last together stretch it by a factor of at most "
        f"{_number(lipschitz)}. A perturbation of norm r therefore narrows the gap between the scores of classes "
        "i and j by at most that factor times ‖wᵢ \u2212 wⱼ‖ r, where w are the weights of the last layer. The "
        "certified radius is the largest r at which the highest score still leads.",
    ]
    rounding = certificate.get("rounding")
    if certificate.get("dtype") == "float32":
        sentences.append(
            "Rounding is accounted for: the scores are evaluated in float32, the error of each gap is bounded for each "
            "image by itself, and the gap must exceed that too."
        )
    elif isinstance(rounding, (int, float)):
        sentences.append(
            f"Rounding is accounted for: a score, evaluated in {certificate.get('dtype', 'floating point')}, is off "
            f"by at most {float(rounding):.1e}, and the gap must exceed that too."
        )
    return {
        "sentences": sentences,
        "command": run.command("verify"),
        "layers": [
            {
                "name": str(layer.get("name", "")),
                "kind": _kind(layer),
                "theorem": str(layer.get("theorem", "")),
                "norm_theorem": str(layer.get("norm_theorem") or ""),
                "values": [_number(layer.get(column)) for column in COLUMNS],
            }
            for layer in layers
        ],
        "hash": str(certificate.get("weights_sha256", ""))[:16],
    }


def _kind(layer: dict[str, Any]) -> str:
    """ "Flow: Euler on ConvexGradient(Conv2d, ReLU)" for a flow, else the kind alone."""
    kind = str(layer.get("kind", ""))
    if not all(name in layer for name in ("integrator", "field", "linear", "activation")):
        return kind
    return f"{kind}: {layer['integrator']} on {layer['field']}({layer['linear']}, {layer['activation']})"


def _number(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _value(value: Any) -> str:
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
