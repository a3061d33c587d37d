"""Losses against their formulas, written again sample by sample with Python's floats."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stablenets.core.component import build, by_name, config, kebab
from stablenets.core.errors import InputError
from stablenets.layers import Lift, NormalisedHead, TruncatedHead
from stablenets.train import (
    EMMA,
    CertificateRegularised,
    CrossEntropy,
    LogitAnnealing,
    Loss,
    MultiMargin,
    OffsetCrossEntropy,
)
from stablenets.train.constants import last_layer, score_constants

EXAMPLES = [e for c in Loss.registry.values() for e in c.examples()]
every_loss = pytest.mark.parametrize("loss", EXAMPLES, ids=lambda e: type(e).__name__)


def scores_and_labels(batch: int = 12, classes: int = 5, size: float = 2.0) -> tuple[Tensor, Tensor]:
    """Some samples are right by a little or by much, some wrong."""
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(classes, (batch,), generator=g)
    scores = size * torch.randn(batch, classes, generator=g, dtype=torch.float64)
    scores[torch.arange(batch), labels] += torch.linspace(0, 3 * size, batch, dtype=torch.float64)
    return scores, labels


def constants(classes: int = 5) -> Tensor:
    g = torch.Generator().manual_seed(2)
    half = torch.rand(classes, classes, generator=g, dtype=torch.float64) + 0.3
    return half + half.mT


# the formulas, for one sample: scores z, label y, constants c, share of the training done p


def cross_entropy(z: list[float], y: int) -> float:
    top = max(z)
    return top + math.log(sum(math.exp(s - top) for s in z)) - z[y]


def offset_cross_entropy(z: list[float], y: int, offset: float, t: float) -> float:
    return cross_entropy([(s - offset * (j == y)) / t for j, s in enumerate(z)], y) * t


def logit_annealing(z: list[float], y: int, offset: float, t: float, beta: float) -> float:
    entropy = offset_cross_entropy(z, y, offset, t) / t
    return t * (1 - math.exp(-entropy)) ** beta * entropy


def certificate_regularised(z: list[float], y: int, c: list[list[float]], gamma: float) -> float:
    radius = min((z[y] - z[j]) / c[y][j] for j in range(len(z)) if j != y)
    return cross_entropy(z, y) - gamma * max(0.0, radius)


def emma(z: list[float], y: int, c: list[list[float]], radius: float, p: float) -> float:
    radius *= min(0.1 + 2.9 * 2 * p, 3.0)
    raised = list(z)
    for j in range(len(z)):
        if j != y:
            reach = c[y][j] * radius
            raised[j] += min(1.0, max(0.01, (z[y] - z[j]) / reach)) * reach
    return cross_entropy(raised, y)


Formula = Callable[[list[float], int, list[list[float]], float], float]
FORMULAS: list[tuple[Loss, Formula]] = [
    (CrossEntropy(), lambda z, y, c, p: cross_entropy(z, y)),
    (MultiMargin(0.7), lambda z, y, c, p: sum(max(0, 0.7 - z[y] + s) for j, s in enumerate(z) if j != y) / len(z)),
    (OffsetCrossEntropy(0.7, 0.25), lambda z, y, c, p: offset_cross_entropy(z, y, 0.7, 0.25)),
    (LogitAnnealing(), lambda z, y, c, p: logit_annealing(z, y, 2.0, 0.75, 5.0)),
    (LogitAnnealing(0.5, 0.3, 0.5), lambda z, y, c, p: logit_annealing(z, y, 0.5, 0.3, 0.5)),
    (CertificateRegularised(0.4), lambda z, y, c, p: certificate_regularised(z, y, c, 0.4)),
    (EMMA(0.3), lambda z, y, c, p: emma(z, y, c, 0.3, p)),
]


@pytest.mark.parametrize(("loss", "formula"), FORMULAS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("progress", [0.0, 0.2, 0.5, 1.0])
def test_the_formula(loss: Loss, formula: Formula, progress: float) -> None:
    (z, y), c = scores_and_labels(), constants()
    c.fill_diagonal_(math.nan)  # must not matter
    expected = [formula(row, int(label), c.tolist(), progress) for row, label in zip(z.tolist(), y, strict=True)]
    each = loss.per_sample(z, y, c, progress)
    torch.testing.assert_close(each, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(loss(z, y, c, progress), each.mean())


def test_without_constants_they_are_those_of_a_truncated_head() -> None:
    z, y = scores_and_labels()
    c = torch.full((5, 5), math.sqrt(2), dtype=torch.float64)
    for loss in EXAMPLES:
        torch.testing.assert_close(loss(z, y), loss(z, y, c, 1.0))


@pytest.mark.parametrize("margin", [0.2, 1.0, 5.0])
def test_multi_margin_is_torchs(margin: float) -> None:
    scores, labels = scores_and_labels()
    scores.requires_grad_()
    ours, theirs = MultiMargin(margin)(scores, labels), nn.MultiMarginLoss(margin=margin)(scores, labels)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, scores), torch.autograd.grad(theirs, scores), strict=True):
        torch.testing.assert_close(a, b)


def test_special_cases() -> None:
    z, y = scores_and_labels()
    torch.testing.assert_close(CrossEntropy()(z, y), nn.CrossEntropyLoss()(z, y))
    torch.testing.assert_close(OffsetCrossEntropy(0.0, 1.0)(z, y), CrossEntropy()(z, y))
    torch.testing.assert_close(LogitAnnealing(0.5, 0.25, 0.0)(z, y), OffsetCrossEntropy(0.5, 0.25)(z, y))
    torch.testing.assert_close(CertificateRegularised(0.0)(z, y), CrossEntropy()(z, y))
    torch.testing.assert_close(EMMA(1e-12)(z, y), CrossEntropy()(z, y))


# gradients


@pytest.mark.parametrize("loss", [e for e in EXAMPLES if not isinstance(e, EMMA)], ids=lambda e: type(e).__name__)
def test_gradients_by_finite_differences(loss: Loss) -> None:
    z, y = scores_and_labels(6)
    c = constants()
    assert torch.autograd.gradcheck(lambda z, c: loss(z, y, c, 0.3), (z.requires_grad_(), c.requires_grad_()))


def test_emma_takes_the_share_of_every_class_as_a_constant() -> None:
    """Its gradient is softmax(raised scores) - onehot, as if the scores had been raised by numbers."""
    (z, y), c = scores_and_labels(), constants()
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(EMMA(0.3)(z, y, c, 0.25), z)
    reach = c[y] * 0.3 * (0.1 + 2.9 / 2)
    share = ((z.gather(1, y[:, None]) - z) / reach).clamp(0.01, 1)
    raised = (z + share * reach).detach()
    raised[torch.arange(len(y)), y] = z.detach()[torch.arange(len(y)), y]
    expected = (raised.softmax(1) - nn.functional.one_hot(y, 5)) / len(y)
    torch.testing.assert_close(gradient, expected)


@every_loss
@pytest.mark.parametrize("size", [0.0, 1e-8, 1.0, 1e4, 1e30])
def test_gradients_are_finite_whatever_the_scores(loss: Loss, size: float) -> None:
    """Ties, huge leads, and two classes that share their weights included."""
    z, y = scores_and_labels(size=1.0)
    z = (z * size).float().requires_grad_()
    c = constants().float()
    c[0, 1] = c[1, 0] = 0.0
    c.fill_diagonal_(0.0).requires_grad_()
    loss(z, y, c, 0.5).backward()
    assert z.grad is not None and z.grad.isfinite().all()
    assert c.grad is None or c.grad.isfinite().all() or size == 1e30


# every loss


@every_loss
def test_nan_and_precision(loss: Loss) -> None:
    """NaN for any score that is not finite, wherever it is, and for constants that are NaN; float32 at least."""
    scores, labels = scores_and_labels()
    for bad in (math.nan, math.inf, -math.inf):
        for column in (int(labels[2]), (int(labels[2]) + 1) % 5):
            broken = scores.clone()
            broken[2, column] = bad
            assert loss(broken, labels).isnan()
    if isinstance(loss, (EMMA, CertificateRegularised)):
        assert loss(scores, labels, torch.full((5, 5), math.nan)).isnan()
    assert loss(scores.bfloat16(), labels).dtype == torch.float32
    assert loss(scores.bfloat16(), labels, constants()).dtype == torch.float32
    rebuilt = build(config(loss))
    assert rebuilt(scores, labels).equal(loss(scores, labels))


def test_torchs_hinge_forgets_nan() -> None:
    """Why `MultiMargin` is our own."""
    assert nn.MultiMarginLoss()(torch.full((1, 3), math.nan), torch.tensor([0])) == 0


def test_names_and_bad_arguments() -> None:
    names = {kebab(name) for name in Loss.registry}
    assert names >= {"cross-entropy", "offset-cross-entropy", "logit-annealing", "certificate-regularised", "emma"}
    assert by_name("loss", Loss.registry, "multi-margin") is MultiMargin
    for bad in (
        lambda: MultiMargin(0),
        lambda: MultiMargin(math.nan),
        lambda: OffsetCrossEntropy(-1, 1),
        lambda: OffsetCrossEntropy(1, 0),
        lambda: LogitAnnealing(beta=-1),
        lambda: CertificateRegularised(gamma=-1),
        lambda: CertificateRegularised(gamma=math.inf),
        lambda: EMMA(radius=0),
    ):
        with pytest.raises(InputError, match="needed"):
            bad()


# what is known of the network


def test_constants_of_the_last_layer() -> None:
    head = NormalisedHead(6, 4)
    head.weight.data[1] = head.weight.data[0]  # two equal rows: a gradient of 0, not of NaN
    found = score_constants(last_layer(nn.Sequential(Lift(3, 6), head)))
    assert found is not None and found[0, 1] == 0
    rows = head.effective_weight().detach()
    torch.testing.assert_close(found.detach(), (rows[:, None] - rows[None]).norm(dim=2))
    found.sum().backward()
    assert head.weight.grad is not None and head.weight.grad.isfinite().all() and head.weight.grad.abs().max() > 0
    for unknown in (TruncatedHead(3), nn.ReLU(), nn.Bilinear(2, 2, 2)):
        assert score_constants(last_layer(unknown)) is None
