"""The page of a restored picture, from its folder alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from .images import data_uri
from .page import _asset, write_text
from .panels import Curve, Panel, draw_panels
from .readers import read_json, read_npz

AGAIN = "Restore the picture again."


def build_restoration(folder: Path) -> Path:
    """Write report.html into the folder: before and after, the measures, what is proved, the residuals.

    It needs no network and no other file.

    Raises:
        InputError: the folder cannot be read or written.
    """
    result = read_json(folder / "result.json", "what `stablenets restore` has found", AGAIN)
    arrays = read_npz(folder / "pictures.npz", ("before", "after", "residuals"), "the pictures", AGAIN)
    with np.load(folder / "pictures.npz") as file:
        names = [name for name in ("before", "after", "truth") if name in file.files]
        pictures = [(name, data_uri(_pixels(file[name]))) for name in names]
    svg = ""
    if len(arrays["residuals"]) > 1:
        svg = _inline(draw_residuals(arrays["residuals"], folder / "residuals.svg"))
    measures = result["measures"]
    kinds = sorted({name.split()[0] for name in measures})
    content = {
        "title": result["image"],
        "pictures": pictures,
        "measures": [(k, *(_number(measures[f"{k} {when}"]) for when in ("before", "after"))) for k in kinds],
        "statement": result["statement"].splitlines(),
        "residuals": svg,
        "options": [(k.replace("_", " "), v) for k, v in result["options"].items()],
        "css": _asset("page.css"),
    }
    loader = PackageLoader("stablenets.report", ".")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return write_text(folder / "report.html", jinja.get_template("restore.html.jinja").render(content))


def draw_residuals(residuals: np.ndarray, path: Path) -> Path:
    """Draw the fixed-point residuals of an iteration on a logarithmic axis."""
    shown = residuals > 0
    k = np.arange(1, len(residuals) + 1)
    curve = Curve(k[shown], residuals[shown])
    return draw_panels([Panel("fixed-point residuals", [curve], x_label="iteration", log_y=True)], path)


def _number(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.4g}"


def _pixels(picture: np.ndarray) -> np.ndarray:
    return picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)


def _inline(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]
