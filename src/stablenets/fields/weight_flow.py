"""ODE-to-ODE: the weights of a field flow themselves, on the orthogonal matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Cocoercive, Lipschitz
from .activations import Activation, Tanh
from .base import Field, Norm, upper_bound
from .examples import large


class OrthogonalFlow(nn.Module):
    """W(t) in O(d) with W' = W S(W, t), S skew-symmetric, W(0) learned (lecture, appendix).

    The path is *defined* by its `steps` steps of size h = time / steps (Lie's midpoint rule, order 2, with the Cayley
    transform): W(t_k + s) = W_k cay(s S_k), 0 <= s <= h, where S_k = S(W_k cay(h S(W_k, t_k) / 2), t_k + h / 2) and
    cay(A) = (I - A / 2)^-1 (I + A / 2) is orthogonal. S(W, t) = G - G^T, with G a perceptron of the entries of W and t.

    Rounding errors do not add up: they are taken back after each step, and at every W(t), by W <- W (3 I - W^T W) / 2,
    which leaves 3/4 of the square of a defect, and no norm above 1. All is computed in float64, and rounded to the
    dtype of the states at the end.

    The times outside [0, time] continue with the first and the last S.

    Args:
        features: d.
        width: of the perceptron.
        time, steps: of the path.
    """

    def __init__(self, features: int, width: int, *, time: float, steps: int) -> None:
        super().__init__()
        self.features, self.time, self.steps = features, time, steps
        entries = features * features
        self.start = nn.Parameter(torch.randn(features, features))
        self.inner, self.outer = nn.Linear(entries + 1, width), nn.Linear(width, entries)
        self._path: tuple[Any, list[tuple[Tensor, Tensor]]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_path": None}  # pyright: ignore[reportAttributeAccessIssue]

    def generator(self, w: Tensor, t: float) -> Tensor:
        """S(W, t)."""
        z = torch.cat([w.flatten(), w.new_full((1,), t)])
        hidden = torch.tanh(F.linear(z, self.inner.weight.double(), self.inner.bias.double()))
        g = F.linear(hidden, self.outer.weight.double(), self.outer.bias.double()).view_as(w)
        return g - g.mT

    def forward(self, t: Any) -> Tensor:
        """W(t) in float64, (d, d), for a number or a tensor with one entry, whose gradient it has."""
        path, h = self.path(), self.time / self.steps
        number = float(t.detach()) if isinstance(t, Tensor) else t
        k = min(max(math.floor(number / h + 1e-9), 0), self.steps - 1)
        w, s = path[k]
        return polished(w @ cayley((t - k * h) * s))

    def path(self) -> list[tuple[Tensor, Tensor]]:
        """W_k and S_k for all k.

        Kept until a parameter changes, or a backward pass goes through it, which frees its graph. Each piece of
        `gradients.Checkpointed` solves its own, in both passes: a piece must not use what another one has stored.
        """
        if torch._C._are_functorch_transforms_active():
            return self._solve()
        piece = torch._C._autograd._top_saved_tensors_default_hooks(True)  # pyright: ignore[reportAttributeAccessIssue]
        key = (torch.is_grad_enabled(), piece, [(id(p), p._version) for p in self.parameters()])
        if self._path is None or self._path[0] != key:
            found = self._solve()
            self._path = key, found

            def forget(_: Tensor) -> None:
                self._path = None

            for tensor in (part for pair in found for part in pair):
                if tensor.requires_grad:
                    tensor.register_hook(forget)
        return self._path[1]

    def _solve(self) -> list[tuple[Tensor, Tensor]]:
        raw, h = self.start.double(), self.time / self.steps
        w = polished(torch.linalg.matrix_exp(raw - raw.mT))
        found = []
        for k in range(self.steps):
            half = w @ cayley(h / 2 * self.generator(w, k * h))
            s = self.generator(half, (k + 0.5) * h)
            found.append((w, s))
            w = polished(w @ cayley(h * s))
        return found


def cayley(a: Tensor) -> Tensor:
    """(I - A / 2)^-1 (I + A / 2), orthogonal for skew-symmetric A."""
    eye = torch.eye(len(a), dtype=a.dtype, device=a.device)
    return torch.linalg.solve(eye - a / 2, eye + a / 2)


def polished(w: Tensor) -> Tensor:
    """W (3 I - W^T W) / 2, whose singular values are s (3 - s^2) / 2 = 1 - 3/2 (s - 1)^2 + ..., at most 1."""
    return 1.5 * w - 0.5 * w @ (w.mT @ w)


class WeightFlow(Field):
    """x' = sigma(W(t) x + b) with weights that flow on the orthogonal matrices (ODE-to-ODE; lecture, appendix).

    With `convex`, x' = -W(t)^T sigma(W(t) x + b) instead, at every time the gradient of a convex function: since
    ||W(t)|| <= 1 + 6e-8 sqrt(d), whatever the parameters, the field is cocoercive and its flow non-expansive. Otherwise
    the field is Lipschitz with the largest slope of sigma. (Rounding to float32 moves each entry of W by 2^-24 of it at
    most, so W by 2^-24 sqrt(d) in the Frobenius norm. In float64 it is nothing.)

    ||W^T W - I|| <= 1e-6 for float32 states, and 1e-13 for float64, at all times.

    Args:
        features: d.
        width: of the perceptron that S(W, t) is made of.
        activation: sigma (default tanh; the source's example is |x|, which is not monotone, and no `Activation`).
        convex: whether the field is the gradient of a convex function.
        time: until when the weights flow; take that of the flow.
        steps: of the weights' path; as many as the flow's, or twice as many for stages at half steps.

    Raises:
        InputError: sizes that are not positive.

    Reference: Choromanski et al. (2020), Ode to an ODE; Hairer, Lubich & Wanner, IV.8 (Lie group methods).

    >>> WeightFlow(3, 8)(torch.zeros(2, 3), t=0.4).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        features: int,
        width: int = 16,
        *,
        activation: Activation | None = None,
        convex: bool = False,
        time: float = 1.0,
        steps: int = 16,
    ) -> None:
        super().__init__()
        if not (features >= 1 and width >= 1 and steps >= 1 and 0 < time < math.inf):
            given = f"features={features}, width={width}, steps={steps}, time={time}"
            raise InputError(message(given, "positive numbers"))
        self.features, self.width, self.time, self.steps = features, width, time, steps
        self.activation, self.convex = activation or Tanh(), convex
        self.weights = OrthogonalFlow(features, width, time=time, steps=steps)
        self.bias = nn.Parameter(torch.zeros(features))
        self.state_shape = (features,)

    def forward(self, x: Tensor, t: Any = 0.0) -> Tensor:
        if isinstance(t, Tensor) and t.numel() != 1:
            todo = "Take one step size for all samples (joint=True)."
            raise InputError(message("WeightFlow with a time for every sample", "one time for all", todo))
        w = self.weights(t.reshape(()).double() if isinstance(t, Tensor) else t).to(x.dtype)
        z = self.activation(F.linear(x, w, self.bias))
        return -F.linear(z, w.mT) if self.convex else z

    def claims(self, norm: Norm = upper_bound) -> Claims:
        slope, size = self.activation.slope[1], 1 + 6e-8 * self.features**0.5
        if self.convex:
            return Claims([Cocoercive(1 / (slope * size * size))])
        return Claims([Lipschitz(slope * size)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield large(cls(4, 6, steps=3))
        yield large(cls(4, 6, convex=True, steps=3))
