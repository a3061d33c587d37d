"""The table field x integrator: what a step keeps of the flow, exactly, up to a limit, to order p, or not."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import systems as systems  # registers them
from ..core.claims import Claims, Map
from ..core.component import arguments
from ..core.errors import ConvergenceError
from ..core.properties import Lipschitz, jacobian, spectral
from ..fields import Field
from ..integrators import Integrator
from .aims import Aim, aims
from .falsify import pairs, tolerance
from .steps import one_step

EVERY = (1e-4, 1e-2, 0.1, 1.0, 1.5, 10.0, 1e3)  # step sizes, in units of 1 / L, that stand for all of them
SHORT_TO_LONG = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)  # on which violations of inequalities are searched
TYPICAL = (1 / 2, 1 / 8, 2.0, 8.0)  # and those of equalities
SEEN = 1e-11  # rounding errors of an equality are smaller
SHORT = 1 / 4
EXACT, LIMIT, UNCLAIMED, ORDER, LONG, LOST = "exact", "limit", "not claimed", "order", "lost for long steps", "lost"
WEAKER = (EXACT, LIMIT, UNCLAIMED, ORDER, LONG, LOST)


@dataclass(frozen=True)
class Cell:
    """What is known about one property of the steps of one integrator along one field.

    Attributes:
        says: what the property is, in a formula.
        verdict: "exact" (claimed for every step size), "limit" (claimed up to a step size that is computed), "order"
            (an equality that is missed by O(h^(order + 1)) in every step), "lost" (short steps violate it), "lost for
            long steps" (longer ones do, and no limit is proved), or "not claimed" (no violation was found either).
        limit: the largest h L, where L is the field's Lipschitz constant; None where it depends on more.
        violation: the evidence against an unclaimed property: a step size h, and the relative violation found with it.
    """

    field: str
    integrator: str
    property: str
    says: str
    verdict: str
    order: int = 0
    limit: float | None = None
    violation: tuple[float, float] | None = None

    def __str__(self) -> str:
        match self.verdict:
            case "order":
                return f"order {self.order}"
            case "limit":
                return "h <= limit" if self.limit is None else f"h <= {self.limit:.4g} / L"
            case "lost for long steps":
                return "lost (long steps)"
        return self.verdict


def label(integrator: Integrator[Any]) -> str:
    """The class name with the arguments that the example was made with.

    >>> from stablenets.integrators import Exponential, LyapunovStep
    >>> label(Exponential(4)), label(LyapunovStep())
    ('Exponential(4)', 'LyapunovStep(RK4)')
    """
    values = [getattr(integrator, name) for name in arguments(type(integrator))]
    shown = ", ".join(type(v).__name__ if isinstance(v, Integrator) else f"{v:g}" for v in values)
    return type(integrator).__name__ + (f"({shown})" if values else "")


def cells(
    fields: Collection[str] = (), integrators: Collection[str] = (), properties: Collection[str] = ()
) -> Iterator[Cell]:
    """The table of all registered fields and integrators, or of those named; empty collections: all.

    What is claimed is read from `Field.claims`, `Integrator.needs` and `Integrator.transfer`. What is not claimed is
    attacked: the verdict says whether that succeeded.
    """
    chosen = [c for n, c in sorted(Integrator.registry.items()) if not integrators or n in integrators]
    methods = [g for c in chosen for g in _examples(c)]
    for name, cls in sorted(Field.registry.items()):
        if fields and name not in fields:
            continue
        stated = [(f, f.claims()) for f in (f.double().eval().requires_grad_(False) for f in _examples(cls))]
        for method in (g for g in methods if issubclass(cls, g.needs)):
            found: dict[str, Cell] = {}
            for f, claims in stated:
                for aim in (a for a in aims(claims) if not properties or a.name in properties):
                    known = found.get(aim.name)
                    if known is None or not _settled(known, method):
                        cell = _cell(name, f, claims, method, aim)
                        found[aim.name] = cell if known is None else _weaker(known, cell)
            yield from found.values()


def properties() -> list[str]:
    """The names of all properties that the table speaks about."""
    return sorted({a.name for cls in Field.registry.values() for f in _examples(cls) for a in aims(f.claims())})


def _examples(cls: Any) -> list[Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [copy.deepcopy(example) for example in cls.examples()]


def _settled(cell: Cell, method: Integrator[Any]) -> bool:
    """Whether another example of the field need not be looked at. (Equations take long: one example is searched.)"""
    return cell.verdict in (ORDER, LOST) or (method.solves and cell.verdict not in (EXACT, LIMIT))


def _weaker(a: Cell, b: Cell) -> Cell:
    if a.verdict == b.verdict == LIMIT and a.limit != b.limit:
        return replace(a, limit=None)
    return max(a, b, key=lambda cell: WEAKER.index(cell.verdict))


def _cell(name: str, f: Field, claims: Claims, method: Integrator[Any], aim: Aim) -> Cell:
    unit = step_unit(f, claims)
    place = name, label(method), aim.name, aim.says
    kept = [aim.kept(method.transfer(claims, m * unit)) for m in EVERY]
    if all(kept):
        return Cell(*place, EXACT)
    if kept[0]:
        return Cell(*place, LIMIT, limit=_limit(claims, method, aim, unit))
    found = _violation(f, method, aim, unit)
    if found is None:
        return Cell(*place, UNCLAIMED)
    if aim.equality:
        return Cell(*place, ORDER, order=method.order, violation=found)
    return Cell(*place, LOST if found[0] <= SHORT * unit else LONG, violation=found)


def step_unit(f: Field, claims: Claims) -> float:
    """1 / L, with the Lipschitz constant L that is claimed, or a typical derivative where none is."""
    if lipschitz := claims.get(Lipschitz):
        return 1 / lipschitz.bound
    x, _ = pairs(f.state_shape or (4,), seed=0, count=4)
    return 1 / max(1.0, float(spectral(jacobian(f, x[4:8])).median()))  # those of size 1


def _limit(claims: Claims, method: Integrator[Any], aim: Aim, unit: float) -> float | None:
    """The largest claimed h, by bisection, times the Lipschitz constant."""
    lipschitz = claims.get(Lipschitz)
    if lipschitz is None:
        return None
    low, high = EVERY[0] * unit, EVERY[-1] * unit
    while high - low > 1e-9 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if aim.kept(method.transfer(claims, middle)) else (low, middle)
    return round(low * lipschitz.bound, 6)


def _violation(f: Field, method: Integrator[Any], aim: Aim, unit: float) -> tuple[float, float] | None:
    """The first step size found, and by how much a step of that size violates the statement."""
    for h in (m * unit for m in (TYPICAL if aim.equality else SHORT_TO_LONG)):
        size = violation(one_step(method, f, h), aim, f.state_shape or (4,))
        if size > 0:
            return h, size
    return None


def violation(step: Map, aim: Aim, shape: tuple[int, ...], seed: int = 3) -> float:
    """How badly a step violates the statement at some samples; 0 where it stands, up to rounding.

    Equalities are missed at all states: a few of size 1 are looked at. Inequalities are attacked at all scales. Samples
    at which the step does not return say nothing, and leave the others their say.
    """
    drawn = (v[6:12] if aim.equality else v for v in pairs(shape, seed=seed, count=6))
    found = _violations(step, aim, *map(aim.statement.domain, drawn))
    return float(found.max()) if len(found) else 0.0


def _violations(step: Map, aim: Aim, x: Tensor, y: Tensor) -> Tensor:
    """Those above rounding errors, at the pairs at which the step returns."""
    while len(x):
        try:
            found = aim.statement.violation(step, x, y).detach()
            rounding = SEEN if aim.equality else tolerance(step, aim.statement, x, y).detach()
            return found[(found > rounding) & found.isfinite()]
        except ConvergenceError as error:
            left = [i for i in range(len(x)) if i not in error.samples]
        except torch.linalg.LinAlgError:  # decompositions refuse derivatives that overflow
            left = [i for i, m in enumerate(jacobian(step, x)) if bool(m.isfinite().all())]
        if len(left) == len(x):
            break
        x, y = x[left], y[left]
    return x.new_zeros(0)
