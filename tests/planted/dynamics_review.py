"""Errors planted into steps along fields with structure, as found in review."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = (
    Mutant(
        "positive step: the eliminated sums are not passed on",
        "integrators/positive.py",
        "sums[:, 1:] + share * sums[:, :1]",
        "sums[:, 1:]",
        ("test_systems.py", "-k", "positive_step_of_any_length"),
    ),
    Mutant(
        "positive step: rounding of the sum is left",
        "integrators/positive.py",
        "return y.scatter_add(1, y.detach().abs().argmax(1, keepdim=True), missing)",
        "return y",
        ("test_systems.py", "-k", "thousand_positive_steps"),
    ),
    Mutant(
        "Lyapunov step: the state stays where the proposal overflows",
        "integrators/lyapunov.py",
        "torch.where(_each(proposed.isfinite(), x), drawn, straight)",
        "torch.where(_each(proposed.isfinite(), x), drawn, x)",
        ("test_fields_stable.py", "-k", "proposal_overflows"),
    ),
    Mutant(
        "table: a batch with an unsolved sample says nothing",
        "testing/table.py",
        "x, y = x[left], y[left]",
        "x, y = x[:0], y[:0]",
        ("test_table.py", "-k", "sample_without"),
    ),
    Mutant(
        "implicit step: a coarse solution is taken as solved",
        "integrators/solve.py",
        "return z, change <= ROUNDING * eps",
        "return z, change <= math.sqrt(eps)",
        ("test_implicit.py", "-k", "four_rounding or no_derivative"),
    ),
    Mutant(
        "implicit step: the Jacobian for derivatives is taken of another equation",
        "integrators/solve.py",
        "matrix = inverse(jacobians(g, z, at, size))",
        "matrix = inverse(jacobians(g, 0 * z, at, size))",
        ("test_implicit.py", "-k", "first_and_second"),
    ),
    Mutant(
        "sum of potentials: the constant of the steepest part",
        "fields/potential.py",
        "return sum(v.smoothness(norm) for v in self._parts()) * (1 + 1e-15 * len(self.parts))",
        "return max(v.smoothness(norm) for v in self._parts())",
        ("test_fields_potentials.py", "-k", "sum_of_what"),
    ),
    Mutant(
        "sum of potentials: convex if a part is",
        "fields/potential.py",
        "if len(known) == len(parts) else None",
        "if known else None",
        ("test_fields_potentials.py", "-k", "sum_of_what"),
    ),
)
