"""The checker's own convolutions, with every padding, stride, dilation and grouping."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .banded import prove_banded
from .maps import Map, affordable
from .norms import OUT, U, gamma, prove

EXPLICIT_SIDES = (600, 2400)  # convolutions with matrices no larger than this are proved as explicit matrices
PADDINGS = ("zero", "circular", "reflect")
TRIES = 6  # multiplications that tell that a torus cannot prove a bound, before a proof is tried


@dataclass(frozen=True)
class Side:
    """One dimension of a 'same' convolution: the signal is padded to n + (kernel - 1) dilation points, the smaller half
    of them in front, and every `stride`-th window of that is an output."""

    n: int
    kernel: int
    stride: int
    dilation: int
    padding: str

    @property
    def reach(self) -> int:
        return (self.kernel - 1) * self.dilation

    @property
    def outputs(self) -> int:
        return (self.n - 1) // self.stride + 1

    @cached_property
    def padded(self) -> np.ndarray:
        """Which input stands at each place of the padded signal; -1 for a zero."""
        margins = (self.reach // 2, self.reach - self.reach // 2)
        if self.padding == "zero":
            return np.pad(np.arange(self.n), margins, constant_values=-1)
        return np.pad(np.arange(self.n), margins, mode="wrap" if self.padding == "circular" else "reflect")

    @cached_property
    def places(self) -> np.ndarray:
        """(kernel, outputs): which input an output sees through a tap; -1 for a zero."""
        return self.padded[np.arange(self.outputs) * self.stride + np.arange(self.kernel)[:, None] * self.dilation]

    def selects(self) -> np.ndarray:
        """(kernel, outputs, n): the same with a 1 at that input."""
        return (self.places[:, :, None] == np.arange(self.n)).astype(float)

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """How many inputs each output sees through each tap (kernel, outputs), and the reverse (kernel, n)."""
        seen = [np.bincount(p[p >= 0], minlength=self.n) for p in self.places]
        return (self.places >= 0).astype(float), np.array(seen, float)

    @property
    def copies(self) -> int:
        """How often the padded signal holds one input, at most."""
        return int(np.bincount(self.padded[self.padded >= 0]).max())

    def tori(self) -> list[tuple[int, int]]:
        """Lengths of periodic (0) and antiperiodic (1) signals with which this one may be continued.

        Those continue n values followed by zeros, so many that no window sees both ends; `reflect` counts the mirrored
        values among those given. A periodic signal is already one.
        """
        if self.padding == "circular":
            return [(self.n, 0)]
        if not self.reach:
            return [(self.stride, 0)]  # one tap: the symbol is the same at every frequency
        zeros = self.reach if self.padding == "reflect" else self.reach - self.reach // 2
        least = math.ceil((self.n + zeros) / self.stride) * self.stride
        return [(least + more, twist) for more in (0, self.stride) for twist in (0, 1)]


class Conv(Map):
    """Correlation with a kernel (out, in / groups, k1, k2); a signal is an image of width 1 (`flat`)."""

    def __init__(
        self,
        weight: np.ndarray,
        sides: tuple[Side, Side],
        groups: int = 1,
        *,
        deviation: float = 0.0,
        flat: bool = False,
    ) -> None:
        self.weight, self.sides, self.groups, self.deviation = weight, sides, groups, deviation
        outputs, inputs, *kernel = weight.shape
        last = slice(None, 1 if flat else None)
        self.input_shape = (inputs * groups, *(s.n for s in sides[last]))
        self.output_shape = (outputs, *(s.outputs for s in sides[last]))
        # an input of a strided or zero-padded map is seen at most once through each tap; of a mirrored one, by copies
        copies = math.prod(s.copies if s.padding == "reflect" else 1 for s in sides)
        self.lengths = inputs * math.prod(kernel), outputs // groups * math.prod(kernel) * copies

    def proves(self, bound: float) -> bool:
        """Group by group, since the map is block diagonal in them."""
        parts = np.split(self.weight, self.groups)
        return math.isfinite(bound) and all(Group(w, self.sides).proves(self._within(bound)) for w in parts)

    def sums(self) -> tuple[float, float]:
        parts = [Group(w, self.sides).sums() for w in np.split(self.weight, self.groups)]
        rows, columns = zip(*parts, strict=True)
        return max(rows), max(columns)


@dataclass(frozen=True)
class Group:
    """One group of a convolution: weight (out, in, k1, k2)."""

    weight: np.ndarray
    sides: tuple[Side, Side]

    def proves(self, bound: float) -> bool:
        """With the explicit matrix where that is small; else on a torus; else, on small images, row by row.

        A torus carries periodic (Sedghi, Gupta & Long 2019) or antiperiodic signals, on which a convolution is block
        diagonal. With zeros around it, a convolution is what is left of one on a torus when inputs and outputs beyond
        the image are dropped. Mirroring repeats no input more than `copies` times: it has norm sqrt(copies).
        """
        o, c = self.weight.shape[:2]
        size = o * math.prod(s.outputs for s in self.sides), c * math.prod(s.n for s in self.sides)
        if min(size) <= EXPLICIT_SIDES[0] and max(size) <= EXPLICIT_SIDES[1]:
            mirrored = self.sides[0].padding == "reflect"  # sums up to nine taps in an entry
            return prove(self.matrix()[None], bound, 16 * U * math.prod(self.sums()) ** 0.5 if mirrored else 0.0)
        copies = math.prod(s.copies for s in self.sides if s.padding == "reflect")
        within = bound / math.sqrt(copies) * (1 - 2 * U) if copies > 1 else bound
        if any(self.proves_on(torus, within) for torus in itertools.product(*(s.tori() for s in self.sides))):
            return True
        roomy = all(s.n >= 8 * s.reach for s in self.sides)
        if self.sides[0].padding == "circular" or (self.sides[0].padding == "zero" and roomy):
            return False
        return prove_banded(*self.rows(), bound, self.sums())

    def matrix(self) -> np.ndarray:
        """The explicit matrix (outputs, inputs)."""
        full = np.einsum("ocst,sij,tkl->oikcjl", self.weight, *(s.selects() for s in self.sides), optimize=True)
        return full.reshape(math.prod(full.shape[:3]), -1)

    def sums(self) -> tuple[float, float]:
        """The largest sums over a row and over a column of the matrix made of |weight|."""
        (rows1, columns1), (rows2, columns2) = (s.counts() for s in self.sides)
        rows = np.einsum("ocst,si,tk->oik", np.abs(self.weight), rows1, rows2, optimize=True)
        columns = np.einsum("ocst,sj,tl->cjl", np.abs(self.weight), columns1, columns2, optimize=True)
        return float(rows.max()), float(columns.max())

    def rows(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Every row of the kernel as a matrix along the shorter side, and the `places` along the longer one."""
        weight, (first, second) = self.weight, self.sides
        if second.n > first.n:
            weight, first, second = weight.swapaxes(2, 3), second, first
        parts = np.einsum("ocst,tkl->sokcl", weight, second.selects(), optimize=True)
        return list(parts.reshape(first.kernel, math.prod(parts.shape[1:3]), -1)), first.places

    def proves_on(self, torus: tuple[tuple[int, int], ...], bound: float) -> bool:
        """Whether a torus proves the bound: all symbols at once, unless a few multiplications show that it cannot."""
        symbols, error, aliases = self.symbols(torus)
        bound *= math.sqrt(aliases) * (1 - 2 * U)
        v = np.ones((len(symbols), symbols.shape[2], 1)) + np.arange(symbols.shape[2])[:, None] % 3
        for _ in range(TRIES):
            v /= np.linalg.norm(v, axis=1, keepdims=True) + 1e-300
            u = symbols @ v
            if not np.linalg.norm(u, axis=1).max() <= bound:
                return False
            v = symbols.swapaxes(1, 2) @ u
        return prove(symbols, bound, error * math.sqrt(aliases) * OUT)

    def symbols(self, torus: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, float, int]:
        """Real forms [[P, -Q], [Q, P]] of the symbols P + iQ, one per pair of opposite frequencies.

        Frequencies that a stride makes equal stand side by side; the true symbol is that divided by the root of their
        number, which is returned third. The symbols are sums over the taps, not a fast transform. The second value
        bounds the error of each: cosines and sines are within 24 u (six roundings of an angle below 2 pi, and the
        library's last bits), sums within gamma.
        """
        o, c, *kernel = self.weight.shape
        (n1, _), (n2, twist) = torus
        steps = [s.stride for s in self.sides]
        distinct = n1 // steps[0], (n2 // steps[1] + 2 - twist) // 2
        aliases = math.prod(steps)
        affordable(math.prod(distinct), 2 * o, 2 * aliases * c)
        unit = math.pi / (n1 * n2)
        cosine = np.array([math.cos(unit * i) for i in range(2 * n1 * n2)])
        sine = np.array([math.sin(unit * i) for i in range(2 * n1 * n2)])
        turns = []
        for side, (n, shift), count in zip(self.sides, torus, distinct, strict=True):
            frequency = np.arange(count)[:, None] + n // side.stride * np.arange(side.stride)
            turns.append((2 * frequency + shift)[:, :, None] * np.arange(side.kernel) * side.dilation)
        # (frequency 1, frequency 2, alias 1, alias 2, tap 1, tap 2): exact, in parts of half a turn / (n1 n2)
        first, second = turns[0][:, None, :, None, :, None] * n2, turns[1][None, :, None, :, None, :] * n1
        angle = ((first + second) % (2 * n1 * n2)).reshape(-1, aliases, math.prod(kernel))
        taps = self.weight.reshape(o * c, -1).T
        p, q = ((table[angle] @ taps).reshape(-1, aliases, o, c).swapaxes(1, 2) for table in (cosine, sine))
        p, q = (x.reshape(len(x), o, aliases * c) for x in (p, q))
        size = np.abs(self.weight).sum((2, 3))
        error = 2 * (gamma(math.prod(kernel)) + 25 * U) * math.sqrt(float(size.sum(0).max()) * float(size.sum(1).max()))
        return np.block([[p, -q], [q, p]]), error * OUT, aliases
