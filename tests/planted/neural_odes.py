"""Errors in adaptive steps, in solves and in their gradients."""

from __future__ import annotations

from .mutant import Mutant

TABLEAUX, EMBEDDED, CONTROL = "integrators/adaptive.py", "integrators/embedded.py", "integrators/control.py"
JOINT, SEPARATE, CLOCK, FIXED = "solvers/joint.py", "solvers/separate.py", "solvers/clock.py", "solvers/fixed.py"
DISCRETE, CONTINUOUS, INPUTS = (f"gradients/{n}.py" for n in ("discrete_adjoint", "continuous_adjoint", "inputs"))


def adaptive(keyword: str) -> tuple[str, ...]:
    return ("test_adaptive.py", "-k", keyword)


def solvers(keyword: str) -> tuple[str, ...]:
    return ("test_solvers.py", "-k", keyword)


def gradients(keyword: str) -> tuple[str, ...]:
    return ("test_solver_gradients.py", "-k", keyword)


MUTANTS = [
    # tableaux
    Mutant("Dopri5's error estimate", TABLEAUX, "error = (71 / 57600,", "error = (-71 / 57600,", adaptive("joins")),
    Mutant("Tsit5's dense output", TABLEAUX, "-16.54810288924490272", "-16.5480", adaptive("joins and Tsit5")),
    Mutant("Bosh3's dense output", TABLEAUX, "(1.0, -4 / 3, 5 / 9)", "(1.0, -1.3, 5 / 9)", adaptive("joins and Bosh3")),
    Mutant(
        "a stage of Dopri5 with swapped weights",
        TABLEAUX,
        "(44 / 45, -56 / 15, 32 / 9)",
        "(44 / 45, 32 / 9, -56 / 15)",
        adaptive("orders and Dopri5"),
    ),
    Mutant("stage times of adaptive steps", EMBEDDED, "t + h * sum(row)", "t", adaptive("orders and Dopri5")),
    Mutant(
        "quadratic invariants of adaptive steps",
        EMBEDDED,
        "c.invariant.degree == 1",
        "c.invariant.degree in (1, 2)",
        adaptive("invariants"),
    ),
    # control
    Mutant(
        "a rejected step is not shortened",
        CONTROL,
        "np.minimum(e ** (-1 / order), SAFETY)",
        "e ** (-1 / order) + 0.2",
        adaptive("controller"),
    ),
    Mutant(
        "the trend of errors upside down",
        CONTROL,
        "e1 ** (BEFORE / order)",
        "e1 ** (-BEFORE / order)",
        adaptive("controller"),
    ),
    Mutant(
        "every step is accepted", JOINT, "        if error <= 1:", "        if True:", solvers("nan_from_the_field")
    ),
    Mutant(
        "an old slope reused",
        SEPARATE,
        "torch.where(accepted, slopes[-1], slope)",
        "slope",
        solvers("irregular"),
    ),
    Mutant(
        "all samples pay for one",
        JOINT,
        "worst = own >= (min(1.0, own.max()) if short else own.max() / 10)",
        "worst = own >= 0",
        solvers("stops_no_other and Dopri5-NON"),
    ),
    Mutant(
        "states that are not finite pass",
        FIXED,
        "if bool(finite.all()):",
        "if True:",
        solvers("stops_no_other and RK4"),
    ),
    Mutant(
        "repeated times without a derivative",
        FIXED,
        "if span == 0 and clock.exact is None:",
        "if span == 0:",
        gradients("occurs_twice and Euler"),
    ),
    # gradients
    Mutant(
        "t0 is a constant",
        CLOCK,
        "h - first * start + last * end",
        "h + last * end",
        gradients("test_adaptive_steps and Dopri5"),
    ),
    Mutant(
        "tN is a constant",
        CLOCK,
        "h - first * start + last * end",
        "h - first * start",
        gradients("test_adaptive_steps and Dopri5"),
    ),
    Mutant(
        "the first step's time is a constant",
        CLOCK,
        "t + first * start\n",
        "t\n",
        gradients("test_adaptive_steps and Dopri5"),
    ),
    Mutant(
        "the discrete adjoint forgets outputs",
        DISCRETE,
        "own, left = left[len(left) - count :], left[: len(left) - count]",
        "own, left = [None] * count, left[: len(left) - count]",
        gradients("test_fixed_steps and RK4"),
    ),
    Mutant(
        "the discrete adjoint loses a step",
        DISCRETE,
        "(i + 1) * ctx.together)",
        "(i + 1) * ctx.together - 1)",
        gradients("flows_take"),
    ),
    Mutant("the adjoint does not jump", CONTINUOUS, "- now)[1] + jump", "- now)[1]", gradients("exact_flow")),
    Mutant("the sign of dL/dtheta", CONTINUOUS, "alpha=-h * weight", "alpha=h * weight", gradients("exact_flow")),
    Mutant(
        "the sign of dL/dt0, as printed",
        CONTINUOUS,
        ".sum() - self._power(move, y, b, t)",
        ".sum() + self._power(move, y, b, t)",
        gradients("exact_flow"),
    ),
    Mutant(
        "second derivatives through the size twice",
        INPUTS,
        "weights[j].clone() for",
        "weights[j] for",
        gradients("second and DiscreteAdjoint"),
    ),
]
