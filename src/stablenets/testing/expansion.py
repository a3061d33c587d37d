"""A layer against its own claim: its weights are trained to expand as much as they can; explicit norms are taken."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..core.properties import jacobian, spectral

ACTIVE = 1e6  # a bias under which every unit is active, where gradient steps expand the most
POINTS = 8


def expand(
    layer: nn.Module, shape: tuple[int, ...], *, steps: int = 300, lr: float = 1e-2, seed: int = 0
) -> Iterator[int]:
    """Train `layer` by Adam, in place and in training mode, to expand; yields after every step.

    What is maximised are the lengths |J v| at eight random points, with J the Jacobian there and v from one power
    iteration per step. A layer that holds its norm down by an estimate is pulled to where the estimate fails: often for
    a few steps only, so look at it often.

    Args:
        layer: any PyTorch module, ours or not.
        shape: of one state.
        seed: of the points.

    >>> from stablenets.layers import Flow
    >>> layer = next(Flow.examples())
    >>> max(expansion(layer, (4,)) for _ in expand(layer, (4,), steps=3)) <= 1 + 1e-12
    True
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in layer.parameters() if p.requires_grad]
    v = torch.randn(POINTS, *shape, generator=generator)
    optimiser = torch.optim.Adam(parameters, lr) if parameters else None
    for step in range(steps):
        layer.train()
        x = 3 * torch.randn(POINTS, *shape, generator=generator)
        v = v / v.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, *[1] * len(shape))
        # not torch.func.jvp, which refuses layers that keep a singular vector between calls
        stretched: Any = torch.autograd.functional.jvp(layer, x, v, create_graph=True)[1]
        if optimiser:
            optimiser.zero_grad()
            (-stretched.flatten(1).norm(dim=1).mean()).backward()
            optimiser.step()
        x.requires_grad_()
        (v,) = torch.autograd.grad(layer(x), x, stretched.detach())
        yield step


def expansion(layer: nn.Module, shape: tuple[int, ...], *, seed: int = 0) -> float:
    """The largest norm of the Jacobians of `layer` in evaluation mode, in float64, by SVD.

    At random points, and with every unit active or none. The layer is left as it is. One in training mode takes its
    steps as leaving that mode does; one in evaluation mode keeps its own.
    """
    exact = copy.deepcopy(layer).eval().double()
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, *shape, generator=generator, dtype=torch.float64)
    x *= torch.tensor([1e-2, 1.0, 3.0, 30.0], dtype=torch.float64).view(-1, *[1] * len(shape))
    norms = [_norms(exact, x)]
    biases = [p for name, p in exact.named_parameters() if name.rsplit(".")[-1] == "bias"]
    for size in (ACTIVE, -ACTIVE) if biases else ():
        for bias in biases:
            bias.data.fill_(size)
        norms.append(_norms(exact, x[:1]))
    return float(torch.cat(norms).max())


@torch.no_grad()
def _norms(f: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([spectral(jacobian(f, point[None])[0]) for point in x])
