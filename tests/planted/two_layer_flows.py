"""Errors in certificates of contracting flows and of residual branches with time, and in their checker."""

from __future__ import annotations

from .mutant import Mutant

TESTS = ("test_two_layer_flows.py", "-x")
ROUNDING, RUNNING, LAYER = "certify/rounding.py", "certify/running_flow.py", "certify/layer.py"
FLOWS, STEPS, GROWTH = "certify/checker/flows.py", "certify/checker/runge_kutta.py", "certify/checker/running.py"

MUTANTS = [
    Mutant(
        "two-layer flow: drift forgotten in float64", ROUNDING, "time * spread(f.drift", "0 * spread(f.drift", TESTS
    ),
    Mutant("two-layer flow: rate forgotten in float64", ROUNDING, "        if f.rate:", "        if False:", TESTS),
    Mutant(
        "two-layer flow: one norm for both maps",
        LAYER,
        "bound if outer is linear else outer.norm_bound()",
        "bound",
        TESTS,
    ),
    Mutant(
        "two-layer flow: contraction beyond its steps",
        LAYER,
        "_power(one, flow.step_count)",
        "_power(one, flow.step_count + 1)",
        TESTS,
    ),
    Mutant("two-layer flow: constants vanish", LAYER, "LEAST = 1e-300", "LEAST = 0.0", TESTS),
    Mutant("two-layer flow: time stands still", RUNNING, "t + h * sum(row)", "0.0", TESTS),
    Mutant("two-layer flow: sign of the branch", RUNNING, "f.sign * f.outer", "-1.0 * f.outer", TESTS),
    Mutant("two-layer flow: rate forgotten in float32", RUNNING, "        if f.rate:", "        if False:", TESTS),
    Mutant(
        "two-layer flow: rotations pass",
        "certify/two_layer.py",
        "Contracting(gradient=f, rotation=None)",
        "Contracting(gradient=f)",
        TESTS,
    ),
    Mutant("checker: least for largest eigenvalue", STEPS, "return max(abs(1 - hc)", "return min(abs(1 - hc)", TESTS),
    Mutant("checker: the first step's time", FLOWS, "known.h * known.count * inner", "known.h * inner", TESTS),
    Mutant(
        "checker: rate left out of the smoothness",
        FLOWS,
        "Q(known.norm) * Q(outer_norm) + rate",
        "Q(known.norm) * Q(outer_norm)",
        TESTS,
    ),
    Mutant(
        "checker: the outer norm is not proved",
        FLOWS,
        "    if not linear.proves(norm):",
        "    if not what.endswith('outer') and not linear.proves(norm):",
        TESTS,
    ),
    Mutant(
        "checker: one map for both in float32", GROWTH, "if timed else norm, given", "if False else norm, given", TESTS
    ),
    Mutant(
        "checker: any gradient passes",
        "certify/checker/read_flows.py",
        "    if type_ not in GRADIENTS:",
        "    if False:",
        TESTS,
    ),
]
