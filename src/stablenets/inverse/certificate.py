"""What is proved about the convergence of an iteration."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Guarantee(Enum):
    """How much is proved, from most to nothing."""

    CONTRACTION = "converges linearly to the only fixed point"
    CONVERGENCE = "converges to a fixed point"
    OBJECTIVE = "the objective converges to its minimum"
    CONDITIONAL = "converges to a fixed point if there is one"
    NOTHING = "nothing is guaranteed"


@dataclass(frozen=True)
class ConvergenceCertificate:
    """Which theorem applies to an iteration x_(k+1) = T(x_k), and its constants.

    Attributes:
        guarantee: what follows.
        theorem: the theorem, with its source; where nothing is guaranteed, what is missing.
        existence: why there is a fixed point; empty where that is not proved.
        rate: a proved Lipschitz constant of T below 1, else None.
        alpha: T is proved to be alpha-averaged, so that |x_(k+1) - x_k| never grows; else None.
        step, step_limit: the step, and the largest that the theorem allows (infinite: any).
        smoothness, convexity: L and mu of the data-fidelity term, from proved bounds of the operator's norm.
        norm_theorem: how that norm is bounded.
        denoiser: what is proved of the denoiser.
        rounding: what is allowed for rounding errors of one evaluation of T in a-posteriori bounds, and why.
    """

    solver: str
    guarantee: Guarantee
    theorem: str
    existence: str
    rate: float | None
    alpha: float | None
    step: float
    step_limit: float
    smoothness: float
    convexity: float
    norm_theorem: str
    denoiser: str
    rounding: str = ""

    def __str__(self) -> str:
        lines = [f"{self.solver}: {self.guarantee.value}.", self.theorem]
        if self.rate is not None:
            factor = f"{self.rate:.10g}" if self.rate < 0.9999 else f"1 - {1 - self.rate:.3g}"
            lines.append(f"The distance to the fixed point shrinks at least by the factor {factor} a step.")
        if self.existence:
            lines.append(f"A fixed point exists: {self.existence}.")
        limit = "any is allowed" if math.isinf(self.step_limit) else f"the limit is {self.step_limit:.6g}"
        lines.append(f"Step {self.step:.6g} ({limit}); L = {self.smoothness:.10g}, mu = {self.convexity:.6g}.")
        lines += [f"Norm of the operator: {self.norm_theorem}.", f"Denoiser: {self.denoiser}."]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; an infinite limit is None."""
        values = dataclasses.asdict(self) | {"guarantee": self.guarantee.name.lower()}
        return values | {"step_limit": None if math.isinf(self.step_limit) else self.step_limit}
