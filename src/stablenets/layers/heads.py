"""The last layer of a classifier: one score per class, with a Lipschitz constant per pair of classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Lipschitz
from ..linear.bounds import spectral_norm_bound
from .base import Layer


class NormalisedHead(Layer):
    """Scores W x + b with rows of W of norm 1: z_i - z_j is ||w_i - w_j||-Lipschitz, at most 2.

    The map to all scores together is *not* 1-Lipschitz (its constant is ||W||_2); certificates use the pairs
    (Singla, Singla & Feizi 2022, "last-layer normalisation").

    Raises:
        InputError: for inputs that are not (batch, in_features).

    >>> NormalisedHead(5, 3)(torch.zeros(2, 5)).shape
    torch.Size([2, 3])
    """

    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.in_features, self.classes = in_features, classes
        self.input_shape = (in_features,)
        self.weight = nn.Parameter(torch.randn(classes, in_features) / in_features**0.5)
        self.bias = nn.Parameter(torch.zeros(classes))

    def effective_weight(self) -> Tensor:
        """W, with rows of norm 1."""
        return F.normalize(self.weight, dim=1, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (self.in_features,):  # the rows of an image would each be given scores, without a sound
            given, needed = f"a batch of shape {tuple(x.shape)}", f"(batch, {self.in_features})"
            raise InputError(message(given, needed, "Put nn.Flatten() before the head."))
        return F.linear(x, self.effective_weight(), self.bias)

    def claims(self) -> Claims:
        with torch.no_grad():
            w = F.normalize(self.weight.double(), dim=1, eps=1e-12)
            return Claims([Lipschitz(spectral_norm_bound(w))])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(4, 3)


class TruncatedHead(Layer):
    """The first `classes` features as scores, without weights: z_i - z_j is sqrt(2)-Lipschitz.

    The head of the published Convex Potential Layer networks (Meunier, Delattre, Araujo & Allauzen 2022).

    Raises:
        InputError: for inputs that are not (batch, features) with at least `classes` features.

    >>> TruncatedHead(2)(torch.tensor([[3.0, 4.0, 5.0]]))
    tensor([[3., 4.]])
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.input_shape = (classes + 1,)

    def effective_weight(self) -> Tensor:
        """The rows of the scores as functions of the first `classes` features: the identity."""
        return torch.eye(self.classes, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or x.shape[1] < self.classes:
            needed = f"(batch, features) with at least {self.classes} features"
            raise InputError(message(f"a batch of shape {tuple(x.shape)}", needed, "Put nn.Flatten() before the head."))
        return x[:, : self.classes]

    def claims(self) -> Claims:
        return Claims([Lipschitz(1.0)])

    @classmethod
    def examples(cls) -> Iterator[Self]:
        yield cls(3)
