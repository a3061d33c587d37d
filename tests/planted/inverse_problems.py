"""Errors in imaging operators, solvers of inverse problems, their certificates, and the joint training of InvNets."""

from __future__ import annotations

from .mutant import Mutant

BLUR, RADON, OPERATOR = "linear/blur.py", "linear/radon.py", "linear/operator.py"
FORWARD, SPLITTING, SOLVER = "inverse/forward_backward.py", "inverse/splitting.py", "inverse/solver.py"
SOLVE, PROBLEM, TOGETHER = "inverse/solve.py", "inverse/problem.py", "train/together.py"


def operators(keyword: str) -> tuple[str, ...]:
    return ("test_operators.py", "-k", keyword)


def solvers(keyword: str) -> tuple[str, ...]:
    return ("test_inverse.py", "-k", keyword)


MUTANTS = [
    # operators
    Mutant(
        "Fourier blur: adjoint not conjugated",
        BLUR,
        "self._filter(y, self.transfer(y).symbol.conj())",
        "self._filter(y, self.transfer(y).symbol)",
        operators("fourier_blur"),
    ),
    Mutant(
        "Fourier blur: kernel off its centre",
        BLUR,
        'a.after if self.padding == "circular"',
        'a.before if self.padding == "circular"',
        operators("scipys"),
    ),
    Mutant(
        "padded blur: the padding is forgotten",
        BLUR,
        'padding == "circular" else a.reach',
        'padding == "circular" else a.after',
        operators("padded_images"),
    ),
    Mutant(
        "padded blur: a grid without the padding",
        BLUR,
        "smooth(a.size + a.reach)",
        "smooth(a.size)",
        operators("padded_images"),
    ),
    Mutant(
        "Perron bound: the guess is believed",
        OPERATOR,
        "        u = adjoint(forward(v))\n",
        "        u = adjoint(forward(v)) if guess is None else guess(v)\n",
        operators("perron_vector"),
    ),
    Mutant(
        "blur: kernel not flipped", BLUR, "values.flip(0, 1)[None, None]", "values[None, None]", operators("scipys")
    ),
    Mutant("symbols without rounding", BLUR, "error = 4 * (", "error = 0 * (", operators("higher_precision")),
    Mutant(
        "Radon: adjoint off by a detector",
        RADON,
        "[..., first + k] * share",
        "[..., first + (k + 1) % 3] * share",
        operators("adjoint_of_radon"),
    ),
    Mutant(
        "Perron bound: mean for max",
        OPERATOR,
        "float((u / v).max())",
        "float((u / v).mean())",
        operators("long_power_iteration"),
    ),
    Mutant(
        "explicit bounds: rounding errors relative to entries whose terms cancel",
        "linear/operator.py",
        "a._forward(eye, a._weight64().abs()).norm()",
        "matrix.norm()",
        operators("terms_cancel"),
    ),
    # theorems
    Mutant(
        "forward-backward: step limit doubled",
        FORWARD,
        "math.nextafter(2 / problem.smoothness, 0.0)",
        "math.nextafter(4 / problem.smoothness, 0.0)",
        solvers("names_the_limit"),
    ),
    Mutant(
        "FISTA: step limit doubled",
        FORWARD,
        "largest = 1 / problem.smoothness",
        "largest = 2 / problem.smoothness",
        solvers("names_the_limit"),
    ),
    Mutant(
        "gradient step: averagedness halved",
        SOLVER,
        "alpha = up(step * smooth / 2)",
        "alpha = up(step * smooth / 4)",
        solvers("data_steps"),
    ),
    Mutant(
        "gradient step: only the least eigenvalue",
        SOLVER,
        "max(abs(1 - step * mu), abs(1 - step * smooth))",
        "abs(1 - step * mu)",
        solvers("data_steps"),
    ),
    Mutant(
        "proximal step: mu squared",
        SOLVER,
        "1 / (1 + Fraction(h) * ",
        "1 / (1 + 2 * Fraction(h) * ",
        solvers("data_steps"),
    ),
    Mutant("ADMM takes any averaged map", SPLITTING, "averaged.alpha > 0.5", "averaged.alpha > 1", solvers("admm")),
    Mutant("ADMM: rate of the reflection", SPLITTING, "up((1 + reflected) / 2)", "up(reflected)", solvers("encloses")),
    Mutant(
        "mu from the largest singular value",
        PROBLEM,
        "Fraction(self.least)",
        "Fraction(self.norm)",
        solvers("encloses"),
    ),
    Mutant("norm not squared", PROBLEM, "Fraction(self.norm) ** 2", "Fraction(self.norm)", solvers("json or encloses")),
    # a-posteriori bound
    Mutant(
        "1 - rate forgotten", SOLVE, "(rate * residual + e) / (1 - rate)", "(rate * residual + e)", solvers("encloses")
    ),
    Mutant(
        "rounding forgotten", SOLVE, "(rate * residual + e)", "(rate * residual + 0 * e)", solvers("rounding_errors")
    ),
    # layers
    Mutant(
        "relaxation: t squared",
        "layers/around.py",
        "averaged.relaxed(self.t)",
        "averaged.relaxed(self.t**2)",
        ("test_component.py", "-k", "Layer-Relaxed"),
    ),
    Mutant(
        "rescaling: not scaled back",
        "layers/around.py",
        "return self.scale * self.body(x / self.scale)",
        "return self.body(x / self.scale)",
        ("test_component.py", "-k", "Layer-Rescaled"),
    ),
    Mutant(
        "gain not clamped",
        "layers/gain.py",
        "return self.factor.clamp(-float(top), float(top))",
        "return self.factor",
        ("test_inv_net.py", "-k", "at_most_the_bound or rounded_towards"),
    ),
    Mutant(
        "Tikhonov: constant at the end of the range",
        "inverse/tikhonov.py",
        "s = min(max(math.sqrt(tau), low), high)",
        "s = high",
        solvers("formula"),
    ),
    # joint training
    Mutant(
        "joint training: gradient through A^T dropped",
        TOGETHER,
        " - through_adjoint).sum(0)",
        ").sum(0)",
        ("test_inv_net.py", "-k", "automatic_differentiation"),
    ),
    Mutant(
        "joint training: slope forgotten in the number of steps",
        TOGETHER,
        "(self.time * self.slope / 2)",
        "(self.time / 4)",
        ("test_inv_net.py", "-k", "automatic_differentiation"),
    ),
]
