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
        margin: their margins max_{j != y} z_j - z_y (batch,).
    """

    x_adv: Tensor
    margin: Tensor

    @property
    def broken(self) -> Tensor:
        """Whether each sample is misclassified at its point (batch,); ties and NaN count."""
        return broken(self.margin)


class Attack(Component, root=True):
    """An attack on a classifier: `attack(net, x, y) -> x_adv`.

    A subclass is one file: `search`, `examples`, and its constructor. It may propose whatever it likes inside its own
    set of perturbations; the judgement is made here, once, on the points that are returned: a point counts when its
    margin is larger than the clean one, so the result is never worse than the clean input.

    The network may be any callable PyTorch classifier, inputs in the units that `box` is in. It is attacked in
    evaluation mode; modes, parameters and their `.grad` are left as they were. The result depends on the arguments
    and `seed` only: the global random state is neither read nor changed.

    Args:
        box: smallest and largest value that an entry of the input may take.
        seed: of everything random.
        batch_size: samples per call of the network; affects speed and memory only, and which random starts are taken.
    """

    def __init__(self, *, box: tuple[float, float] = (0.0, 1.0), seed: int = 0, batch_size: int = 500) -> None:
        super().__init__()
        self.box, self.seed, self.batch_size = (float(box[0]), float(box[1])), seed, batch_size
        positive(batch_size=batch_size)

    @abc.abstractmethod
    def search(self, victim: Victim, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Points (batch, ...), one for each of the samples `x`, all of which are classified correctly."""

    def forward(self, net: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """The strongest points found; see `run`."""
        return self.run(net, x, y).x_adv

    def run(self, net: Classifier, x: Tensor, y: Tensor) -> Found:
        """Attack every sample of `x` (batch, ...) with labels `y` (batch,) that is not misclassified already.

        Raises:
            InputError: for inputs that are no floating-point tensor, not finite or outside the box, and for labels
                that do not fit.
        """
        with evaluation(net) as victim:
            x, y = self._check(x, y)
            x_adv = x.clone()
            margin = torch.cat([victim.margins(*part) for part in self._batches(x, y)])
            generator = torch.Generator().manual_seed(self.seed)
            for part in (margin < 0).nonzero()[:, 0].split(self.batch_size):
                if len(part) == 0:
                    break
                points = self.search(victim, x[part], y[part], generator)
                reached = victim.margins(points, y[part])
                better = ~(reached <= margin[part])
                x_adv[part[better]], margin[part[better]] = points[better], reached[better]
            victim.warn()
        return Found(x_adv, margin)

    def _batches(self, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        return list(zip(x.split(self.batch_size), y.split(self.batch_size), strict=True))

    def _check(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not (isinstance(x, Tensor) and x.dtype in (torch.float32, torch.float64) and x.dim() >= 2):
            given = f"x of shape {tuple(x.shape)} and {x.dtype}" if isinstance(x, Tensor) else f"x: {type(x).__name__}"
            raise InputError(message(given, "samples (batch, ...) in torch.float32 or torch.float64"))
        if not isinstance(y, Tensor) or y.shape != (len(x),) or y.is_floating_point() or y.dtype == torch.bool:
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


def positive(**numbers: int) -> None:
    """Check that the named numbers are integers of at least 1."""
    for name, value in numbers.items():
        if not (isinstance(value, int) and value >= 1):
            raise InputError(message(f"{name}={value!r}", "an integer of at least 1"))
