"""Errors in what is proved of flows at the limits of numbers."""

from .mutant import Mutant

TESTS = ("test_two_layer_limits.py",)
FLOW = "certify/running_flow.py"

MUTANTS = [
    Mutant(
        "checker: huge constants cut short",
        "certify/checker/flows.py",
        "math.nextafter(float(constant), math.inf)",
        "math.nextafter(float(min(constant, Q(10) ** 300)), math.inf)",
        TESTS,
    ),
    Mutant("float32: any rate", FLOW, "not parts.rate < STEPS[1]", "not parts.rate < 1e300", TESTS),
    Mutant("checker: any rate in float32", "certify/checker/running.py", "not rate < STEPS[1]", "False", TESTS),
    Mutant("float32: nothing flushed before the rate", FLOW, "numel() * (1 + f.rate)", "numel()", TESTS),
    Mutant("float32: nothing flushed before the time", FLOW, "TINY * outputs * t", "TINY * outputs", TESTS),
    Mutant(
        "checker: powers of small constants",
        "certify/checker/runge_kutta.py",
        "if 0 < x * LARGE < 1:",
        "if False:",
        TESTS,
    ),
]
