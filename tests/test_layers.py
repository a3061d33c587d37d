"""Layers: how a flow takes its step, what a chain can claim, and what comes back from a file."""

from __future__ import annotations

import copy
import json
import math
from abc import ABC
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stablenets.core.errors import ClaimError, InputError
from stablenets.core.properties import Averaged, Cocoercive, Expansive, Isometry, Lipschitz, Symplectic
from stablenets.fields import ConvexGradient, FreeField, SeparableHamiltonian, Softplus, Tanh
from stablenets.fields.base import estimate
from stablenets.integrators import RK4, Euler, Midpoint, StormerVerlet
from stablenets.layers import (
    Chain,
    Flow,
    Layer,
    Lift,
    Normalise,
    NormalisedHead,
    claims,
    leaves,
    load,
    save,
    weights_hash,
)
from stablenets.layers import flow as flow_module
from stablenets.layers.base import Composed
from stablenets.layers.files import split_state
from stablenets.layers.torch_layers import TORCH_LAYERS
from stablenets.linear import Conv2d, Dense
from stablenets.networks import NonExpansiveNet
from stablenets.systems import HarmonicOscillator
from stablenets.testing import falsify


def gradient(norm: float = 1.0, width: int = 6) -> ConvexGradient:
    """A field whose linear map has the given norm."""
    f = ConvexGradient(Dense(4, width))
    f.linear.weight.data *= norm / f.linear.norm_bound()
    return f


def limit(flow: Flow) -> float:
    return 2 / flow.field.linear.norm_bound() ** 2


# --- the step -----------------------------------------------------------------------------------------------------


def test_time_takes_the_smallest_number_of_steps():
    for norm, count in ((0.5, 1), (1.4, 1), (1.42, 2), (2.0, 2), (2.01, 3), (5.0, 13)):
        flow = Flow(gradient(norm), Euler(), time=1.0).eval()
        assert flow.step_count == count
        assert flow.step_size == 1.0 / count <= limit(flow)
        assert count == 1 or 1.0 / (count - 1) > limit(flow)


def test_steps_take_the_largest_size():
    flow = Flow(gradient(3.0), Euler(), steps=4).eval()
    assert flow.step_count == 4 and flow.step_size == pytest.approx(limit(flow)) and flow.step_size <= limit(flow)


def test_the_users_own_step():
    field = gradient(3.0)
    for arguments, size, count in (
        ({"h": 0.7}, 0.7, 1),
        ({"h": 0.7, "steps": 3}, 0.7, 3),
        ({"time": 1.5, "steps": 3}, 0.5, 3),
    ):
        flow = Flow(field, Euler(), **arguments)
        for _ in range(2):
            assert (flow.step_size, flow.step_count, flow.follows) == (size, count, False)
            flow(torch.randn(2, 4))
            flow.eval()
        assert flow.claims().get(Lipschitz).bound > 1, "far beyond the limit of 2/9"
    inside = Flow(field, Euler(), h=0.2).claims()
    assert inside.get(Averaged).alpha == pytest.approx(0.9, rel=1e-5)


def test_a_flow_is_its_steps():
    field, x = gradient(2.0), torch.randn(3, 4)
    flow = Flow(field, RK4(), h=0.3, steps=3)
    for _ in range(3):
        x = RK4().step(field, x, 0.3)
    torch.manual_seed(0)
    assert torch.equal(flow(x), RK4().step(field, RK4().step(field, RK4().step(field, x, 0.3), 0.3), 0.3))


def test_every_step_has_its_own_time():
    class Clock:
        state_shape = None

        def __init__(self):
            self.times = []

        def __call__(self, x, t):
            self.times.append(t)
            return x

    flow = Flow(gradient(), Euler(), h=0.25, steps=4)
    clock = flow.__dict__["_modules"]["field"] = Clock()
    flow(torch.zeros(1, 4), t=1.0)
    assert clock.times == [1.0, 1.25, 1.5, 1.75]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"time": 1.0, "h": 0.1},
        {"time": 1.0, "h": 0.1, "steps": 2},
        {"h": 0.0},
        {"h": -0.1},
        {"time": 0.0},
        {"time": -1.0},
        {"time": math.inf},
        {"time": math.nan},
        {"steps": 0},
        {"steps": -1},
        {"h": math.nan},
    ],
    ids=str,
)
def test_steps_that_make_no_sense(arguments):
    with pytest.raises(InputError, match="Flow with"):
        Flow(gradient(), Euler(), **arguments)


@pytest.mark.parametrize(
    "field, integrator, arguments",
    [
        (gradient(), Midpoint(), {"time": 1.0}),
        (gradient(), Midpoint(), {"steps": 2}),
        (FreeField(nn.Linear(4, 4)), Euler(), {"time": 1.0}),
        (HarmonicOscillator(), Euler(), {"time": 1.0}),
        (HarmonicOscillator(), StormerVerlet(), {"steps": 3}),
    ],
    ids=["Midpoint", "Midpoint, steps", "FreeField", "oscillator", "no largest step"],
)
def test_a_step_cannot_follow_where_no_theorem_leads(field, integrator, arguments):
    with pytest.raises(ClaimError, match=r"no theorem limits the step of \w+ on \w+; needed: your own step"):
        Flow(field, integrator, **arguments)
    Flow(field, integrator, h=0.1)


def test_symplectic_methods_take_one_step_of_the_whole_time():
    flow = Flow(next(SeparableHamiltonian.examples()), StormerVerlet(), time=0.7)
    assert (flow.step_size, flow.step_count) == (0.7, 1)


def test_weights_that_run_away():
    flow = Flow(gradient(), Euler(), time=1.0)
    flow.field.linear.weight.data *= 1000
    with pytest.raises(ClaimError, match=r"would need over 10000 steps.*Lower the learning rate"):
        flow(torch.randn(1, 4))
    for value in (math.nan, math.inf, 1e30):
        flow.field.linear.weight.data.fill_(value)
        with pytest.raises(ClaimError):
            flow(torch.randn(1, 4))
        with pytest.raises(ClaimError):
            flow.eval()


@pytest.mark.parametrize("arguments", [{"time": 1.0}, {"steps": 2}], ids=str)
@pytest.mark.parametrize("factor", [0.0, 1e-25, 1e-19])
def test_weights_that_vanish(arguments, factor):
    """Constant fields have every step limit; the largest that is claimed is finite, in float32 too."""
    flow = Flow(gradient(), Euler(), **arguments)
    flow.field.linear.weight.data *= factor
    x = torch.randn(3, 4)
    for _ in range(2):
        out = flow(x)
        assert torch.isfinite(out).all() and flow.claims().get(Lipschitz) == Lipschitz(1.0)
        torch.testing.assert_close(out[0] - out[1], x[0] - x[1])
        flow.eval()


# --- training and evaluation --------------------------------------------------------------------------------------


def test_in_training_the_number_of_steps_follows_the_weights():
    flow = Flow(gradient(1.0), Euler(), time=1.0).train()
    x, counts = torch.randn(2, 4), []
    for norm in (1.0, 1.5, 2.0, 3.0, 2.0, 1.0):
        flow.field.linear.weight.data *= norm / flow.field.linear.norm_bound()
        flow.field.linear.norm_estimate(50)
        flow(x)
        counts.append(flow.step_count)
        estimated = 2 / flow.field.linear.norm_estimate() ** 2
        assert flow.step_count == max(1, math.ceil(1 / estimated - 1e-6))
        assert flow.step_size == 1.0 / flow.step_count
    assert counts == [1, 2, 2, 5, 2, 1] or counts == [1, 2, 3, 5, 3, 1]  # at 2.0, T/n is the limit up to a rounding


def test_training_computes_estimates_and_no_bounds(monkeypatch):
    flow = Flow(gradient(), Euler(), time=1.0).train()
    monkeypatch.setattr(Dense, "norm_bound", _refuse)
    flow(torch.randn(2, 4))


def _refuse(*_: object) -> float:
    raise AssertionError("a norm was computed")


@pytest.mark.parametrize("arguments", [{"time": 2.0}, {"steps": 2}], ids=str)
def test_the_step_leaves_training_from_the_bound(arguments):
    """Even when the estimate is far too low: planted here in the direction of the smallest singular value."""
    flow = Flow(gradient(3.0), Euler(), **arguments)
    linear = flow.field.linear
    with torch.no_grad():
        u, _, v = torch.linalg.svd(linear.weight)
        linear.weight.copy_(u[:, :4] @ torch.diag(torch.tensor([3.0, 0.2, 0.1, 0.05])) @ v)
    linear.singular_vector.copy_(v[3:4])
    flow(torch.randn(2, 4))
    assert flow.step_size > limit(flow), "the trap: in training the step is too long"
    flow.eval()
    assert flow.step_size <= limit(flow)
    assert flow.claims().get(Lipschitz) == Lipschitz(1.0)


def test_a_network_leaves_training_with_steps_that_its_bounds_allow():
    net = NonExpansiveNet((1, 4, 4), 3, patch=2, blocks=(2,), hidden=5, dense_width=8, dense_blocks=1, time=1.0)
    optimiser = torch.optim.SGD(net.parameters(), lr=3.0)
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(torch.rand(8, 1, 4, 4)), torch.randint(3, (8,))).backward()
        optimiser.step()
        net.eval()
        flows = [m for m in net.modules() if isinstance(m, Flow)]
        assert len(flows) == 3 and all(f.step_size <= limit(f) for f in flows)
        net.train()


def test_evaluation_computes_no_norms(monkeypatch):
    net = next(NonExpansiveNet.examples()).eval()
    x = torch.rand(2, 1, 4, 4)
    expected = net(x)
    for cls in (Dense, Conv2d):
        for name in ("norm_bound", "norm_estimate", "adjoint"):
            if name != "adjoint":
                monkeypatch.setattr(cls, name, _refuse)
    assert torch.equal(net(x), expected)


def test_the_frozen_step_is_not_moved_by_evaluation():
    flow = Flow(gradient(2.0), Euler(), time=1.0).eval()
    before = (flow.step_size, flow.step_count)
    flow.field.linear.weight.data *= 0.1
    flow(torch.randn(2, 4))
    assert (flow.eval().step_size, flow.step_count) == before, "eval() in evaluation mode changes nothing"
    flow.train().eval()
    assert (flow.step_size, flow.step_count) == (1.0, 1)


def test_claims_are_about_the_step_that_is_taken():
    """A stale step: the weights grew after freezing, and nothing is claimed that does not hold."""
    flow = Flow(gradient(1.0), Euler(), steps=1).eval()
    flow.field.linear.weight.data *= 2
    assert flow.claims().get(Lipschitz).bound > 1
    flow.train()
    assert flow.claims().get(Lipschitz) == Lipschitz(1.0), "in training mode: the step that freezing would take"


def test_a_step_that_follows_carries_its_gradient():
    """d h / d A of h = 2 / ||A v||^2, against finite differences with v held."""
    flow = Flow(gradient(1.5), Euler(), steps=1).double().train()
    flow.field.bias.data.normal_()
    linear, x = flow.field.linear, torch.randn(2, 4, dtype=torch.float64)
    linear.norm_estimate(500)
    flow(x).sum().backward()
    grad = linear.weight.grad[0, 0].item()
    values = []
    for d in (1e-6, -1e-6):
        other = copy.deepcopy(flow)
        other.field.linear.weight.data[0, 0] += d
        other.field.linear.norm_estimate(500)
        values.append(float(other(x).detach().sum()))
    assert grad == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


def test_an_estimate_is_a_lower_bound_with_a_gradient():
    linear = randomised = Dense(5, 5)
    randomised.weight.data.normal_()
    for _ in range(20):
        value = estimate(linear)
        assert value.requires_grad and float(value.detach()) <= linear.norm_bound()


# --- claims of networks -------------------------------------------------------------------------------------------

TORCH = [
    (nn.Identity(), (4,)),
    (nn.Flatten(), (2, 2, 2)),
    (nn.PixelUnshuffle(2), (1, 4, 4)),
    (nn.PixelShuffle(2), (4, 2, 2)),
    (nn.AvgPool2d(2), (2, 4, 4)),
    (nn.AvgPool2d((1, 3)), (1, 4, 6)),
    (nn.AvgPool2d(2, divisor_override=1), (1, 5, 5)),
    (nn.AvgPool2d(2, divisor_override=-3), (1, 4, 4)),
    (nn.Linear(4, 3), (4,)),
    (nn.ReLU(), (4,)),
    (nn.LeakyReLU(0.2), (4,)),
    (nn.Tanh(), (4,)),
]


@pytest.mark.parametrize("layer, shape", TORCH, ids=[repr(layer) for layer, _ in TORCH])
def test_pytorch_layers(layer: nn.Module, shape):
    layer = layer.double()
    for attempt in falsify(layer, claims(layer), shape):
        assert not attempt.refuted, str(attempt)


def test_every_known_pytorch_layer_is_attacked():
    assert {type(layer) for layer, _ in TORCH} == set(TORCH_LAYERS)


@pytest.mark.parametrize(
    "layer, size", [(nn.AvgPool2d(2), 4), (nn.AvgPool2d((1, 3)), 6), (nn.AvgPool2d(2, divisor_override=1), 4)], ids=repr
)
def test_the_pooling_bound_is_attained_by_constants(layer, size):
    x = torch.ones(1, 1, size, size, dtype=torch.float64)
    assert float(layer(x).norm() / x.norm()) == pytest.approx(claims(layer).get(Lipschitz).bound, rel=1e-12)


@pytest.mark.parametrize(
    "layer, words",
    [
        (nn.AvgPool2d(3, stride=1), "overlapping"),
        (nn.AvgPool2d(2, padding=1), "padded"),
        (nn.AvgPool2d(2, ceil_mode=True), "padded"),
        (nn.Flatten(0), "mixes samples"),
        (nn.LeakyReLU(-0.1), r"a slope in \[0, 1\]"),
        (nn.LeakyReLU(1.1), r"a slope in \[0, 1\]"),
    ],
    ids=repr,
)
def test_pytorch_layers_about_which_nothing_is_said(layer, words):
    with pytest.raises(ClaimError, match=words):
        claims(layer)


class Opaque(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return 100 * self.body(x)


class Doubled(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class DoubledBody(Composed, ABC):
    """Not registered."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)

    @classmethod
    def examples(cls):
        yield cls()


@pytest.mark.parametrize(
    "module",
    [
        Opaque(),
        Doubled(nn.Identity()),
        DoubledBody(),
        nn.Conv2d(1, 1, 3),
        nn.GELU(),
        nn.BatchNorm1d(4),
        nn.ModuleList([nn.ReLU()]),
    ],
    ids=lambda m: type(m).__name__,
)
def test_an_unknown_module_is_refused_by_name(module):
    """A module that contains layers is not thereby known: its forward may do anything with them."""
    with pytest.raises(ClaimError, match=rf"nothing is known about the module \({type(module).__name__}\)"):
        claims(module)
    net = nn.Sequential(nn.Flatten(), nn.Sequential(nn.ReLU(), module))
    with pytest.raises(ClaimError, match=rf"about 1\.1 \({type(module).__name__}\); needed: layers of"):
        claims(net)


def test_a_chain_cannot_get_another_forward():
    with pytest.raises(TypeError, match="Chain, which is final"):
        type("DoubledChain", (Chain,), {"forward": lambda self, x: 2 * x})


def test_leaves_are_named_as_in_the_state_dict():
    net = next(NonExpansiveNet.examples())
    names = dict(net.named_modules())
    assert all(names[name] is leaf for name, leaf in leaves(net)) and len(list(leaves(net))) > 4
    assert [n for n, _ in leaves(nn.Sequential(nn.ReLU(), Chain(Lift(1, 2), nn.Sequential(nn.Tanh()))))] == [
        "0",
        "1.layers.0",
        "1.layers.1.0",
    ]


def test_sequences_compose_claims_and_name_what_is_lost():
    flow = Flow(gradient(2.0), Euler(), h=0.2)
    net = nn.Sequential(nn.Flatten(), flow, nn.ReLU(), nn.Linear(4, 3)).eval()
    total = claims(net)
    head = claims(net[3]).get(Lipschitz).bound
    assert list(total) == [Lipschitz(head)]
    assert [(type(lost.claim), lost.layer) for lost in total.lost] == [(Isometry, "1 (Flow)"), (Expansive, "2 (ReLU)")]
    assert claims(nn.Sequential(nn.ReLU(), nn.ReLU())).get(Averaged).alpha == pytest.approx(2 / 3)
    assert not claims(nn.Sequential())


def test_hamiltonian_flows_stay_symplectic_until_a_gradient_flow():
    hamiltonian = Flow(next(SeparableHamiltonian.examples()), StormerVerlet(), h=0.3)
    assert claims(Chain(hamiltonian, hamiltonian)).get(Symplectic) == Symplectic()
    lost = claims(Chain(hamiltonian, hamiltonian, Flow(gradient(), Euler(), h=0.1))).lost
    assert "Symplectic() is lost at layers.2 (Flow)" in map(str, lost)


def test_several_steps_compose():
    one = Flow(gradient(2.0), Euler(), h=0.3).claims()
    three = Flow(gradient(2.0), Euler(), h=0.3, steps=3).claims()
    a = one.get(Averaged).alpha
    assert three.get(Averaged).alpha == pytest.approx(3 * a / (1 + 2 * a))
    assert claims(Flow(gradient(2.0), Euler(), h=0.05, steps=3)).get(Expansive).bound == pytest.approx(0.8**3, rel=1e-6)


# --- the other layers ---------------------------------------------------------------------------------------------


def test_heads_have_rows_of_norm_one():
    head = NormalisedHead(5, 3)
    head.weight.data *= 100
    torch.testing.assert_close(head.effective_weight().norm(dim=1), torch.ones(3))
    x = torch.randn(4, 5)
    torch.testing.assert_close(head(x), x @ head.effective_weight().T + head.bias)
    assert head.claims().get(Lipschitz).bound == pytest.approx(
        float(torch.linalg.matrix_norm(head.effective_weight().detach(), 2)), rel=1e-6
    )


def test_lifts_and_normalisation():
    x = torch.rand(2, 3, 4, 4)
    lifted = Lift(3, 5)(x)
    assert torch.equal(lifted[:, :3], x) and not lifted[:, 3:].any()
    layer = Normalise((0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    torch.testing.assert_close(layer(x)[:, 1], (x[:, 1] - 0.2) / 0.25)
    assert layer.claims().get(Lipschitz).bound == pytest.approx(4.0)
    for mean, std in ((0.0,), (0.0,)), ((0.0,), (-1.0,)), ((0.0,), (math.nan,)), ((0.0,), (math.inf,)):
        with pytest.raises(InputError, match="positive standard deviations"):
            Normalise(mean, std)
    for mean, std in ((0.0, 1.0), (1.0,)), ((), ()):
        with pytest.raises(InputError, match="as many means"):
            Normalise(mean, std)
    with pytest.raises(InputError, match="at least as many channels"):
        Lift(3, 2)


# --- files --------------------------------------------------------------------------------------------------------


def trained() -> nn.Module:
    net = NonExpansiveNet(
        (1, 4, 4), 3, patch=2, channels=(5,), blocks=(2,), hidden=4, dense_width=8, dense_blocks=1, time=1.0
    )
    for p in net.parameters():
        p.data += 0.7 * torch.randn_like(p)
    return net.eval()


@pytest.fixture
def model(tmp_path) -> Path:
    save(trained(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def steps(module: nn.Module) -> list[tuple[float, int]]:
    return [(m.step_size, m.step_count) for m in module.modules() if isinstance(m, Flow)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_file_brings_everything_back_to_the_last_bit(tmp_path, dtype):
    net = trained().to(dtype)
    save(net, tmp_path / "m.st")
    back = load(tmp_path / "m.st")
    assert not any(m.training for m in back.modules()) and type(back) is type(net)
    for (name, a), (other, b) in zip(net.state_dict().items(), back.state_dict().items(), strict=True):
        assert name == other and (torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, Tensor) else a == b)
    assert steps(back) == steps(net) and weights_hash(back) == weights_hash(net)
    x = torch.rand(5, 1, 4, 4, dtype=dtype)
    assert torch.equal(net(x), back(x))
    assert sum(p.requires_grad for p in back.parameters()) == sum(p.requires_grad for p in net.parameters())


def test_loading_does_not_take_new_steps(tmp_path):
    """A step of the file is the step that was certified, even if another would be taken today."""
    flow = Flow(gradient(2.0), Euler(), time=1.0).eval()
    flow.set_extra_state({"step_size": 0.1 + 1e-17, "step_count": 7})
    save(flow, tmp_path / "f.st")
    assert steps(load(tmp_path / "f.st")) == [(0.1 + 1e-17, 7)]
    again = load(tmp_path / "f.st").train().eval()
    assert steps(again) != [(0.1 + 1e-17, 7)]


def test_dtype_casts_do_not_touch_the_frozen_steps():
    net = trained()
    before = steps(net)
    assert steps(net.half()) == before and steps(net.double()) == before


def test_steps_are_exact_numbers_in_the_header(model):
    with safe_open(model, "pt") as file:
        header = file.metadata()
    net = load(model)
    stored = [(e["step_size"], e["step_count"]) for e in json.loads(header["extra"]).values()]
    assert stored == steps(net) and header["format"] == "stablenets/1"
    assert json.loads(header["config"])["type"] == "NonExpansiveNet"


def test_what_the_hash_covers():
    net = trained()
    digest = weights_hash(net)
    assert digest == weights_hash(net) == weights_hash(copy.deepcopy(net)) and len(digest) == 64
    flow = next(m for m in net.modules() if isinstance(m, Flow))
    with torch.no_grad():
        weight = flow.field.linear.weight
        old = weight.view(-1)[0].clone()
        weight.view(-1)[0] = torch.nextafter(old, torch.tensor(math.inf))
        assert weights_hash(net) != digest, "one bit of one weight"
        weight.view(-1)[0] = old
    assert weights_hash(net) == digest
    size, count = flow.step_size, flow.step_count
    flow.step_size = math.nextafter(size, 1)
    assert weights_hash(net) != digest, "one bit of a frozen step"
    flow.step_size, flow.step_count = size, count + 1
    assert weights_hash(net) != digest, "the number of steps"
    flow.step_count = count
    assert weights_hash(net) == digest
    assert weights_hash(nn.Sequential(Flow(gradient(0.0), Euler(), h=1.0))) != weights_hash(
        nn.Sequential(Flow(gradient(0.0), Midpoint(), h=1.0))
    ), "the architecture"
    assert weights_hash(net.double()) != digest, "the dtype"


def test_plain_sequences_are_saved_too(tmp_path):
    flow = Flow(gradient(2.0), Euler(), steps=2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False), flow, nn.ReLU()).eval()
    save(net, tmp_path / "m.st")
    x = torch.randn(3, 4)
    assert torch.equal(load(tmp_path / "m.st")(x), net(x))


def test_saving_replaces_the_old_file_at_once(model, monkeypatch):
    old = model.read_bytes()
    monkeypatch.setattr("stablenets.layers.files.os.replace", _disk_full)
    with pytest.raises(InputError, match=r"cannot write .*No space left"):
        save(trained(), model)
    assert model.read_bytes() == old and list(model.parent.iterdir()) == [model], "no temporary file stays"


def _disk_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_saving_to_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        save(trained(), tmp_path / "nowhere" / "m.st")


def test_saving_what_cannot_be_rebuilt(tmp_path):
    with pytest.raises(InputError, match="Opaque cannot be saved"):
        save(Opaque(), tmp_path / "m.st")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.st does not exist"):
        load(tmp_path / "nothing.st")
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, 1000, -1])
def test_truncated_files(model, keep: int):
    model.write_bytes(model.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors is not a readable safetensors file"):
        load(model)


def test_files_of_other_programs(tmp_path):
    path = tmp_path / "m.st"
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load(path)
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(InputError, match="was not written by stablenets"):
        load(path)


def altered(path: Path, tensors: dict[str, Tensor] | None = None, drop: str = "", **header: str) -> None:
    with safe_open(path, "pt") as file:
        old = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    old.update(tensors or {})
    old.pop(drop, None)
    metadata.update(header)
    save_file(old, path, metadata={k: v for k, v in metadata.items() if v != "drop"})


@pytest.mark.parametrize(
    "changes",
    [
        {"config": "drop"},
        {"extra": "drop"},
        {"config": "{"},
        {"extra": "nonsense"},
        {"extra": "{}"},
        {"extra": '{"surplus._extra_state": {}}'},
        {"extra": "[]"},
        {"config": '{"type": "Nobody"}'},
        {"config": '{"type": "Dense"}'},
        {"config": '{"type": "Dense", "in_features": 2, "out_features": 2}'},
        {"config": '{"type": "Dense", "in_features": "two", "out_features": 2}'},
        {"config": "[]"},
        {"config": "3"},
        {"tensors": {"surplus": torch.ones(1)}},
        {"tensors": {"body.layers.0.weight": torch.ones(1)}},
        {"drop": "body.layers.6.bias"},
    ],
    ids=str,
)
def test_damaged_files(model, changes):
    with safe_open(model, "pt") as file:
        assert "drop" not in changes or changes["drop"] in file.keys()  # noqa: SIM118
    altered(model, **changes)
    with pytest.raises(InputError, match=r"model\.safetensors|Nobody"):
        load(model)


def test_a_weight_of_another_shape(model):
    altered(model, tensors={"body.layers.6.bias": torch.ones(99)})
    with pytest.raises(InputError, match=r"does not fit its own configuration.*size mismatch"):
        load(model)


def test_other_formats_are_refused(model):
    altered(model, format="stablenets/99")
    with pytest.raises(InputError, match="needed: a file of format stablenets/1"):
        load(model)


def test_state_is_tensors_and_exact_numbers():
    tensors, extra = split_state(trained())
    assert all(isinstance(v, Tensor) for v in tensors.values())
    assert all(set(v) == {"step_size", "step_count"} for v in extra.values()) and len(extra) == 3


def test_layers_are_components():
    assert {"Flow", "Chain", "Lift", "Normalise", "NormalisedHead"} <= set(Layer.registry)
    assert flow_module.MAX_STEPS == 10_000
    assert Flow(ConvexGradient(Dense(4, 3), Softplus()), Euler(), time=1.0).claims().get(Lipschitz) == Lipschitz(1.0)
    assert ConvexGradient(Dense(4, 3), Tanh()).claims().get(Cocoercive) is not None
