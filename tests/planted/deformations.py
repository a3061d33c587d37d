"""Errors in deformed images, ADef, and the radii in pixels."""

from __future__ import annotations

from .mutant import Mutant

DEFORM, ADEF = "linear/deform.py", "attack/adef.py"
BALL, PIXELS = "certify/deformation.py", "certify/pixels.py"
SAME, BITS, BILINEAR = (("test_adef.py", "-k", k) for k in ("slow_implementation", "it_claims", "bilinear"))
EDGE, ROUNDING, FILLS = (("test_deformation.py", "-k", k) for k in ("no_sample or remainder", "rounding", "fills"))

MUTANTS = [
    # the deformed image
    Mutant("deformation: rows and columns swapped", DEFORM, "_cells(tau[..., 0]", "_cells(tau[..., 1]", BILINEAR),
    Mutant(
        "deformation: not clamped", DEFORM, "(place + shift).clamp(0, n - 1)", "(place + shift) % (n - 1)", BILINEAR
    ),
    Mutant("deformation: norm_T as the largest entry", DEFORM, "norm(dim=-1)", "abs().amax(dim=-1)", BITS),
    # ADef
    Mutant("deformation, ADef: one filter instead of two", ADEF, "* smooth(once, self.sigma)", "* once", SAME),
    Mutant(
        "deformation, ADef: norm not squared",
        ADEF,
        "once.flatten(2).square().sum(2)",
        "once.flatten(2).norm(dim=2)",
        SAME,
    ),
    Mutant(
        "deformation, ADef: the largest of the candidates' fields", ADEF, "argmin(1, keepdim", "argmax(1, keepdim", SAME
    ),
    Mutant(
        "deformation, ADef: slope of the image that is not deformed",
        ADEF,
        "slope = deform(slopes[live], field)",
        "slope = (slopes[live])",
        SAME,
    ),
    Mutant(
        "deformation, ADef: field scaled, its size not",
        ADEF,
        "found[part[reached]] = size(tau[part[reached]])",
        "found[part[reached]] = size(tau[part[reached]]) / 2",
        BITS,
    ),
    Mutant(
        "deformation, ADef: fields that do not break count",
        ADEF,
        "found[part[reached]] = size(tau[part[reached]])",
        "found[part] = size(tau[part])",
        ("test_adef.py", "-k", "settings or blind"),
    ),
    Mutant(
        "deformation, ADef: a target is any other class",
        ADEF,
        "if aim is None else -victim.margins(z, aim)",
        "",
        ("test_adef.py", "-k", "targets"),
    ),
    # the ball
    Mutant("deformation, ball: no remainder", BALL, "/ 8 * curvature * UP", "* 0 * curvature", EDGE),
    Mutant(
        "deformation, ball: remainder without the twist",
        BALL,
        "+ twist.norm(dim=1) * (4 * p * q - j * p - i * q)",
        "",
        EDGE,
    ),
    Mutant("deformation, ball: remainder / 16", BALL, "** 2 / 8 * curvature", "** 2 / 16 * curvature", EDGE),
    Mutant(
        "deformation, ball: three quadrants",
        BALL,
        "product((1, -1), repeat=2):  # the four",
        "[(1, 1), (1, -1), (-1, 1)]:  # the",
        EDGE,
    ),
    Mutant(
        "deformation, ball: pixels inside the disc forgotten",
        BALL,
        "if math.hypot(down, right) <= float(r.max())",
        "if not down and not right",
        EDGE,
    ),
    Mutant(
        "deformation, ball: corners of the cell swapped",
        BALL,
        "near, beside, below, across = corners",
        "near, below, beside, across = corners",
        EDGE,
    ),
    Mutant(
        "deformation, ball: channels by themselves",
        BALL,
        "(values - c[which, None]).norm(dim=2)",
        "(values - c[which, None]).abs().amax(dim=2)",
        EDGE,
    ),
    Mutant(
        "deformation, ball: cells beyond the first line missing",
        BALL,
        "lines = torch.arange(1, math.ceil",
        "lines = torch.arange(2, 1 + math.ceil",
        EDGE,
    ),
    Mutant(
        "deformation, ball: rounding of the image ignored", BALL, "(torch.finfo(x.dtype).eps + 1e-12)", "0.0", ROUNDING
    ),
    Mutant("deformation, ball: border by zeros", BALL, 'mode="replicate"', 'mode="constant"', EDGE),
    # the radius
    Mutant(
        "deformation, pixels: radius of x around another centre",
        PIXELS,
        "centre=centre, pieces=pieces), certificate.radius(centre)",
        "centre=centre, pieces=pieces), 1.5 * proved[which]",
        FILLS,
    ),
    Mutant(
        "deformation, pixels: the failed radius is kept",
        PIXELS,
        "best[live] = torch.where(holds,",
        "best[live] = torch.where(~holds,",
        FILLS,
    ),
    Mutant(
        "deformation, pixels: the ball may be larger",
        PIXELS,
        "holds = size < certified",
        "holds = size < 1.1 * certified",
        FILLS,
    ),
]
