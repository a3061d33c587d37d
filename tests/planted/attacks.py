"""Errors in attacks."""

from __future__ import annotations

from .mutant import Mutant

AFFINE = ("test_attacks.py", "-k", "affine")
KEEPS = ("test_attacks.py", "-k", "keeps and (ddn or pgd)")
TARGETS = ("test_attacks.py", "-k", "tie_does_not or targets and ddn")
CERTIFIED = ("test_attacks.py", "-k", "left_out and (ddn or pgd)")

MUTANTS = [
    Mutant(
        "attack: any nearer point counts as a success",
        "attack/minimal.py",
        "nearer = success & (distance < self.distance[rows])",
        "nearer = distance < self.distance[rows]",
        KEEPS,
    ),
    Mutant(
        "attack: the last point instead of the nearest",
        "attack/minimal.py",
        "nearer = success & (distance < self.distance[rows])",
        "nearer = success",
        AFFINE,
    ),
    Mutant(
        "attack: DDN lengthens where it should shorten",
        "attack/ddn.py",
        "torch.where(success, 1 - self.gamma, 1 + self.gamma)",
        "torch.where(success, 1 + self.gamma, 1 - self.gamma)",
        AFFINE,
    ),
    Mutant(
        "attack: DeepFool takes the farthest boundary",
        "attack/deep_fool.py",
        "distances, nearest = (gaps.abs() / sizes).min(1)",
        "distances, nearest = (gaps.abs() / sizes).max(1)",
        AFFINE,
    ),
    Mutant(
        "attack: DeepFool divides once by the gradient's norm",
        "attack/deep_fool.py",
        "factor = (distances + BEYOND) / sizes[everyone, nearest]",
        "factor = distances + BEYOND",
        AFFINE,
    ),
    Mutant(
        "attack: Carlini-Wagner forgets the factor 2",
        "attack/carlini_wagner.py",
        "(2 * d - per_sample(pull, d) * gradient)",
        "(20 * d - per_sample(pull, d) * gradient)",
        ("test_attack_peers.py", "-k", "carlini"),
    ),
    Mutant(
        "attack: Carlini-Wagner leaves at every swing",
        "attack/carlini_wagner.py",
        "max(math.ceil(self.steps / CHECKS), LEAST)",
        "math.ceil(self.steps / CHECKS)",
        ("test_attack_peers.py", "-k", "carlini"),
    ),
    Mutant(
        "attack: L-BFGS pairs in the wrong order",
        "attack/bounded_lbfgs.py",
        "for move, change, rho, alpha in reversed(used):",
        "for change, move, rho, alpha in reversed(used):",
        ("test_attacks.py", "-k", "scipy"),
    ),
    Mutant(
        "attack: entries at the box's end leave it",
        "attack/bounded_lbfgs.py",
        "trial = (z[pending] + length * direction[pending]).clamp(low, high)",
        "trial = z[pending] + length * direction[pending]",
        ("test_attacks.py", "-k", "scipy"),
    ),
    Mutant(
        "attack: targets are fled from",
        "attack/victim.py",
        "values = -objective(scores, y) if self.targeted else objective(scores, y)",
        "values = objective(scores, y)",
        TARGETS,
    ),
    Mutant(
        "attack: a tie reaches the target",
        "attack/victim.py",
        "(-m).clamp(max=BELOW)",
        "-m",
        TARGETS,
    ),
    Mutant(
        "attack: certified samples are attacked",
        "attack/base.py",
        "todo = (margin < 0) & (proved <= self.reach) & (proved < torch.inf)",
        "todo = margin < 0",
        CERTIFIED,
    ),
    Mutant(
        "attack: bisection stops at a failure",
        "attack/smallest.py",
        "low[rows[~success]] = radius[rows[~success]]",
        "low[rows[success]] = radius[rows[success]]",
        ("test_attacks.py", "-k", "begins_to_succeed or affine and smallest"),
    ),
    Mutant(
        "attack: the result is not projected",
        "attack/in_ball.py",
        "return self.ball.project(x, self.within(victim, x, y, self.ball, generator))",
        "return x + 1.01 * (self.within(victim, x, y, self.ball, generator) - x)",
        KEEPS,
    ),
    Mutant(
        "attack: the ensemble has no targets",
        "attack/ensemble.py",
        "attempt(self._from_random, victim.towards(), target)",
        "attempt(self._from_random, victim, y)",
        ("test_attacks.py", "-k", "another_class"),
    ),
    Mutant(
        "attack: APGD's momentum points backwards",
        "attack/apgd.py",
        "(1 - share) * (self.z - self.before)",
        "(1 - share) * (self.before - self.z)",
        ("test_attacks.py", "-k", "steps_of_the_paper"),
    ),
]
