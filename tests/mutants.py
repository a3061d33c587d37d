"""Plants one error at a time in a copy of the package and runs the tests that should notice.

    python tests/mutants.py            all of them (two to three minutes)
    python tests/mutants.py averaged   those whose name contains a word

Prints who caught what; exits with 1 when an error survives. To add one, append a `Mutant`: the text to replace must
occur exactly once in the file. Keep the selection of tests small: it says where the error *should* be noticed.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRELOAD = ["torch", "numpy", "scipy.integrate", "scipy.linalg", "hypothesis", "pytest", "safetensors.torch"]


@dataclass(frozen=True)
class Mutant:
    """One planted error: in `file`, `old` becomes `new`; `tests` are pytest's arguments, relative to tests/."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def claims(keyword: str) -> tuple[str, ...]:
    return ("test_claims.py", "-k", keyword)


FIELD = "fields/gradient.py"
RK = "integrators/runge_kutta.py"
SPLIT = "integrators/symplectic.py"
PROPERTIES = "core/properties.py"
GEOMETRY, FOURIER, RESCALED = "linear/geometry.py", "linear/fourier.py", "linear/almost_orthogonal.py"
CONVOLUTIONS = "certify/checker/convolutions.py"
FLOW = "layers/flow.py"
RADII = "certify/radii.py"
LAYER_CERTIFICATE = "certify/layer.py"
FLOAT32 = ("test_running.py", "-k", "stays_within")

MUTANTS = [
    # fields
    Mutant("norm bound not squared", FIELD, "slope[1] * size * size", "slope[1] * size", claims("test_fields")),
    Mutant("activation slope ignored", FIELD, "self.activation.slope[1] * size", "size", claims("slope_of")),
    Mutant(
        "cocoercivity too weak by half",
        FIELD,
        "Cocoercive(1 / smoothness)",
        "Cocoercive(0.5 / smoothness)",
        claims("bounds_of_a_gradient_field"),
    ),
    Mutant(
        "kinetic part not negated",
        "fields/hamiltonian.py",
        "return -self.kinetic(p, t)",
        "return self.kinetic(p, t)",
        claims("test_fields"),
    ),
    Mutant(
        "Hamiltonian bound: min for max", "fields/hamiltonian.py", "bound = max(", "bound = min(", claims("test_fields")
    ),
    # Runge-Kutta
    Mutant(
        "step limit doubled",
        RK,
        "return 2 * cocoercive.beta * r",
        "return 4 * cocoercive.beta * r",
        claims("test_steps and ConvexGradient"),
    ),
    Mutant(
        "contractivity radius doubled",
        RK,
        "exact = -1 / lowest",
        "exact = -2 / lowest",
        ("test_integrators.py", "-k", "contractivity"),
    ),
    Mutant(
        "SSPRK3 weights swapped",
        RK,
        "(1 / 6, 1 / 6, 2 / 3)",
        "(1 / 6, 2 / 3, 1 / 6)",
        ("test_integrators.py", "-k", "test_order and (RK4 or SSPRK3)"),
    ),
    Mutant(
        "RK4 stage from the wrong slope",
        RK,
        "(0.0, 1 / 2), (0.0, 0.0, 1.0)",
        "(1 / 2, 0.0), (0.0, 0.0, 1.0)",
        ("test_integrators.py", "-k", "test_order and (RK4 or SSPRK3)"),
    ),
    Mutant(
        "stage times frozen",
        RK,
        "t + h * sum(row)",
        "t",
        ("test_integrators.py", "-k", "test_order and (RK4 or SSPRK3)"),
    ),
    Mutant(
        "averagedness halved",
        RK,
        "Averaged(h / limit * UP)",
        "Averaged(h / limit / 2 * UP)",
        claims("test_steps and ConvexGradient and Euler"),
    ),
    Mutant(
        "averagedness squared",
        RK,
        "Averaged(h / limit * UP)",
        "Averaged((h / limit) ** 0.5 * UP)",
        claims("averagedness_of_an_euler_step"),
    ),
    Mutant(
        "expansive bound too large",
        RK,
        "Expansive(math.nextafter(1 - increment, 0))",
        "Expansive(1 - increment / 2)",
        claims("test_steps and ConvexGradient"),
    ),
    Mutant(
        "increment without the inner stages",
        RK,
        "hl * (1 + sum(abs(c) * kj for",
        "hl * (1 + 0 * sum(abs(c) * kj for",
        claims("general_lipschitz"),
    ),
    Mutant(
        "monotone bound without its square",
        RK,
        ", reach * reach  #",
        ", 0.0  #",
        claims("monotone_bound or beyond"),
    ),
    Mutant(
        "quadratic invariants promised",
        RK,
        "c.invariant.degree == 1",
        "c.invariant.degree in (1, 2)",
        claims("energy_is_claimed"),
    ),
    # splitting
    Mutant(
        "old force reused",
        SPLIT,
        "p = add_scaled(p, f.force(q, t + drifted * h), b * h)",
        "p = add_scaled(p, f.force(x.chunk(2, 1)[0], t + drifted * h), b * h)",
        ("test_integrators.py", "-k", "test_order and StormerVerlet"),
    ),
    Mutant(
        "kicks at the wrong time",
        SPLIT,
        "t + drifted * h), b * h",
        "t + kicked * h), b * h",
        ("test_integrators.py", "-k", "test_order and StormerVerlet"),
    ),
    Mutant(
        "drifts at the wrong time",
        SPLIT,
        "t + kicked * h), a * h",
        "t + drifted * h), a * h",
        ("test_integrators.py", "-k", "test_order and StormerVerlet"),
    ),
    Mutant(
        "shear bound too small",
        SPLIT,
        "[abs(b) * hl, 1.0]",
        "[0.9 * abs(b) * hl, 1.0]",
        claims("symplectic_euler_are_attained"),
    ),
    Mutant(
        "energy claimed by splitting",
        SPLIT,
        "claims.append(Symplectic())",
        "claims += [Symplectic(), *(__import__('stablenets').core.properties.Preserves(c.invariant) for c in field "
        "if hasattr(c, 'invariant'))]",
        claims("energy_is_claimed"),
    ),
    # linear maps
    Mutant(
        "adjoint off by 1e-4",
        "linear/dense.py",
        "return F.linear(y, weight.mT)",
        "return F.linear(y, weight.mT) * (1 + 1e-4)",
        ("test_component.py", "-k", "conformance and Dense"),
    ),
    Mutant(
        "adjoint without the flip",
        GEOMETRY,
        ".flip(tuple(range(2, weight.dim())))",
        "",
        ("test_component.py", "-k", "conformance and Conv2d"),
    ),
    Mutant(
        "even kernels: extra point in front",
        "linear/axis.py",
        "return self.reach // 2",
        "return (self.reach + 1) // 2",
        ("test_linear.py", "-k", "convolved_as_torch"),
    ),
    Mutant(
        "reflection folded onto the border",
        GEOMETRY,
        "(first.flip(dim), 1)",
        "(first.flip(dim), 0)",
        ("test_linear.py", "-k", "convolved_as_torch"),
    ),
    Mutant(
        "torus of n points for n + p",
        FOURIER,
        'axis.after if axis.padding == "zero"',
        '0 if axis.padding == "zero"',
        ("test_linear.py", "-k", "image_grid"),
    ),
    Mutant(
        "even kernels: the shorter margin",
        FOURIER,
        'axis.after if axis.padding == "zero"',
        'axis.before if axis.padding == "zero"',
        ("test_linear.py", "-k", "longer_margin"),
    ),
    Mutant(
        "half the frequencies, less one",
        FOURIER,
        "(classes + 2 - circle.twist) // 2 if half",
        "(classes + 1 - circle.twist) // 2 if half",
        ("test_linear.py", "-k", "images_too or sharp_peaks"),
    ),
    Mutant(
        "polyphase: 1 / s for 1 / sqrt(s)",
        FOURIER,
        "/ math.sqrt(aliases)",
        "/ aliases",
        ("test_linear.py", "-k", "images_too or 8_times"),
    ),
    Mutant(
        "reflection taken for an isometry",
        FOURIER,
        "bound * math.sqrt(copies)",
        "bound",
        ("test_linear.py", "-k", "double_an_image"),
    ),
    Mutant(
        "norms of groups multiplied",
        "linear/convolution.py",
        "return max(spectral_norm_bound(",
        "return math.prod(spectral_norm_bound(",
        ("test_linear.py", "-k", "over_the_groups"),
    ),
    Mutant(
        "a failed factorisation proves",
        "linear/banded.py",
        "if info != 0:\n            return False",
        "if info != 0:\n            return True",
        ("test_linear.py", "-k", "poor_estimate"),
    ),
    Mutant(
        "norms missed by the guess forgotten",
        "linear/bounds.py",
        "if failed.any():",
        "if False:",
        ("test_linear.py", "-k", "many_norms"),
    ),
    Mutant(
        "bound without its entries' error",
        "linear/bounds.py",
        "* max(m, n) * EPS) + entry_error",
        "* max(m, n) * EPS)",
        ("test_linear.py", "-k", "covers_its_rounding"),
    ),
    Mutant(
        "smallest norm for the largest",
        "linear/bounds.py",
        "svdvals(matrices).max()",
        "svdvals(matrices)[..., 0].min()",
        ("test_linear.py", "-k", "covers_its_rounding"),
    ),
    Mutant(
        "power iteration without the root",
        "linear/base.py",
        "return math.sqrt(size)",
        "return size",
        ("test_linear.py", "-k", "power_iteration"),
    ),
    Mutant(
        "power iteration from any length",
        "linear/base.py",
        "v = v / v.norm()",
        "v = v / 1",
        ("test_linear.py", "-k", "longer_than_one"),
    ),
    Mutant(
        "skew kernel without the flip",
        "linear/skew.py",
        "raw.flip(2, 3).transpose(0, 1)",
        "raw.transpose(0, 1)",
        ("test_linear.py", "-k", "to_the_last_bit"),
    ),
    Mutant(
        "almost orthogonal: q cancels",
        RESCALED,
        "log_q[:, None, :] - log_q[:, :, None]",
        "log_q[:, None, :] - log_q[:, None, :]",
        ("test_linear.py", "-k", "q_is_live"),
    ),
    Mutant(
        "almost orthogonal: q on one side",
        RESCALED,
        "return scale.view(",
        "return (scale * log_q.flatten().exp()).view(",
        ("test_linear.py", "-k", "cannot_be_trained_to_exceed"),
    ),
    Mutant(
        "almost orthogonal: offsets cancel",
        RESCALED,
        "products.abs().flatten(2).sum(2)",
        "products.flatten(2).sum(2).abs()",
        ("test_linear.py", "-k", "cannot_be_trained_to_exceed"),
    ),
    Mutant(
        "almost orthogonal: nearest offsets",
        RESCALED,
        "padding=tuple(k - 1 for k in g.kernel)",
        "padding=tuple(k // 2 for k in g.kernel)",
        ("test_linear.py", "-k", "cannot_be_trained_to_exceed"),
    ),
    Mutant(
        "checker: the shorter margin",
        CONVOLUTIONS,
        "else self.reach - self.reach // 2",
        "else self.reach // 2",
        ("test_checker_maps.py", "-k", "longer_margin"),
    ),
    Mutant(
        "checker: reflection an isometry",
        CONVOLUTIONS,
        "within = bound / math.sqrt(copies)",
        "within = bound * 1.0",
        ("test_checker_maps.py", "-k", "mirrored"),
    ),
    Mutant(
        "checker: banded remainder ignored",
        "certify/checker/banded.py",
        "math.sqrt(2 * residual) + ",
        "",
        ("test_checker_maps.py", "-k", "wrong_factor"),
    ),
    Mutant(
        "checker: deviation ignored",
        "certify/checker/maps.py",
        "bound / (1 + self.deviation) * (1 - 2 * U)",
        "bound",
        ("test_checker_maps.py", "-k", "deviation_is_taken"),
    ),
    Mutant(
        "checker: rounding of overlaps ignored",
        "certify/checker/derived.py",
        "gamma(terms) * (",
        "0.0 * (",
        ("test_checker_maps.py", "-k", "too_uneven"),
    ),
    # claims
    Mutant(
        "Lipschitz: max for product",
        PROPERTIES,
        "Lipschitz(outwards(self.bound, first.bound, math.inf))",
        "Lipschitz(max(self.bound, first.bound))",
        ("test_properties.py", "-k", "closed"),
    ),
    Mutant(
        "averaged maps: the larger alpha",
        PROPERTIES,
        "(a + b - 2 * a * b) / (1 - a * b)",
        "max(a, b)",
        ("test_properties.py", "-k", "averaged"),
    ),
    Mutant(
        "invariants compared by name",
        PROPERTIES,
        "field(repr=False)",
        "field(compare=False, repr=False)",
        ("test_properties.py", "-k", "invariants"),
    ),
    Mutant(
        "a deaf falsifier",
        PROPERTIES,
        "(self.beta * norm(df).square() + inner(df, dx))",
        "0 * (norm(df) + norm(dx))",
        ("test_properties.py", "-k", "falsifiers"),
    ),
    # implicit steps, energy, constraints, positivity
    Mutant(
        "only one step towards the derivatives",
        "integrators/solve.py",
        "for _ in range(2):",
        "for _ in range(1):",
        ("test_implicit.py", "-k", "second_derivatives and ImplicitMidpoint"),
    ),
    Mutant(
        "unsolved samples accepted",
        "integrators/solve.py",
        "failed = ~(residual <= rounding)",
        "failed = residual < 0",
        ("test_implicit.py", "-k", "without_a_solution"),
    ),
    Mutant(
        "both Gauss nodes the same",
        "integrators/implicit.py",
        "(0.25 + _ROOT, 0.25)",
        "(0.25 - _ROOT, 0.25)",
        ("test_implicit.py", "-k", "gauss_against"),
    ),
    Mutant(
        "implicit stretch: smallest for largest",
        "integrators/implicit.py",
        "high = math.sqrt(max(",
        "high = math.sqrt(min(",
        ("test_implicit.py", "-k", "stretch"),
    ),
    Mutant(
        "discrete gradient without its correction",
        "integrators/energy.py",
        "torch.where(matters, missing, 0.0)",
        "torch.where(matters, 0 * missing, 0.0)",
        ("test_long_runs.py", "-k", "discrete_gradient"),
    ),
    Mutant(
        "quadrature degree overstated",
        "integrators/energy.py",
        "energy.degree <= 2 * self.nodes",
        "energy.degree <= 2 * self.nodes + 1",
        ("test_implicit.py", "-k", "only_for_polynomials"),
    ),
    Mutant(
        "momenta left off the constraints",
        "integrators/rattle.py",
        "p - f.react(g, divide(f.stiffness(g), moving))",
        "p - 0 * f.react(g, divide(f.stiffness(g), moving))",
        ("test_systems.py", "-k", "kept_by_rattle"),
    ),
    Mutant(
        "shears of different times",
        "integrators/shears.py",
        "f.rate(i, others, t + h / 2)",
        "f.rate(i, others, t)",
        ("test_integrators.py", "-k", "test_order and ShearSplitting"),
    ),
    Mutant(
        "a rate of flow with the wrong sign",
        "systems/sir.py",
        "(infection, -recovery, zero)",
        "(infection, recovery, zero)",
        ("test_systems.py", "-k", "metzler"),
    ),
    Mutant(
        "gravity on one bob only",
        "systems/n_link.py",
        "self.gravity * carried * torch.sin(q)",
        "self.gravity * torch.sin(q)",
        ("test_systems.py", "-k", "energy_fields"),
    ),
    # layers
    Mutant(
        "frozen from the estimate",
        FLOW,
        "claims(lambda a: a.norm_bound() * SLACK)",
        "claims(estimate)",
        ("test_layers.py", "-k", "leaves_training"),
    ),
    Mutant(
        "one step too many",
        FLOW,
        "math.ceil(self.time / limit)",
        "math.ceil(self.time / limit) + 1",
        ("test_layers.py", "-k", "number_of_steps"),
    ),
    Mutant("claims of one step for all", FLOW, "[one] * count)", "[one])", claims("several_steps")),
    Mutant(
        "norms in evaluation",
        FLOW,
        "if self.training and self.follows:",
        "if self.follows:",
        ("test_layers.py", "-k", "evaluation"),
    ),
    Mutant(
        "pooling is non-expansive by 1/k^2",
        "layers/torch_layers.py",
        "Fraction(pixels, (",
        "Fraction(1, (",
        ("test_layers.py", "-k", "pytorch_layers"),
    ),
    Mutant(
        "any body is opened",
        "layers/chain.py",
        "isinstance(module, Composed) and forward is Composed.forward",
        "isinstance(getattr(module, 'body', None), nn.Module)",
        ("test_layers.py", "-k", "unknown_module"),
    ),
    Mutant(
        "1 / max(std)",
        "layers/isometries.py",
        "Fraction(min(self.std))",
        "Fraction(max(self.std))",
        ("test_component.py", "-k", "conformance and Normalise"),
    ),
    Mutant(
        "head taken for non-expansive",
        "layers/heads.py",
        "Lipschitz(spectral_norm_bound(w))",
        "Lipschitz(1.0)",
        ("test_component.py", "-k", "conformance and NormalisedHead"),
    ),
    Mutant(
        "hash blind to frozen steps",
        "layers/files.py",
        "digest.update(canonical(extra).encode())",
        "pass",
        ("test_layers.py", "-k", "hash"),
    ),
    Mutant("files lose their dtype", "layers/files.py", ", assign=True", "", ("test_layers.py", "-k", "last_bit")),
    # certificates
    Mutant(
        "rounding added to the margin",
        RADII,
        "scores - 2 * math.sqrt(2)",
        "scores + 2 * math.sqrt(2)",
        ("test_certify.py", "-k", "linear_classifier"),
    ),
    Mutant(
        "one constant for all pairs",
        RADII,
        "margins / (constants[winner]",
        "margins / (constants[0, -1]",
        ("test_certify.py", "-k", "linear_classifier"),
    ),
    Mutant(
        "stale steps certified",
        LAYER_CERTIFICATE,
        "not flow.step_size <= limit",
        "flow.step_size > 2 * limit",
        ("test_certify.py", "-k", "stale_step"),
    ),
    # float32
    Mutant("unit roundoff of TF32", "certify/running_bounds.py", "U = 2.0**-24", "U = 2.0**-26", FLOAT32),
    Mutant(
        "balls do not grow",
        "certify/running_bounds.py",
        "(self.error + self.error.new_tensor([0.0, self.reach]))",
        "self.error",
        ("test_running.py", "-k", "formula"),
    ),
    Mutant(
        "slope's error not carried by A^T",
        "certify/running_flow.py",
        "(bound * (slope * dz + own)",
        "((slope * dz + own)",
        ("test_running.py", "-k", "formula or stays_within"),
    ),
    Mutant(
        "errors of slopes dropped", "certify/running_flow.py", "        error = error + abs(c) * k.error\n", "", FLOAT32
    ),
    Mutant(
        "errors of stages not carried on",
        "certify/running_flow.py",
        "smoothness * at.error + error, size",
        "error, size",
        ("test_running.py", "-k", "growth_of_every_layer"),
    ),
    Mutant(
        "series: errors of earlier terms dropped",
        "certify/running_flow.py",
        "bound * y.error + own, size",
        "own, size",
        ("test_running.py", "-k", "growth_of_every_layer"),
    ),
    Mutant(
        "adjoint sums as long as the others",
        "certify/running_map.py",
        "self.lengths[1], norms",
        "self.lengths[0], norms",
        ("test_running.py", "-k", "formula"),
    ),
    Mutant(
        "normalising the rows costs nothing",
        "certify/running.py",
        "head.in_features // 2 + 8",
        "0",
        ("test_running.py", "-k", "normalised_rows"),
    ),
    Mutant(
        "own errors of one score only",
        "certify/radii.py",
        "    own = scores.own.take_along_dim(winner[:, None, None], 1) + scores.own\n",
        "    own = scores.own\n",
        ("test_running.py", "-k", "single_product"),
    ),
    Mutant(
        "error does not grow in the ball",
        "certify/radii.py",
        " + error[..., 1]",
        "",
        ("test_running.py", "-k", "margin_meets"),
    ),
    Mutant(
        "perturbed inputs not rounded",
        "certify/radii.py",
        "(lost + U * x.flatten(1).norm(dim=1))",
        "lost",
        ("test_running.py", "-k", "rounded_on_the_way"),
    ),
    Mutant(
        "Winograd allowed",
        "certify/arithmetic.py",
        "torch.backends.nnpack.flags(enabled=False)",
        "torch.backends.nnpack.flags(enabled=True)",
        ("test_running.py", "-k", "winograd"),
    ),
    Mutant(
        "small factors only",
        "certify/arithmetic.py",
        "(-4095, 4096, (16, 16, 8, 8)",
        "(-255, 256, (16, 16, 8, 8)",
        ("test_running.py", "-k", "rounded_factors"),
    ),
    Mutant(
        "scores not held against their bounds",
        "certify/certificate.py",
        "        check(evaluated, scores, constants)\n",
        "",
        ("test_running.py", "-k", "not_what_the_proof"),
    ),
    # the checker
    Mutant(
        "checker: remainder ignored",
        "certify/checker/balls.py",
        "spare > 0 and squares <= spare**2",
        "spare > 0",
        ("test_balls.py",),
    ),
    Mutant(
        "checker: half a sum in float32",
        "certify/checker/running.py",
        "rounded(m, self.absolute * moved) + LOST * m * self.entries * moved\n\n    def adjoint",
        "rounded(m // 2, self.absolute * moved)\n\n    def adjoint",
        ("test_running.py", "-k", "growth_of_every_layer"),
    ),
    Mutant(
        "checker: any scaling of the input",
        "certify/verify.py",
        'if Fraction(number(certificate["input"]["scaling"], "scaling")) < scaling:',
        "if False:",
        ("test_forgeries.py", "-k", "scaling"),
    ),
    Mutant(
        "checker: any float32 weights",
        "certify/checker/running.py",
        'if entry.dtype != "F32":',
        "if False:",
        ("test_forgeries.py", "-k", "float64_weights"),
    ),
    Mutant(
        "checker: any number of objects",
        "certify/checker/strict.py",
        "> MOST_CONTAINERS:",
        "> 10**12:",
        ("test_forgeries.py", "-k", "many_small"),
    ),
    Mutant(
        "checker: pipes are opened",
        "certify/checker/strict.py",
        "if not stat.S_ISREG",
        "if stat.S_ISDIR",
        ("test_forgeries.py", "-k", "no_files and device"),
    ),
    # structured fields
    Mutant(
        "Lyapunov: no decay asked",
        "fields/lyapunov.py",
        "F.relu(inner(slope, g) + self.rate * self.potential(x))",
        "F.relu(inner(slope, g))",
        ("test_fields_stable.py", "-k", "rate_of_decay"),
    ),
    Mutant(
        "Lyapunov: free(x*) kept",
        "fields/lyapunov.py",
        "g = values[:-1] - values[-1:]",
        "g = values[:-1]",
        ("test_fields_stable.py", "-k", "finite_at or is_lipschitz"),
    ),
    Mutant(
        "Lyapunov step: never drawn back",
        "integrators/lyapunov.py",
        "target / positive(proposed))",
        "1.0)",
        ("test_fields_stable.py", "-k", "falls_by_the_factor"),
    ),
    Mutant(
        "Lyapunov step: drawn towards 0",
        "integrators/lyapunov.py",
        "drawn = f.centre + ",
        "drawn = ",
        ("test_fields_stable.py", "-k", "falls_by_the_factor"),
    ),
    Mutant(
        "Lyapunov step: rate claimed twice",
        "integrators/lyapunov.py",
        "math.exp(-c.rate * h)",
        "math.exp(-2 * c.rate * h)",
        ("test_fields_stable.py", "-k", "falls_by_the_factor or claims_the_product"),
    ),
    Mutant(
        "convex potential with free signs",
        "fields/convex_potential.py",
        "[u.abs() for u in self.inner]",
        "list(self.inner)",
        ("test_fields_potentials.py", "-k", "are_convex"),
    ),
    Mutant(
        "convex potential with positive biases",
        "fields/convex_potential.py",
        "[-b.abs() for b in self.biases]",
        "list(self.biases)",
        ("test_fields_potentials.py", "-k", "are_convex"),
    ),
    Mutant(
        "smoothness forgets how layers add",
        "fields/layered_potential.py",
        "weighted += s0",
        "weighted -= 0 * s0",
        ("test_fields_potentials.py", "-k", "several_layers"),
    ),
    Mutant(
        "the lecture's sign",
        "fields/potential.py",
        "return self.module(x) + gradient(",
        "return self.module(x) - gradient(",
        ("test_fields_potentials.py", "-k", "finite_differences"),
    ),
    Mutant(
        "skew part not skew",
        "fields/norm_conserving.py",
        "- self.right.adjoint(d * self.left(v))",
        "+ self.right.adjoint(d * self.left(v))",
        ("test_fields_structured.py", "-k", "neighbour"),
    ),
    Mutant(
        "mass: rows for columns",
        "fields/mass_action.py",
        "flows.sum(1)",
        "flows.sum(2)",
        ("test_fields_structured.py", "-k", "neighbour"),
    ),
    Mutant(
        "mass: a negative rate",
        "fields/mass_action.py",
        "F.softplus(self.outer(",
        "(self.outer(",
        ("test_fields_structured.py", "-k", "neighbour"),
    ),
    Mutant(
        "schedule: the strongest constants",
        "fields/schedule.py",
        "b if a.stronger(b) else a",
        "a if a.stronger(b) else b",
        ("test_fields_structured.py", "-k", "schedule_claims"),
    ),
    Mutant(
        "contraction: rate doubled",
        "fields/contraction.py",
        "OneSidedLipschitz(-self.rate)",
        "OneSidedLipschitz(-2 * self.rate)",
        claims("test_fields and Contracting"),
    ),
    Mutant(
        "port-Hamiltonian: damping feeds",
        "fields/port_hamiltonian.py",
        "- (v @ self.damping)",
        "+ (v @ self.damping)",
        ("test_fields_potentials.py", "-k", "port_hamiltonian"),
    ),
    # networks, losses and schedules
    Mutant(
        "pooling over the patch's area, not its side",
        "networks/convex_potential.py",
        "divisor_override=patch)",
        "divisor_override=patch * patch)",
        ("test_certified_networks.py", "-k", "written_plainly"),
    ),
    Mutant(
        "hidden channels of another network",
        "networks/certified.py",
        "Conv2d(c, c, 3, size)",
        "Conv2d(c, 5, 3, size)",
        ("test_certified_networks.py", "-k", "as_wide_as or checker_reads"),
    ),
    Mutant(
        "steps frozen to the last digit",
        FLOW,
        "SLACK = 1 + 1e-9",
        "SLACK = 1.0",
        ("test_certified_networks.py", "-k", "last_digits"),
    ),
    Mutant(
        "checker: pooling over the area",
        "certify/checker/networks.py",
        '"divisor_override": patch}',
        '"divisor_override": patch * patch}',
        ("test_certified_networks.py", "-k", "checker_reads"),
    ),
    Mutant(
        "checker: mean forgotten",
        "certify/checker/networks.py",
        'if given["mean"] is not None:',
        "if False:",
        ("test_certified_networks.py", "-k", "checker_reads"),
    ),
    Mutant(
        "certificate regularisation: the farthest class",
        "train/losses/radius.py",
        "right, math.inf).amin(1)",
        "right, -math.inf).amax(1)",
        ("test_losses.py", "-k", "formula"),
    ),
    Mutant(
        "EMMA: the share is differentiated",
        "train/losses/radius.py",
        "clamp(0.01, 1).detach()",
        "clamp(0.01, 1)",
        ("test_losses.py", "-k", "emma"),
    ),
    Mutant(
        "EMMA: constants of the wrong class",
        "train/losses/radius.py",
        "gain = (constants[labels] * radius)",
        "gain = (constants[scores.argmin(1)] * radius)",
        ("test_losses.py", "-k", "formula"),
    ),
    Mutant(
        "logit annealing: p for 1 - p",
        "train/losses/cross_entropy.py",
        "(-(-entropy).expm1())",
        "(-entropy).exp()",
        ("test_losses.py", "-k", "formula"),
    ),
    Mutant(
        "progress not told to the loss",
        "train/loop.py",
        "progress.step / total)",
        "1.0)",
        ("test_train.py", "-k", "how_far"),
    ),
    Mutant(
        "triangular: the corner at half",
        "train/schedule.py",
        "if done <= 0.8:",
        "if done <= 0.5:",
        ("test_train.py", "-k", "triangular"),
    ),
    Mutant(
        "recipe wins over the command line's file",
        "cli.py",
        '("--config", "--recipe")',
        '("--recipe", "--config")',
        ("test_recipes.py", "-k", "wins"),
    ),
    # layers that keep norms
    Mutant(
        "isometric: both of a pair the larger",
        "layers/activations.py",
        "torch.minimum(a, b)",
        "torch.maximum(a, b)",
        ("test_isometric_layers.py", "-k", "activations_keep"),
    ),
    Mutant(
        "isometric: half a reflection",
        "layers/activations.py",
        "fold = 2 * (",
        "fold = (",
        ("test_isometric_layers.py", "-k", "activations_keep or householder"),
    ),
    Mutant(
        "isometric: an affine layer taken for non-expansive",
        "layers/affine.py",
        "Lipschitz(self.linear.norm_bound())",
        "Lipschitz(1.0)",
        ("test_component.py", "-k", "conformance and Affine"),
    ),
    Mutant(
        "isometric: scores of a truncated head doubled",
        "layers/heads.py",
        "return x[:, : self.classes]",
        "return 2 * x[:, : self.classes]",
        ("test_component.py", "-k", "conformance and TruncatedHead"),
    ),
    Mutant(
        "isometric: hybrid parts of different times",
        "layers/hybrid.py",
        "integrator or Exponential(), time=time",
        "integrator or Exponential(), time=2 * time",
        ("test_skew.py", "-k", "hybrid"),
    ),
    Mutant(
        "isometric: roots not rounded",
        "core/outward.py",
        "while Fraction(r) ** 2 < square",
        "while Fraction(r) ** 2 < 0",
        ("test_skew.py", "-k", "roots"),
    ),
    Mutant(
        "isometric: half the norm of a skew field",
        "fields/skew.py",
        "Lipschitz(size)",
        "Lipschitz(size / 2)",
        claims("test_fields and SkewLinear"),
    ),
    Mutant(
        "isometric: a skew field taken for contractive",
        "fields/skew.py",
        "OneSidedLipschitz(0.0)",
        "OneSidedLipschitz(-0.1)",
        claims("test_fields and SkewLinear"),
    ),
    Mutant(
        "isometric: kernel not centred",
        "integrators/orthogonal.py",
        "-(k // 2) for k",
        "-k for k",
        ("test_skew.py", "-k", "cayley_step and circular"),
    ),
    Mutant(
        "isometric: convolution for correlation",
        "integrators/orthogonal.py",
        "rfft2(taps).conj()",
        "rfft2(taps)",
        ("test_skew.py", "-k", "cayley_step and circular"),
    ),
    Mutant(
        "isometric: series of 1 / k",
        "integrators/orthogonal.py",
        "f(y, t), h / k)",
        "f(y, t), h)",
        ("test_skew.py", "-k", "is_the_series"),
    ),
    Mutant(
        "isometric: signs of the excess",
        "integrators/series.py",
        "(-1) ** (j + l)",
        "(-1) ** l",
        ("test_skew.py", "-k", "radius or singular_values"),
    ),
    Mutant(
        "isometric: later coefficients forgotten",
        "integrators/series.py",
        "above = start + sum(",
        "above = start + 0 * sum(",
        ("test_skew.py", "-k", "radius or singular_values"),
    ),
    Mutant(
        "isometric: remainder one order too good",
        "integrators/series.py",
        "/ math.factorial(terms + 1)",
        "/ math.factorial(terms + 2)",
        ("test_skew.py", "-k", "remainder"),
    ),
    Mutant(
        "isometric: no deviation in the certificate",
        LAYER_CERTIFICATE,
        "return far * UP + 2.0**-50 if far else 0.0",
        "return 0.0",
        ("test_isometric_layers.py", "-k", "every_number and series"),
    ),
    Mutant(
        "isometric: roundings of the series forgotten",
        "certify/skew_rounding.py",
        "gamma(3) * (1",
        "0 * (1",
        ("test_isometric_layers.py", "-k", "own_words"),
    ),
    Mutant(
        "isometric: Cayley solves exactly",
        "certify/skew_rounding.py",
        "solved = matrix / (1 - matrix)",
        "solved = 0.0",
        ("test_isometric_layers.py", "-k", "own_words"),
    ),
    Mutant(
        "isometric: the checker counts expansion only",
        "certify/checker/skew.py",
        "return high, max(high - 1, 1 - low)",
        "return high, high - 1",
        ("test_isometric_layers.py", "-k", "forged"),
    ),
    Mutant(
        "isometric: the checker believes the deviation",
        "certify/checker/flows.py",
        'f"{what}: deviation")) < far',
        'f"{what}: deviation")) < 0',
        ("test_isometric_layers.py", "-k", "forged"),
    ),
    Mutant(
        "isometric: the checker takes a reflection for exact",
        "certify/checker/rounding.py",
        "64 * U",
        "0 * U",
        ("test_isometric_layers.py", "-k", "every_number and perceptron"),
    ),
    # sizes at the ends of float64
    Mutant(
        "underflow forgotten",
        "certify/rounding.py",
        "LOST = 2.0**-210",
        "LOST = 0.0",
        ("test_certify.py", "-k", "underflows"),
    ),
    Mutant(
        "order of a row's norm forgotten",
        "certify/certificate.py",
        "3 * (w.shape[1] + 16) * 2.0**-53 if isinstance(head, NormalisedHead) else 1e-300",
        "1e-300",
        ("test_verify.py", "-k", "nearly_equal_rows"),
    ),
    Mutant(
        "subnormal product rounded to nearest",
        FOURIER,
        "math.nextafter(bound * math.sqrt(copies) * (1 + 8 * EPS) * scale, math.inf)",
        "bound * math.sqrt(copies) * (1 + 8 * EPS) * scale",
        ("test_linear.py", "-k", "smallest_numbers"),
    ),
    # studies
    Mutant(
        "study: one error too many is proved",
        "studies/depth.py",
        "** hidden - 1) // 2",
        "** hidden - 1) // 2 + 1",
        ("test_dynamics_studies.py", "-k", "bound_of_shallow"),
    ),
    Mutant(
        "study: Jacobians in the wrong order",
        "studies/vanishing_gradients.py",
        "ones[i] @ product",
        "product @ ones[i]",
        ("test_dynamics_studies.py", "-k", "every_jacobian"),
    ),
    Mutant(
        "study: energy of Heun's method",
        "studies/oscillator.py",
        "h**4 / 4",
        "h**4 / 8",
        ("test_dynamics_studies.py", "-k", "is_the_formula"),
    ),
    Mutant(
        "study: shrinking norms are no drift",
        "studies/_held_out.py",
        "(norms / norms[0] - 1).abs().max()",
        "(norms / norms[0] - 1).max()",
        ("test_dynamics_studies.py", "-k", "roll_out_stops"),
    ),
    Mutant(
        "study: finished parts are done again",
        "studies/_folder.py",
        "if not path.is_file():",
        "if True:",
        ("test_dynamics_studies.py", "-k", "keeps_what_is_finished and equilibria"),
    ),
    # gradients, table, projection
    Mutant(
        "inverse step at the wrong time",
        SPLIT,
        "f.velocity(p, t + kicked * h), -a * h",
        "f.velocity(p, t), -a * h",
        ("test_gradients.py", "-k", "undoes_a_step"),
    ),
    Mutant(
        "wrong states are not compared",
        "gradients/reversible.py",
        "if not bool((error <= tolerance).all()):",
        "if False:",
        ("test_gradients.py", "-k", "dropout"),
    ),
    Mutant(
        "a field that occurs twice counts once",
        "gradients/reversible.py",
        "total if slope is None else total + slope",
        "slope",
        ("test_gradients.py", "-k", "gradients_of_a_flow and SymplecticEuler"),
    ),
    Mutant(
        "projection accepts what misses the invariants",
        "integrators/projection.py",
        "            missed=missed,\n",
        "",
        ("test_implicit.py", "-k", "projected"),
    ),
    Mutant(
        "a limited claim is called exact",
        "testing/table.py",
        "if all(kept):",
        "if any(kept):",
        ("test_table.py", "-k", "known_from_theory"),
    ),
    # learning dynamics
    Mutant(
        "L-BFGS with an unscaled loss",
        "train/minimise.py",
        "scale = scale or START / max(abs(number), 1e-200)",
        "scale = 1.0",
        ("test_minimise.py", "-k", "far_below"),
    ),
    Mutant(
        "an infinite loss is trained on",
        "train/minimise.py",
        'raise keeper.stopped(f"the loss is {number} at step {step + 1} of {steps}")',
        "pass",
        ("test_minimise.py", "-k", "last_good_state"),
    ),
    Mutant(
        "times that stand still",
        "data/trajectories.py",
        "np.diff(times) > 0",
        "np.diff(times) >= 0",
        ("test_trajectories.py", "-k", "wrong_csv"),
    ),
    Mutant(
        "one step length for all samples",
        "train/shooting.py",
        "intervals.T.unsqueeze(2) / substeps",
        "intervals.mean(0)[:, None, None] / substeps",
        ("test_minimise.py", "-k", "irregular"),
    ),
    Mutant(
        "predictions in the units of the model",
        "tasks/simulator.py",
        "self.centre + self.size * x[0].numpy()",
        "x[0].numpy()",
        ("test_simulate.py", "-k", "units_of_the_data"),
    ),
    Mutant(
        "drift of a falling function ignored",
        "tasks/drift.py",
        "return max(0.0, float(np.diff(values).max())) if falls else float(np.abs(values - values[0]).max())",
        "return 0.0",
        ("test_simulate.py", "-k", "sees_what_is_lost"),
    ),
]


class Recorder:
    """A pytest plugin: the first test that failed, and how many ran."""

    def __init__(self) -> None:
        self.failed, self.ran = "", 0

    def pytest_runtest_logreport(self, report) -> None:
        self.ran += report.when == "call"
        if report.failed and not self.failed:
            self.failed = report.nodeid.split("tests/")[-1]

    def pytest_collectreport(self, report) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid} (cannot be imported)"


def run(source: str, arguments: list[str], answer) -> None:
    """In a child process: run pytest on the package in `source`, and send (first failure, number of tests run)."""
    sys.dont_write_bytecode = True
    import pytest

    recorder = Recorder()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "addopts=",
            "-o",
            f"pythonpath={source} {ROOT / 'tests'}",
        ]
        pytest.main([*arguments, *options, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")], [recorder])
    where = sys.modules["stablenets"].__file__ or ""
    if not where.startswith(source):
        recorder.failed, recorder.ran = f"the tests ran on {where}", 0
    answer.send((recorder.failed, recorder.ran))


def test(context, source: Path, tests: tuple[str, ...]) -> tuple[str, int]:
    """Run a selection of tests on the package in `source`."""
    receive, send = context.Pipe(duplex=False)
    os.chdir(ROOT / "tests")
    child = context.Process(target=run, args=(str(source), list(tests), send))
    child.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return "the interpreter crashed", 0
    finally:
        child.join()


def main(word: str = "") -> int:
    """Plant every error whose name contains `word`; the number of survivors decides the exit code."""
    chosen = [m for m in MUTANTS if word in m.name]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)  # torch is imported once, not once per error
    survivors, start = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        for tests in sorted({m.tests for m in chosen}):
            failed, ran = test(context, source, tests)
            if failed or not ran:
                print(f"{' '.join(tests)}: {failed or 'selects no test'}, before any error is planted")
                return 1
        print(f"{'error':36} {'file':28} caught by")
        for mutant in chosen:
            path = source / "stablenets" / mutant.file
            original = path.read_text()
            if original.count(mutant.old) != 1:
                print(f"{mutant.name:36} {mutant.file:28} {original.count(mutant.old)} places hold {mutant.old!r}")
                survivors += 1
                continue
            path.write_text(original.replace(mutant.old, mutant.new))
            failed, _ = test(context, source, mutant.tests)
            path.write_text(original)
            survivors += not failed
            print(f"{mutant.name:36} {mutant.file:28} {failed or 'NOBODY'}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} errors were caught, in {time.monotonic() - start:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
