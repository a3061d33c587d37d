"""The page and the figure of a run of `stablenets generate`, from its folder alone."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes

from .page import _asset, write_text
from .panels import Dots, Panel, draw_panels
from .plot import NOTHING, Series, Style
from .readers import field, read_json, read_jsonl, read_npz, read_toml
from .simulate import _plot

AGAIN = "Learn again, or take the file from a backup."
MOST, TILES = 2000, 8  # dots of a cloud; images along a side of the picture


@dataclass(frozen=True)
class Heat:
    """Values on a grid, (len(y), len(x)), as shades; `top` is the value of the darkest."""

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    top: float

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        values = np.nan_to_num(self.values, nan=0.0, posinf=self.top)
        look = {"cmap": "Blues", "vmin": 0.0, "vmax": self.top, "shading": "nearest", "rasterized": True}
        axes.pcolormesh(self.x, self.y, values, **look)


@dataclass(frozen=True)
class Picture:
    """A grey picture (height, width): 0 is white, `top` black."""

    values: np.ndarray
    top: float

    def draw(self, axes: Axes) -> None:
        """Draw it, without axes."""
        axes.imshow(self.values, cmap="Greys", vmin=0.0, vmax=self.top, interpolation="nearest").set_clip_on(False)
        axes.set_axis_off()


def draw_generation(path: Path, out: Path) -> Path:
    """Draw data, samples, densities and the flow of a run; of more than two columns the first two; images as images.

    Raises:
        InputError: the run cannot be read, or `out` cannot be written.
    """
    a = read_npz(path / "arrays.npz", ("names", "data", "samples", "path"), "points", AGAIN)
    names = [str(name) for name in a["names"]]
    if len(names) == 64 and names[0] == "pixel 0":
        return draw_panels([_tiles("data", a["data"]), _tiles("samples", a["samples"])], out, columns=2, height=2.9)
    span = _span(a)
    look: dict[str, Any] = {"x_label": names[0], "y_label": names[1], "span": span, "equal": "x" in a}
    panels = []
    if "x" in a:
        top = float(np.quantile(a.get("truth", a["density"]), 0.999))
        if "truth" in a:
            panels.append(Panel("density of the data", [Heat(a["x"], a["y"], a["truth"], top)], **look))
        else:
            panels.append(Panel("data", [Dots(a["data"][:MOST, :2], size=1.6)], **look))
        panels.append(Panel("learned density", [Heat(a["x"], a["y"], a["density"], top)], **look))
    else:
        panels.append(Panel("data", [Dots(a["data"][:MOST, :2], size=1.6)], **look))
    panels.append(Panel("samples", [Dots(a["samples"][:MOST, :2], size=1.6, colour=1)], **look))
    path_ = a["path"]
    for i in np.linspace(0, len(path_) - 1, 6 - len(panels)).round().astype(int):
        panels.append(Panel(f"the flow at t = {i / (len(path_) - 1):g}", [Dots(path_[i, :, :2], size=2)], **look))
    return draw_panels(panels, out)


def _span(a: dict[str, np.ndarray]) -> tuple[float, float, float, float]:
    """The limits of all panels: the grid, or what holds nearly all points."""
    if "x" in a:
        return tuple(float(v) for v in (a["x"][0], a["x"][-1], a["y"][0], a["y"][-1]))  # pyright: ignore[reportReturnType]
    low, high = a["data"][:, :2].min(0), a["data"][:, :2].max(0)
    room = 0.15 * (high - low)
    return tuple(float(v) for pair in zip(low - room, high + room, strict=True) for v in pair)  # pyright: ignore[reportReturnType]


def _tiles(title: str, images: np.ndarray) -> Panel:
    """The first images of 8 x 8 pixels in a square, the first row at the top."""
    count = min(TILES, int(len(images) ** 0.5))
    tiles = np.pad(images[: count * count].reshape(count, count, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    picture = tiles.transpose(0, 2, 1, 3).reshape(10 * count, -1)
    return Panel(title, [Picture(picture.clip(0, 17), 17.0)])


def sentence(result: dict[str, Any]) -> str:
    """The likelihood of a run in words.

    >>> sentence({"negative_log_likelihood": 2.15, "standard_error": 0.01, "entropy": 2.14, "points": 400,
    ...     "excess": None, "held_out": True})
    'Negative log-likelihood 2.150 +- 0.010 nats on 400 points, not learned from; the entropy of the data is 2.140.'
    """
    many = f"{result['points']:,} points, " + ("not learned from" if result["held_out"] else "the ones learned from")
    if result["negative_log_likelihood"] is None:
        return f"The likelihood is not finite, on {many}."
    found = f"Negative log-likelihood {result['negative_log_likelihood']:.3f} +- {result['standard_error']:.3f} nats"
    known = "" if result["entropy"] is None else f"; the entropy of the data is {result['entropy']:.3f}"
    if result["excess"] is not None:
        known += f", {result['excess']:.3f} less than that of the model on these points"
    return f"{found} on {many}{known}."


def build_generation(path: Path, out: Path) -> Path:
    """Write one page about a run of `stablenets generate`; it needs no network and no other file.

    Returns:
        `out`.

    Raises:
        InputError: the run cannot be read (the message names the file), or `out` cannot be written.
    """
    _, config_text = read_toml(path / "config.toml", "the options of the run", AGAIN)
    environment = read_json(path / "environment.json", "what the run ran on, as JSON", AGAIN)
    result = read_json(path / "result.json", "the likelihood", AGAIN)
    metrics = read_jsonl(path / "metrics.jsonl", "one JSON object per line", AGAIN)
    with tempfile.TemporaryDirectory() as folder:
        picture = draw_generation(path, Path(folder) / "density.svg").read_bytes()
    shown = {k: v for k, v in environment.items() if k not in ("centre", "size", "names")}
    content = {
        "title": f"{field(environment, 'data', path / 'environment.json', AGAIN)}, learned by a continuous flow",
        "lede": [sentence(result), _explained(result, environment)],
        "picture": base64.b64encode(picture).decode(),
        "training": [plot for name in ("matching", "likelihood") if (plot := _training(metrics, name)) is not None],
        "environment": [(name, NOTHING if value is None else value) for name, value in shown.items()],
        "config": config_text,
        "css": _asset("page.css"),
        "js": _asset("page.js"),
    }
    loader = PackageLoader("stablenets.report", ".")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return write_text(Path(out), jinja.get_template("generate.html.jinja").render(content))


def _explained(result: dict[str, Any], environment: dict[str, Any]) -> str:
    back = "not finite" if result["round_trip"] is None else f"{result['round_trip']:.1e}"
    return (
        f"A field with {environment['parameters']:,} parameters moves normal noise to the data in a time of 1. There "
        f"and back again, points return to within {back} (in units of the data's spread). The likelihood is computed "
        "with the exact divergence."
    )


def _training(metrics: list[dict[str, Any]], name: str) -> Any:
    rows = [(row["step"], row["loss"]) for row in metrics if row.get("loss_of") == name]
    if len(rows) < 2:
        return None
    x, y = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    title = "Flow matching loss" if name == "matching" else "Negative log-likelihood, scaled data"
    return _plot(name, title, "step", [Series(0, "loss", Style.TRACE, x, y)])
