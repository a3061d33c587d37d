"""The report: what the page says, that nothing in a run folder can break it, and that damage is named."""

from __future__ import annotations

import ast
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import fake_runs
from stablenets import report
from stablenets.core.errors import InputError
from stablenets.report import figures
from stablenets.report.curves import attacked, certified_accuracy, contradictions, headline_radius
from stablenets.report.figure import accuracy_plot
from stablenets.report.images import difference, pixels, png
from stablenets.report.pictures import cards
from stablenets.report.plot import Series, Style, spread, ticks
from stablenets.report.run import load_run, load_runs


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    first = fake_runs.make(tmp_path / "non-expansive")
    return [first, fake_runs.make(tmp_path / "resnet", certified=False, network="res-net", seed=1)]


class Page(HTMLParser):
    """Collects text, tags and attributes, and insists that tags are nested properly."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u202f", " ").split())


def built(paths: list[Path], out: Path) -> tuple[str, Page]:
    assert report.build(paths, out) == out
    html = out.read_text(encoding="utf-8")
    return html, Page(html)


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_samples(run: Path, **changes: np.ndarray | None) -> None:
    with np.load(run / "samples.npz") as archive:
        arrays = {**archive, **changes}
    np.savez(run / "samples.npz", **{name: array for name, array in arrays.items() if array is not None})


# What the page says


def test_the_page_needs_nothing_else(two: list[Path], tmp_path: Path) -> None:
    html, page = built(two, tmp_path / "report.html")
    assert not re.search(r"https?://|@import|url\(", html)
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    sources = [value for _, attributes in page.tags if (value := attributes.get("src")) is not None]
    assert len(sources) > 100 and all(source.startswith("data:") for source in sources)
    policy = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert policy and str(policy[0]).startswith("default-src 'none'")
    assert len(html.encode()) < 3e6
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["report.html"]


def test_the_numbers_are_those_of_the_runs(two: list[Path], tmp_path: Path) -> None:
    _, page = built(two, tmp_path / "report.html")
    run = load_run(two[0])
    assert run.samples is not None and run.attack is not None
    good = run.samples.logits.argmax(1) == run.samples.y
    for radius in (0.0, 36 / 255, 0.25, 0.99):
        proved = 100 * np.mean(good & (run.samples.certified_radius > radius))
        measured = 100 * run.attack.robust_accuracy[np.isclose(run.attack.radii, radius)][0]
        name = {0.0: "0 (clean)", 36 / 255: "36/255"}.get(radius, f"{radius:g}")
        assert f" {name} {proved:.1f} % {measured:.1f} % \u2013 " in page.text
    assert "Two networks were trained on blobs (images of 1 \u00d7 12 \u00d7 12, 10 classes)" in page.text
    assert "no perturbation of ℓ₂ norm up to 36/255" in page.text and "Nothing is proved of resnet" in page.text
    assert "The attack tried to refute the proof and failed" in page.text


def test_the_certificate_is_told_in_words(two: list[Path], tmp_path: Path) -> None:
    _, page = built(two, tmp_path / "report.html")
    for text in (
        "circle contractivity",
        "2.40418",
        "appends zeros: isometry",
        f"{2 / 2.40418**2:.6g}",
        "weights with sha256 5f70bf18",
    ):
        assert text in page.text
    assert "Flow: Euler on ConvexGradient(Conv2d, ReLU)" in page.text
    assert "Nothing is proved of this network. flow1 is a flow of FreeField" in page.text
    assert f"stablenets verify {two[0]}" in page.text


def test_hardware_versions_and_options(two: list[Path], tmp_path: Path) -> None:
    _, page = built(two, tmp_path / "report.html")
    for text in ("A CPU with 2 cores", "2.13.0", "stablenets classify --data blobs --network res-net", "margin = 0.2"):
        assert text in page.text


def test_a_run_that_was_only_trained(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path / "a run", certified=False, attacked=False)
    (run / "uncertified.txt").unlink()
    _, page = built([run], tmp_path / "report.html")
    assert (
        f"has not been attacked yet; its clean accuracy is that of the last epoch. To do it: stablenets attack '{run}'"
        in page.text
    )
    assert f"has not been certified yet. To do it: stablenets certify '{run}'" in page.text
    assert "Training on blobs" in page.text and "Image by image" not in page.text


def test_attacked_before_certified(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path / "run")
    edit_samples(run, certified_radius=np.full(100, np.nan))
    _, page = built([run], tmp_path / "report.html")
    assert "run was attacked before it was certified" in page.text
    assert "What is proved, and why" in page.text and "Measured robustness on blobs" in page.text


@pytest.mark.parametrize("lines", ["", '{"epoch": 1, "loss": 0.5, "test_accuracy": 0.8}\n', '{"loss": NaN}\n'])
def test_few_or_odd_epochs(two: list[Path], tmp_path: Path, lines: str) -> None:
    (two[0] / "metrics.jsonl").write_text(lines)
    built([two[0]], tmp_path / "report.html")


def test_one_radius_and_no_attack_that_succeeds(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path / "zero", radii=[0.0])
    built([run], tmp_path / "report.html")
    other = fake_runs.make(tmp_path / "strong", radii=[1e-9])
    _, page = built([other], tmp_path / "report.html")
    assert "no attack found up to 1e-09" in page.text


def test_an_attack_that_refutes_the_proof_is_shouted(two: list[Path], tmp_path: Path) -> None:
    with np.load(two[0] / "samples.npz") as archive:
        certified, smallest = archive["certified_radius"], archive["smallest_attack"]
    broken = int(np.flatnonzero(np.isfinite(smallest) & (smallest > 0))[0])
    certified[broken] = smallest[broken] + 0.01
    edit_samples(two[0], certified_radius=certified)
    samples = load_run(two[0]).samples
    assert samples is not None and contradictions(samples) == 1
    _, page = built(two, tmp_path / "report.html")
    assert "Contradiction. An attack broke 1 certified answers of non-expansive" in page.text


def test_names_cannot_inject(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    classes = [bad, '"><img src=x onerror=alert(2)>', "</script>", "{{ 7 * 7 }}"]
    run = fake_runs.make(tmp_path / "a&b<i>", classes=classes)
    edit(run / "environment.json", cpu=bad, command=bad, data=bad)
    edit(run / "certificate.json", layers=[{"name": bad, "theorem": bad}])
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config + f"note = '{bad}'\n")
    html, page = built([run], tmp_path / "report.html")
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert bad not in html and len(scripts) == html.count("<script")
    assert all(set(attributes) <= {"type"} for attributes in scripts)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert bad in page.text and "{{ 7 * 7 }}" in page.text and "a&b<i>" in page.text


def test_large_colour_images_are_shrunk(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((70, 3, 130, 80), dtype=np.float32)  # noise compresses worst
    runs = [fake_runs.make(tmp_path / f"run{i}", x=x, seed=i) for i in range(3)]
    html, page = built(runs, tmp_path / "report.html")
    assert len(html.encode()) < 3e6 and "Image by image" in page.text


def test_the_page_is_reproducible(two: list[Path], tmp_path: Path) -> None:
    assert built(two, tmp_path / "a.html")[0] == built(two, tmp_path / "b.html")[0]


# Several runs


def test_a_folder_of_runs(two: list[Path], tmp_path: Path) -> None:
    assert [run.name for run in load_runs([tmp_path])] == ["non-expansive", "resnet"]


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    paths = [fake_runs.make(tmp_path / group / "best") for group in ("a", "b")]
    assert [run.name for run in load_runs(paths)] == ["a/best", "b/best"]


def test_many_runs(tmp_path: Path) -> None:
    paths = [fake_runs.make(tmp_path / f"run-{i}", certified=i % 2 == 0, seed=i) for i in range(7)]
    built(paths, tmp_path / "report.html")


def test_runs_attacked_on_other_images(two: list[Path], tmp_path: Path) -> None:
    other = fake_runs.make(tmp_path / "other", x=fake_runs.blobs(50, (1, 12, 12), seed=5))
    _, page = built([two[0], other], tmp_path / "report.html")
    assert "other was attacked on other images and is not shown here" in page.text


def test_images_are_matched_by_content(two: list[Path]) -> None:
    with np.load(two[1] / "samples.npz") as archive:
        turned = {name: archive[name][::-1] for name in ("x", "y", "logits", "certified_radius", "smallest_attack")}
        index = 99 - archive["adv_index"]
    edit_samples(two[1], **turned, adv_index=index)
    shown = cards(load_runs(two), 60, 64)
    assert shown is not None and len(shown["cards"]) == 60
    second = load_run(two[1]).samples
    assert second is not None
    for card in shown["cards"]:
        answer = int(second.prediction[99 - card["number"]])
        assert card["nets"][1]["answer"] == fake_runs.CLASSES[answer]


@pytest.mark.parametrize("key, value", [("data", "mnist"), ("classes", list("abcdefghij"))])
def test_runs_on_other_data_are_refused(two: list[Path], tmp_path: Path, key: str, value: object) -> None:
    edit(two[1] / "environment.json", **{key: value})
    with pytest.raises(InputError, match=f"differ in '{key}'.*one report for each"):
        report.build(two, tmp_path / "report.html")


# Damage


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("config.toml", "= broken", "not valid TOML"),
        ("metrics.jsonl", '{"epoch": 1}\n{"epo', "line 2, is not valid JSON"),
        ("environment.json", "{", "not valid JSON"),
        ("environment.json", "[1]", "holds a JSON list"),
        ("environment.json", '{"classes": ["a"]}', "no entry 'data'"),
        ("environment.json", '{"classes": 3, "data": "a"}', "'classes' in .* is 3"),
        ("certificate.json", "{}", "no entry 'lipschitz'"),
        ("certificate.json", '{"lipschitz": 1.0, "layers": [3]}', "'layers' in"),
        ("attack.json", '{"radii": [0]}', "no entry 'attack'"),
        ("attack.json", '{"attack": {"norm": 1}}', "not an l2 attack"),
        ("attack.json", "\xff", "not valid JSON"),
        ("samples.npz", "PK damaged", "damaged"),
        ("samples.npz", None, "samples.npz is missing.*stablenets attack"),
        ("environment.json", None, "environment.json is missing"),
        ("certificate.json", None, "holds certified radii but certificate.json is missing.*stablenets certify"),
    ],
)
def test_damage_is_named(two: list[Path], tmp_path: Path, name: str, content: str | None, says: str) -> None:
    if content is None:
        (two[0] / name).unlink()
    else:
        (two[0] / name).write_text(content)
    with pytest.raises(InputError, match=f"(?s){says}") as caught:
        report.build(two, tmp_path / "report.html")
    assert str(two[0]) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"radii": [0.0, 0.5], "robust_accuracy": [0.9]}, "growing radii"),
        ({"radii": [0.5, 0.2], "robust_accuracy": [0.9, 0.8]}, "growing radii"),
        ({"radii": [0.0], "robust_accuracy": [float("nan")]}, "growing radii"),
        ({"radii": 0.5}, "'radii' in"),
        ({"clean_accuracy": None}, "incomplete"),
        ({"clean_accuracy": float("nan")}, "clean_accuracy"),
        ({"n": 7}, "does not belong to attack.json"),
    ],
)
def test_damaged_attacks(two: list[Path], tmp_path: Path, changes: dict[str, object], says: str) -> None:
    edit(two[0] / "attack.json", **changes)
    with pytest.raises(InputError, match=says):
        report.build(two, tmp_path / "report.html")


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"logits": None}, "no array 'logits'"),
        ({"logits": np.zeros((100, 3))}, "logits is"),
        ({"x": np.zeros((100, 144))}, "x is"),
        ({"y": np.full(100, 10)}, "labels out of range"),
        ({"adv_radius": np.zeros(1)}, "have lengths"),
        ({"adv_prediction": None}, "have lengths"),
        ({"gallery_index": np.array(100)}, "stores an attacked image"),
        ({"gallery_x": np.zeros((8, 1, 5, 5))}, "stores an attacked image"),
    ],
)
def test_damaged_samples(two: list[Path], tmp_path: Path, changes: dict[str, np.ndarray | None], says: str) -> None:
    edit_samples(two[0], **changes)
    with pytest.raises(InputError, match=says):
        report.build(two, tmp_path / "report.html")


def test_not_a_run_folder(tmp_path: Path, two: list[Path]) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "non-expansive" / "config.toml"):
        with pytest.raises(InputError, match="needed: a run folder"):
            report.build([path], tmp_path / "report.html")
    with pytest.raises(InputError, match="not a run folder"):
        load_run(tmp_path)
    with pytest.raises(InputError, match="given twice"):
        report.build([two[0], two[0]], tmp_path / "report.html")
    with pytest.raises(InputError, match="no run was given"):
        report.build([], tmp_path / "report.html")


def test_where_the_page_cannot_be_written(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        report.build(two, tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        report.build(two, tmp_path / "nowhere" / "report.html")


def test_a_page_is_replaced_whole_or_not_at_all(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(InputError, match="No space left"):
        report.build(two, out)
    assert out.read_text() == "old" and [p.name for p in tmp_path.iterdir() if p.is_file()] == ["report.html"]


# The pieces


def test_certified_accuracy_is_a_strict_count(two: list[Path]) -> None:
    samples = load_run(two[0]).samples
    assert samples is not None
    radii = np.concatenate([samples.certified_radius[:20], np.linspace(0, 2, 50)])  # also exactly at the jumps
    expected = [(samples.correct & (samples.certified_radius > r)).mean() for r in radii]
    np.testing.assert_array_equal(certified_accuracy(samples, radii), expected)


def test_proof_stays_below_measurement_at_every_radius(two: list[Path]) -> None:
    plot = accuracy_plot(load_runs(two))
    assert plot is not None
    proved, measured = plot.series[:2]
    assert (proved.style, measured.style) == (Style.PROVED, Style.MEASURED)
    for x in proved.x:
        assert (low := proved.at(x)) is not None and (high := measured.at(x)) is not None and low <= high


def test_headline_radius(tmp_path: Path) -> None:
    runs = [
        load_run(fake_runs.make(tmp_path / "a", radii=[0.1, 0.2])),
        load_run(fake_runs.make(tmp_path / "b", radii=[0.14, 0.2])),
    ]
    assert headline_radius(runs) == 0.2  # shared, though 0.14 is nearer to 36/255
    assert headline_radius(runs[1:]) == 0.14
    assert headline_radius([load_run(fake_runs.make(tmp_path / "c", attacked=False))]) == 36 / 255
    assert runs[0].attack is not None and attacked(runs[0].attack)[0].tolist() == [0.0, 0.1, 0.2]


def test_series_are_not_made_up_between_points() -> None:
    series = Series(0, "a", Style.MEASURED, np.array([0.0, 0.5, 1.0]), np.array([0.9, 0.4, 0.1]))
    assert [series.at(x) for x in (-0.1, 0.0, 0.49, 0.5, 1.0, 1.1)] == [None, 0.9, 0.9, 0.4, 0.1, None]


def test_ticks_and_labels() -> None:
    assert ticks(0, 0.99, 5) == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert ticks(1, 2, 5, 1) == [1, 2] and ticks(1, 30, 5, 1) == [5, 10, 15, 20, 25, 30]
    placed = spread([100.0, 99.0, 100.0], 10, 0, 100)
    assert sorted(placed) == [80, 90, 100] and placed[1] == 80


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 5), (2, 8, 8), (1, 300, 4), (3, 130, 70)])
def test_images_survive_the_encoder(shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(1).random(shape)
    image = pixels(x)
    assert max(image.shape[:2]) <= 64 and image.dtype == np.uint8
    decoded = imread(BytesIO(png(image)))
    np.testing.assert_allclose(decoded, image / 255, atol=1e-6)
    change = difference(x - 0.5, 0.5)
    assert imread(BytesIO(png(change))).shape == change.shape


def test_differences_have_a_sign() -> None:
    change = difference(np.array([[[-1.0, 0.0, 1.0]]]), 1.0)[0]
    assert change[:, 3].tolist() == [255, 0, 255]
    assert change[0, 2] > change[0, 0] and change[2, 0] > change[2, 2]  # blue: darker, orange: brighter


DRAWING = {f"{name}.py" for name in ("deformed", "figures", "generate", "level_sets", "panels", "picture_panels")}


def test_only_numpy_matplotlib_and_jinja2() -> None:
    folder = Path(report.__file__).parent
    allowed = {"numpy", "matplotlib", "jinja2"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2 or str(node.module).startswith("core")
                names = [str(node.module)] if node.level == 0 else []
            third = {name.split(".")[0] for name in names} - allowed
            assert not third & {"torch", "stablenets", "safetensors", "PIL", "scipy"}, path
            assert path.name in DRAWING or "matplotlib" not in {name.split(".")[0] for name in names}


# Figures for documents


NUMBER = re.compile(r"\d+\.\d+")


@pytest.mark.parametrize("draw", [figures.accuracy_curve, figures.training_curves, figures.attack_gallery])
def test_figures(two: list[Path], tmp_path: Path, draw: object) -> None:
    assert callable(draw)
    runs = load_runs(two)
    path = draw(runs, tmp_path / "figure.svg")
    assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert "resnet" in path.read_text()
    first, again = path.read_text(), draw(runs, tmp_path / "again.svg").read_text()
    assert NUMBER.split(first) == NUMBER.split(again)
    # the layout of the axes solves inequalities, in an order that may change the last digits of a place
    np.testing.assert_allclose(*([float(n) for n in NUMBER.findall(t)] for t in (first, again)), atol=1e-4)
    with pytest.raises(InputError, match="known format"):
        draw(runs, tmp_path / "figure.doc")
    with pytest.raises(InputError, match="cannot be written"):
        draw(runs, tmp_path / "nowhere" / "figure.svg")


def test_figures_of_runs_without_results(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path / "run", attacked=False)
    (run / "metrics.jsonl").write_text("")
    for draw in (figures.accuracy_curve, figures.attack_gallery):
        with pytest.raises(InputError, match="stablenets attack"):
            draw([load_run(run)], tmp_path / "figure.svg")
    with pytest.raises(InputError, match="no run has metrics"):
        figures.training_curves([load_run(run)], tmp_path / "figure.svg")
