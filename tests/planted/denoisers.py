"""Errors in filter banks, the averaged denoiser, and the restoring of pictures."""

from __future__ import annotations

from .mutant import Mutant

BANK, STEP, FIELD = "linear/filter_bank.py", "networks/euler_denoiser.py", "fields/filter_gradient.py"

MUTANTS = [
    Mutant(
        "mirror: the extension repeats no border pixel",
        "linear/mirror.py",
        "parts = [x.narrow(dim, 0, left).flip(dim)",
        "parts = [x.narrow(dim, 1, left).flip(dim)",
        ("test_filter_bank.py", "-k", "mirrored_image and size0"),
    ),
    Mutant(
        "mirror: blocks across an edge count fully",
        "linear/mirror.py",
        "weights[0] *= 0.5**0.5",
        "weights[0] *= 1.0",
        ("test_filter_bank.py", "-k", "across_an_edge"),
    ),
    Mutant(
        "mirror: what is folded back on the right goes to the left",
        "linear/mirror.py",
        "x.narrow(dim, self.size - right, right).add_",
        "x.narrow(dim, 0, right).add_",
        ("test_component.py", "-k", "FilterBank"),
    ),
    Mutant(
        "filter bank: one mirror image is left out",
        BANK,
        "weight.flip(3), weight.flip(2), weight.flip(2, 3)]",
        "weight.flip(3), weight.flip(2), weight.flip(2)]",
        ("test_filter_bank.py", "-k", "mirrored_image and size1"),
    ),
    Mutant(
        "filter bank: Riesz's factor is left out",
        BANK,
        "riesz = math.cos(math.pi * (self.kernel_size - 1) / GRID)",
        "riesz = 1.0",
        ("test_filter_bank.py", "-k", "few_frequencies"),
    ),
    Mutant(
        "filter bank: kernels beyond Riesz's theorem",
        BANK,
        "1 <= kernel_size <= GRID // 4",
        "1 <= kernel_size",
        ("test_filter_bank.py", "-k", "does_not_fit"),
    ),
    Mutant(
        "filter gradient: the scale is not frozen anew",
        FIELD,
        "        if self.training and not mode:\n            self.freeze()",
        "        if self.training and not mode:\n            pass",
        ("test_euler_denoiser.py", "-k", "while_training_too"),
    ),
    Mutant(
        "filter gradient: widths multiply before, too",
        FIELD,
        "(filters / widths) @ self.linear.windows(x))\n",
        "(filters * widths) @ self.linear.windows(x))\n",
        ("test_component.py", "-k", "FilterGradient"),
    ),
    Mutant(
        "filter gradient: groups grow where they are short",
        FIELD,
        ".sum(1, keepdim=True).clamp(min=1).rsqrt())",
        ".sum(1, keepdim=True).rsqrt())",
        ("test_euler_denoiser.py", "-k", "with_groups"),
    ),
    Mutant(
        "filter gradient: widths differ within a group",
        FIELD,
        "or (group_size > 1 and channels * group_size != free)",
        "or False",
        ("test_euler_denoiser.py", "-k", "do_not_fit"),
    ),
    Mutant(
        "filter gradient: the norm is not squared",
        FIELD,
        "self.activation.slope[1] * size * size",
        "self.activation.slope[1] * size",
        ("test_euler_denoiser.py", "-k", "grew_after_freezing or constant_of_one_step"),
    ),
    Mutant(
        "euler denoiser: steps are twice as long as claimed",
        STEP,
        "self.field.pull(x, 2 * tau, place)",
        "self.field.pull(x, 4 * tau, place)",
        ("test_euler_denoiser.py", "-k", "constant_of_one_step"),
    ),
    Mutant(
        "euler denoiser: the pull is to x, not to y",
        STEP,
        "return torch.lerp(x + self.field.pull(x, 2 * tau, place), y, theta)",
        "return torch.lerp(x + self.field.pull(x, 2 * tau, place), 2 * y, theta)",
        ("test_euler_denoiser.py", "-k", "it_is_averaged and HardTanh"),
    ),
    Mutant(
        "euler denoiser: the share of the pull is counted twice",
        STEP,
        "return both.relaxed(keep)",
        "return both.relaxed(keep * keep)",
        ("test_euler_denoiser.py", "-k", "lowers_the_constant"),
    ),
    Mutant(
        "euler denoiser: all levels are covered by the smallest tau",
        STEP,
        "self.tau_logit.max()",
        "self.tau_logit.min()",
        ("test_euler_denoiser.py", "-k", "covers_all_noise_levels"),
    ),
    Mutant(
        "euler denoiser: the noise level is not scaled back",
        STEP,
        "return x[:, : self.channels] * sigma",
        "return x[:, : self.channels]",
        ("test_euler_denoiser.py", "-k", "noise_levels"),
    ),
    Mutant(
        "relaxed: alpha is divided by the share",
        "core/properties.py",
        "Averaged(outwards(self.alpha, share, math.inf))",
        "Averaged(outwards(self.alpha, 1 / share, math.inf))",
        ("test_euler_denoiser.py", "-k", "lowers_the_constant"),
    ),
    Mutant(
        "scaled: the width is not multiplied back",
        "fields/scaled.py",
        "return w * self.profile(z / w)",
        "return self.profile(z / w)",
        ("test_component.py", "-k", "Scaled"),
    ),
    Mutant(
        "certificate: a smaller alpha passes",
        "certify/denoiser.py",
        "not all(a * (1 + 1e-9) >= b for a, b",
        "not all(a * 2 >= b for a, b",
        ("test_euler_denoiser.py", "-k", "certificates"),
    ),
    Mutant(
        "restore: noise on masked pixels",
        "tasks/restore.py",
        "noise * (operator(white) if isinstance(operator, Mask) else white)",
        "noise * white",
        ("test_restore.py", "-k", "masked_pixels"),
    ),
    Mutant(
        "restore: the picture is written in place",
        "tasks/restore.py",
        "        shutil.rmtree(temporary, ignore_errors=True)\n    return folder",
        "        pass\n    return folder",
        ("test_restore.py", "-k", "failed_write"),
    ),
]
