"""The page and the figure of a run of `stablenets simulate`, from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from .page import _asset, write_text
from .panels import Curve, Dots, Panel, draw_panels
from .plot import NOTHING, SMALL, Plot, Series, Style
from .readers import field, read_json, read_jsonl, read_npz, read_toml

MOST_ENTRIES, MOST_POINTS = 8, 2000  # of the states that are drawn
AGAIN = "Learn again, or take the file from a backup."


def build_simulation(path: Path, out: Path) -> Path:
    """Write one page about a run of `stablenets simulate`; it needs no network and no other file.

    Args:
        path: the run folder.
        out: the HTML file to write; it appears whole or not at all.

    Returns:
        `out`.

    Raises:
        InputError: the run cannot be read (the message names the file), or `out` cannot be written.
    """
    config, config_text = read_toml(path / "config.toml", "the options of the run", AGAIN)
    environment = read_json(path / "environment.json", "what the run ran on, as JSON", AGAIN)
    result = read_json(path / "result.json", "errors and drifts", AGAIN)
    arrays = read_npz(path / "predictions.npz", ("names", "trajectory", "t", "x", "observed"), "predictions", AGAIN)
    metrics = read_jsonl(path / "metrics.jsonl", "one JSON object per line", AGAIN)
    first = arrays["trajectory"] == arrays["trajectory"][0]
    shown = np.flatnonzero(first)[:: max(1, int(first.sum()) // MOST_POINTS)]
    structure = str(config.get("structure", "free"))
    content = {
        "title": f"{field(environment, 'data', path / 'environment.json', AGAIN)}, learned as {structure}",
        "lede": _lede(result, environment),
        "kept": [_kept(row) for row in field(result, "kept", path / "result.json", AGAIN)],
        "claims": _claims(result),
        "states": _states(arrays, shown),
        "caption": f"Trajectory {arrays['trajectory'][0]}, observed and predicted from its first state.",
        "training": _training(metrics),
        "environment": [(name, NOTHING if value is None else value) for name, value in environment.items()],
        "config": config_text,
        "css": _asset("page.css"),
        "js": _asset("page.js"),
    }
    loader = PackageLoader("stablenets.report", ".")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return write_text(Path(out), jinja.get_template("simulate.html.jinja").render(content))


def draw_simulation(path: Path, out: Path) -> Path:
    """Draw the first predicted trajectory of a run beside what was observed, one panel per entry of the state.

    Raises:
        InputError: the run cannot be read, or `out` cannot be written.
    """
    arrays = read_npz(path / "predictions.npz", ("names", "trajectory", "t", "x", "observed"), "predictions", AGAIN)
    rows = arrays["trajectory"] == arrays["trajectory"][0]
    t = arrays["t"][rows]
    panels = []
    for i, name in enumerate(arrays["names"][:MOST_ENTRIES]):
        observed = np.stack([t, arrays["observed"][rows, i]], 1)
        marks = [Dots(observed, "observed", 1), Curve(t, arrays["x"][rows, i], "predicted")]
        panels.append(Panel(str(name), marks, x_label="t"))
    return draw_panels(panels, out)


def sentence(result: dict[str, Any]) -> str:
    """The errors of a run in words.

    >>> sentence({"rmse": 0.01, "relative": 0.02, "held_out": True, "predicted": 1, "points": 60})
    'Root mean square error 0.01 (2 % of the spread of the data) on 60 points of 1 trajectory, not learned from.'
    """
    many = f"{result['points']:,} points of {result['predicted']} trajector{'y' if result['predicted'] == 1 else 'ies'}"
    many += ", not learned from" if result["held_out"] else ", the ones learned from"
    if result["rmse"] is None:
        return f"Predictions became infinite, on {many}."
    relative = "" if result["relative"] is None else f" ({100 * result['relative']:.3g} % of the spread of the data)"
    return f"Root mean square error {result['rmse']:.3g}{relative} on {many}."


def _lede(result: dict[str, Any], environment: dict[str, Any]) -> list[str]:
    made = f"{environment['field']} with {environment['parameters']:,} parameters, rolled out by "
    made += f"{environment['integrator']} in steps of at most {environment['step']:.3g}. "
    return [sentence(result), f"{made}The structure keeps: {environment['structure']}."]


def _kept(row: dict[str, Any]) -> dict[str, str]:
    verb = "never increases it" if row["falls"] else "keeps it"
    theorem = f"{verb}, proved" if row["proved"] else "nearly, up to the integrator's error"
    drift, data = (NOTHING if row[k] is None else f"{row[k]:.1e}" for k in ("drift", "data"))
    return {"name": row["name"], "theorem": theorem, "drift": drift, "data": data}


def _claims(result: dict[str, Any]) -> list[str]:
    found = [f"Proved of each step besides: {', '.join(result['claims'])}."] if result["claims"] else []
    if result["lowest_entry"] is not None:
        found.append(f"The lowest entry of all predictions is {result['lowest_entry']:.3g}.")
    return found


def _states(arrays: dict[str, np.ndarray], shown: np.ndarray) -> list[Plot]:
    t, plots = arrays["t"][shown], []
    for i, name in enumerate(arrays["names"][:MOST_ENTRIES]):
        columns = {"predicted": arrays["x"][shown, i], "observed": arrays["observed"][shown, i]}
        series = [
            Series(place, what, Style.TRACE, t[good], y[good])
            for place, (what, y) in enumerate(columns.items())
            if (good := np.isfinite(y)).any()
        ]
        plots.append(_plot(f"state-{i}", str(name), "t", series))
    return plots


def _training(metrics: list[dict[str, Any]]) -> Plot | None:
    rows = [(row["step"], row["loss"]) for row in metrics if row.get("loss", 0) > 0]
    if len(rows) < 2:
        return None
    x, y = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return _plot("loss", "Loss, log10", "step", [Series(0, "loss", Style.TRACE, x, np.log10(y))])


def _plot(ident: str, title: str, x_label: str, series: list[Series]) -> Plot:
    x, y = np.concatenate([s.x for s in series]), np.concatenate([s.y for s in series])
    room = 0.05 * float(np.ptp(y)) or 0.5
    x_range = float(x.min()), float(x.max()) if np.ptp(x) else float(x.min()) + 1
    y_range = float(y.min()) - room, float(y.max()) + room
    return Plot(ident, title, x_label, x_range, y_range, False, series, x_range[1], (SMALL,))
