"""What every attack shares: checks, batches, seeds, and the judgement of what was found."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.component import Component
from ..core.errors import InputError, message
from .victim import Classifier, Victim, broken, evaluation


@dataclass(frozen=True)
class Found:
    """What an attack found.

    Attributes:
        x_adv: the strongest points found, of the shape and dtype of the input.
        margin: their margins max_{j != y} z_j - z_y (batch,); with targets z_t - max_{j != t} z_j.
        distance: norm of the change where a sample is broken, in the norm of the attack; else inf (batch,), float64.
    """

    x_adv: Tensor
    margin: Tensor
    distance: Tensor

    @property
    def broken(self) -> Tensor:
        """Whether each sample is misclassified at its point (batch,), ties and NaN included; or answers its target."""
        return broken(self.margin)


class Attack(Component, root=True):
    """An attack on a classifier: `attack(net, x, y) -> x_adv`.

    A subclass is one file: `search`, `examples`, and its constructor; `BallAttack` and `MinimalAttack` are the two
    usual kinds. It may propose whatever it likes inside its own set of perturbations; the judgement is made here,
    once, on the points that are returned: a point counts when its margin is larger than the clean one, so the result
    is never worse than the clean input.

    The network may be any callable PyTorch classifier, inputs in the units that `box` is in. It is attacked in
    evaluation mode; modes, parameters and their `.grad` are left as they were. The result depends on the arguments
    and `seed` only: the global random state is neither read nor changed.

    Args:
        box: smallest and largest value that an entry of the input may take.
        seed: of everything random.
        batch_size: samples per call of the network; affects speed and memory only, and which random starts are taken.
    """

    norm: float = 2
    gradients: bool = True  # whether the attack differentiates the network

    def __init__(self, *, box: tuple[float, float] = (0.0, 1.0), seed: int = 0, batch_size: int = 500) -> None:
        super().__init__()
        self.box, self.seed, self.batch_size = (float(box[0]), float(box[1])), seed, batch_size
        positive(batch_size=batch_size)

    @property
    def reach(self) -> float:
        """No perturbation that the attack tries is larger, in its norm."""
        return math.inf

    @abc.abstractmethod
    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Points (batch, ...), one for each of the samples `x`, none of which is broken yet. `y` may be targets."""

    def search_beyond(
        self, victim: Victim, x: Tensor, y: Tensor, certified: Tensor, generator: torch.Generator
    ) -> Tensor:
        """As `search`, where no perturbation smaller than `certified` (batch,) succeeds; by default no use of it."""
        return self.search(victim, x, y, generator)

    def forward(
        self,
        net: Classifier,
        x: Tensor,
        y: Tensor,
        *,
        target: Tensor | None = None,
        certified: Tensor | None = None,
    ) -> Tensor:
        """The strongest points found; see `run`."""
        return self.run(net, x, y, target=target, certified=certified).x_adv

    def run(
        self,
        net: Classifier,
        x: Tensor,
        y: Tensor,
        *,
        target: Tensor | None = None,
        certified: Tensor | None = None,
    ) -> Found:
        """Attack every sample of `x` (batch, ...) with labels `y` (batch,) that is not misclassified already.

        Args:
            target: classes (batch,), other than the labels, that the network shall answer. By default any wrong one.
            certified: radii (batch,), *in the norm of the attack*, within which no perturbation changes the answer.
                Samples that are certified farther than the attack reaches are left out, and the others need not be
                searched so near. This takes the certificate's word: to put it to the test, leave it out.

        Raises:
            InputError: for inputs that are no floating-point tensor, not finite or outside the box, for labels,
                targets and certified radii that do not fit, and for a network that returns no scores, scores that are
                not finite, or scores that cannot be differentiated. No attack has begun then.
        """
        with evaluation(net, targeted=target is not None) as victim:
            x, y = self._check(x, y)
            goal = y if target is None else _targets(target, y)
            proved = certified_radii(certified, x)
            victim.probe(x, goal)
            x_adv = x.clone()
            margin = victim.margins(x, goal)
            todo = (margin < 0) & (proved <= self.reach) & (proved < torch.inf)
            if self.gradients and bool(todo.any()):
                victim.differentiate(x[todo][:1])
            generator = torch.Generator().manual_seed(self.seed)
            for part in todo.nonzero()[:, 0].split(self.batch_size):
                if len(part) == 0:
                    break
                points = self.search_beyond(victim, x[part], goal[part], proved[part], generator)
                reached = victim.margins(points, goal[part])
                better = ~(reached <= margin[part])
                x_adv[part[better]], margin[part[better]] = points[better], reached[better]
            victim.warn()
        moved = torch.linalg.vector_norm((x_adv.double() - x.double()).flatten(1), self.norm, 1)
        return Found(x_adv, margin, torch.where(broken(margin), moved, torch.inf))

    def _check(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not (isinstance(x, Tensor) and x.dtype in (torch.float32, torch.float64) and x.dim() >= 2):
            given = f"x of shape {tuple(x.shape)} and {x.dtype}" if isinstance(x, Tensor) else f"x: {type(x).__name__}"
            raise InputError(message(given, "samples (batch, ...) in torch.float32 or torch.float64"))
        if not isinstance(y, Tensor) or y.shape != (len(x),) or _no_labels(y):
            given = f"y of shape {tuple(y.shape)} and {y.dtype}" if isinstance(y, Tensor) else f"y: {type(y).__name__}"
            raise InputError(message(given, f"one integer label for each of the {len(x)} samples"))
        low, high = torch.tensor(self.box, dtype=x.dtype).tolist()
        if len(x) and not (low <= float(x.min()) and float(x.max()) <= high and math.isfinite(float(x.sum()))):
            raise InputError(
                message(
                    f"x has values from {float(x.min()):.6g} to {float(x.max()):.6g}",
                    f"finite values in box=({self.box[0]:g}, {self.box[1]:g})",
                    "Scale the data, or give the box it lives in; put a normalisation inside the network.",
                )
            )
        # Copies, since tensors made in inference mode cannot be differentiated; in the layout any network can take.
        return x.detach().clone(memory_format=torch.contiguous_format), y.detach().to(x.device, torch.int64, copy=True)


def _no_labels(y: Tensor) -> bool:
    return y.is_floating_point() or y.dtype == torch.bool


def _targets(target: Tensor, y: Tensor) -> Tensor:
    if not isinstance(target, Tensor) or target.shape != y.shape or _no_labels(target):
        given = f"target of shape {tuple(target.shape)}" if isinstance(target, Tensor) else f"target: {target!r:.40}"
        raise InputError(message(given, f"one integer class for each of the {len(y)} samples"))
    target = target.detach().to(y.device, torch.int64, copy=True)
    if bool((target == y).any()):
        given = f"the target of sample {int((target == y).nonzero()[0, 0])} is its label"
        raise InputError(message(given, "targets other than the true classes"))
    return target


def certified_radii(certified: Tensor | None, x: Tensor) -> Tensor:
    """Certified radii (n,) as float64 beside the samples `x`; -inf where nothing is certified, so all is attacked."""
    if certified is None:
        return torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    radii = certified.detach().to(x.device, torch.float64)
    if radii.shape != (len(x),) or bool(radii.isnan().any()):
        raise InputError(message(f"certified radii of shape {tuple(radii.shape)}", f"{len(x)} numbers, none NaN"))
    return radii


def positive(**numbers: int) -> None:
    """Check that the named numbers are integers of at least 1."""
    for name, value in numbers.items():
        if not (isinstance(value, int) and value >= 1):
            raise InputError(message(f"{name}={value!r}", "an integer of at least 1"))
