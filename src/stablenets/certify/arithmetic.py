"""The arithmetic that a certificate speaks of, and what can be read out about it.

A certificate needs every entry of a convolution or matrix product to be a sum of products in its own dtype, in any
order. In float64 PyTorch's are. In float32 they need not be. oneDNN, PyTorch's choice for convolutions, sums directly
("direct", never "auto" or "winograd"), but may round the factors to bf16: by a flag, or by the environment variable
ONEDNN_DEFAULT_FPMATH_MODE, which PyTorch does not report. NNPACK, taken where oneDNN is turned off, uses Winograd's
transform: errors fifty times larger were measured. `plain_float32` turns both off, which leaves matrix products of
unfolded images, and tests those.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from ..core.errors import ClaimError, message


def refuse_autocast() -> None:
    """bf16 and fp16 arithmetic void a certificate: a provably non-expansive network measured an expansion of 88."""
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise ClaimError(
            message("autocast is on", "evaluation in the certificate's dtype", "Leave the autocast block.")
        )


@contextlib.contextmanager
def plain_float32() -> Iterator[None]:
    """Evaluate float32 on the CPU as sums of float32 products: no TF32, no bf16 factors, no Winograd.

    PyTorch's flags are global: other threads must not change them meanwhile.

    Raises:
        ClaimError: under autocast, with torch.set_float32_matmul_precision other than "highest", or where integers
            that float32 holds exactly come out wrong.
    """
    refuse_autocast()
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # flags of the older and the newer kind were mixed
        precision = "unclear"
    if precision != "highest":
        todo = 'Call torch.set_float32_matmul_precision("highest"), and leave allow_tf32 and fp32_precision alone.'
        raise ClaimError(message(f"the precision of float32 products is {precision}", "'highest'", todo))
    backend = torch.backends.mkldnn
    before = backend.enabled
    try:
        backend.enabled = False  # type: ignore[assignment]
        with torch.backends.nnpack.flags(enabled=False):
            refuse_inexact()
            yield
    finally:
        backend.enabled = before


@torch.no_grad()
def refuse_inexact() -> None:
    """Refuse a float32 arithmetic in which small integers are not added and multiplied exactly.

    Twelve-bit factors, with sums below 2^24: exact in float32 in any order, but not with the factors of TF32 (11 bits)
    or bf16 (8 bits), nor after the fractions of Winograd's transform for tiles of 4 x 4 or more. It is a test, not a
    proof that other inputs are treated the same.
    """
    generator = torch.Generator().manual_seed(0)
    large = torch.randint(-4095, 4096, (16, 16, 8, 8), generator=generator)
    small = torch.randint(-1, 2, (16, 16, 3, 3), generator=generator)
    for image, kernel in ((large, small), (small.repeat(1, 1, 3, 3), large[..., :3, :3])):
        for apply in (_convolution, _product):
            if not torch.equal(apply(image.float(), kernel.float()).double(), apply(image.double(), kernel.double())):
                given = "float32 products of small integers come out wrong"
                raise ClaimError(message(given, "exact float32 products", "Certify in float64."))


def _convolution(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, kernel, padding=1)


def _product(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return F.linear(x.flatten(1)[:, :144], kernel.flatten(1))
