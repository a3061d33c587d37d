"""A certificate in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layer import FlowCertificate, LayerCertificate, SkewFlowCertificate, TimedFlowCertificate

if TYPE_CHECKING:
    from .certificate import Certificate


def explain(certificate: Certificate) -> str:
    """What is proved, in which arithmetic, and why, layer by layer."""
    c, worst = certificate, max(max(row) for row in certificate.constants)
    flows = sum(isinstance(layer, FlowCertificate) for layer in c.layers)
    reasons: dict[str, int] = {}
    for layer in c.layers:
        for reason in (
            layer.theorem,
            layer.method,
            *([layer.norm_theorem] if isinstance(layer, FlowCertificate) else []),
            *([layer.outer_norm_theorem] if isinstance(layer, TimedFlowCertificate) else []),
        ):
            reasons.setdefault(reason, len(reasons) + 1)
    return "\n".join(
        [
            f"{c.network}: every layer before the head together is {c.lipschitz:.12g}-Lipschitz in the l2 norm.",
            f"A difference of two scores changes by at most {c.lipschitz * worst:.6g} per unit of perturbation.",
            *([f"Of this, a factor of {c.scaling:.6g} is the scaling of the input."] if c.scaling != 1 else []),
            *_arithmetic(c),
            "Layer by layer:",
            *(_layer(layer, reasons) for layer in c.layers),
            f"{flows} flows; weights sha256 {c.weights_sha256[:16]}...",
            "Why:",
            *(f"  [{number}] {reason}." for reason, number in reasons.items()),
        ]
    )


def _arithmetic(c: Certificate) -> list[str]:
    """How rounding is dealt with."""
    float64 = (
        f"Evaluated in float64, the scores are within {c.rounding:.2g} of their exact values for every input of norm "
        f"at most {c.norm_limit:.4g}"
    )
    if c.growth is None:
        return [f"{float64}; twice this, times sqrt(2), is taken off every margin."]
    return [
        "The certificate is for evaluation in float32 on a CPU, with every sum of products in float32, in any order: "
        "no TF32, no bf16 factors, no Winograd or FFT convolutions.",
        "For each input, running error analysis bounds the error of every difference of scores, and that is taken off "
        f"its margin. In a ball the bound grows, per unit of radius by {c.growth.state:.2g} times the constant of the "
        f"pair and {max(c.growth.scores):.2g} for each score.",
        f"{float64}: they stand for the exact ones.",
    ]


def _layer(c: LayerCertificate, reasons: dict[str, int]) -> str:
    """One layer; the numbers in brackets stand for theorems, which layers of a kind share."""
    parts = [
        f"  {c.name} ({c.kind}): Lipschitz constant {c.lipschitz:.12g} [{reasons[c.theorem]}, {reasons[c.method]}]"
    ]
    if isinstance(c, FlowCertificate):
        limit = "no limit" if c.step_limit is None else f"limit {c.step_limit:.6g}"
        parts.append(
            f"||A|| <= {c.norm_bound:.9g} [{reasons[c.norm_theorem]}], {c.steps} step(s) of h = {c.h:.6g}, {limit}"
        )
    if isinstance(c, TimedFlowCertificate):
        parts.append(f"||B|| <= {c.outer_norm_bound:.9g} [{reasons[c.outer_norm_theorem]}]")
    if isinstance(c, SkewFlowCertificate):
        parts.append(f"every singular value of a step is within {c.deviation:.3g} of 1")
    return "; ".join(parts) + "."
