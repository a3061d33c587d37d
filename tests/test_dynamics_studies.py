"""The studies of dynamics: what their figures rest on, and small runs of each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from stablenets.core.errors import InputError
from stablenets.core.properties import jacobian
from stablenets.integrators import (
    RK4,
    BlanesMoan4,
    Euler,
    Heun,
    ImplicitEuler,
    ImplicitMidpoint,
    StormerVerlet,
    SymplecticEuler,
    Yoshida4,
)
from stablenets.layers import Chain
from stablenets.report.animation import moving_points
from stablenets.studies import (
    _folder,
    _held_out,
    advection,
    architecture_or_loss,
    depth,
    equilibria,
    find,
    flow_of_points,
    oscillator,
    stable_dynamics,
    vanishing_gradients,
)
from stablenets.systems import LinearSystem, QuadraticSink

STUDIES = {
    "oscillator": oscillator,
    "vanishing-gradients": vanishing_gradients,
    "flow-of-points": flow_of_points,
    "depth": depth,
    "equilibria": equilibria,
    "advection": advection,
    "architecture-or-loss": architecture_or_loss,
    "stable-dynamics": stable_dynamics,
}


# --- oscillator


@pytest.mark.parametrize("h", [0.05, 0.3, 1.1])
def test_the_energy_of_runge_kutta_methods_is_the_formula(h: float) -> None:
    for method in (Euler(), Heun(), RK4(), ImplicitEuler(), ImplicitMidpoint()):
        energy = oscillator.relative_energy(oscillator.trajectory(method, h, 30))
        expected = (1 + oscillator.GROWTH[type(method)](h)) ** torch.arange(31.0, dtype=torch.float64)
        assert torch.allclose(energy, expected, rtol=1e-13, atol=0), method


def test_symplectic_euler_is_the_scheme_of_the_chapter_in_other_coordinates() -> None:
    x, p, h = 0.0, -1.0, 0.3
    for q, momentum in oscillator.trajectory(SymplecticEuler(), h, 20).numpy():
        assert (q, momentum) == pytest.approx((-p, x), abs=1e-13)
        x = x + h * p
        p = p - h * x


@pytest.mark.parametrize("h", [0.1, 0.7, 1.5, 1.99])
def test_the_energy_of_symplectic_methods_stays_in_its_bounds_and_reaches_them(h: float) -> None:
    for method in (SymplecticEuler(), StormerVerlet(), Yoshida4(), BlanesMoan4()):
        bounds = oscillator.energy_bounds(method, h)
        if bounds is None:
            assert type(method) in (Yoshida4, BlanesMoan4) and h > 1
            continue
        energy = oscillator.relative_energy(oscillator.trajectory(method, h, 1000))
        assert bounds[0] * (1 - 1e-11) <= energy.min() and energy.max() <= bounds[1] * (1 + 1e-11)
        assert energy.max() - energy.min() > 0.9 * (bounds[1] - bounds[0]) - 1e-13
    assert oscillator.energy_bounds(SymplecticEuler(), h) == pytest.approx((1 / (1 + h / 2), 1 / (1 - h / 2)))


def test_symplectic_euler_is_unbounded_from_two_on() -> None:
    for h in (2.0, 2.1):
        assert oscillator.energy_bounds(SymplecticEuler(), h) is None
        assert oscillator.relative_energy(oscillator.trajectory(SymplecticEuler(), h, 100)).max() > 1e4
    far = oscillator.trajectory(SymplecticEuler(), 3.0, 10_000)
    assert len(far) < 300 and far.isfinite().all(), "it is not followed to infinity"


# --- depth


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_deep_network_is_right_everywhere_without_rounding(k: int) -> None:
    net = depth.sawtooth(k)
    linear = [m for m in net if isinstance(m, nn.Linear)]
    assert len(linear) == 2 * k and max(m.out_features for m in linear) == 2
    assert depth.errors(net, k) == 0
    assert all(depth.in_fractions(net, Fraction(i, 2**k)) == i % 2 for i in range(2**k))
    assert depth.in_fractions(net, Fraction(1, 3 * 2**k)) == Fraction(1, 3)
    net[0].bias.data[1] = -0.4
    assert depth.errors(net, k) > 0 or k == 1


@pytest.mark.parametrize("width", [3, 4, 7, 20, 100])
def test_the_bound_of_shallow_networks_is_attained(width: int) -> None:
    k = 5
    net = depth.interpolation(k, width)
    assert net[0].out_features == min(width, 2**k - 2)
    assert depth.errors(net, k) == depth.fewest_errors(k, width)


def test_no_shallow_network_beats_the_bound() -> None:
    """Trained ones and random ones with steep kinks near the points."""
    x, labels = depth.alternating(4)
    generator = torch.Generator().manual_seed(0)
    for width in (1, 2, 3, 5):
        for _ in range(200):
            at = x[torch.randint(16, (width,), generator=generator), 0] + 0.03
            features = torch.relu((x - at) * torch.randn(width, generator=generator).sign())
            outer = torch.linalg.lstsq(
                torch.cat([features, torch.ones(16, 1, dtype=torch.float64)], 1), labels[:, None].double()
            ).solution
            answers = torch.cat([features, torch.ones(16, 1, dtype=torch.float64)], 1) @ outer >= 0.5
            assert int((answers[:, 0] != labels.bool()).sum()) >= depth.fewest_errors(4, width)
    assert depth.fewest_errors(4, 5) == 5 and depth.fewest_errors(4, 14) == 0 and depth.fewest_errors(6, 3, 2) == 24


def test_polynomials_are_not_dense_and_other_activations_are() -> None:
    assert all(depth.sup_error("cube", 64, seed) > 1 - 1e-9 for seed in range(3))
    assert depth.sup_error("tanh", 64, 0) < 1e-4 and depth.sup_error("relu", 256, 0) < 0.05
    assert depth.sup_error("step", 256, 0) < 0.7 * depth.sup_error("step", 8, 0)


# --- equilibria


def test_what_eigenvalues_say_is_what_solutions_do() -> None:
    x = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    far = {name: float(LinearSystem(a).solution(x, 1e3).norm()) for name, a in equilibria.LINEAR.items()}
    said = {name: equilibria.stability(LinearSystem(a)) for name, a in equilibria.LINEAR.items()}
    assert said["sink"] == "asymptotically stable" and far["sink"] < 1e-9
    assert said["saddle"] == "unstable" and far["saddle"] > 1e9
    assert said["centre"] == said["line of equilibria"] == "stable" and far["centre"] == pytest.approx(1)
    assert said["not diagonalisable"] == "" and far["not diagonalisable"] > 100


def test_lyapunov_matrices() -> None:
    for name, a in equilibria.LINEAR.items():
        p, matrix = equilibria.lyapunov_matrix(np.array(a)), np.array(a)
        assert (p is None) == (name in ("saddle", "not diagonalisable"))
        if p is not None:
            slope = matrix.T @ p + p @ matrix
            assert np.linalg.eigvalsh(p).min() > 0 and np.linalg.eigvalsh(slope).max() < 1e-12, name


def test_the_lyapunov_function_of_exercise_11() -> None:
    second = torch.tensor([equilibria.SECOND], dtype=torch.float64)
    assert QuadraticSink()(second).abs().max() < 1e-14
    radius = equilibria.basin_radius()
    assert 0.25 < radius < float(second.norm())
    assert equilibria.disc_slope(0.25) <= -0.5
    assert equilibria.disc_slope(0.999 * radius) < 0 < equilibria.disc_slope(1.001 * radius)


# --- vanishing gradients


def test_every_jacobian_of_the_hamiltonian_network_has_norm_at_least_one_and_others_do_not() -> None:
    torch.manual_seed(0)
    x, _ = vanishing_gradients.swiss_roll(5, 0)
    least = {}
    for name in vanishing_gradients.NETWORKS:
        net = vanishing_gradients.network(name)
        for p in net.parameters():
            p.data *= 2.5  # as after training
        norms = vanishing_gradients.jacobian_norms(net, x)
        depth_of = vanishing_gradients.NETWORKS[name][1]
        assert norms.shape == (depth_of + 1, depth_of + 1, 5)
        assert int(norms.isfinite().sum()) == 5 * depth_of * (depth_of + 1) // 2
        whole = jacobian(Chain(*net.layers[:-1]).double(), x.double())
        assert torch.allclose(norms[-1, 0], torch.linalg.matrix_norm(whole, 2), rtol=1e-9)
        least[name] = float(norms.nan_to_num(math.inf).min())
    assert least["HamiltonianNet-12"] >= 1 - 1e-12 and least["MLP-12"] < 0.1


def test_the_swiss_roll() -> None:
    x, labels = vanishing_gradients.swiss_roll(1000, 3)
    assert x.shape == (1000, 4) and (x[:, [1, 3]] == 0).all() and labels.sum() == 500
    between = torch.cdist(x[labels == 0], x[labels == 1]).min()
    assert between > 0.1, "the arms do not touch"


# --- flow of points


def test_the_states_between_the_layers_are_the_network() -> None:
    torch.manual_seed(0)
    net, (x, _) = flow_of_points.network(3), flow_of_points.points(9, 0)
    ways = flow_of_points.states(net, x)
    assert ways.shape == (flow_of_points.PIECES + 1, 9, 3) and (ways[0][:, 2] == 0).all()
    assert torch.allclose(net.layers[2](ways[-1]), net(x), atol=1e-6)
    assert flow_of_points.least_determinant(net, x) < 1.5 and next(net.parameters()).dtype == torch.float32


def test_the_animation_is_one_svg_file_that_moves_every_point(tmp_path: Path) -> None:
    frames = np.array([[[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 1.0]], [[0.5, 1.0], [0.5, 0.5]]])
    root = ElementTree.parse(moving_points(frames, [0, 1], tmp_path / "a.svg", title="two")).getroot()
    circles = root.findall("{*}circle")
    assert len(circles) == 2 and circles[0].get("fill") != circles[1].get("fill")
    moves = circles[0].findall("{*}animate")
    assert [m.get("attributeName") for m in moves] == ["cx", "cy"]
    x, y = ([float(v) for v in m.get("values", "").split(";")] for m in moves)
    assert x[0] == x[1] < x[2] == x[3] and y[0] > y[1] == y[2] == y[3], "up is up, and it rests at the end"
    assert all(len(m.get("keyTimes", "").split(";")) == 4 for m in moves)


# --- learned flow maps


def test_both_architectures_keep_the_norm_whatever_their_weights() -> None:
    x = architecture_or_loss.sphere(20, 0)
    drift = {}
    for name in ("loss, weight 1", "scaled", "norm-conserving"):
        torch.manual_seed(0)
        net = architecture_or_loss.NETWORKS[name]().double().eval()
        for p in net.parameters():
            p.data *= 2
        drift[name] = _held_out.norm_drift(_held_out.roll_out(net, x, 20))
    assert drift.pop("loss, weight 1") > 0.1 and max(drift.values()) < 1e-13


def test_the_networks_of_a_comparison_have_about_as_many_parameters() -> None:
    for module, names in (
        (architecture_or_loss, ("scaled", "norm-conserving")),
        (advection, ("norm-conserving", "free")),
    ):
        sizes = [_held_out.parameters(module.NETWORKS[name]()) for name in names]
        assert max(sizes) / min(sizes) < 1.05


def test_the_data_of_the_flow_maps_keep_the_norm() -> None:
    for module, x in ((architecture_or_loss, architecture_or_loss.sphere(9, 1)), (advection, advection.profiles(9, 1))):
        assert _held_out.norm_drift(torch.stack([x, module.true_step(x)])) < 1e-8
        assert (module.true_step(x) - x).norm() > 0.1
    spectrum = torch.fft.rfft(advection.profiles(9, 1)).abs()
    assert spectrum[:, [0, *range(advection.MODES + 1, 17)]].max() < 1e-14, "nothing but the modes, to the last digit"


def test_a_roll_out_stops_at_samples_that_leave() -> None:
    states = _held_out.roll_out(lambda x: x * torch.tensor([[2.0], [1.0]]), torch.ones(2, 3), 30)
    assert states.isfinite().all() and states[-1, 0, 0] == 512 and states[-1, 1, 0] == 1
    assert _held_out.norm_drift(states) == 511
    assert _held_out.norm_drift(torch.tensor([[[1.0]], [[0.25]]])) == 0.75
    assert _held_out.spread([2.0], ".1f") == "2.0"


# --- stable dynamics


def test_v_never_grows_along_lyapunov_steps_and_does_along_euler_steps() -> None:
    torch.manual_seed(0)
    f = stable_dynamics.stable().double()
    for p in f.free.parameters():
        p.data *= 4
    x = 2 * torch.randn(50, 4, dtype=torch.float64)
    never, largest = stable_dynamics.increases(f, stable_dynamics.LyapunovStep(), x, 30)
    often, _ = stable_dynamics.increases(f, Euler(), x, 30)
    assert never == 0 and largest <= 1 and often > 0


def test_pair_rates_are_those_of_linear_systems() -> None:
    f = LinearSystem([[-1.0, 3.0], [-3.0, -1.0]])
    x, y = torch.randn(2, 10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(stable_dynamics.pair_rates(f, x, y), torch.tensor(-1.0, dtype=torch.float64))


def test_one_system_contracts_all_pairs_and_the_other_only_towards_the_origin() -> None:
    x = 1.5 * torch.randn(2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for name, make in stable_dynamics.SYSTEMS.items():
        df = jacobian(make(), x)
        largest = torch.linalg.eigvalsh((df + df.mT) / 2).max()
        assert largest < -0.6 if name == "Hopfield" else 0.65 < largest < 0.75, name
        assert ((make()(x) * x).sum(1) / x.square().sum(1)).max() < -stable_dynamics.RATE


# --- the runs


@pytest.mark.parametrize("name", STUDIES)
def test_a_quick_run_leaves_tables_and_figures_and_keeps_what_is_finished(name: str, tmp_path: Path) -> None:
    run: Callable[..., Path] = find(name).run
    assert find(name).summary and run is STUDIES[name].run
    folder = run(out=tmp_path / "study", quick=True)
    tables, figures = sorted(folder.glob("*.md")), sorted(folder.glob("*.svg"))
    assert tables and figures and all(f.stat().st_size > 2000 for f in figures)
    for table in tables:
        head, rule, *lines = table.read_text().strip().splitlines()
        assert {line.count("|") for line in (head, rule, *lines)} == {head.count("|")}
        assert len(json.loads(table.with_suffix(".json").read_text())) == len(lines) > 0
    parts = sorted((folder / "parts").glob("*.json"))
    before = {p: p.stat().st_mtime_ns for p in parts}
    parts[0].unlink()
    news: list[str] = []
    run(out=folder, quick=True, progress=lambda task, *_: news.append(task))
    after = {p: p.stat().st_mtime_ns for p in parts}
    assert [p for p in parts if after[p] != before[p]] == parts[:1], "finished parts are kept"
    with pytest.raises(InputError, match="holds results with other settings"):
        run(out=folder)


@pytest.mark.parametrize("name", STUDIES)
def test_other_data_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"--data mnist; needed: no data set\. The study {name} makes its own data"):
        find(name).run(data="mnist", out=tmp_path, quick=True)
    assert not list(tmp_path.iterdir())


def test_tables_and_parts(tmp_path: Path) -> None:
    _folder.write_table(
        tmp_path / "t.md", {"a": ".1f", "b": ""}, [{"a": 1.25, "b": "x", "c": 3}, {"a": None, "b": "y"}]
    )
    assert (tmp_path / "t.md").read_text() == "| a | b |\n| --- | --- |\n| 1.2 | x |\n|  | y |\n\n"
    assert json.loads((tmp_path / "t.json").read_text())[0] == {"a": 1.25, "b": "x", "c": 3}
    with pytest.raises(ValueError, match="JSON"):
        _folder.once(tmp_path / "bad.json", lambda: math.nan)
    assert not (tmp_path / "bad.json").exists()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with _folder.seeded(0):
        torch.rand(3)
    assert torch.equal(torch.rand(1), expected), "random numbers outside are as if nothing had happened"
