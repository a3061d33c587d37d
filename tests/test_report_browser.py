"""The report in a real browser (headless Chromium): one can read the curves, click images, switch to dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import fake_runs
from stablenets import report
from stablenets.report.curves import certified_accuracy
from stablenets.report.run import load_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (apt-get install chromium)")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]

# Runs in a copy of the page: does what a reader does and writes down what the page then shows.
READER = """
<script>
{
const seen = {};
const text = selector => document.querySelector(selector).textContent;
const cards = () => [...document.querySelectorAll(".card:not([hidden])")];
const shown = () => cards().map(card => card.innerText.replace(/\\s+/g, " "));
const paper = () => getComputedStyle(document.documentElement).backgroundColor;
const visible = name => document.querySelector(name).getBoundingClientRect().width > 0;
const read = () => [text("#accuracy .at"), text('#accuracy [data-series="0"]'), text('#accuracy [data-series="1"]')];
const plot = document.querySelector('[data-plot="accuracy"]');
const svg = [...plot.querySelectorAll("svg")].find(s => s.getBoundingClientRect().width > 0);
const key = (target, name) => target.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));

seen.before = read();
const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
const left = +svg.dataset.left, right = +svg.dataset.right;
const clientX = box.left + scale * (left + 0.5 * (right - left)), clientY = box.top + 50;
plot.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY}));
seen.moved = read();
seen.cursor = +svg.querySelector(".cursor line").getAttribute("x1");
seen.middle = (left + right) / 2;
key(plot, "ArrowRight");
seen.right = read();
key(plot, "Home");
seen.home = read();
seen.said = plot.getAttribute("aria-valuetext");

const thumbs = document.getElementById("thumbs");
seen.first = shown();
thumbs.children[7].click();
seen.clicked = shown();
seen.large = document.querySelector(".card:not([hidden]) .large").src === thumbs.children[7].querySelector("img").src;
thumbs.children[7].focus();
key(thumbs.children[7], "ArrowRight");
seen.focus = document.activeElement.dataset.card;
seen.keyed = shown();
const order = document.getElementById("sort");
order.value = "certified";
order.dispatchEvent(new Event("change"));
seen.sorted = [...thumbs.children].map(b => +b.dataset.certified);

seen.paper = paper();
document.getElementById("theme").click();
seen.other = paper();
seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
seen.wide = visible(".frame-wide");
seen.narrow = visible(".frame-narrow");
const pre = document.createElement("pre");
pre.id = "seen";
pre.textContent = JSON.stringify(seen);
document.body.append(pre);
}
</script>
"""


def chromium(page: Path, tmp_path: Path, *options: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    first = fake_runs.make(folder / "non-expansive")
    return [first, fake_runs.make(folder / "resnet", certified=False, network="res-net", seed=1)]


@pytest.mark.parametrize("width", [1200, 400])
def test_a_reader_explores(runs: list[Path], tmp_path: Path, width: int) -> None:
    page = report.build(runs, tmp_path / "report.html")
    copy = tmp_path / "read.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", READER + "</body>"), encoding="utf-8")
    dom = chromium(copy, tmp_path, f"--window-size={width},900", "--dump-dom")
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found, "the page's own script or the reader's stopped"
    seen = json.loads(unescape(found[1]))

    samples = load_run(runs[0]).samples
    assert samples is not None

    def proved(radius: float) -> str:
        return f"{100 * certified_accuracy(samples, np.array([radius]))[0]:.1f}\u202f%"

    assert seen["before"][:2] == ["36/255", proved(36 / 255)]
    radius = float(seen["moved"][0])
    assert radius == pytest.approx(0.495, abs=0.006) and seen["moved"][1] == proved(radius)
    assert seen["cursor"] == pytest.approx(seen["middle"], abs=8)
    assert float(seen["right"][0]) > radius and seen["right"][1] == proved(float(seen["right"][0]))
    assert seen["home"][:2] == ["0", proved(0.0)] and seen["home"][1] in seen["said"]

    assert len(seen["first"]) == len(seen["clicked"]) == len(seen["keyed"]) == 1  # one card at a time
    assert "Test image 0 " in seen["first"][0] and seen["large"]
    label = fake_runs.CLASSES[int(samples.y[7])]
    assert "Test image 7 " in seen["clicked"][0] and f"True class: {label}" in seen["clicked"][0]
    expected = {1200: "8", 400: "10"}[width]  # on a narrow screen the images run down three rows, then right
    assert seen["focus"] == expected and f"Test image {expected} " in seen["keyed"][0]
    assert seen["sorted"] == sorted(seen["sorted"])

    assert seen["paper"] != seen["other"]
    assert seen["overflow"] <= 0
    assert (seen["wide"], seen["narrow"]) == (width == 1200, width == 400)


def test_light_and_dark(runs: list[Path], tmp_path: Path) -> None:
    page = report.build(runs, tmp_path / "report.html")
    brightness = {}
    for name, options in {"light": (), "dark": ("--blink-settings=preferredColorScheme=0",)}.items():
        picture = tmp_path / f"{name}.png"
        chromium(page, tmp_path, "--window-size=1000,900", f"--screenshot={picture}", *options)
        image = imread(picture)
        assert image.shape[:2] == (900, 1000)
        brightness[name] = float(image[..., :3].mean())
        assert image[..., :3].std() > 0.02  # something is drawn
    assert brightness["light"] > 0.9 and brightness["dark"] < 0.2
