"""One dimension of a 'same' convolution: which input each output sees at each tap of the kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..core.errors import InputError, message

PADDINGS = ("zero", "circular", "reflect")


@dataclass(frozen=True)
class Axis:
    """Output i < outputs combines the inputs i stride + t dilation - before, for the taps t = 0 ... kernel - 1.

    What lies outside 0 ... size - 1 is zero, or the signal repeated ("circular"), or mirrored at its first and last
    point, which are not repeated ("reflect"). When the reach is odd, the extra point lies after the signal, as in
    PyTorch's `padding="same"`.

    >>> [Axis(5, 3, 2, 1, "reflect").source(i, t) for i in range(3) for t in range(3)]
    [1, 0, 1, 1, 2, 3, 3, 4, 3]
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    padding: str

    def __post_init__(self) -> None:
        counts = {"size": self.size, "kernel_size": self.kernel, "stride": self.stride, "dilation": self.dilation}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(message(f"{name}={value!r}", "positive integers"))
        if self.padding not in PADDINGS:
            raise InputError(message(f"padding={self.padding!r}", "'zero', 'circular' or 'reflect'"))
        if self.padding == "circular" and self.size <= self.reach:
            raise InputError(
                message(f"a circular kernel that spans {self.reach + 1} of {self.size} points", "one that fits in")
            )
        if self.padding == "circular" and self.size % self.stride:
            raise InputError(
                message(
                    f"circular padding of {self.size} points with stride {self.stride}",
                    "a stride that divides the size",
                )
            )
        if self.padding == "reflect" and self.size <= self.after:
            raise InputError(message(f"{self.size} points extended by {self.after} reflected ones", "more points"))

    @property
    def reach(self) -> int:
        """Distance between the first and the last input of an output."""
        return self.dilation * (self.kernel - 1)

    @property
    def before(self) -> int:
        """Points that the padding puts in front."""
        return self.reach // 2

    @property
    def after(self) -> int:
        """Points that the padding appends."""
        return self.reach - self.before

    @property
    def outputs(self) -> int:
        return -(-self.size // self.stride)

    def padded(self, j: int) -> int | None:
        """Which input stands at place j = -before ... size - 1 + after; None for a zero."""
        if self.padding == "circular":
            return j % self.size
        if self.padding == "reflect":
            return abs(j) if j < self.size else 2 * (self.size - 1) - j
        return j if 0 <= j < self.size else None

    def source(self, i: int, t: int) -> int | None:
        """Which input output i sees at tap t; None for a zero."""
        return self.padded(i * self.stride + t * self.dilation - self.before)

    @property
    def copies(self) -> int:
        """How often one input occurs in the reflected signal, at most; 1 for the other paddings.

        (No output sees two copies of a circular one.)
        """
        if self.padding != "reflect":
            return 1
        return max(Counter(self.padded(j) for j in range(-self.before, self.size + self.after)).values())
