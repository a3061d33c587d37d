"""Errors in Neural ODEs, fields of their own, normalising flows, generated samples, and optimal control."""

from __future__ import annotations

from .mutant import Mutant

EXACT, ODE = "fields/exact.py", "networks/neural_ode.py"
DIVERGENCE, FLOW = "fields/divergence.py", "networks/continuous_normalising_flow.py"
WEIGHTS, SECOND = "fields/weight_flow.py", "fields/second_order.py"
CONTROL, TASK, POINTS = "train/control.py", "tasks/generate.py", "data/points.py"


def tests(file: str, words: str) -> tuple[str, ...]:
    return (f"test_{file}.py", "-k", words)


MUTANTS = [
    # exact flows
    Mutant(
        "exact flow: Lipschitz constant of half the time", EXACT, "_bound(nu * time)", "_bound(nu * time / 2)",
        tests("neural_ode", "attained"),
    ),
    Mutant(
        "exact flow: shrinks too little", EXACT, "math.exp(-bound * time * UP)", "math.exp(-bound * time / 2)",
        tests("neural_ode", "attained"),
    ),
    Mutant(
        "exact flow: every divergence is zero", EXACT,
        "case QuasiPositive():\n                found.append(Positive())",
        "case QuasiPositive():\n                found += [Positive(), VolumePreserving()]",
        tests("neural_ode", "attained"),
    ),
    Mutant(
        "exact flow: decay doubled", EXACT, "math.exp(-rate * time / UP)", "math.exp(-2 * rate * time / UP)",
        tests("neural_ode", "attained"),
    ),
    # Neural ODE
    Mutant(
        "Neural ODE: exact claims leave the head out", ODE,
        'return claims(self.head).after(flow.after(claims(self.lift), "the flow"), "the head")',
        'return flow.after(claims(self.lift), "the flow")',
        tests("neural_ode", "any_time"),
    ),
    Mutant(
        "checker: Neural ODE without its head", "certify/checker/architecture.py", '    yield given["head"]\n', "",
        tests("neural_ode", "certified"),
    ),
    # divergence and densities
    Mutant(
        "divergence: one column short", DIVERGENCE, "traces.sum(0) if self", "traces[1:].sum(0) if self",
        tests("normalising_flow", "determinants or trace"),
    ),
    Mutant(
        "Hutchinson: a time for every sample", DIVERGENCE, "if self.probes is not None and isinstance(t, Tensor)",
        "if False and isinstance(t, Tensor)", tests("normalising_flow", "signs_belong"),
    ),
    Mutant(
        "Hutchinson: signs with a mean", DIVERGENCE, "(2 * signs - 1)", "(2 * signs)",
        tests("normalising_flow", "hutchinson"),
    ),
    Mutant(
        "Hutchinson: new signs at every evaluation", DIVERGENCE,
        ".manual_seed(self.seed)", ".manual_seed(torch.seed())",
        tests("normalising_flow", "hutchinson"),
    ),
    Mutant(
        "likelihood: sign of the log-determinant", FLOW, "self.entries * LOG_2PI + end[:, -1]",
        "self.entries * LOG_2PI - end[:, -1]", tests("normalising_flow", "determinants or linear"),
    ),
    Mutant(
        "likelihood: one entry too few in the constant", FLOW, "0.5 * self.entries * LOG_2PI",
        "0.5 * (self.entries - 1) * LOG_2PI", tests("normalising_flow", "linear or integrate"),
    ),
    Mutant(
        "inverse: forwards again", FLOW, "self._checked(x), [1.0, 0.0]", "self._checked(x), [0.0, 1.0]",
        tests("normalising_flow", "round_trips"),
    ),
    Mutant(
        "flow matching: velocity backwards", FLOW, "- (x - z))", "- (z - x))", tests("normalising_flow", "matching"),
    ),
    Mutant(
        "flow matching: another path", FLOW, "(1 - t) * z + t * x, t", "(1 - t) * z + t * t * x, t",
        tests("normalising_flow", "matching_goes"),
    ),
    Mutant(
        "densities: entropy without the number of parts", "data/densities.py",
        "self.spread**2 * self.parts)", "self.spread**2)", tests("normalising_flow", "entropies"),
    ),
    # fields
    Mutant(
        "weights: not polished", WEIGHTS, "w = polished(w @ cayley(h * s))", "w = w @ cayley(h * s).float().double()",
        tests("weight_flow", "orthogonal"),
    ),
    Mutant(
        "weights: not polished inside a step", WEIGHTS, "return polished(w @ cayley((t - k * h) * s))",
        "return w @ cayley((t - k * h) * s)", tests("weight_flow", "however_fast"),
    ),
    Mutant(
        "weights: one path for all pieces", WEIGHTS, "_top_saved_tensors_default_hooks(True)",
        "_top_saved_tensors_default_hooks(True) and None", tests("weight_flow", "finite_differences"),
    ),
    Mutant(
        "weights: generator not skew", WEIGHTS, "return g - g.mT", "return g - 0.999 * g.mT",
        tests("weight_flow", "orthogonal"),
    ),
    Mutant(
        "weights: generator at the start of the step", WEIGHTS, "self.generator(half, (k + 0.5) * h)",
        "self.generator(w, k * h)", tests("weight_flow", "equation"),
    ),
    Mutant(
        "weights: path kept when they change", WEIGHTS, "[(id(p), p._version) for p in self.parameters()]", "[]",
        tests("weight_flow", "forgotten"),
    ),
    Mutant(
        "weights: path kept after a backward pass", WEIGHTS, "                self._path = None\n",
        "                pass\n", tests("weight_flow", "finite_differences"),
    ),
    Mutant(
        "weights: cocoercivity doubled", WEIGHTS, "Cocoercive(1 / (slope", "Cocoercive(2 / (slope",
        tests("weight_flow", "attained or conformance"),
    ),
    Mutant(
        "second order: bound without the velocity", SECOND, "(1 + size * size) ** 0.5", "(size * size) ** 0.5",
        tests("weight_flow", "second_order or conformance"),
    ),
    # optimal control
    Mutant(
        "costate: at the start of the step", CONTROL, "self._slope(k, states[k], found[-1])",
        "self._slope(k, states[k + 1], found[-1])", tests("control", "costates or gradients"),
    ),
    Mutant(
        "Hamiltonian: running cost added", CONTROL, ".sum(1) - self.running", ".sum(1) + self.running",
        tests("control", "costates or gradients or optimum"),
    ),
    Mutant(
        "extended method: penalty forgotten", CONTROL, "value = value - rho / 2", "value = value - 0 * rho / 2",
        tests("control", "contraction"),
    ),
    Mutant(
        "maximum condition: parameters not put back", CONTROL,
        "            _restore(parameters, before)\n        found",
        "        found", tests("control", "as_they_were"),
    ),
    # the task
    Mutant(
        "generate: likelihood in the model's units", TASK, "- np.log(self.scale.size).sum()", "",
        tests("generate", "odd_units"),
    ),
    Mutant(
        "generate: samples not scaled back", TASK, "* self.size + self.centre", "+ self.centre",
        tests("generate", "odd_units"),
    ),
    Mutant(
        "points: infinite cells pass", POINTS, "return math.isfinite(float(cell))",
        "return not math.isnan(float(cell))",
        tests("generate", "files_that_are_refused"),
    ),
]  # fmt: skip
