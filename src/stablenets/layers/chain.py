"""Layers in a row, and the claims of anything made of layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import ClaimError, message
from ..gradients import Gradient
from .base import Composed, Layer
from .flow import Flow
from .torch_layers import TORCH_LAYERS, torch_claims


class Chain(Layer):
    """Applies its layers one after the other; its claims are composed, and `claims().lost` names who lost what.

    >>> import torch
    >>> from stablenets.layers import Lift
    >>> chain = Chain(Lift(2, 4), *Flow.examples())
    >>> chain.claims().lost[0].layer
    'layers.1 (Flow)'

    With `gradient=gradients.Reversible()` the memory for training does not grow with the number of layers; all of them
    must be a `Flow` that can be inverted, or a TypeError names the first that cannot. Hooks on them are not called.
    """

    optional = ("gradient",)

    def __init__(self, *layers: nn.Module, gradient: Gradient | None = None) -> None:
        super().__init__()
        if gradient is not None:
            for i, layer in enumerate(layers):
                if not isinstance(layer, Flow):
                    given = f"layers.{i} is a {type(layer).__name__}"
                    raise TypeError(message(given, f"a Flow, for {type(gradient).__name__}"))
                gradient.check(layer.integrator, f"layers.{i} (Flow)")
        self.layers, self.gradient = nn.ModuleList(layers), gradient
        self.input_shape = getattr(layers[0], "input_shape", None) if layers else None

    def forward(self, x: Tensor) -> Tensor:
        if self.gradient is not None:
            flows: Any = self.layers
            return self.gradient.run([m for i, f in enumerate(flows) for m in f.moves(x, name=f"layers.{i} (Flow)")], x)
        for layer in self.layers:
            x = layer(x)
        return x

    def claims(self) -> Claims:
        return claims(self)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        flows = [f for f in Flow.examples() if f.field.state_shape == (4,)]
        yield cls(*flows[:3])


def leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of a network in order, with their names; containers are opened.

    Raises:
        ClaimError: for a module about which nothing is known, by its name.
    """
    for part in module.modules():
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            raise ClaimError(
                message(
                    f"{name or 'the module'} ({type(part).__name__}) has hooks or a replaced forward", "a plain module"
                )
            )
    forward = type(module).forward  # a subclass with another forward is not what its layers are
    if forward in (Chain.forward, nn.Sequential.forward):
        inner: Any = module.layers if isinstance(module, Chain) else module
        prefix = f"{name}." if name else ""
        middle = "layers." if isinstance(module, Chain) else ""
        for i, layer in enumerate(inner):
            yield from leaves(layer, f"{prefix}{middle}{i}")
    elif isinstance(module, Composed) and forward is Composed.forward:
        yield from leaves(module.body, f"{name}.body" if name else "body")
    elif isinstance(module, Layer) or type(module) in TORCH_LAYERS:
        yield name, module
    else:
        raise ClaimError(
            message(
                f"nothing is known about {name or 'the module'} ({type(module).__name__})",
                "layers of stablenets, or PyTorch's " + ", ".join(sorted(c.__name__ for c in TORCH_LAYERS)),
                "Derive it from stablenets.layers.Layer and state its claims.",
            )
        )


def layer_claims(layer: nn.Module) -> Claims:
    """Claims of one leaf."""
    return layer.claims() if isinstance(layer, Layer) else torch_claims(layer)


def claims(module: nn.Module) -> Claims:
    """What `module` is proved to satisfy: a layer, a network, or an `nn.Sequential` of layers.

    Raises:
        ClaimError: when it contains a module that is neither ours nor a known PyTorch layer; the module is named.

    >>> from stablenets.linear import Dense
    >>> from stablenets.fields import ConvexGradient
    >>> from stablenets.integrators import Euler
    >>> claims(nn.Sequential(nn.Flatten(), Flow(ConvexGradient(Dense(4, 3)), Euler(), steps=1)))
    Claims(Lipschitz(bound=1.0))
    """
    composed: Claims | None = None
    for name, layer in leaves(module):
        present = layer_claims(layer)
        composed = present if composed is None else present.after(composed, f"{name} ({type(layer).__name__})")
    return Claims() if composed is None else composed
