"""Train several InvNets at once: their weights stacked, their gradients by the adjoint of Euler's method.

Networks this small keep the processor waiting for Python. Here one batch of matrix products serves all networks, the
backward pass is written out, and it runs in numpy, which takes half as long as PyTorch to start an operation. Biases
are a further column of A, for states with a further entry that is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, TrainingError, message
from ..fields import Activation, LeakyReLU, ReLU, Tanh
from ..networks.inv_net import InvNet

WARM_UP = 100  # power iterations before training (chapter 6: "many iterations")

Array = np.ndarray
OnStep = Callable[[int, Array], object]  # (steps done, losses (networks,))


class Entrywise(NamedTuple):
    """An activation on arrays, in place, and what multiplies a gradient by its derivative, given its value."""

    apply: Callable[[Array], object]
    pull: Callable[[Array, Array], object]


def _entrywise(sigma: Activation) -> Entrywise:
    match sigma:
        case ReLU():
            return Entrywise(
                lambda z: np.maximum(z, z.dtype.type(0), out=z), lambda g, s: np.multiply(g, np.sign(s), out=g)
            )
        case Tanh():
            return Entrywise(lambda z: np.tanh(z, out=z), lambda g, s: np.multiply(g, 1 - s * s, out=g))
        case LeakyReLU(negative_slope=slope):
            return Entrywise(
                lambda z: np.multiply(z, np.where(z > 0, 1, slope).astype(z.dtype), out=z),
                lambda g, s: np.multiply(g, np.where(s > 0, 1, slope).astype(g.dtype), out=g),
            )
    raise InputError(message(f"networks with {type(sigma).__name__}", "ReLU, Tanh or LeakyReLU"))


class Stack:
    """Networks of one architecture, as arrays with the network as a leading dimension.

    Attributes:
        weights: [A, b] of all blocks, (blocks, networks, hidden, width + 1).
        gains: the factors c, (networks, 1, 1).

    Raises:
        InputError: the networks differ in more than their bound L.
    """

    def __init__(self, nets: Sequence[InvNet]) -> None:
        first = nets[0]
        if any(_architecture(net) != _architecture(first) for net in nets):
            raise InputError(message("networks that differ", "one architecture, with any Lipschitz bounds"))
        self.nets, self.time, self.slope = list(nets), first.time, first.activation.slope[1]
        self.width, self.features, self.sigma = first.width, first.features, _entrywise(first.activation)
        flows = zip(*(_fields(net) for net in nets), strict=True)
        blocks = [torch.stack([torch.cat([f.linear.weight, f.bias[:, None]], 1) for f in block]) for block in flows]
        self.weights = torch.stack(blocks).detach().numpy()
        self.gains = torch.stack([_gain(net).factor.detach() for net in nets]).numpy().reshape(-1, 1, 1)
        self.limits = np.array([net.lipschitz for net in nets], dtype=self.gains.dtype).reshape(-1, 1, 1)
        self.vectors = np.ones((*self.weights.shape[:2], self.width, 1), dtype=self.weights.dtype)
        self.norms_squared(WARM_UP)

    def norms_squared(self, iterations: int = 1) -> Array:
        """Estimates of ||A||^2 from below, (blocks, networks, 1, 1): warm-started power iteration."""
        a, size = self.weights[..., : self.width], self.vectors
        for _ in range(iterations):
            v = a.swapaxes(2, 3) @ (a @ self.vectors)
            size = np.sqrt(np.square(v).sum(2, keepdims=True))
            self.vectors = v / np.maximum(size, 1e-30)
        return size

    def step_sizes(self) -> Array:
        """Sizes of the Euler steps, (steps, blocks, networks, 1, 1): `time` / n for the first n steps, then 0.

        n is the least number with time / n <= 2 / (slope ||A||^2), different for each block and network.
        """
        counts = np.maximum(np.ceil(self.norms_squared() * (self.time * self.slope / 2)), 1)
        k = np.arange(int(counts.max())).reshape(-1, 1, 1, 1, 1)
        return np.where(k < counts, self.time / counts, 0).astype(self.weights.dtype)

    def lift(self, y: Tensor) -> Array:
        """Measurements (n, features) as states (networks, width + 1, n), the last entry constant 1."""
        state = np.zeros((len(self.nets), self.width + 1, len(y)), dtype=self.weights.dtype)
        state[:, : self.features] = y.T
        state[:, -1] = 1
        return state

    def gradients(self, start: Array, x: Array, h: Array) -> tuple[Array, Array, Array]:
        """Losses (networks,), mean of |c P(state) - x|^2, and the gradients of `weights` and `gains`.

        With X_(k+1) = X_k - h_k A^T S_k, S_k = sigma([A, b] X_k) and the gradient G_(k+1) for X_(k+1), set
        V_k = -h_k sigma'(...) A G_(k+1). Then G_k = G_(k+1) + A^T V_k, and the gradient for A is the sum of
        V_k X_k^T - h_k S_k G_(k+1)^T.

        Args:
            start: `lift(y)`.
            x: (features, n).
            h: `step_sizes()`.
        """
        linear = self.weights.copy()
        linear[..., -1] = 0  # [A, 0]
        adjoint = np.ascontiguousarray(linear.swapaxes(2, 3))
        there, back = linear * -h, adjoint * -h
        steps = (h > 0).any(2).sum((0, 2, 3)).tolist()
        hidden = (start.shape[0], linear.shape[2], start.shape[2])
        state, moved, trace = start, np.empty_like(start), []
        for i, count in enumerate(steps):
            states = np.empty((count + 1, *start.shape), dtype=start.dtype)
            values = np.empty((count, *hidden), dtype=start.dtype)
            states[0] = state
            for k in range(count):
                self.sigma.apply(np.matmul(self.weights[i], states[k], out=values[k]))
                np.add(states[k], np.matmul(back[k, i], values[k], out=moved), out=states[k + 1])
            state = states[count]
            trace.append((states, values))
        n, kept = start.shape[2], state[:, : self.features]
        residual = self.gains * kept - x
        losses = np.square(residual).sum((1, 2)) / n
        by_gain = (residual * kept).sum((1, 2), keepdims=True) * (2 / n)
        g = np.zeros_like(start)
        g[:, : self.features] = residual * self.gains * (2 / n)
        by_weight = np.empty_like(self.weights)
        for i in reversed(range(len(steps))):
            (states, values), count = trace[i], steps[i]
            gradients, inner = np.empty_like(states), np.empty_like(values)
            gradients[count] = g
            for k in reversed(range(count)):
                self.sigma.pull(np.matmul(there[k, i], gradients[k + 1], out=inner[k]), values[k])
                np.add(gradients[k + 1], np.matmul(adjoint[i], inner[k], out=moved), out=gradients[k])
            g = gradients[0]
            through_adjoint = np.matmul(values, gradients[1:].swapaxes(2, 3)) * h[:count, i]
            by_weight[i] = (np.matmul(inner, states[:-1].swapaxes(2, 3)) - through_adjoint).sum(0)
        return losses, by_weight, by_gain

    def write_back(self) -> None:
        """Copy the weights into the networks, which are left in evaluation mode, with steps from proved bounds."""
        for j, net in enumerate(self.nets):
            for block, field in zip(self.weights, _fields(net), strict=True):
                field.linear.weight.copy_(torch.from_numpy(block[j, :, :-1]))
                field.bias.copy_(torch.from_numpy(block[j, :, -1]))
            _gain(net).factor.fill_(float(self.gains[j, 0, 0]))
            net.train().eval()


@torch.no_grad()
def fit_together(
    nets: Sequence[InvNet], y: Tensor, x: Tensor, *, steps: int, rate: float = 1e-3, on_step: OnStep | None = None
) -> Tensor:
    """Minimise the mean of |net(y) - x|^2 for each network by Adam (chapter 6.1.2), all networks in one loop.

    After each step, norms are estimated by one power iteration, from which the numbers of Euler steps follow, and c is
    clamped to [-L, L]. The networks end in evaluation mode: their steps follow proved bounds.

    Args:
        nets: of one architecture; their Lipschitz bounds may differ.
        y: measurements (n, features), in the type of the networks.
        x: what is to be reconstructed, (n, features).
        steps: of Adam, with PyTorch's default moments and no weight decay.
        rate: the learning rate.
        on_step: called after each step; may raise to stop.

    Returns:
        the losses before each step, (steps, networks).

    Raises:
        InputError: networks of different architecture, or with an activation other than ReLU, Tanh and LeakyReLU.
        TrainingError: a loss is not finite.
    """
    stack = Stack(nets)
    parameters = [torch.from_numpy(p) for p in (stack.weights, stack.gains)]  # these share their memory
    adam = torch.optim.Adam(parameters, lr=rate, fused=True)
    start, target = stack.lift(y), np.ascontiguousarray(x.T.numpy())
    losses = np.empty((steps, len(nets)), dtype=target.dtype)
    for step in range(steps):
        losses[step], *gradients = stack.gradients(start, target, stack.step_sizes())
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = torch.from_numpy(g)
        adam.step()
        np.clip(stack.gains, -stack.limits, stack.limits, out=stack.gains)
        if not np.isfinite(losses[step]).all():
            given = f"the losses are {losses[step].tolist()} at step {step + 1}"
            raise TrainingError(message(given, "finite losses", "Lower the learning rate."))
        if on_step is not None:
            on_step(step + 1, losses[step])
    stack.write_back()
    return torch.from_numpy(losses)


def _architecture(net: InvNet) -> tuple[Any, ...]:
    sigma = net.activation
    return net.features, net.width, net.blocks, net.hidden, net.time, type(sigma), sigma.slope


def _fields(net: InvNet) -> list[Any]:
    body: Any = net.body
    return [flow.field for flow in body.layers[1:-2]]


def _gain(net: InvNet) -> Any:
    body: Any = net.body
    return body.layers[-1]
