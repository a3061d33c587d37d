"""Errors in the networks for images that are not 1-Lipschitz, and in the theorem of their contracting flow."""

from __future__ import annotations

from .mutant import Mutant

TESTS = "test_image_networks.py"
RK, TIMED = "integrators/runge_kutta.py", "fields/timed_two_layer.py"


def tests(keyword: str) -> tuple[str, ...]:
    return (TESTS, "-k", keyword)


MUTANTS = [
    Mutant(
        "contraction at twice the rate",
        RK,
        "abs(1 + h * one_sided.nu)",
        "abs(1 + 2 * h * one_sided.nu)",
        tests("euler"),
    ),
    Mutant("the large eigenvalue forgotten", RK, ", abs(1 - reach))", ", 0.0)", tests("euler_contracts or both_ends")),
    Mutant(
        "contraction without a symmetric Jacobian",
        RK,
        "one_sided.nu < 0 and field.get(SymmetricJacobian)",
        "one_sided.nu < 0",
        tests("rotation"),
    ),
    Mutant("bias moves at once", TIMED, "+ t * self.drift", "+ self.drift", tests("explicit_matrices")),
    Mutant("one norm for two", TIMED, "norm(self.inner) * norm(self.outer)", "norm(self.inner)", tests("explicit")),
    Mutant(
        "steps too long for the rate",
        "networks/contracting.py",
        "math.ceil((1 + rate) * time)",
        "math.ceil(time)",
        tests("flow_contracts"),
    ),
    Mutant(
        "the features are not rescaled",
        "networks/contracting.py",
        "ConvexGradient(AlmostOrthogonal(dense))",
        "ConvexGradient(dense)",
        tests("flow_contracts"),
    ),
    Mutant(
        "the checker reads strides of 1",
        "certify/checker/networks.py",
        "5, 2) for width",
        "5, 1) for width",
        tests("cnn"),
    ),
    Mutant(
        "the flow starts elsewhere",
        "networks/ode_net.py",
        "nn.init.zeros_(outer",
        "nn.init.ones_(outer",
        tests("starts"),
    ),
    # the study of deformations
    Mutant(
        "sizes of what was not broken",
        "studies/deformations.py",
        "float(v) if b else None",
        "float(v)",
        ("test_deformations.py", "-k", "sizes_are"),
    ),
    Mutant(
        "success among the broken",
        "studies/deformations.py",
        'len(broken) / max(1, row["images"])',
        "1.0",
        ("test_deformations.py", "-k", "table"),
    ),
    Mutant(
        "rows for columns",
        "report/deformed.py",
        "*(columns, rows, right, down)",
        "*(rows, columns, down, right)",
        ("test_deformations.py", "-k", "arrow"),
    ),
]
