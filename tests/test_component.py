"""The registry, configs, and the conformance suite: it passes what is right and catches what is wrong."""

from __future__ import annotations

import inspect
import json
import textwrap
from abc import ABC
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import everything  # noqa: F401  fills the registries
from stablenets.core import component as registry
from stablenets.core.claims import Claims
from stablenets.core.component import Component, build, by_name, config, kebab
from stablenets.core.errors import InputError, message, unknown_name
from stablenets.core.properties import Cocoercive, Lipschitz
from stablenets.fields import ConvexGradient, Field, LeakyReLU, ReLU
from stablenets.fields.activations import Activation
from stablenets.integrators import Euler, ExplicitRungeKutta, Integrator
from stablenets.layers import Chain, Flow, Lift, TotalVariation
from stablenets.linear import Conv2d, Dense, LinearMap
from stablenets.testing import Finding, check_component, check_file, extension_points
from stablenets.testing.falsify import Attempt

EVERY = [
    pytest.param(c, id=f"{point}-{n}")
    for point, p in sorted(extension_points().items())
    for n, c in sorted(p.registry.items())
]


def failures(component) -> dict[str, str]:
    return {f.check: f.detail for f in check_component(component) if not f.ok}


# --- everything that is registered --------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", EVERY)
def test_conformance(cls: type[Component]):
    assert failures(cls) == {}


def test_the_extension_points():
    assert {"Activation", "Attack", "Field", "Integrator", "Layer", "LinearMap", "Network"} <= set(extension_points())


def test_no_registered_class_is_abstract_or_derived_from_another():
    classes = [c for p in extension_points().values() for c in p.registry.values()]
    for cls in classes:
        assert not inspect.isabstract(cls)
        assert not [c for c in classes if c is not cls and issubclass(c, cls)]


def test_names_on_the_command_line_are_unique():
    for point in extension_points().values():
        names = [kebab(n) for n in point.registry]
        assert len(set(names)) == len(names)


def test_the_suite_leaves_no_trace():
    before = torch.random.get_rng_state()
    field = next(ConvexGradient.examples())
    torch.random.set_rng_state(before)
    weight, training, dtype = field.linear.weight.detach().clone(), field.training, field.bias.dtype
    assert failures(field) == {}
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(field.linear.weight, weight) and field.training == training and field.bias.dtype == dtype


def test_the_suite_is_reproducible():
    assert check_component(Dense, seed=3) == check_component(Dense, seed=3)


def test_an_accuracy_that_would_hide_violations_is_a_finding():
    assert "accuracy, example 0" in failures(TotalVariation(0.1, tolerance=1e-3))
    assert failures(TotalVariation(0.1, tolerance=2e-7)) == {}


def test_findings_print_on_one_line():
    assert str(Finding("adjoint", False, "wrong by 1.")) == "FAILED  adjoint: wrong by 1."
    attempt = Attempt(Lipschitz(1.0), 0.5, 1e-9)
    assert attempt.refuted and "violated by 0.5" in str(attempt)
    assert Attempt(Lipschitz(1.0), float("nan"), 1e-9).refuted, "NaN refutes"


def test_the_suite_wants_a_component():
    with pytest.raises(InputError, match="Linear is not a component"):
        check_component(nn.Linear(2, 2))  # type: ignore[arg-type]


# --- what the suite catches. ABC among the bases keeps these out of the registries --------------------------------


class Diagonal(LinearMap, ABC):
    """Entrywise multiplication, with the errors that the arguments name."""

    def __init__(self, adjoint_error: float = 0.0, bound_factor: float = 1.0) -> None:
        super().__init__()
        self.adjoint_error, self.bound_factor = adjoint_error, bound_factor
        self.input_shape = self.output_shape = (4,)
        self.weight = nn.Parameter(torch.tensor([1.0, -3.0, 2.0, 0.5]))
        self._start()

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * weight

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        return y * weight * (1 + self.adjoint_error)

    @property
    def dot_lengths(self) -> tuple[int, int]:
        return 1, 1

    def norm_bound(self) -> float:
        return 3.0 * self.bound_factor

    @property
    def norm_theorem(self) -> str:
        return "largest entry"

    @classmethod
    def examples(cls):
        yield cls()


class Shrinking(Field, ABC):
    """x' = -rate x with whatever claims it is given."""

    state_shape = (3,)

    def __init__(self, rate: float, claims: Claims) -> None:
        super().__init__()
        self.rate, self.stated = rate, claims

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return -self.rate * (1 + t) * x

    def claims(self, norm=None) -> Claims:
        return self.stated

    @classmethod
    def examples(cls):
        yield cls(1.0, Claims())


def names(findings: dict[str, str]) -> str:
    """Names of failed checks, less what a class outside the registry always fails."""
    return " ".join(n for n in findings if not n.startswith(("registered", "rebuilt")))


def test_a_correct_map_passes_and_an_unregistered_one_is_named():
    found = failures(Diagonal())
    assert names(found) == ""
    assert "not in the registry" in found["registered"]


def test_a_wrong_adjoint_is_caught():
    assert "adjoint" in names(failures(Diagonal(adjoint_error=1e-4)))
    assert "norm_estimate()" in names(failures(Diagonal(adjoint_error=1e-4))), "and its estimate may exceed the norm"


@pytest.mark.parametrize("factor", [0.999, 1.04])
def test_a_bound_below_the_norm_or_far_above_is_caught(factor):
    found = failures(Diagonal(bound_factor=factor))
    assert names(found) == "norm_bound(), example 0"
    assert f"the bound is {3 * factor:.6g}, the norm 3" in found["norm_bound(), example 0"]


def test_a_true_claim_stands_and_a_false_one_falls():
    assert names(failures(Shrinking(2.0, Claims([Lipschitz(2.6)])))) == ""
    found = failures(Shrinking(2.0, Claims([Lipschitz(2.1)])))
    assert names(found) == "claims Lipschitz(bound=2.1) at t = 0.3, example 0", "true at t = 0 only"
    assert "violated by 0.238" in next(v for k, v in found.items() if k.startswith("claims"))


def test_a_step_limit_that_is_too_long_is_caught():
    class Reckless(ExplicitRungeKutta, ABC):
        """Euler with twice the limit."""

        order, reference, a, b = 1, "nobody", ((),), (1.0,)

        def step_limit(self, field):
            limit = super().step_limit(field)
            return None if limit is None else 2 * limit

    found = failures(Reckless())
    assert "steps of ConvexGradient" in names(found) and found
    assert "violated" in found["steps of ConvexGradient, example 0"]


def test_a_wrong_order_is_caught():
    class Boastful(Integrator, ABC):
        """Euler with the time of the next step."""

        order, reference = 1, "nobody"

        def step(self, f, x, h, t=0.0):
            return x + h * f(x, t + h) if t == 0 else x + h * f(x, 2 * t)

        def transfer(self, field, h):
            return Claims()

    found = failures(Boastful())
    assert names(found) == "order, time-dependent, example 0"


def test_samples_that_are_mixed_and_wrong_shapes_are_caught():
    class Mixing(Shrinking, ABC):
        """Subtracts the mean of the batch."""

        def forward(self, x, t=0.0):
            return x - x.mean(0)

    class Wrong(Shrinking, ABC):
        """Forgets a coordinate."""

        def forward(self, x, t=0.0):
            return x[:, :2]

    assert "alone and in a batch" in failures(Mixing(1.0, Claims()))["shapes, example 0"]
    assert "are mapped to" in failures(Wrong(1.0, Claims()))["shapes, example 0"]


def test_slopes_and_potentials_are_checked():
    class Steep(Activation, ABC):
        """2 tanh z."""

        slope = (0.0, 1.0)

        def forward(self, z):
            return 2 * torch.tanh(z)

        def potential(self, z):
            return z.square()

    assert names(failures(Steep())) == "slope, example 0 potential, example 0"


def test_a_check_that_raises_has_failed():
    class Broken(Shrinking, ABC):
        """Raises."""

        def forward(self, x, t=0.0):
            raise KeyError("lost")

    assert "raised KeyError: 'lost'" in failures(Broken(1.0, Claims()))["shapes, example 0"]


def test_examples_and_docstrings_are_needed():
    class Empty(Shrinking, ABC):
        @classmethod
        def examples(cls):
            yield from ()

    class Failing(Shrinking, ABC):
        """Fails."""

        @classmethod
        def examples(cls):
            raise RuntimeError("no")

    found = failures(Empty)
    assert "yields nothing" in found["examples"] and "no docstring" in found["documented"]
    assert "raised RuntimeError: no" in failures(Failing)["examples"]


# --- a user's own file --------------------------------------------------------------------------------------------

GOOD = '''
    """A user's field."""
    from stablenets.core import Claims
    from stablenets.core.properties import Cocoercive
    from stablenets.fields import Field


    class Damping(Field):
        """x' = -rate x."""

        state_shape = (3,)

        def __init__(self, rate: float = 2.0) -> None:
            super().__init__()
            self.rate = rate

        def forward(self, x, t=0.0):
            return -self.rate * x

        def claims(self, norm=None):
            return Claims([Cocoercive(1 / self.rate)])

        @classmethod
        def examples(cls):
            yield cls()
'''


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def test_a_users_file_is_checked_and_forgotten(tmp_path):
    path = write(tmp_path, GOOD)
    for _ in range(2):  # it may be checked again
        report = check_file(path)
        assert list(report) == ["Damping"]
        assert all(f.ok for f in report["Damping"]), [str(f) for f in report["Damping"] if not f.ok]
    assert "Damping" not in Field.registry and "Damping" not in registry._CLASSES


def test_a_wrong_claim_in_a_users_file_is_refuted(tmp_path):
    report = check_file(write(tmp_path, GOOD.replace("1 / self.rate", "1.1 / self.rate")))
    bad = [f for f in report["Damping"] if not f.ok]
    assert bad and all("violated" in f.detail for f in bad)


def test_a_config_that_forgets_an_argument_is_caught(tmp_path):
    report = check_file(
        write(tmp_path, GOOD.replace("self.rate = rate", "self.speed = rate").replace("self.rate", "self.speed"))
    )
    bad = [f for f in report["Damping"] if not f.ok]
    assert [f.check for f in bad] == ["rebuilt from its config, example 0"] and "'rate'" in bad[0].detail


def test_a_users_file_may_import_its_neighbours(tmp_path):
    write(tmp_path, "RATE = 2.0", "neighbour_of_mine.py")
    text = textwrap.dedent(GOOD).replace("float = 2.0", "float = RATE")
    path = write(tmp_path, "from neighbour_of_mine import RATE\n" + text)
    assert all(f.ok for f in check_file(path)["Damping"])


@pytest.mark.parametrize(
    "text, words",
    [
        ("x = 1", "registers no component"),
        ("import stablenets.nothing", r"cannot be imported \(ModuleNotFoundError"),
        ("def f(:", r"cannot be imported \(SyntaxError"),
        ("raise SystemExit(3)", r"cannot be imported \(SystemExit"),
        ("from stablenets.linear import LinearMap\nclass Dense(LinearMap):\n    pass", "registers no component"),
        (textwrap.dedent(GOOD).replace("Damping", "ConvexGradient"), "already registered by stablenets.fields"),
    ],
    ids=["nothing", "import", "syntax", "exit", "abstract", "name"],
)
def test_files_that_cannot_be_checked(tmp_path, text, words):
    before = {n: dict(p.registry) for n, p in extension_points().items()}
    with pytest.raises(InputError, match=words):
        check_file(write(tmp_path, text))
    assert before == {n: dict(p.registry) for n, p in extension_points().items()}


@pytest.mark.parametrize("name", ["missing.py", ".", "mine.txt"])
def test_paths_that_are_no_python_file(tmp_path, name):
    write(tmp_path, "x = 1", "mine.txt")
    with pytest.raises(InputError, match="is not a Python file"):
        check_file(tmp_path / name)


# --- registry and config ------------------------------------------------------------------------------------------


def test_one_name_space():
    """`build` has nothing but a name: a second class of that name is refused, of another kind too."""
    with pytest.raises(TypeError, match=r"'Dense' is already registered by stablenets\.linear\.dense"):
        type("Dense", (Shrinking,), {"__module__": "elsewhere"})
    assert registry._CLASSES["Dense"] is Dense and "Dense" not in Field.registry


def test_names():
    assert by_name("field", Field.registry, "convex-gradient") is ConvexGradient
    assert by_name("field", Field.registry, "ConvexGradient") is ConvexGradient
    with pytest.raises(InputError, match=r"unknown field 'convx-gradient'; needed: one of .* Did you mean 'convex-gr"):
        by_name("field", Field.registry, "convx-gradient")
    assert [kebab(n) for n in ("SSPRK3", "Conv2d", "NonExpansiveNet")] == ["ssprk3", "conv2d", "non-expansive-net"]


def test_messages():
    assert message("a", "b") == "a; needed: b."
    assert message("a", "b", "Do c.") == "a; needed: b. Do c."
    assert "Did you mean" not in str(unknown_name("field", "zzz", ["euler"]))


def test_config_is_json_and_rebuilds():
    flow = Flow(ConvexGradient(Conv2d(2, 3, 3, (4, 5), "circular"), LeakyReLU(0.25)), Euler(), time=0.5)
    description = json.loads(json.dumps(config(flow)))
    assert description == {
        "type": "Flow",
        "field": {
            "type": "ConvexGradient",
            "linear": {
                "type": "Conv2d",
                "in_channels": 2,
                "out_channels": 3,
                "kernel_size": [3, 3],
                "image_size": [4, 5],
                "padding": "circular",
                "stride": [1, 1],
                "dilation": [1, 1],
                "groups": 1,
            },
            "activation": {"type": "LeakyReLU", "negative_slope": 0.25},
        },
        "integrator": {"type": "Euler"},
        "time": 0.5,
        "h": None,
        "steps": None,
    }
    assert config(build(description)) == description


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(3, 2),
        nn.Linear(3, 2, bias=False),
        nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2, bias=False, padding_mode="circular"),
        nn.Conv2d(1, 1, (3, 5), padding="same"),
        nn.AvgPool2d((2, 3), ceil_mode=True, divisor_override=5),
        nn.Flatten(2),
        nn.LeakyReLU(0.3),
        nn.PixelUnshuffle(2),
        nn.PixelShuffle(2),
        nn.Identity(),
        nn.Tanh(),
        nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU())),
        Chain(Lift(2, 3), nn.Flatten()),
        Chain(),
    ],
    ids=repr,
)
def test_torch_layers_are_rebuilt_with_all_their_arguments(module):
    twin = build(json.loads(json.dumps(config(module))))
    assert repr(twin) == repr(module)
    twin.load_state_dict(module.state_dict())


def test_what_cannot_be_saved_is_named():
    class Custom(nn.Module):
        pass

    class Derived(nn.Linear):
        pass

    for module in (Custom(), Derived(2, 2), nn.Sequential(nn.ReLU(), Custom())):
        with pytest.raises(InputError, match="cannot be saved; needed: a registered component"):
            config(module)
    with pytest.raises(InputError, match="cannot be written to a config"):
        config(object())


def test_build_constructs_registered_names_only():
    with pytest.raises(InputError, match=r"unknown component 'os\.system'"):
        build({"type": "os.system"})
    with pytest.raises(InputError, match="Did you mean 'Euler'"):
        build({"type": "Euller"})
    with pytest.raises(InputError, match="Dense has no argument 'width'; needed: one of in_features, out_features"):
        build({"type": "Dense", "in_features": 1, "out_features": 1, "width": 3})
    assert isinstance(build({"type": "ReLU"}), ReLU), "our own before PyTorch's"
    assert isinstance(build({"type": "torch.ReLU"}), nn.ReLU)


def test_the_strongest_property_of_a_rebuilt_field_is_the_same():
    field = next(ConvexGradient.examples())
    twin = build(config(field))
    twin.load_state_dict(field.state_dict())
    assert twin.claims().get(Cocoercive) == field.claims().get(Cocoercive)
