"""The classifier under attack: margins, their gradients, and a network that is left as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..core.errors import InputError, message

Classifier = Callable[[Tensor], Tensor]


class MaskingWarning(UserWarning):
    """Input gradients vanish: the attack climbs blindly, and what it does not break may still be fragile."""


class Victim:
    """A classifier seen by an attack.

    Everything is said in margins m = max_{j != y} z_j - z_y of the scores z: a sample is classified correctly while
    m < 0, and *broken* otherwise, so ties and NaN scores count as broken. Unlike the cross-entropy, whose gradient
    vanishes for a confident network, the margin never saturates.

    Args:
        net: any callable from images (batch, ...) to scores (batch, classes), a PyTorch module or not.

    >>> m = Victim(torch.nn.Identity()).margins(torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([1, 1]))
    >>> m, broken(m)
    (tensor([-2.,  0.], dtype=torch.float64), tensor([False,  True]))
    """

    def __init__(self, net: Classifier) -> None:
        self.net = net
        self.gradients = self.vanished = 0

    def margins(self, x: Tensor, y: Tensor) -> Tensor:
        """m (batch,), without gradients."""
        with torch.no_grad():
            return self._margins(x, y)

    def ascent(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """m (batch,) and its gradient with respect to `x`; the gradient is 0 where it is not finite.

        Nothing else is differentiated: no `.grad` is written, and weight gradients are not even computed.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            m = self._margins(x, y)
            if not m.requires_grad:
                gradient = torch.zeros_like(x)
            else:
                (found,) = torch.autograd.grad(m.sum(), x, allow_unused=True)
                gradient = torch.zeros_like(x) if found is None else found.nan_to_num(0.0, 0.0, 0.0)
        self.gradients += len(x)
        self.vanished += int((gradient.flatten(1) == 0).all(1).sum())
        return m.detach(), gradient

    def predictions(self, x: Tensor, y: Tensor) -> Tensor:
        """The class answered (batch,); where the true class `y` ties with another one, or scores are NaN, another."""
        with torch.no_grad():
            scores = self.net(x)
            others = scores.nan_to_num(nan=torch.inf).scatter(1, y[:, None], -torch.inf).argmax(1)
            return torch.where(broken(_margins(scores, y)), others, y)

    def warn(self) -> None:
        """Tell the user if gradients vanished."""
        if self.vanished:
            warnings.warn(
                f"the input gradient vanished in {self.vanished} of {self.gradients} evaluations: the search "
                "was blind there, and robustness may be overestimated. Attack the scores before any softmax or "
                "rounding, in float64 if they saturate, and use restarts.",
                MaskingWarning,
                stacklevel=4,
            )

    def _margins(self, x: Tensor, y: Tensor) -> Tensor:
        scores = self.net(x)
        if scores.dim() != 2 or len(scores) != len(x) or scores.shape[1] < 2:
            raise InputError(
                message(
                    f"the network maps {tuple(x.shape)} to {tuple(scores.shape)}",
                    "scores (batch, classes) with at least 2 classes",
                )
            )
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < scores.shape[1]:
            raise InputError(
                message(
                    f"labels from {int(y.min())} to {int(y.max())}",
                    f"labels from 0 to {scores.shape[1] - 1}, the classes of the network",
                )
            )
        return _margins(scores, y)


def _margins(scores: Tensor, y: Tensor) -> Tensor:
    scores = scores.double()  # differences of float32 scores are exact, and margins of any network compare
    return scores.scatter(1, y[:, None], -torch.inf).amax(1) - scores.gather(1, y[:, None])[:, 0]


def broken(margins: Tensor) -> Tensor:
    """Whether the samples with these margins are misclassified: NaN counts as broken, and so does a tie."""
    return ~(margins < 0)


@contextmanager
def evaluation(net: Classifier) -> Iterator[Victim]:
    """`net` in evaluation mode, as a `Victim`; every submodule gets its own mode back afterwards."""
    modes = [(m, m.training) for m in net.modules()] if isinstance(net, nn.Module) else []
    try:
        if isinstance(net, nn.Module):
            net.eval()
        with torch.inference_mode(False):
            yield Victim(net)
    finally:
        for module, mode in modes:
            module.training = mode  # not .train(mode), which would act on the children as well
