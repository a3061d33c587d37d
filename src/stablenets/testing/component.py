"""`check_component`: the rules that every component keeps, and the suite of its kind."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..core.component import Component, build, config
from ..core.errors import InputError, message
from .findings import Check, Finding, Verdict, run
from .kinds import SUITES, outputs


def extension_points() -> dict[str, type[Component]]:
    """Every class with a registry of its own, by name.

    >>> sorted(extension_points())[:4]
    ['Activation', 'Attack', 'Denoiser', 'Field']
    """
    points, queue = {}, [Component]
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if cls is not Component and "registry" in vars(cls):
            points[cls.__name__] = cls
    return points


def check_component(component: Component | type[Component], *, seed: int = 0) -> list[Finding]:
    """Check a component, or all examples of a class: the rules of the house, then what its kind promises.

    A linear map's adjoint and norms are compared with its explicit matrix; claims of fields, layers and networks are
    attacked in float64; an integrator is attacked on every registered field that it accepts, at 0.1, 1, 1.5 and 10
    times its step limit, and its order is measured.

    Args:
        component: a registered class, or one instance of it.
        seed: of the random weights and samples. The global random state is left as it was.

    Raises:
        InputError: for anything that is not a component.

    >>> from stablenets.linear import Dense
    >>> all(finding.ok for finding in check_component(Dense))
    True
    """
    cls = component if isinstance(component, type) else type(component)
    if not issubclass(cls, Component):
        raise InputError(
            message(f"{cls.__name__} is not a component", "a class derived from Field, LinearMap, Integrator, Layer...")
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        examples = [component] if isinstance(component, Component) else _examples(cls)
        if isinstance(examples, Finding):
            return [*run(_house_rules(cls)), examples]
        return run([*_house_rules(cls), *_instances(examples, seed)])


def _examples(cls: type[Component]) -> list[Component] | Finding:
    try:
        examples = list(cls.examples())
    except Exception as error:  # whatever a stranger's code raises is the finding
        return Finding("examples", False, f"examples() raised {type(error).__name__}: {error}")
    if not examples:
        return Finding("examples", False, "examples() yields nothing; needed: at least one small instance.")
    return examples


def _house_rules(cls: type[Component]) -> Iterator[Check]:
    yield "registered", partial(_registered, cls)
    yield "documented", partial(_documented, cls)
    yield "abstract or final", partial(_final, cls)


def _instances(examples: list[Component], seed: int) -> Iterator[Check]:
    for i, example in enumerate(examples):
        exact = copy.deepcopy(example).double().eval()
        yield f"rebuilt from its config, example {i}", partial(_rebuilt, exact)
        for kind, suite in SUITES.items():
            if isinstance(exact, kind):
                for name, check in suite(exact, seed):
                    yield f"{name}, example {i}", check


def _registered(cls: type[Component]) -> Verdict:
    point = next((p for p in extension_points().values() if cls.registry is p.registry), None)
    if point is None or cls.registry.get(cls.__name__) is not cls:
        return False, f"{cls.__name__} is not in the registry: is it abstract, or has it ABC among its bases?"
    return True, f"as {cls.__name__!r} in {point.__name__}.registry."


def _documented(cls: type[Component]) -> Verdict:
    text = (vars(cls).get("__doc__") or "").strip()
    return (True, text.splitlines()[0]) if text else (False, f"{cls.__name__} has no docstring of its own.")


def _final(cls: type[Component]) -> Verdict:
    others = [c for c in cls.registry.values() if c is not cls and (issubclass(c, cls) or issubclass(cls, c))]
    if others:
        return False, f"{cls.__name__} and {others[0].__name__} are both registered, and one derives from the other."
    return True, "no registered class derives from another."


def _rebuilt(example: Component) -> Verdict:
    text = json.dumps(config(example))
    twin: Any = build(json.loads(text))
    if json.dumps(config(twin)) != text:
        return False, f"the config changes: {text} became {json.dumps(config(twin))}."
    twin = twin.double().eval()
    twin.load_state_dict(example.state_dict())
    with torch.no_grad():
        before, after = outputs(example), outputs(twin)
    if isinstance(before, Tensor) and isinstance(after, Tensor) and not torch.equal(before, after):
        return False, f"same config and state, but outputs differ by {float((before - after).abs().max()):.2g}."
    return True, "same config, same state, same outputs to the last bit."
