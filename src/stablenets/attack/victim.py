"""The classifier under attack: margins, their gradients, and a network that is left as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.errors import InputError, message
from .objectives import Objective, margin
from .states import USUAL, fitting

Classifier = Callable[[Tensor], Tensor]
BELOW = -1e-300  # the margin of a tie with the target: not reached


class MaskingWarning(UserWarning):
    """Input gradients vanish: the attack climbs blindly, and what it does not break may still be fragile."""


@dataclass
class Gradients:
    """How many gradients were computed, and how many of them vanished."""

    computed: int = 0
    vanished: int = 0


class Victim:
    """A classifier seen by an attack.

    Everything is said in margins. Without targets the labels are the true classes and m = max_{j != y} z_j - z_y for
    the scores z: a sample is classified correctly while m < 0, and *broken* otherwise, so ties and NaN scores count
    as broken. With targets the labels are the classes to reach and m = z_y - max_{j != y} z_j: a sample is broken
    when the target is answered, so ties and NaN do not count.

    Args:
        net: any callable from images (batch, ...) to scores (batch, classes), a PyTorch module or not.
        targeted: whether labels are targets.
        gradients: where gradients are counted; by default from 0.
        chunk: samples per evaluation on a CPU; `differentiate` finds out what suits the network.

    >>> scores, y = torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([1, 1])
    >>> m = Victim(torch.nn.Identity()).margins(scores, y)
    >>> m, broken(m)
    (tensor([-2.,  0.], dtype=torch.float64), tensor([False,  True]))
    >>> broken(Victim(torch.nn.Identity(), targeted=True).margins(scores, y))
    tensor([ True, False])
    """

    def __init__(
        self, net: Classifier, *, targeted: bool = False, gradients: Gradients | None = None, chunk: int = USUAL
    ) -> None:
        self.net, self.targeted, self.chunk = net, targeted, chunk
        self.gradients = gradients or Gradients()

    def probe(self, x: Tensor, y: Tensor) -> None:
        """Check the labels, and what the network answers for the first samples, before any work is done.

        Raises:
            InputError: for scores of a wrong shape or of which no sample's are finite, and for labels that are no
                classes.
        """
        if len(x) == 0:
            return
        scores = self.scores(x[: self.chunk])
        classes = scores.shape[1]
        if not 0 <= int(y.min()) <= int(y.max()) < classes:
            given = f"labels from {int(y.min())} to {int(y.max())}"
            raise InputError(message(given, f"labels from 0 to {classes - 1}, the classes of the network"))
        if not bool(scores.isfinite().all(1).any()):
            given = f"the network's scores of the first {len(scores)} samples are not finite"
            raise InputError(message(given, "finite scores", "Check its weights and the scale of the inputs."))

    def differentiate(self, x: Tensor) -> None:
        """Check that the scores of some samples can be differentiated, and set `chunk` by the size of the states.

        Raises:
            InputError: they cannot.
        """
        with torch.enable_grad():
            if not self._scores(x.detach().requires_grad_()).requires_grad:
                raise InputError(
                    message(
                        "the network's scores have no gradient with respect to its input",
                        "a network that PyTorch can differentiate (no torch.no_grad, detach, numpy or argmax inside)",
                        "Or use an attack without gradients, SquareAttack.",
                    )
                )
        if x.device.type == "cpu":
            self.chunk = fitting(self.net, x[:1])

    def margins(self, x: Tensor, y: Tensor) -> Tensor:
        """m (batch,), without gradients."""
        with torch.no_grad():
            return torch.cat([self._margin(self._scores(a), b) for a, b in self._parts(x, y)])

    def ascent(self, x: Tensor, y: Tensor, objective: Objective = margin) -> tuple[Tensor, Tensor]:
        """m (batch,) and the gradient of `objective` with respect to `x` (that of its negative, for targets).

        The gradient is 0 where it is not finite. Nothing else is differentiated: no `.grad` is written, and weight
        gradients are not even computed.
        """
        m, _, gradient = self.climb(x, y, objective)
        return m, gradient

    def climb(self, x: Tensor, y: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        """As `ascent`, with the values of the objective (batch,) in between: m, values, gradient."""
        parts = [self._climb(a, b, objective) for a, b in self._parts(x, y)]
        m, values, gradient = map(torch.cat, zip(*parts, strict=True))
        size = gradient.flatten(1).norm(dim=1)
        if not bool(size.isfinite().all()):
            gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        self.gradients.computed += len(x)
        self.gradients.vanished += int((gradient[~(size > 0)] == 0).flatten(1).all(1).sum())
        return m, values, gradient

    def scores(self, x: Tensor) -> Tensor:
        """The scores (batch, classes), without gradients."""
        with torch.no_grad():
            return torch.cat([self._scores(part) for (part,) in self._parts(x)])

    def gradients_of(self, x: Tensor, y: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """z_k - z_y for every class k in `classes` (batch, count), and their gradients (batch, count, ...)."""
        gaps, gradients = [], []
        for a, b, c in self._parts(x, y, classes):
            with torch.enable_grad():
                a = a.detach().requires_grad_()
                scores = self._scores(a).double()
                gap = scores.gather(1, c) - scores.gather(1, b[:, None])
                rows = [torch.autograd.grad(g.sum(), a, retain_graph=True)[0] for g in gap.unbind(1)]
            gaps.append(gap.detach())
            gradients.append(torch.stack(rows, 1).nan_to_num(0.0, 0.0, 0.0))
        self.gradients.computed += len(x)
        all_gradients = torch.cat(gradients)
        self.gradients.vanished += int((all_gradients.flatten(1) == 0).all(1).sum())
        return torch.cat(gaps), all_gradients

    def towards(self) -> Victim:
        """The same classifier, attacked with targets; gradients are counted together."""
        return Victim(self.net, targeted=True, gradients=self.gradients, chunk=self.chunk)

    def predictions(self, x: Tensor, y: Tensor) -> Tensor:
        """The class answered (batch,); where the true class `y` ties with another one, or scores are NaN, another."""
        with torch.no_grad():
            scores = self.net(x)
            others = scores.nan_to_num(nan=torch.inf).scatter(1, y[:, None], -torch.inf).argmax(1)
            return torch.where(broken(margin(scores, y)), others, y)

    def warn(self) -> None:
        """Tell the user if gradients vanished."""
        if self.gradients.vanished:
            warnings.warn(
                f"the input gradient vanished in {self.gradients.vanished} of {self.gradients.computed} evaluations: "
                "the search was blind there, and robustness may be overestimated. Attack the scores before any softmax "
                "or rounding, in float64 if they saturate, and use restarts.",
                MaskingWarning,
                stacklevel=4,
            )

    def _climb(self, x: Tensor, y: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            scores = self._scores(x)
            values = -objective(scores, y) if self.targeted else objective(scores, y)
            found = torch.autograd.grad(values.sum(), x, allow_unused=True)[0] if values.requires_grad else None
        m = values.detach() if objective is margin and not self.targeted else self._margin(scores.detach(), y)
        return m, values.detach(), torch.zeros_like(x) if found is None else found

    def _margin(self, scores: Tensor, y: Tensor) -> Tensor:
        m = margin(scores, y)
        if not self.targeted:
            return m
        return torch.where(m < 0, -m, (-m).clamp(max=BELOW)).nan_to_num(-torch.inf, torch.inf, -torch.inf)

    def _parts(self, x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Samples and what belongs to them, so many at a time as are evaluated together."""
        size = self.chunk if x.device.type == "cpu" else max(len(x), 1)
        return zip(*(values.split(size) for values in (x, *others)), strict=True)

    def _scores(self, x: Tensor) -> Tensor:
        scores = self.net(x)
        if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(x) or scores.shape[1] < 2:
            given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(
                message(
                    f"the network maps {tuple(x.shape)} to {given}", "scores (batch, classes) with at least 2 classes"
                )
            )
        return scores


def broken(margins: Tensor) -> Tensor:
    """Whether the samples with these margins are misclassified: NaN counts as broken, and so does a tie."""
    return ~(margins < 0)


@contextmanager
def evaluation(net: Classifier, *, targeted: bool = False) -> Iterator[Victim]:
    """`net` in evaluation mode, as a `Victim`; every submodule gets its own mode back afterwards."""
    modes = [(m, m.training) for m in net.modules()] if isinstance(net, nn.Module) else []
    try:
        if isinstance(net, nn.Module):
            net.eval()
        with torch.inference_mode(False):
            yield Victim(net, targeted=targeted)
    finally:
        for module, mode in modes:
            module.training = mode  # not .train(mode), which would act on the children as well
