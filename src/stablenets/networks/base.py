"""A named architecture: images in, scores out."""

from __future__ import annotations

import abc

from ..core.claims import Claims
from ..layers.base import Composed
from ..layers.chain import claims


class Network(Composed, root=True):
    """A classifier: images (batch, channels, height, width) in [0, 1] -> scores (batch, classes).

    Its layers are in `body`.
    """

    image_shape: tuple[int, ...]
    classes: int

    @abc.abstractmethod
    def claims(self) -> Claims:
        """What the network, with its present weights, is proved to satisfy."""


class Provable(Network, abc.ABC):
    """A network all of whose layers carry claims."""

    def claims(self) -> Claims:
        return claims(self)
