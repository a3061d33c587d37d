"""What a layer is: a module that states its claims."""

from __future__ import annotations

import abc

from torch import Tensor, nn

from ..core.claims import Claims
from ..core.component import Component


class Layer(Component, root=True):
    """A map on batches with claims. Layers compose in a `Chain` or a plain `nn.Sequential`.

    Attributes:
        accuracy: claims are about a map in exact arithmetic; computed values are within `accuracy` |x| of it, and what
            rounding adds. Positive where an iteration ends early.
    """

    accuracy: float = 0.0
    input_shape: tuple[int, ...] | None = None  # a shape of one sample that the layer accepts; None: (4,) is one

    @abc.abstractmethod
    def claims(self) -> Claims:
        """What the layer, with its present weights, is proved to satisfy."""


class Composed(Component, abc.ABC):
    """A module that does what its `body`, a module made of layers, does. A subclass that overrides `forward` with
    anything else is opaque again: nothing is known about it."""

    body: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """The body's output."""
        return self.body(x)
