"""Gradients through inverted steps: equal to backpropagation, flat in memory, and refused where they would be wrong."""

from __future__ import annotations

import abc
import copy

import pytest
import torch
from torch import Tensor, nn

import everything  # noqa: F401  fills the registries
from stablenets.core.component import build, config
from stablenets.core.errors import ConvergenceError, InputError
from stablenets.core.properties import Symplectic, jacobian
from stablenets.fields import (
    BlockShears,
    ConvexGradient,
    Coupling,
    Field,
    FreeField,
    SeparableHamiltonian,
    SkewLinear,
    Tanh,
)
from stablenets.fields.examples import large
from stablenets.gradients import Backpropagation, Gradient, Move, Reversible
from stablenets.integrators import RK4, Cayley, Euler, Exponential, Integrator, ShearSplitting, StormerVerlet
from stablenets.layers import Chain, Flow, Lift, claims, load, save
from stablenets.linear import Dense, SkewDense
from stablenets.testing.problems import NonlinearPendulum, Swirl

INVERTIBLE = [g for _, c in sorted(Integrator.registry.items()) if c.exact_inverse for g in c.examples()]
DTYPES = pytest.mark.parametrize("dtype, floor", [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["32", "64"])


def hamiltonian(width: int, seed: int, scale: float = 2.0) -> SeparableHamiltonian:
    half = width // 2
    parts = [ConvexGradient(Dense(half, half), Tanh()) for _ in range(2)]
    return large(SeparableHamiltonian(*parts), scale, seed=seed)


def net(depth: int, width: int = 8, gradient: Gradient | None = None, scale: float = 2.0) -> Chain:
    return Chain(*[Flow(hamiltonian(width, i, scale), StormerVerlet(), h=0.1) for i in range(depth)], gradient=gradient)


def field_for(integrator: Integrator) -> Field:
    """A field with large weights."""
    if isinstance(integrator, Cayley):
        f = SkewLinear(SkewDense(4))
        f.linear.raw.data *= 3
        return f
    return large(BlockShears((2, 1, 1), 6)) if isinstance(integrator, ShearSplitting) else hamiltonian(4, 0)


def slopes(module: nn.Module, x: Tensor, *more: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    return list(torch.autograd.grad(module(x).pow(3).sum(), [x, *module.parameters(), *more]))


def assert_close(found: list[Tensor], expected: list[Tensor], floor: float) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).norm()) <= floor * float(b.norm())
    assert float(expected[0].norm()) > 1e-3


# --- equal to backpropagation -------------------------------------------------------------------------------------


def test_which_steps_can_be_inverted():
    names = {type(g).__name__ for g in INVERTIBLE}
    assert {"SymplecticEuler", "StormerVerlet", "Yoshida4", "BlanesMoan4", "ShearSplitting", "Cayley"} <= names


@pytest.mark.parametrize("h", [0.3, -0.2])
@pytest.mark.parametrize("integrator", INVERTIBLE, ids=repr)
def test_the_inverse_undoes_a_step(integrator: Integrator, h: float):
    """Also of a field that depends on time, each part in its own way."""
    problem = Swirl(True) if isinstance(integrator, ShearSplitting) else NonlinearPendulum(True)
    for f in (field_for(integrator).double(), problem):
        if isinstance(f, integrator.needs):
            x = 2 * torch.randn(20, *f.state_shape, dtype=torch.float64)
            f.requires_grad_(False)
            y = integrator.step(f, x, h, 0.4)
            assert float((y - x).norm()) > 0.1
            torch.testing.assert_close(integrator.inverse(f, y, h, 0.4), x, rtol=1e-13, atol=1e-13)


def test_other_steps_say_that_they_have_no_inverse():
    with pytest.raises(TypeError, match="RK4 has no exact inverse"):
        RK4().inverse(hamiltonian(4, 0), torch.zeros(1, 4), 0.1)


@DTYPES
@pytest.mark.parametrize("integrator", INVERTIBLE, ids=repr)
def test_gradients_of_a_flow(integrator: Integrator, dtype: torch.dtype, floor: float):
    flow = Flow(field_for(integrator), integrator, h=0.1, steps=40, gradient=Reversible(3)).to(dtype)
    twin = Flow(flow.field, integrator, h=0.1, steps=40)
    x = torch.randn(6, 4, dtype=dtype)
    assert torch.equal(flow(x), twin(x))
    assert_close(slopes(flow, x), slopes(twin, x), floor)


@DTYPES
def test_gradients_of_a_network_of_many_layers(dtype: torch.dtype, floor: float):
    """With a first field that occurs twice: both contributions count."""
    chain = net(150, gradient=Reversible()).to(dtype)
    chain.layers[149].field = chain.layers[0].field
    twin = Chain(*chain.layers)
    x = torch.randn(5, 8, dtype=dtype)
    assert_close(slopes(chain, x), slopes(twin, x), floor)
    assert float(slopes(twin, x)[0].norm()) > 100, "far from the identity"


class Driven(NonlinearPendulum, abc.ABC):
    """Differentiable in time as well, which a step advances by fractions of h. ABC: not registered."""

    def force(self, q: Tensor, t: float = 0.0) -> Tensor:
        return -torch.sin(q) + torch.cos(2 * torch.as_tensor(t))

    def wave(self, t: float, frequency: float) -> Tensor:
        return 1 + 0.5 * torch.sin(frequency * torch.as_tensor(t))


@pytest.mark.parametrize("steps", [1, 2, 17])
def test_gradients_in_the_step_size_of_a_field_that_depends_on_time(steps: int):
    f, x = Driven(True), torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    h = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    def end(way: Gradient, h: Tensor) -> Tensor:
        half = h.square() / 0.2  # a size with a history of its own
        moves = [Move(StormerVerlet(), f, half if i % 2 else h, 0.3 + 0.2 * i) for i in range(steps)]
        return way.run(moves, x).pow(3).sum()

    found, expected = (torch.autograd.grad(end(way, h), [x, h]) for way in (Reversible(2), Backpropagation()))
    assert_close(list(found), list(expected), 1e-12)
    difference = (end(Backpropagation(), h + 1e-6) - end(Backpropagation(), h - 1e-6)) / 2e-6
    assert float(found[1]) == pytest.approx(float(difference), rel=1e-7)


def test_training_is_the_same():
    """Ten steps of Adam, with one layer frozen."""
    ends = []
    for gradient in (Reversible(2), None):
        chain = net(6, gradient=gradient).double()
        chain.layers[2].requires_grad_(False)
        optimiser = torch.optim.Adam([p for p in chain.parameters() if p.requires_grad], 1e-2)
        x = torch.randn(16, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        for _ in range(10):
            optimiser.zero_grad()
            chain(x).square().mean().backward()
            optimiser.step()
        ends.append(chain(x).detach())
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)


def test_derivatives_of_higher_order_and_transforms():
    chain, x = net(3, 4, Reversible()).double(), torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(jacobian(chain, x), jacobian(Chain(*chain.layers), x))
    found = []
    for module in (chain, Chain(*chain.layers)):
        v = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(module(v).pow(2).sum(), v, create_graph=True)
        found.append(torch.autograd.grad(first.pow(2).sum(), [v, *module.parameters()]))
        # reverse over reverse: its result depends on a second derivative, and was once zero without a word
        found[-1] += (torch.autograd.functional.jvp(module, x, torch.ones_like(x), create_graph=True)[1],)
    assert_close(list(found[0]), list(found[1]), 1e-10)


# --- memory -------------------------------------------------------------------------------------------------------


def stored_bytes(chain: Chain, x: Tensor) -> int:
    """What a forward pass keeps for the backward pass, apart from the weights; every storage once."""
    weights = {p.untyped_storage().data_ptr() for p in chain.parameters()}
    sizes: dict[int, int] = {}
    kept = []

    def pack(t: Tensor) -> Tensor:
        kept.append(t)  # alive, so that no address occurs twice
        place = t.untyped_storage()
        if place.data_ptr() not in weights:
            sizes[place.data_ptr()] = place.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        chain(x)
    return sum(sizes.values())


def test_memory_does_not_grow_with_depth():
    """2,000 layers of width 64, batch 256, against 20; by backpropagation it grows a hundredfold."""
    x = torch.randn(256, 64)
    base = net(20, 64)
    shallow = stored_bytes(Chain(*base.layers, gradient=Reversible()), x)
    deep = stored_bytes(Chain(*(100 * list(base.layers)), gradient=Reversible()), x)
    assert deep <= 1.2 * shallow <= 1.2 * 18 * x.nbytes
    assert stored_bytes(Chain(*(5 * list(base.layers))), x) > 4.5 * stored_bytes(base, x) > 50 * x.nbytes


# --- refused where it would be wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_that_cannot_be_found_again_are_an_error(dtype: torch.dtype):
    """Long steps: errors of the inverse grow exponentially."""
    chain = Chain(*[Flow(hamiltonian(8, i, 3.0), StormerVerlet(), h=2.0) for i in range(120)], gradient=Reversible(1))
    x = torch.randn(5, 8, dtype=dtype)
    with pytest.raises(ConvergenceError, match=r"inverting the steps back to step 0 \(layers.0 \(Flow\)\) misses"):
        slopes(chain.to(dtype), x)
    more = Chain(*chain.layers, gradient=Reversible(120))  # every state is stored
    assert_close(slopes(more, x), slopes(Chain(*chain.layers), x), 1e-12)


def test_dropout_and_autocast_are_an_error():
    kick = FreeField(nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2)))
    flow = Flow(Coupling(kick, copy.deepcopy(kick)), StormerVerlet(), h=0.3, steps=3, gradient=Reversible())
    with pytest.raises(ConvergenceError, match="misses the stored state"):
        slopes(flow, torch.randn(5, 4))
    slopes(flow.eval(), torch.randn(5, 4))
    chain = net(20, gradient=Reversible(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = chain(torch.randn(5, 8)).square().sum()
    with pytest.raises(ConvergenceError, match="misses the stored state"):
        loss.backward()


def test_weights_that_changed_since_the_forward_pass_are_an_error():
    chain = net(4, gradient=Reversible())
    loss = chain(torch.randn(5, 8)).square().sum()
    with torch.no_grad():
        chain.layers[1].field.kinetic.bias += 1e-9
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_tensors_whose_gradient_would_be_lost_are_an_error():
    scale = torch.tensor(0.5, requires_grad=True)  # no parameter of anything

    class Hidden(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return scale * super().forward(x)

    flow = Flow(Coupling(*[FreeField(Hidden(2, 2)) for _ in range(2)]), StormerVerlet(), h=0.1, gradient=Reversible())
    with pytest.raises(TypeError, match=r"Flow: its step depends on a tensor \(\) that was no parameter"):
        slopes(flow, torch.randn(3, 4))
    chain = net(2, gradient=Reversible())
    others = {n: p.detach().clone().requires_grad_() for n, p in chain.named_parameters()}
    loss = torch.func.functional_call(chain, others, torch.randn(3, 8)).sum()
    with pytest.raises(TypeError, match=r"layers.1"):
        loss.backward()


def test_layers_that_cannot_be_inverted_are_named():
    verlet, euler = (Flow(hamiltonian(4, 0), g, h=0.1) for g in (StormerVerlet(), Euler()))
    with pytest.raises(TypeError, match=r"layers.1 \(Flow\): Euler has no exact inverse; needed: one of BlanesMoan4, "):
        Chain(verlet, euler, gradient=Reversible())
    with pytest.raises(TypeError, match=r"layers.0 is a Lift; needed: a Flow, for Reversible"):
        Chain(Lift(2, 4), verlet, gradient=Reversible())
    with pytest.raises(TypeError, match="Flow: Exponential has no exact inverse"):
        Flow(SkewLinear(SkewDense(4)), Exponential(), h=0.1, gradient=Reversible())
    Chain(verlet, euler, gradient=Backpropagation())
    with pytest.raises(InputError, match="anchors=0"):
        Reversible(0)
    with pytest.raises(InputError, match="tolerance=0"):
        Reversible(tolerance=0)


# --- a layer like any other ---------------------------------------------------------------------------------------


def test_it_changes_no_claim_and_is_saved(tmp_path):
    chain, plain = net(3, 4, Reversible(5, tolerance=1e-3)), net(3, 4)
    assert Symplectic() in claims(chain) and repr(claims(chain)) == repr(claims(plain))
    assert "gradient" not in config(plain) and "gradient" not in config(plain.layers[0])
    assert config(build(config(chain))) == config(chain)
    save(chain, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert isinstance(loaded, Chain) and isinstance(loaded.gradient, Reversible) and loaded.gradient.anchors == 5
    x = torch.randn(3, 4)
    assert torch.equal(loaded(x), chain(x))


def test_nothing_is_stored_without_gradients():
    chain, x = net(3, 4, Reversible()), torch.randn(3, 4)
    with torch.no_grad():
        assert chain(x).grad_fn is None
    assert chain.requires_grad_(False)(x).grad_fn is None
    assert torch.equal(Chain(gradient=Reversible())(x), x)
