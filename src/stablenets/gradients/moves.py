"""What is differentiated: steps, one after the other, as maps of the state."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..fields import Field
from ..integrators import EmbeddedRungeKutta, Integrator


class Advance(abc.ABC):
    """One step along `field`: states to states, and perhaps outputs on the way. It may depend on tensors in time."""

    TIMES: ClassVar[tuple[str, ...]]  # attributes that may be tensors with a gradient

    integrator: Integrator[Any]
    field: Field
    h: Any
    t: Any
    name: str

    @abc.abstractmethod
    def advance(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The states after the step from `x` (batch, ...), and the outputs, if there are any."""

    @abc.abstractmethod
    def gives_output(self) -> bool:
        """Whether there are outputs."""

    def times(self) -> dict[str, Tensor]:
        """The tensors in time that need a gradient."""
        given = {name: getattr(self, name) for name in self.TIMES}
        return {name: v for name, v in given.items() if isinstance(v, Tensor) and v.requires_grad}

    def at(self, **times: Tensor) -> Advance:
        """The same step with other tensors in time."""
        return dataclasses.replace(self, **times) if times else self  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Move(Advance):
    """One step of size `h` along `field` from time `t`; the new states are an output where it is `saved`.

    `name` says whose step it is.
    """

    TIMES = ("h", "t")

    integrator: Integrator[Any]
    field: Field
    h: Any
    t: Any = 0.0
    name: str = "the flow"
    saved: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        return self.integrator.step(self.field, x, self.h, self.t)

    def advance(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        end = self(x)
        return end, end if self.saved else None

    def gives_output(self) -> bool:
        return self.saved


@dataclass(frozen=True)
class DenseMove(Advance):
    """One step of an embedded method for the samples `rows` (None: all), with outputs inside it.

    Outputs are at the times t + `offsets` (P,): of all samples that move, shape (P, samples, ...), or, with `of` (P,),
    each of one of them, shape (P, ...). Step sizes and times are one number, or tensors (samples, 1, ..., 1).
    """

    TIMES = ("h", "t", "offsets")

    integrator: EmbeddedRungeKutta
    field: Field
    h: Any
    t: Any
    name: str = "the solve"
    rows: Tensor | None = None
    offsets: Tensor | None = None
    of: Tensor | None = None

    def advance(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        start = x if self.rows is None else x[self.rows]
        end, slopes = self.integrator.stages(self.field, start, _like(self.h, x), _like(self.t, x))
        outputs = None if self.offsets is None else self.outputs(start, slopes)
        return (end if self.rows is None else x.index_copy(0, self.rows, end)), outputs

    def gives_output(self) -> bool:
        return self.offsets is not None

    def outputs(self, start: Tensor, slopes: Sequence[Tensor]) -> Tensor:
        """The solution at the outputs, given the states and all slopes of the step."""
        assert self.offsets is not None
        if self.of is None:
            weights = (self.integrator.weights(self.offsets / self.h) * self.h).to(start.dtype)
            found = torch.addmm(start.reshape(1, -1), weights, torch.stack(list(slopes)).flatten(1))
            return found.view(len(weights), *start.shape)
        h = self.h.flatten()[self.of]
        weights = (self.integrator.weights(self.offsets / h) * h.unsqueeze(1)).to(start.dtype)
        chosen = torch.stack([k[self.of] for k in slopes], 1).flatten(2)
        return start[self.of] + (weights.unsqueeze(1) @ chosen).view_as(start[self.of])


def _like(value: Any, x: Tensor) -> Any:
    """Times are kept in float64; the field gets them in the dtype of the states."""
    return value.to(x.dtype) if isinstance(value, Tensor) else value
