"""Structures that learned dynamics may have: a field, and the integrator that keeps what the field promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.errors import InputError, message, unknown_name
from ..data import Trajectories
from ..fields import (
    BlockShears,
    Contracting,
    ConvexGradient,
    ConvexPotential,
    DeepPotential,
    Field,
    FreeField,
    GeneralHamiltonian,
    GradientField,
    LeakyReLU,
    LyapunovStable,
    MassAction,
    MassConserving,
    NormConserving,
    PortHamiltonian,
    RidgePotential,
    SeparableHamiltonian,
)
from ..integrators import (
    RK4,
    BlanesMoan4,
    DiscreteGradient,
    GaussLegendre4,
    ImplicitMidpoint,
    Integrator,
    LyapunovStep,
    PositiveEuler,
    ShearSplitting,
)
from ..linear import Dense

HUGE = 1e100  # numbers whose squares and products float64 holds
STEPS = {1: 0.01, 2: 0.05, 4: 0.2}  # order of the integrator -> step, as a share of the time in which states change


@dataclass(frozen=True)
class Structure:
    """One structure.

    Attributes:
        summary: what it keeps, in one line.
        field: (number of entries of a state, width) -> a field with random weights.
        integrator: makes the integrator that rolls it out.
        even: the entries are positions, then as many momenta.
        least: the fewest entries of a state.
        fixed: the origin has a meaning (a norm, a sign), so states must not be shifted.
        positive: states have no negative entries.
    """

    summary: str
    field: Callable[[int, int], Field]
    integrator: Callable[[], Integrator[Any]]
    even: bool = False
    least: int = 1
    fixed: bool = False
    positive: bool = False


def _network(d: int, width: int) -> FreeField:
    layers = nn.Linear(d, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, d)
    return FreeField(nn.Sequential(*layers))


def _ridge(d: int, width: int) -> GradientField:
    return GradientField(RidgePotential(Dense(d, width)))


def _mechanical(d: int, width: int) -> SeparableHamiltonian:
    kinetic = ConvexGradient(Dense(d // 2, d // 2), LeakyReLU(1.0))  # the identity as activation: T is quadratic
    kinetic.linear.weight.data = torch.eye(d // 2)  # unit masses
    return SeparableHamiltonian(kinetic, _ridge(d // 2, width))


STRUCTURES = {
    "free": Structure("nothing: a network as right-hand side", _network, RK4),
    "hamiltonian": Structure(
        "symplectic; the energy H(q, p) nearly constant for very long times",
        lambda d, width: GeneralHamiltonian(DeepPotential(d, (width, width))),
        GaussLegendre4,
        even=True,
    ),
    "energy": Structure(
        "the energy H(q, p) exactly constant",
        lambda d, width: GeneralHamiltonian(DeepPotential(d, (width, width))),
        DiscreteGradient,
        even=True,
    ),
    "separable-hamiltonian": Structure(
        "symplectic, with H = T(p) + V(q)",
        lambda d, width: SeparableHamiltonian(_ridge(d // 2, width), _ridge(d // 2, width)),
        BlanesMoan4,
        even=True,
    ),
    "mechanical": Structure(
        "symplectic, with H = p^T M^-1 p / 2 + V(q) and a constant matrix M of masses",
        _mechanical,
        BlanesMoan4,
        even=True,
    ),
    "port-hamiltonian": Structure(
        "an energy H(x) that never increases, exchanged by a skew and lost by a positive matrix",
        lambda d, width: PortHamiltonian(DeepPotential(d, (width, width)), rank=d),
        DiscreteGradient,
    ),
    "gradient": Structure(
        "x' = -grad V(x): V never increases",
        lambda d, width: GradientField(DeepPotential(d, (width, width))),
        DiscreteGradient,
    ),
    "mass": Structure(
        "the sum of all entries", lambda d, width: MassConserving(_network(d, width)), RK4, least=2, fixed=True
    ),
    "positive-mass": Structure(
        "the sum of all entries, none of which becomes negative",
        MassAction, PositiveEuler, least=2, fixed=True, positive=True,
    ),
    "norm": Structure(
        "the norm of the state",
        lambda d, width: NormConserving(Dense(d, width), Dense(d, width), gate=Dense(d, width)),
        GaussLegendre4,
        least=2,
        fixed=True,
    ),
    "volume": Structure(
        "volume in the space of states; every entry is driven by the others only",
        lambda d, width: BlockShears((1,) * d, width),
        ShearSplitting,
        least=2,
    ),
    "stable": Structure(
        "a convex Lyapunov function that falls along every solution, towards --equilibrium",
        lambda d, width: LyapunovStable(_network(d, width), ConvexPotential(d, (width, width))),
        LyapunovStep,
        fixed=True,
    ),
    "contracting": Structure(
        "any two solutions approach each other",
        lambda d, width: Contracting(ConvexGradient(Dense(d, width)), Dense(d, d)),
        ImplicitMidpoint,
    ),
}  # fmt: skip


def find(name: str, data: Trajectories) -> Structure:
    """The structure of that name, if the data can have it.

    Raises:
        InputError: unknown, or the data have the wrong number of entries or negative ones.
    """
    if name not in STRUCTURES:
        raise unknown_name("structure", name, STRUCTURES)
    found, d = STRUCTURES[name], len(data.names)
    entries = f"{d} {'entry' if d == 1 else 'entries'} ({', '.join(data.names)}) for the structure {name!r}"
    if found.even and d % 2:
        raise InputError(message(f"states of {entries}", "an even number: positions, then as many momenta"))
    if d < found.least:
        raise InputError(message(f"states of {entries}", f"at least {found.least}"))
    lowest = min(float(item.states.min()) for item in data.items)
    if found.positive and lowest < 0:
        todo = "Take the structure 'mass', or set the few that noise made negative to zero."
        raise InputError(message(f"an entry {lowest:.3g} for the structure {name!r}", "no negative entries", todo))
    return found


def units(
    found: Structure, data: Trajectories, equilibrium: tuple[float, ...] | None
) -> tuple[np.ndarray, float, float]:
    """Centre, size and time in which the data are of order 1: x = centre + size y, t = time s.

    One size for all entries, since the structures do not survive another scaling.

    Raises:
        InputError: states or times of which squares overflow, or vanish.
    """
    largest = max(float(np.abs(item.states).max()) for item in data.items)
    shortest = min(float(np.diff(item.times).min()) for item in data.items)
    span = max(float(item.times[-1]) for item in data.items) - min(float(item.times[0]) for item in data.items)
    if not (largest < HUGE and shortest > 1 / HUGE and span < HUGE):
        given = f"entries up to {largest:.3g}, times {shortest:.3g} apart"
        raise InputError(message(given, f"numbers below {HUGE:g} and above {1 / HUGE:g}", "Choose other units."))
    states = np.concatenate([item.states for item in data.items])
    centre = np.zeros(states.shape[1]) if found.fixed else states.mean(0)
    if equilibrium is not None:
        centre = np.array(equilibrium)
    size = float(np.sqrt(np.mean((states - centre) ** 2))) or 1.0
    moves = np.concatenate([np.diff(item.states, axis=0).ravel() for item in data.items])
    gaps = np.concatenate([np.diff(item.times) for item in data.items])
    rate = float(np.sqrt(np.mean(moves**2)) / np.sqrt(np.mean(gaps**2)))
    longest = max(float(np.ptp(item.times)) for item in data.items)
    return centre, size, min(size / rate, longest) if rate else longest
