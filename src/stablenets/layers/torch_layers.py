"""What is known about PyTorch's own layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from torch import nn

from ..core.claims import Claims
from ..core.component import register_external
from ..core.errors import ClaimError, message
from ..core.outward import root
from ..core.properties import Averaged, Isometry, Lipschitz
from ..linear.bounds import spectral_norm_bound


def _permutation(layer: Any) -> Claims:
    if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1):
        raise ClaimError(message("Flatten that mixes samples", "start_dim=1, end_dim=-1"))
    return Claims([Isometry()])


def _average_pooling(layer: Any) -> Claims:
    """Sums over disjoint k x k windows have norm k; the layer divides them by k^2 or by `divisor_override`."""
    size = layer.kernel_size if isinstance(layer.kernel_size, tuple) else (layer.kernel_size,) * 2
    stride = layer.stride if isinstance(layer.stride, tuple) else (layer.stride,) * 2
    if stride != size or layer.padding not in (0, (0, 0)) or layer.ceil_mode:
        raise ClaimError(message("AvgPool2d with overlapping or padded windows", "stride = kernel_size, no padding"))
    pixels = size[0] * size[1]
    return Claims([Lipschitz(root(Fraction(pixels, (layer.divisor_override or pixels) ** 2), math.inf))])


def _linear(layer: Any) -> Claims:
    return Claims([Lipschitz(spectral_norm_bound(layer.weight.detach().double()))])


def _increasing(layer: Any) -> Claims:
    if isinstance(layer, nn.LeakyReLU) and not 0 <= layer.negative_slope <= 1:
        raise ClaimError(message(f"LeakyReLU({layer.negative_slope})", "a slope in [0, 1]"))
    return Claims([Averaged(0.5)])  # non-decreasing and 1-Lipschitz: a resolvent


TORCH_LAYERS: dict[type[nn.Module], Callable[[Any], Claims]] = {
    nn.Identity: _permutation,
    nn.Flatten: _permutation,
    nn.PixelShuffle: _permutation,
    nn.PixelUnshuffle: _permutation,
    nn.AvgPool2d: _average_pooling,
    nn.Linear: _linear,
    nn.ReLU: _increasing,
    nn.LeakyReLU: _increasing,
    nn.Tanh: _increasing,
}

for _cls, _arguments in {
    nn.Identity: (),
    nn.Flatten: ("start_dim", "end_dim"),
    nn.PixelShuffle: ("upscale_factor",),
    nn.PixelUnshuffle: ("downscale_factor",),
    nn.AvgPool2d: ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    nn.ReLU: (),
    nn.LeakyReLU: ("negative_slope",),
    nn.Tanh: (),
    nn.Linear: ("in_features", "out_features", "bias"),
    nn.Conv2d: (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "bias",
        "padding_mode",
    ),
}.items():
    register_external(_cls, _arguments)


def torch_claims(layer: nn.Module) -> Claims:
    """Claims of a PyTorch layer in `TORCH_LAYERS`."""
    return TORCH_LAYERS[type(layer)](layer)
