"""`stablenets simulate`: dynamics are learned with their structure, predicted, measured, resumed and rolled out."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import stablenets as sn
from stablenets import cli
from stablenets.core.errors import InputError
from stablenets.data import Trajectories, Trajectory, read_trajectories, write_csv
from stablenets.layers.files import weights_hash
from stablenets.report.simulate import build_simulation
from stablenets.systems import SIR, HarmonicOscillator
from stablenets.tasks import config as toml
from stablenets.tasks import simulate
from stablenets.tasks.drift import errors, kept
from stablenets.tasks.options import ClassifyConfig, SimulateConfig
from stablenets.tasks.run_folder import Run
from stablenets.tasks.simulator import Simulator, predict
from stablenets.tasks.structures import STRUCTURES, find, units

TINY = SimulateConfig(steps=3, refine=2, width=4)


def spring(count: int = 5, points: int = 12, scale: float = 1.0) -> Trajectories:
    """Exact solutions of a spring of frequency 2 at irregular times; with `scale`, in other units of the states."""
    random, f, items = np.random.default_rng(0), HarmonicOscillator(), []
    for k in range(count):
        t = np.sort(random.uniform(0, 2, points))
        start = torch.from_numpy(random.uniform(-1, 1, (1, 2)))
        states = torch.cat([f.solution(start, 2 * float(s - t[0])) for s in t])
        items.append(Trajectory(str(k), t, scale * states.numpy()))
    return Trajectories(("q", "p"), tuple(items))


def epidemic() -> Trajectories:
    random = np.random.default_rng(1)
    t, items = np.arange(8) / 2, []
    for k in range(5):
        x = torch.from_numpy(random.dirichlet([5, 2, 1])[None])
        states = [x]
        for _ in range(7):
            for _ in range(20):
                x = sn.integrators.RK4().step(SIR(2.0, 0.5), x, 0.025)
            states.append(x)
        items.append(Trajectory(str(k), t, torch.cat(states).numpy()))
    return Trajectories(("s", "i", "r"), tuple(items))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_csv(folder / "spring.csv", spring())
    write_csv(folder / "sir.csv", epidemic())
    return folder


@pytest.fixture(scope="module")
def learned(files: Path) -> Run:
    """A spring, learned well; do not change the folder."""
    config = SimulateConfig(str(files / "spring.csv"), "mechanical", width=2, steps=30, refine=60)
    return simulate.run(replace(config, out=str(files / "learned")))


def test_a_spring_is_learned_and_its_energy_stays(learned: Run) -> None:
    result = simulate.results(learned)
    (energy,) = result["kept"]
    assert result["held_out"] and result["predicted"] == 1 and result["relative"] < 0.02
    assert energy["name"] == "energy" and not energy["proved"] and energy["drift"] < 1e-5
    assert "Symplectic()" in result["claims"]
    metrics = [json.loads(line) for line in learned.file("metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["loss"] < 1e-3 * metrics[0]["loss"]


def test_the_model_rolls_out_in_the_units_of_the_data(learned: Run, tmp_path: Path) -> None:
    model = Simulator.open(learned)
    times = np.array([0.0, 0.3, 1.1])
    found = model.roll_out(np.array([0.8, -0.2]), times)
    exact = [HarmonicOscillator().solution(torch.tensor([[0.8, -0.2]]), 2 * t).numpy()[0] for t in times]
    assert np.abs(found - np.array(exact)).max() < 0.05
    said = simulate.roll_out(learned, SimulateConfig(out=str(tmp_path / "r.csv")), (0.8, -0.2), 1.1, 5)
    rolled = read_trajectories(tmp_path / "r.csv").items[0]
    assert said == f"Written: {tmp_path / 'r.csv'}." and rolled.times.tolist() == np.linspace(0, 1.1, 5).tolist()
    assert np.abs(rolled.states[-1] - found[-1]).max() < 1e-4
    assert np.array_equal(rolled.states[0], [0.8, -0.2])


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_keeps_what_it_says_at_large_weights(name: str) -> None:
    data = epidemic() if name in ("mass", "positive-mass") else spring(2, 4)
    structure, d = find(name, data), len(data.names)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        field = structure.field(d, 6).double()
        for p in field.parameters():
            p.data *= 1.5
    flow = sn.Flow(field, structure.integrator(), h=0.1).eval()
    model = Simulator(flow, data.names, np.zeros(d), 1.0, 1.0)
    found = predict(model, data)
    rows = kept(flow, model.scaled, found, data)
    assert all(row["drift"] < 1e-12 for row in rows if row["proved"]), rows
    expected = {
        "energy": {"energy"}, "port-hamiltonian": {"energy"}, "gradient": {"energy"}, "mass": {"mass"},
        "positive-mass": {"mass"}, "norm": {"squared norm"}, "stable": {"lyapunov"},
    }  # fmt: skip
    assert {row["name"] for row in rows if row["proved"]} == expected.get(name, set())
    if structure.positive:
        assert min(item.states.min() for item in found.items) >= 0
    if "symplectic" in structure.summary:
        assert any(type(c).__name__ == "Symplectic" for c in flow.claims())


def test_drift_sees_what_is_lost(learned: Run) -> None:
    model, data = Simulator.open(learned), spring()
    grown = Trajectories(
        data.names, tuple(replace(i, states=i.states * np.linspace(1, 2, 12)[:, None]) for i in data.items)
    )
    (row,) = kept(model.flow, model.scaled, grown, data)
    assert row["drift"] > 0.1 > row["data"]
    assert errors(grown, data)["rmse"] == pytest.approx(
        np.sqrt(np.mean([(a.states[1:] - b.states[1:]) ** 2 for a, b in zip(grown.items, data.items, strict=True)]))
    )
    far = Trajectories(data.names, tuple(replace(i, states=i.states * np.nan) for i in data.items))
    assert errors(far, data) == {"rmse": None, "relative": None}


def test_units_make_large_data_small() -> None:
    structure = STRUCTURES["hamiltonian"]
    (_, size, time), (_, large, same) = (units(structure, spring(scale=s), None) for s in (1.0, 1000.0))
    assert large == pytest.approx(1000 * size) and time == pytest.approx(same) and 0.2 < time < 2
    assert not units(STRUCTURES["norm"], spring(), None)[0].any()


def test_the_end_is_held_out_where_trajectories_are_few() -> None:
    data = spring(2, 20)
    parts = simulate.split(data, 0.25)
    for whole, first, last in zip(data.items, parts.learned.items, parts.predicted.items, strict=True):
        assert first.times[-1] == last.times[0] and len(first.times) + len(last.times) == 21
        assert (np.concatenate([first.states, last.states[1:]]) == whole.states).all()
    assert not simulate.split(data, 0.0).predicted.items
    many = simulate.split(spring(10), 0.2)
    assert [item.label for item in many.predicted.items] == ["8", "9"] and len(many.learned.items) == 8


def test_windows_cover_every_interval() -> None:
    data = spring(2, 12)
    times, states = simulate.windows(data, 4)
    assert times.shape == (6, 5) and states.shape == (6, 5, 2)
    pairs = {(a, b) for row in times for a, b in itertools.pairwise(row)}
    assert pairs == {(a, b) for i in data.items for a, b in itertools.pairwise(i.times)}
    assert simulate.windows(data, 99)[0].shape == (2, 12)


def test_resumed_is_bitwise_uninterrupted(files: Path, tmp_path: Path) -> None:
    config = replace(TINY, data=str(files / "sir.csv"), structure="positive-mass", noisy=True)
    whole = simulate.run(replace(config, out=str(tmp_path / "whole")))
    part = simulate.create(replace(config, out=str(tmp_path / "part")))

    def stop(task: str, done: int, total: int, note: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate.resume(part, stop)
    assert not part.has("model.safetensors")
    simulate.resume(part)
    hashes = [weights_hash(sn.load(run.file("model.safetensors"))) for run in (part, whole)]
    assert hashes[0] == hashes[1]
    for name in ("metrics.jsonl", "result.json"):
        assert part.file(name).read_bytes() == whole.file(name).read_bytes(), name
    before = part.file("result.json").stat().st_mtime_ns
    assert simulate.resume(part).file("result.json").stat().st_mtime_ns == before
    assert simulate.results(part)["lowest_entry"] >= 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": ""}, "no data"),
        ({"data": "nothing.csv"}, "no file"),
        ({"structure": "hamiltonain"}, "Did you mean 'hamiltonian'"),
        ({"structure": "positive-mass"}, "no negative entries"),
        ({"equilibrium": (0.0, 0.0)}, "the structure 'stable'"),
        ({"structure": "stable", "equilibrium": (0.0,)}, "2 numbers"),
        ({"test": 1.0}, "test is 1.0"),
        ({"horizon": 0}, "horizon is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"step": 0.0}, "step is 0.0"),
        ({"step": 1e-9}, "at most 1e\\+07"),
        ({"width": 2.5}, "whole number"),
    ],
)
def test_wrong_options(files: Path, tmp_path: Path, change: dict[str, object], words: str) -> None:
    config = replace(SimulateConfig(str(files / "spring.csv"), out=str(tmp_path / "run")), **change)  # pyright: ignore
    with pytest.raises(InputError, match=words):
        simulate.create(config)
    assert not (tmp_path / "run").exists()


def test_structures_that_the_states_cannot_have() -> None:
    with pytest.raises(InputError, match="an even number"):
        find("energy", epidemic())
    one = Trajectories(("x",), (Trajectory("1", np.arange(3.0), np.ones((3, 1))),))
    with pytest.raises(InputError, match="at least 2"):
        find("mass", one)


@pytest.mark.parametrize(("states", "gap"), [(1e200, 1.0), (1.0, 1e-320), (1e308, 1.0)])
def test_numbers_whose_squares_overflow_are_refused(states: float, gap: float) -> None:
    wide = Trajectory("1", gap * np.arange(4.0), states * np.array([[1.0], [-1.0], [1.0], [-0.5]]))
    with pytest.raises(InputError, match="Choose other units"):
        units(STRUCTURES["free"], Trajectories(("x",), (wide,)), None)


@pytest.mark.parametrize(
    ("options", "start", "until", "words"),
    [
        (SimulateConfig(), (), None, "either --data"),
        (SimulateConfig(), (1.0, 0.0), None, "either --data"),
        (SimulateConfig("x.csv"), (1.0, 0.0), 1.0, "either --data"),
        (SimulateConfig(structure="mass"), (1.0, 0.0), 1.0, "options of learning"),
        (SimulateConfig(), (1.0,), 1.0, "2: q, p"),
        (SimulateConfig(), (1.0, float("nan")), 1.0, "2: q, p"),
        (SimulateConfig(), (1.0, 0.0), -1.0, "positive time"),
        (SimulateConfig(), (1.0, 0.0), 1e300, "at most 1e\\+07"),
        (SimulateConfig(out="x.txt"), (1.0, 0.0), 1.0, "ends in .csv"),
    ],
)
def test_wrong_roll_outs(
    learned: Run, options: SimulateConfig, start: tuple[float, ...], until: float | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        simulate.roll_out(learned, options, start, until)


def test_the_command_line(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"simulate --data {files / 'spring.csv'} --structure free --steps 2 --refine 1 --width 3 --progress none"
    with pytest.raises(SystemExit) as stop:
        cli.main([*words.split(), "--out", str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert not stop.value.code and "Root mean square error" in said and (tmp_path / "run/predictions.svg").is_file()
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "") and "Predictions" in page
    with pytest.raises(SystemExit) as stop:
        cli.main(f"simulate --model {tmp_path / 'run'} --data {files / 'sir.csv'} --progress none".split())
    assert stop.value.code == 2 and "those of the model, q, p" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        cli.main([*words.split(), "--out", str(tmp_path / "run")])
    assert stop.value.code == 2 and "stablenets simulate --resume" in capsys.readouterr().err


def test_config_files_tell_the_tasks_apart(tmp_path: Path) -> None:
    config = SimulateConfig("x.csv", "stable", equilibrium=(1.0, 2.0), noisy=True, step=0.1)
    (tmp_path / "s.toml").write_text(toml.text(config))
    (tmp_path / "c.toml").write_text(toml.text(ClassifyConfig()))
    assert toml.read(tmp_path / "s.toml", SimulateConfig) == config
    assert toml.command(config).startswith("stablenets simulate --data x.csv --structure stable --equilibrium 1.0 2.0")
    with pytest.raises(InputError, match="has kind = 'classify'"):
        toml.read(tmp_path / "c.toml", SimulateConfig)
    with pytest.raises(InputError, match="has kind = 'simulate'"):
        toml.read(tmp_path / "s.toml")


def test_a_damaged_run_is_named(learned: Run, tmp_path: Path) -> None:
    for name in ("result.json", "predictions.npz"):
        copy = Path(shutil.copytree(learned.path, tmp_path / name.split(".")[0]))
        (copy / name).write_text("nothing")
        with pytest.raises(InputError, match=name):
            build_simulation(copy, tmp_path / "page.html")
