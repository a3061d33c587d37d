"""Configs, run folders, and the job from one to the other."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cyclopts.exceptions import CycloptsError
from filelock import FileLock

from small_runs import TINY, copied, finished
from stablenets.attack import robust_curve
from stablenets.certify import Certificate
from stablenets.cli import app
from stablenets.core.component import arguments
from stablenets.core.errors import ClaimError, InputError, StableNetsError
from stablenets.layers import load, weights_hash
from stablenets.networks import made_for_images
from stablenets.report import load_run
from stablenets.studies import demo, find, names, robust_fashion
from stablenets.studies._compare import free
from stablenets.studies._examples import example_images
from stablenets.tasks import attack as attacks
from stablenets.tasks import build, classify
from stablenets.tasks import config as toml
from stablenets.tasks.options import ClassifyConfig
from stablenets.tasks.processes import finish_all
from stablenets.tasks.run_folder import Run, machine
from stablenets.train import Loss

UNUSUAL = ClassifyConfig(
    data='a "b"\\c ü\n', network="res-net", epochs=3, low=1e-5, peak=1e-3, channels=(16, 64), blocks=(0, 2), time=0.5,
    train_limit=7, flip=True, radii=(1e-3, 2.5), precision="bfloat16", seed=2**62, threads=3, out="some where",
    schedule="triangular", mean=(0.5, -0.25), truncated_head=False, plain=True, radius=0.2, gamma=0.0, beta=2.0,
)  # fmt: skip


# --- options and TOML ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ClassifyConfig(), TINY, UNUSUAL])
def test_toml_gives_back_the_same_options(config: ClassifyConfig, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(toml.text(config), encoding="utf-8")
    assert toml.read(tmp_path / "c.toml") == config


def test_a_config_file_says_of_which_kind_it_is_in_its_first_line() -> None:
    assert toml.text(ClassifyConfig()).splitlines()[0] == 'kind = "classify"'


@pytest.mark.parametrize("config", [TINY, UNUSUAL])
def test_the_command_of_a_config_has_its_options(config: ClassifyConfig) -> None:
    _, bound, _ = app.parse_args(toml.command(config).removeprefix("stablenets "), exit_on_error=False)
    assert bound.arguments["options"] == config


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("epohcs = 3", "Did you mean 'epochs'?"),
        ("epochs = 3.0", "epochs is 3.0; needed: a whole number"),
        ("epochs = true", "epochs is True; needed: a whole number"),
        ('peak = "high"', "peak is 'high'; needed: a number"),
        ("data = 3", "data is 3; needed: a string"),
        ("flip = 1", "flip is 1; needed: true or false"),
        ("blocks = 4", "blocks is 4; needed: a list, each entry a whole number"),
        ('radii = [0.1, "x"]', "radii is 'x'; needed: a number"),
        ('precision = "float16"', "one of auto, float32, bfloat16"),
        ('schedule = "constant"', "one of one-cycle, triangular"),
        ("truncated_head = 1", "truncated_head is 1; needed: true or false"),
        ("mean = 0.5", "mean is 0.5; needed: a list, each entry a number"),
        ("epochs = ", "is not valid TOML"),
        ('kind = "simulate"', "kind = 'classify'"),
        ("epochs = 0", "epochs is 0; needed: at least 1"),
        ("[epochs]", "epochs is {}; needed: a whole number"),
    ],
)
def test_a_bad_line_of_toml_is_named(line: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(line + "\n")
    with pytest.raises(InputError) as error:
        toml.read(path)
    assert complaint in str(error.value) and str(path) in str(error.value)


def test_a_missing_or_unreadable_config_file(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name, complaint in (("none.toml", "there is no file"), ("binary.toml", "cannot be read"), ("", "cannot be")):
        with pytest.raises(InputError, match=complaint):
            toml.read(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": -1}, {"batch_size": 0}, {"train_limit": 0}, {"test_limit": 0}, {"dense_blocks": -1}, {"blocks": ()},
        {"low": 0.0}, {"peak": float("inf")}, {"peak": float("nan")}, {"low": 1.0, "peak": 0.1}, {"weight_decay": -1.0},
        {"margin": -1.0}, {"time": -1.0}, {"gamma": -1.0}, {"radius": 0.0}, {"beta": float("inf")}, {"mean": ()},
        {"mean": (float("nan"),)}, {"radii": ()}, {"radii": (0.0,)}, {"radii": (float("inf"),)}, {"seed": -1},
        {"channels": (4, 4), "blocks": (1,)}, {"channels": (0,)}, {"shift": -1}, {"threads": 0}, {"epochs": "3"},
        {"precision": "fp8"}, {"schedule": "constant"},
    ],
)  # fmt: skip
def test_options_out_of_range(change: dict) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        toml.check(replace(ClassifyConfig(), **change))


def test_whole_numbers_do_for_floats() -> None:
    assert toml.check(replace(ClassifyConfig(), time=1)).time == 1.0


def test_every_option_is_documented() -> None:
    attributes = inspect.getdoc(ClassifyConfig).split("Attributes:")[1]  # type: ignore[union-attr]
    for field in dataclasses.fields(ClassifyConfig):
        assert f"    {field.name}: " in attributes, field.name


@pytest.mark.parametrize("name", sorted(made_for_images()))
def test_options_that_are_not_given_are_the_networks_own(name: str) -> None:
    """What is kept says them all, and builds the same network."""
    data = build.read_data(TINY)
    own = arguments(made_for_images()[name])
    given = {"data": "digits", "network": name}
    given |= {option: value for option, value in {"dense_width": 6, "channels": (16,)}.items() if option in own}
    short = ClassifyConfig(**given)
    kept = classify.settled(short)
    net, same = build.build_network(short, data), build.build_network(kept, data)
    assert weights_hash(net) == weights_hash(same)
    for option in build.NETWORK_OPTIONS:
        if option in arguments(type(net)):
            assert getattr(kept, option) == getattr(net, option), option
    assert kept.margin == 0.7 and kept.temperature is None
    assert toml.command(replace(short, precision=kept.precision)).count("--") == len(given) + 1


def test_every_argument_of_networks_and_losses_is_an_option() -> None:
    stands_for = {name for names in build.NETWORK_OPTIONS.values() for name in names}
    for cls in made_for_images().values():
        assert set(arguments(cls)) <= {"image_shape", "classes", *stands_for}, cls
    stands_for = {name for names in build.LOSS_OPTIONS.values() for name in names}
    for cls in Loss.registry.values():
        assert set(arguments(cls)) <= stands_for or not cls.__module__.startswith("stablenets."), cls


# --- what names stand for -----------------------------------------------------------------------------------------


def test_unknown_names_and_options_that_a_network_does_not_have() -> None:
    for change, complaint in (
        ({"network": "res-nte"}, "Did you mean 'res-net'?"),
        ({"network": "res-net", "time": 1.0}, "has no option 'time'"),
        ({"truncated_head": True}, "network 'non-expansive-net' has no option 'truncated_head'"),
        ({"temperature": 0.5}, "loss 'multi-margin' has no option 'temperature'; needed: margin. Leave it out"),
        (
            {"loss": "cross-entropy", "margin": 0.5},
            "'cross-entropy' has no option 'margin'; needed: no option",
        ),
        ({"threads": 10**6}, "threads=1000000"),
        ({"loss": "multi-margn"}, "Did you mean 'multi-margin'?"),
        ({"data": "digts"}, "Did you mean 'digits'?"),
        ({"device": "cuda:99"}, "there is no device"),
        ({"device": "toaster"}, "there is no device"),
        ({"train_limit": 10**6}, "1000000 training images"),
    ):
        with pytest.raises(InputError) as error:
            classify.create(replace(TINY, out="never", **change))
        assert complaint in str(error.value)
    assert not Path("never").exists()


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    data = build.read_data(TINY)
    before = torch.get_rng_state()
    one, same, other = (weights_hash(build.build_network(replace(TINY, seed=s), data)) for s in (1, 1, 2))
    assert one == same != other
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("multi-margin", {}, {"margin": 0.7}),
        ("multi-margin", {"margin": 0.3}, {"margin": 0.3}),
        ("offset-cross-entropy", {"margin": 0.3, "temperature": 0.5}, {"offset": 0.3, "temperature": 0.5}),
        ("offset-cross-entropy", {"margin": 0.0}, {"offset": 0.0, "temperature": 0.25}),
        ("logit-annealing", {"beta": 0.0}, {"offset": 2.0, "temperature": 0.75, "beta": 0.0}),
        ("certificate-regularised", {"gamma": 0.5}, {"gamma": 0.5}),
        ("emma", {"radius": 0.2}, {"radius": 0.2}),
    ],
)
def test_losses_get_their_arguments(name: str, given: dict, expected: dict) -> None:
    loss = build.build_loss(replace(TINY, loss=name, **given))
    assert {key: getattr(loss, key) for key in arguments(type(loss))} == expected
    kept = build.complete(replace(TINY, loss=name, **given))
    again = build.build_loss(kept)
    assert {key: getattr(again, key) for key in arguments(type(again))} == expected


def test_the_schedule_of_a_config() -> None:
    steps = [build.schedule(replace(TINY, schedule="triangular", peak=0.5))(s, 10) for s in (0, 4, 8)]
    assert steps == pytest.approx([0.0, 0.5, 0.025])
    steps = [build.schedule(replace(TINY, low=0.1, peak=0.5))(s, 11) for s in (0, 10)]
    assert steps == pytest.approx([0.1, 0.1])


def test_threads_are_restored() -> None:
    before = torch.get_num_threads()
    with build.threads(replace(TINY, threads=before + 1)):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_fingerprint_tells_other_data() -> None:
    data = build.read_data(TINY)
    same, fewer = build.fingerprint(build.read_data(TINY)), build.fingerprint(data.subset(train=1436))
    changed = replace(data, y_train=data.y_train.flip(0))
    assert build.fingerprint(data) == same
    assert len({same, fewer, build.fingerprint(changed)}) == 3


def test_own_data_are_found_again_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = np.zeros((4, 8, 8), dtype=np.uint8), np.array([0, 1, 0, 1])
    np.savez("own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    run = classify.create(replace(TINY, data="own.npz"))
    assert run.path == Path("runs/own-non-expansive-net")
    assert run.config.data == str(tmp_path / "own.npz")
    assert run.environment["data"] == "own.npz"


# --- run folders --------------------------------------------------------------------------------------------------


def test_an_existing_folder_is_refused_and_an_empty_one_is_not(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", TINY, {"seconds": 0.0})
    with pytest.raises(InputError, match="--resume"):
        Run.create(run.path, TINY, {})
    (tmp_path / "b").mkdir()
    assert Run.create(tmp_path / "b", TINY, {}).config == TINY
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").touch()
    with pytest.raises(InputError, match="exists"):
        Run.create(tmp_path / "c", TINY, {})
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="--out"):
            Run.create(path, TINY, {})


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "a", TINY, {"seconds": 0.0})
    before = run.file("environment.json").read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="No space left"):
        run.write_json("environment.json", {"seconds": 1.0})
    assert run.file("environment.json").read_text() == before
    assert not list(run.path.glob(".*.tmp"))


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", TINY, {"seconds": 1.5})
    with FileLock(run.file(".lock")), pytest.raises(InputError, match="another process"), run.work():
        pass
    with run.work():
        pass
    assert run.environment["seconds"] >= 1.5


def test_time_is_counted_when_the_work_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "a", TINY, {"seconds": 1.0})
    clock = itertools.count(0.0, 2.0)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt), run.work():
        raise KeyboardInterrupt
    assert run.environment["seconds"] >= 3.0


def test_what_is_no_run_folder(tmp_path: Path) -> None:
    for path, complaint in ((tmp_path, "is not a run folder"), (tmp_path / "none", "does not exist")):
        with pytest.raises(InputError, match=complaint):
            Run.open(path)
    run = Run.create(tmp_path / "a", TINY, {})
    run.file("environment.json").write_text("{")
    with pytest.raises(InputError, match="is not readable"):
        _ = run.environment


def test_the_machine_is_described() -> None:
    found = machine()
    assert found["torch"] == torch.__version__ and found["python"].count(".") == 2 and "cores" in found["cpu"]
    json.dumps(found)


# --- the job ------------------------------------------------------------------------------------------------------


def test_a_run_has_all_its_files_and_they_agree() -> None:
    run = finished()
    assert run.done and not run.has("uncertified.txt")
    read = load_run(run.path)
    assert read.attack is not None and read.samples is not None and read.certified
    curve, samples = read.attack, read.samples
    assert curve.radii.tolist() == [0.0, 0.1, 0.3, 0.6] and curve.n == 40 and curve.sandwich_ok
    assert (np.diff(curve.robust_accuracy) <= 0).all()
    proved = json.loads(run.file("attack.json").read_text())["certified_accuracy"]
    assert (np.array(proved) <= curve.robust_accuracy).all() and proved[0] > 0.3
    assert samples.correct.mean() == pytest.approx(curve.clean_accuracy)
    assert (samples.smallest_attack >= samples.certified_radius)[samples.correct].all()
    for index, (image, radius, answer) in samples.adversarial.items():
        assert np.linalg.norm(image - samples.x[index]) <= radius + 1e-5 and answer != samples.y[index]
    assert samples.gallery is not None
    index, images, radii, _ = samples.gallery
    assert samples.correct[index] and np.array_equal(images[0], samples.x[index]) and radii[0] == 0
    assert read.metrics[0]["epoch"] == 1 and read.metrics[0]["test_accuracy"] > 0.5
    parameters = sum(p.numel() for p in load(run.file("model.safetensors")).parameters())
    environment = read.environment
    assert environment["image_shape"] == [1, 8, 8] and environment["parameters"] == parameters
    assert environment["seconds"] > 0 and environment["command"].startswith("stablenets classify --data digits")
    assert tomllib.loads(read.config_text)["precision"] == "float32"
    assert classify.verify(run).ok


def test_a_network_of_which_nothing_is_proved() -> None:
    run = finished("res-net")
    assert run.done and not run.has("certificate.json")
    assert len(run.file("uncertified.txt").read_text().splitlines()) == 1
    read = load_run(run.path)
    assert read.samples is not None and np.isnan(read.samples.certified_radius).all() and not read.certified
    with pytest.raises(InputError, match=r"has no certificate.*FreeField"):
        classify.verify(run)


def test_a_finished_run_is_left_alone_and_a_missing_part_is_made_again(tmp_path: Path) -> None:
    run = copied(tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in run.path.iterdir()}
    news: list = []
    classify.resume(run, lambda *what: news.append(what))
    assert {p.name: p.stat().st_mtime_ns for p in run.path.iterdir()} == before and not news
    old = run.file("certificate.json").read_text()
    run.remove("certificate.json", "attack.json")
    classify.resume(run, lambda *what: news.append(what))
    assert run.file("certificate.json").read_text() == old and run.has("attack.json")
    assert [task for task, *_ in news] == ["certifying", "certifying", "attacking", "attacking"]


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def stop(task: str, done: int, total: int, note: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    config = replace(TINY, epochs=2)
    whole, parts = (classify.create(replace(config, out=str(tmp_path / name))) for name in ("whole", "parts"))
    classify.train(whole)
    with pytest.raises(KeyboardInterrupt):
        classify.train(parts, stop)
    assert not parts.has("model.safetensors")
    classify.train(parts)
    one, other = (load(run.file("model.safetensors")) for run in (whole, parts))
    assert weights_hash(one) == weights_hash(other)
    assert [json.loads(line)["epoch"] for line in parts.file("metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_data_that_changed_meanwhile_are_noticed(tmp_path: Path) -> None:
    x, y = np.zeros((8, 8, 8), dtype=np.uint8), np.arange(8) % 2
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    np.savez(tmp_path / "own.npz", **arrays)
    run = classify.create(replace(TINY, data=str(tmp_path / "own.npz"), out=str(tmp_path / "run")))
    classify.train(run)
    run.remove("model.safetensors")
    np.savez(tmp_path / "own.npz", **arrays | {"x_train": x + 1})
    with pytest.raises(InputError, match="another training"):
        classify.train(run)


def test_attacking_again_with_other_options(tmp_path: Path) -> None:
    run = copied(tmp_path)
    classify.attack(run, steps=3, radii=(0.2,), test_limit=10)
    attack = load_run(run.path).attack
    assert attack is not None and (attack.steps, attack.n, attack.radii.tolist()) == (3, 10, [0.0, 0.2])
    assert run.config == finished().config
    for change in ({"steps": 0}, {"radii": (-1.0,)}, {"test_limit": 0}):
        with pytest.raises(InputError):
            classify.attack(run, **change)


def test_a_certificate_that_is_edited_or_of_other_weights_is_refused(tmp_path: Path) -> None:
    run = copied(tmp_path)
    path = run.file("certificate.json")
    honest = json.loads(path.read_text())
    for change, complaint in (({"lipschitz": 0.5}, "edited"), ({"weights_sha256": "0" * 64}, "other weights")):
        path.write_text(json.dumps(honest | change))
        with pytest.raises(InputError, match=complaint):
            classify.attack(run)
        assert not classify.verify(run).ok
    path.write_text("{")
    with pytest.raises(InputError, match="not a readable certificate"):
        classify.attack(run)


def test_an_attack_within_a_certified_radius_is_reported_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(tmp_path)
    monkeypatch.setattr(attacks, "judged", lambda proof, x, radius, curve: ([7], curve))
    with pytest.raises(ClaimError, match="index 7"):
        classify.attack(run)
    assert json.loads(run.file("attack.json").read_text())["sandwich_ok"] is False


def test_contradictions_are_found() -> None:
    run = finished()
    net, data = load(run.file("model.safetensors")), build.read_data(TINY)
    proof = Certificate.load(run.file("certificate.json"), net)
    x, y = data.x_test[:40], data.y_test[:40]
    radius = proof.radius(x)
    curve = robust_curve(net, x, y, TINY.radii, steps=5)
    assert len(curve.index) > 5
    assert attacks.judged(proof, x, radius, curve)[0] == []
    assert attacks.judged(proof, x, radius + 1, curve)[0] == curve.index.tolist()


def test_a_certificate_that_the_checker_rejects_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied(tmp_path)
    run.remove("certificate.json")
    monkeypatch.setattr(classify, "verify", lambda _: classify.Verdict(False, "a gap"))
    with pytest.raises(ClaimError, match="a gap"):
        classify.resume(run)
    assert not run.has("certificate.json")


# --- several processes, and studies -------------------------------------------------------------------------------


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    run = classify.create(replace(TINY, out=str(tmp_path / "run")))
    run.file("config.toml").write_text('data = "digts"\n')
    with pytest.raises(StableNetsError, match=r"resnet in .* stopped \(unknown data set 'digts'"):
        finish_all({"resnet": run}, lambda *_: None)


def test_studies_are_found_by_name() -> None:
    assert {"demo", "robust-fashion", "cpl-cifar10", "depth-scaling"} <= set(names())
    assert find("robust-fashion").run is robust_fashion.run
    assert "Fig. 12-14" in find("robust-fashion").summary
    with pytest.raises(InputError, match="Did you mean 'robust-fashion'"):
        find("robust-fasion")


def test_the_settings_of_the_study_are_those_of_the_chapter() -> None:
    c = robust_fashion.CONFIG
    assert (c.data, c.train_limit, c.test_limit, c.epochs) == ("fashion-mnist", 30_000, 1_000, 30)
    assert (c.low, c.peak, c.weight_decay, c.loss, c.attack_steps) == (1e-4, 1e-2, 1e-5, "multi-margin", 100)
    assert len(c.radii) == 8 and max(c.radii) < 1


def test_the_demo_and_a_free_folder_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert free(Path("runs/demo")) == Path("runs/demo")
    news: set[str] = set()
    assert demo.run(quick=True, progress=lambda task, *_: news.add(task)) == Path("runs/demo")
    assert "non-expansive: certifying" in news and "resnet: attacking" in news
    assert {p.name for p in Path("runs/demo").iterdir()} == {"non-expansive", "resnet", "report.html"}
    assert free(Path("runs/demo")) == Path("runs/demo-2")


def test_the_study_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = {"data", "patch", "blocks", "hidden", "dense_blocks"}  # the networks do not share these
    monkeypatch.setattr(robust_fashion, "QUICK", {k: v for k, v in vars(TINY).items() if k not in left_out})
    folder = robust_fashion.run(data="digits", out=tmp_path / "s", quick=True)
    figures = {"figure-12-examples.svg", "figure-13-attacked.svg", "figure-14-accuracy.svg", "training.svg"}
    assert {p.name for p in folder.iterdir()} == {"non-expansive", "resnet", "contracting", "report.html", *figures}
    model = folder / "resnet" / "model.safetensors"
    written = model.stat().st_mtime_ns
    robust_fashion.run(data="digits", out=folder, quick=True)
    assert model.stat().st_mtime_ns == written
    with pytest.raises(InputError, match="run with other options"):
        robust_fashion.run(data="digits", out=folder)


def test_example_images_grey_and_colour(tmp_path: Path) -> None:
    for channels in (1, 3):
        path = example_images(np.random.default_rng(0).random((2, channels, 4, 4)), ["a<b", "c"], tmp_path / "e.svg")
        text = path.read_text()
        assert text.count("<image ") == 2 and "a&lt;b" in text and text.endswith("</svg>\n")


def test_unused_option_is_a_usage_error() -> None:
    with pytest.raises(CycloptsError):
        app.parse_args("classify --epohcs 3", exit_on_error=False, print_error=False)


# --- other attacks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddn", "ensemble", "Szegedy", "smallest", "fgsm"])
def test_any_registered_attack_is_run_and_reported(tmp_path: Path, name: str) -> None:
    run = copied(tmp_path)
    run.remove("smallest.npz")  # what an earlier attack found would be kept
    classify.attack(run, name=name, steps=3, test_limit=12)
    table = json.loads(run.file("attack.json").read_text())
    assert table["attack"]["name"].lower() == name.lower() and table["attack"]["norm"] == 2 and table["sandwich_ok"]
    assert load_run(run.path).attack is not None
    with np.load(run.file("smallest.npz"), allow_pickle=False) as smallest, np.load(run.file("samples.npz")) as samples:
        assert {str(each).lower() for each in smallest["attack"]} == {name.lower()}
        assert smallest["indices"].tolist() == list(range(12))
        radius, wrong = smallest["radius"], samples["logits"].argmax(1) != samples["y"]
        assert (radius[wrong] == 0).all() and (radius[~wrong] > 0).all()
        certified = samples["certified_radius"]
        assert (radius[~wrong] >= certified[~wrong]).all()
        moved = np.linalg.norm(
            (samples["x_adv"] - samples["x"][samples["adv_index"]]).reshape(-1, 64).astype(float), axis=1
        )
        assert np.allclose(radius[samples["adv_index"]], moved, rtol=1e-5)


def test_unknown_attacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'deep-fool'"):
        classify.attack(copied(tmp_path), name="deepfool")
