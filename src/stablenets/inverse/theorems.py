"""From claims to a certificate: which convergence theorem applies to an iteration."""

from __future__ import annotations

from torch import nn

from ..core.claims import Claims
from ..core.errors import ClaimError
from ..core.properties import Averaged, Lipschitz
from ..core.regions import Bounded
from ..layers import Layer, claims
from ..layers.proximal import Proximal
from .certificate import ConvergenceCertificate, Guarantee
from .forward_backward import FISTA
from .problem import Problem
from .solver import Denoiser, Solver
from .splitting import ADMM

BANACH = "A contraction has one fixed point, and the iterates converge to it (Banach)"
AVERAGED = (
    "The iterates of an averaged map converge to a fixed point if there is one, and |x_(k+1) - x_k| never grows "
    "(Krasnosel'skii & Mann; Bauschke & Combettes, Prop. 5.16)"
)
ACCELERATED = "F(x_k) - min F <= 2 |x_0 - x*|^2 / (h (k + 1)^2) for F = f + g / h (Beck & Teboulle 2009, Thm 4.4)"

IDENTITY = Claims([Averaged(2.0**-1000)])  # averaged for every alpha, however small


def known(denoiser: Denoiser | None) -> tuple[Claims, str]:
    """What is proved of a denoiser, and that in words; None stands for the identity."""
    if denoiser is None:
        return IDENTITY, "none"
    if not isinstance(denoiser, nn.Module):
        return Claims(), f"nothing is known about {getattr(denoiser, '__name__', type(denoiser).__name__)}"
    try:
        found = claims(denoiser)
    except ClaimError as error:
        return Claims(), str(error).split(";")[0]
    words = ", ".join(map(str, found)) or "nothing is proved"
    return found, f"{type(denoiser).__name__} with {words}"


def inner_tolerance(denoiser: Denoiser | None) -> float:
    """The largest relative error of an iteration inside the denoiser that ends early; 0 where there is none."""
    parts = denoiser.modules() if isinstance(denoiser, nn.Module) else ()
    return max((part.accuracy for part in parts if isinstance(part, Layer)), default=0.0)


def certify_convergence(
    problem: Problem, solver: Solver, denoiser: Denoiser | None, step: float
) -> ConvergenceCertificate:
    """The theorem that applies to the iteration, and its constants."""
    found, words = known(denoiser)
    whole = solver.claims(problem, step, found)
    lipschitz, averaged = whole.get(Lipschitz), whole.get(Averaged)
    rate = lipschitz.bound if lipschitz is not None and lipschitz.bound < 1 else None
    existence = _existence(solver, denoiser, found, rate)
    proximal = denoiser is None or (isinstance(denoiser, Proximal) and found.get(Averaged) is not None)  # no hooks
    if isinstance(solver, FISTA) and proximal:
        guarantee, theorem = Guarantee.OBJECTIVE, ACCELERATED
    elif rate is not None:
        guarantee, theorem = Guarantee.CONTRACTION, BANACH
    elif averaged is not None:
        guarantee = Guarantee.CONVERGENCE if existence else Guarantee.CONDITIONAL
        theorem = AVERAGED
    else:
        guarantee = Guarantee.NOTHING
        theorem = f"{type(solver).__name__} needs {solver.needs}; of this denoiser: {words}"
    tolerance = inner_tolerance(denoiser)
    if tolerance and guarantee is not Guarantee.NOTHING:
        of_it = f"computed values are within {tolerance:g} |x| of it"
        if not isinstance(denoiser, Proximal):  # layers around it may enlarge errors
            of_it = f"an iteration inside it ends within {tolerance:g} |z| of its own exact result, for its input z"
        theorem += f". This is about the exact denoiser: {of_it}"
    return ConvergenceCertificate(
        solver=type(solver).__name__,
        guarantee=guarantee,
        theorem=f"{theorem}.",
        existence=existence if guarantee is not Guarantee.NOTHING else "",
        rate=rate,
        alpha=averaged.alpha if averaged is not None else None,
        step=step,
        step_limit=solver.step_limit(problem),
        smoothness=problem.smoothness,
        convexity=problem.convexity,
        norm_theorem=problem.operator.norm_theorem,
        denoiser=words,
    )


def _existence(solver: Solver, denoiser: Denoiser | None, found: Claims, rate: float | None) -> str:
    """Why the iteration has a fixed point; empty where that is not proved."""
    if rate is not None:
        return "a contraction has one (Banach)"
    if denoiser is None:
        return "a least-squares problem in finite dimensions has a minimiser"
    if isinstance(denoiser, Proximal) and denoiser.coercive:
        return "f is convex and not negative and g is coercive, so that their sum has a minimiser"
    bounded = found.get(Bounded)
    if bounded is None or found.get(Lipschitz) is None:
        return ""
    values = f"all values of the denoiser lie in [{bounded.low:g}, {bounded.high:g}]"
    if isinstance(solver, ADMM):
        return f"{values}: its resolvent has a bounded domain (Bauschke & Combettes, Cor. 21.25)"
    return f"{values}: a continuous map into a compact convex set has one (Brouwer)"
