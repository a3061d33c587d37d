"""The chapter's network that inverts measurements stably."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..fields import Activation, ConvexGradient, ReLU, Tanh
from ..integrators import Euler
from ..layers import Chain, Flow, Layer, Lift, Project
from ..layers.base import Composed
from ..layers.chain import claims
from ..layers.gain import Gain
from ..linear import Dense


class InvNet(Composed, Layer):
    """c project(Phi_l(... Phi_1(lift(y)))), |c| <= L, with non-expansive Phi_i: L-Lipschitz (chapter 6.1.2).

    Each Phi_i is the flow of -A^T sigma(A x + b) for the time `time`, by as many Euler steps as ||A|| asks for.

    Args:
        features: of the measurements and of what is reconstructed.
        lipschitz: L, a bound of the Lipschitz constant.
        width: of the states, `features` and zeros.
        blocks: their number l.
        hidden: rows of each A; None is `width`.
        time: of each flow.
        activation: sigma, non-decreasing (default ReLU); its largest slope enters the limit of the step.

    >>> import torch
    >>> net = InvNet(2, 3.0).eval()
    >>> net(torch.zeros(5, 2)).shape
    torch.Size([5, 2])
    >>> net.claims()
    Claims(Lipschitz(bound=1.0))
    """

    def __init__(
        self,
        features: int,
        lipschitz: float,
        *,
        width: int = 10,
        blocks: int = 5,
        hidden: int | None = None,
        time: float = 1.0,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        if blocks < 1 or features < 1:
            raise InputError(message(f"features={features}, blocks={blocks}", "at least one of each"))
        self.features, self.lipschitz, self.width, self.blocks = features, lipschitz, width, blocks
        self.hidden, self.time, self.activation = hidden, time, activation or ReLU()
        self.input_shape = (features,)
        flows = [
            Flow(ConvexGradient(Dense(width, hidden or width), self.activation), Euler(), time=time)
            for _ in range(blocks)
        ]
        self.body = Chain(Lift(features, width), *flows, Project(width, features), Gain(lipschitz))

    def claims(self) -> Claims:
        return claims(self)

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for activation, limit in ((ReLU(), 2.5), (Tanh(), 0.4)):
            net = cls(2, limit, width=5, blocks=2, hidden=4, activation=activation)
            for p in net.parameters():
                p.data *= 3
            yield net
