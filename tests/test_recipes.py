"""Recipes: options by name, which the command line overrides."""

from __future__ import annotations

import inspect
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest

from small_runs import WORDS
from stablenets import cli
from stablenets.core.component import by_name
from stablenets.core.errors import InputError
from stablenets.networks import ConvexPotentialNet, Network
from stablenets.tasks import build, classify, recipes
from stablenets.tasks import config as toml
from stablenets.tasks.run_folder import Run
from stablenets.train import triangular

PUBLISHED = {"cpl-s": "small", "cpl-m": "medium", "cpl-l": "large", "cpl-xl": "extra_large"}


def call(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command line in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def bound(cls: type, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, defaults included."""
    found = inspect.signature(cls).bind((3, 32, 32), 10, **given)
    found.apply_defaults()
    return found.arguments


def test_they_are_data_of_the_package() -> None:
    files = resources.files("stablenets") / "recipes"
    found = {file.name.removesuffix(".toml") for file in files.iterdir() if file.name.endswith(".toml")}
    assert found == set(recipes.names())
    assert found >= {*PUBLISHED, "certified-fashion", "certified-mnist", "certified-cifar10", "certified-cifar10-gpu"}


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_says_what_it_is_and_can_be_built(name: str) -> None:
    """Without building the largest networks: the options fit the network's arguments."""
    assert 10 < len(recipes.summary(name)) < 110 and not recipes.summary(name).startswith(("#", "kind"))
    config = toml.read(recipes.find(name))
    cls = by_name("network", Network.registry, config.network)
    given = {option: getattr(config, option) for option in build.NETWORK_OPTIONS}
    bound(cls, {option: value for option, value in given.items() if value is not None})
    assert build.build_loss(config) and build.complete(config) == toml.check(build.complete(config))
    assert ("NOT MEASURED" in recipes.summary(name)) == (name == "certified-cifar10-gpu")


@pytest.mark.parametrize(("name", "size"), PUBLISHED.items())
def test_the_published_recipes(name: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = toml.read(recipes.find(name))
    given = {option: getattr(config, option) for option in build.NETWORK_OPTIONS}
    ours = bound(ConvexPotentialNet, {option: value for option, value in given.items() if value is not None})
    seen: dict[str, Any] = {}
    with monkeypatch.context() as patch:
        patch.setattr(ConvexPotentialNet, "__init__", lambda self, image_shape, classes, **given: seen.update(given))
        getattr(ConvexPotentialNet, size)((3, 32, 32), 10, mean=(0.4914, 0.4822, 0.4465))
    assert ours == bound(ConvexPotentialNet, seen)
    schedule = build.schedule(config)
    assert [schedule(s, 100) for s in (0, 10, 60, 99)] == [triangular(s, 100, peak=1e-3) for s in (0, 10, 60, 99)]
    assert (config.loss, config.margin, config.weight_decay) == ("multi-margin", 0.7, 0.0)
    assert (config.batch_size, config.epochs, config.shift, config.flip) == (256, 200, 4, True)
    assert config.radii[:3] == (36 / 255, 72 / 255, 108 / 255) and config.attack_steps == 10


def test_the_published_network_of_a_recipe_is_built_for_other_images() -> None:
    data = build.read_data(toml.ClassifyConfig(data="digits"))
    config = replace(toml.read(recipes.find("cpl-s")), data="digits", dense_width=4, mean=None)
    net = build.build_network(config, data)
    assert isinstance(net, ConvexPotentialNet) and net.truncated_head and net.blocks == (20,)


def test_the_command_line_wins_over_a_file_and_a_file_over_a_recipe(
    capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    (tmp_path / "c.toml").write_text("margin = 0.5\nepochs = 9\nseed = 4\n")
    words = f"{WORDS} --recipe certified-fashion --config {tmp_path}/c.toml"
    code, _, err = call(f"classify {words} --out {tmp_path}/run --progress json", capsys)
    assert (code, err) == (0, "")
    config = Run(tmp_path / "run").config
    assert (config.loss, config.temperature) == ("offset-cross-entropy", 0.2)  # the recipe's
    assert (config.margin, config.seed) == (0.5, 4)  # the file's
    assert (config.data, config.epochs) == ("digits", 1)  # the command line's
    command = Run(tmp_path / "run").environment["command"]
    assert "--loss offset-cross-entropy --margin 0.5 --temperature 0.2" in command and "--recipe" not in command


def test_an_option_of_a_recipe_is_taken_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []

    def create(config: Any) -> None:
        taken.append(config)
        raise InputError("stop")

    monkeypatch.setattr(classify, "create", create)
    call("classify --recipe certified-fashion --loss emma --margin none --temperature none", capsys)
    assert (taken[0].loss, taken[0].margin, taken[0].temperature, taken[0].epochs) == ("emma", None, None, 15)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("classify --recipe cpl", "Did you mean 'cpl-s' or 'cpl-m'?"),
        ("classify --recipe ../recipes/cpl-s", "unknown recipe"),
        ("classify --recipe cpl-s --epochs 1.5", "--epochs"),
        ("classify --blocks 2 1.5", "--blocks"),
        ("classify --epochs 2.0", "--epochs"),
        ("classify --seed 1e3", "--seed"),
        ("attack none --steps 1.5", "--steps"),
        ("classify --resume none --recipe cpl-s", "--resume beside other options"),
        ("classify --data digits --patch 2 --recipe certified-fashion --loss emma", "write --temperature none"),
        ("classify --data digits --threads 100000", "threads=100000"),
        ("study demo --recipe cpl-s", "It has networks of its own"),
        ("study cpl-cifar10 --recipe cpl", "unknown recipe 'cpl'"),
    ],
)
def test_bad_words(
    line: str, complaint: str, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code 2, and no folder left behind."""
    monkeypatch.chdir(tmp_path)
    code, out, err = call(line, capsys)
    assert (code, out) == (2, "") and err.count("\n") == 1 and complaint in err, err
    assert not list(tmp_path.iterdir())


def test_they_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call("list", capsys)
    assert all(f" {name} " in out for name in recipes.names())
