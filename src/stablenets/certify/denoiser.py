"""The certificate of a denoiser: that it is averaged, on images of every size."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch

from ..core.errors import ClaimError, InputError, message
from ..core.properties import Averaged
from ..layers.files import weights_hash
from ..networks import Denoiser, EulerDenoiser

FORMAT = "stablenets/denoiser/1"


@dataclass(frozen=True)
class Step:
    """One step of an `EulerDenoiser`: its filters' norm times their scale, at most `norm` <= 1, by `theorem`."""

    norm: float
    theorem: str


@dataclass(frozen=True)
class DenoiserCertificate:
    """`alpha`: for every noise level, y -> D(y, sigma) is alpha-averaged on images of every size.

    At the noise levels in `levels` the constants are those in `alphas`, which are smaller.
    """

    weights_sha256: str
    alpha: float
    levels: tuple[float, ...]
    alphas: tuple[float, ...]
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, net: Denoiser) -> Self:
        """The certificate of a denoiser with its present weights.

        Raises:
            ClaimError: nothing is proved of it, it is in training mode, or it computes with less than float32.
        """
        for name, value in net.named_parameters():
            if value.dtype not in (torch.float32, torch.float64):
                given = f"{name} is {value.dtype}, whose rounding is larger than what the constants allow for"
                raise ClaimError(message(given, "float32 or float64 weights", "Call net.float()."))
        if any(part.training for part in net.modules()):
            raise ClaimError(message("the network is in training mode", "frozen scales", "Call net.eval() first."))
        claims = net.claims_at([None, *net.levels]) if isinstance(net, EulerDenoiser) else []
        alphas = [claim.alpha for c in claims if (claim := c.get(Averaged)) is not None]
        if not isinstance(net, EulerDenoiser) or len(alphas) <= len(net.levels):
            given = f"no theorem says that {type(net).__name__} is averaged"
            raise ClaimError(message(given, "a denoiser that is so by construction, such as EulerDenoiser"))
        fields = [step.field for step in net.anchored_steps()]
        steps = [Step(f.linear.norm_bound() * f.scale, f.linear.norm_theorem) for f in fields]
        return cls(weights_hash(net), alphas[0], net.levels, tuple(alphas[1:]), tuple(steps))

    @property
    def words(self) -> str:
        """The statement and its theorems."""
        return (
            f"For images of every size and every noise level, the denoiser is {self.alpha:.4f}-averaged, hence "
            f"1-Lipschitz: each of its {len(self.steps)} steps is an averaged gradient step of a convex function "
            "(Baillon & Haddad 1977), compositions of averaged maps are averaged (Ogura & Yamada 2002), and so are "
            f"their convex combinations with the identity. The norm of each filter bank, by {self.steps[0].theorem}."
        )

    def check(self, net: Denoiser) -> None:
        """Compute everything afresh for `net`, and compare.

        Raises:
            ClaimError: the weights are others, or a number of the certificate is smaller than what follows.
        """
        fresh = DenoiserCertificate.of(net)
        if fresh.weights_sha256 != self.weights_sha256:
            raise ClaimError(message("the certificate is for other weights", "that of this network", "Certify again."))
        claimed, found = (self.alpha, *self.alphas), (fresh.alpha, *fresh.alphas)
        sound = self.levels == fresh.levels and len(claimed) == len(found)
        if not sound or not all(a * (1 + 1e-9) >= b for a, b in zip(claimed, found, strict=True)):
            raise ClaimError(message(f"the certificate says {self.alpha}", f"at least {fresh.alpha}", "Certify again."))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps({"format": FORMAT} | asdict(self), indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(message(f"cannot write {path} ({error.strerror})", "a writable folder")) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged or of another kind.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            steps = tuple(Step(**step) for step in content.pop("steps"))
            levels, alphas = tuple(content.pop("levels")), tuple(content.pop("alphas"))
            if not all(type(v) in (int, float) for v in (content["alpha"], *levels, *alphas, *(s.norm for s in steps))):
                raise ValueError("a number is missing")
            return cls(**content, levels=levels, alphas=alphas, steps=steps)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(message(f"{path} is not a denoiser's certificate ({error})", "one as written")) from None
