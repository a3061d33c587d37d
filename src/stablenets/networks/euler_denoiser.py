"""A denoiser that is averaged by construction."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Averaged
from ..fields import FilterGradient, HardTanh, Scaled
from ..fields.activations import Activation
from ..fields.scaled import interpolate
from ..integrators import Euler
from ..linear import FilterBank
from .denoiser import Denoiser, check_images, level


class EulerDenoiser(Denoiser):
    """Euler steps along gradient flows of convex potentials, each drawn back towards the noisy image:

        x_0 = y,   x_{k+1} = (1 - theta_k) (x_k - 2 tau_k A_k^T phi_k(A_k x_k)) + theta_k y,   D(y) = x_K.

    **Averaged by construction.** A_k is a `FilterBank` divided by an upper bound of its norm on images of *every* size;
    phi_k is odd and non-decreasing with slopes in [0, 1]; 0 < tau_k < 1. So the Euler step G_k is tau_k-averaged
    (Baillon & Haddad 1977). If y -> x_k is a-averaged, or the identity (a = 0), then G_k o x_k is a'-averaged with
    a' = (a + tau - 2 a tau) / (1 - a tau) (Ogura & Yamada 2002), and (1 - theta) (G_k o x_k) + theta I is
    (1 - theta) a'-averaged: both terms are functions of y. Nothing is asked of the weights. What is proved
    is the map in evaluation mode, whose filters are frozen from the upper bound; while training, a coarser norm, which
    may be a little too small, takes its place.

    **Noise levels.** D_sigma(y) = sigma D(y / sigma): scaling keeps averagedness. The widths of phi_k, tau_k and
    theta_k are learned at `levels` and interpolated between them by log sigma; beyond, those of the nearest level
    serve. One level makes a network for that level alone; at others, the image is scaled.

    **Width.** With `width` > `channels`, channels of zeros are appended to y (an isometry), and dropped from x_K (its
    adjoint); P T L is a-averaged when T is.

    Args:
        channels: of the images: 1 for grey, 3 for colour.
        steps: number of Euler steps.
        filters: responses of each step's filter bank, a multiple of 4 group_size.
        kernel_size: blocks that a filter sees in each direction, an odd number.
        stride: side of a block in pixels, 1 or 2. With 2, the blocks of successive steps are shifted by a pixel.
        group_size: filters that are cut off together (see `FilterGradient`).
        levels: noise levels, increasing.
        width: channels of the states; None: those of the images.
        profile: phi with width 1 (default `HardTanh()`): an odd activation with slopes in [0, 1].

    Raises:
        InputError: arguments that do not fit.

    Reference: Sherry, Celledoni, Ehrhardt, Murari, Owren & Schoenlieb (2024), Designing stable neural networks using
    convex analysis and ODEs, for the Euler steps; Chen & Pock (2017) for steps drawn back to the data.

    >>> net = EulerDenoiser(1, steps=2, filters=8).eval()
    >>> net(torch.rand(1, 1, 17, 12), sigma=25 / 255).shape
    torch.Size([1, 1, 17, 12])
    >>> 0 < net.claims().get(Averaged).alpha < 1
    True
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        steps: int = 6,
        filters: int = 64,
        kernel_size: int = 3,
        stride: int = 2,
        group_size: int = 1,
        levels: Sequence[float] = (5 / 255, 15 / 255, 25 / 255, 50 / 255),
        width: int | None = None,
        profile: Activation | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.steps, self.filters = channels, steps, filters
        self.kernel_size, self.stride, self.group_size, self.width = kernel_size, stride, group_size, width
        self.levels, self.profile = tuple(map(level, levels)), profile or HardTanh()
        if steps < 1 or not self.levels or list(self.levels) != sorted(set(self.levels)):
            raise InputError(message(f"steps={steps}, levels={self.levels}", "steps, and increasing noise levels"))
        if group_size < 1 or filters % (4 * group_size):
            raise InputError(message(f"{filters} filters in groups of {group_size}", "a multiple of 4 group_size"))
        if (width or channels) < channels:
            raise InputError(message(f"width={width} for {channels} channels", "at least as many"))
        low, high = self.profile.slope
        probe = torch.linspace(-9, 9, 19)
        if low < 0 or high > 1 or not torch.equal(self.profile(-probe), -self.profile(probe)):
            given = f"{type(self.profile).__name__} with slopes in [{low:g}, {high:g}]"
            raise InputError(message(given, "an odd activation with slopes in [0, 1], such as HardTanh"))
        half = stride // 2
        shifts = [(0, 0), (half, half), (0, half), (half, 0)]
        self.blocks = nn.ModuleList(
            AnchoredStep(
                FilterBank(width or channels, filters, kernel_size, stride=stride, offset=shifts[k % 4]),
                self.profile,
                len(self.levels),
                group_size,
            )
            for k in range(steps)
        )

    def place(self, sigma: float) -> float:
        """Where sigma lies between the levels 0, 1, ...: linearly in log sigma."""
        if sigma <= self.levels[0]:
            return 0.0
        if sigma >= self.levels[-1]:
            return float(len(self.levels) - 1)
        i = bisect.bisect_right(self.levels, sigma) - 1
        return i + math.log(sigma / self.levels[i]) / math.log(self.levels[i + 1] / self.levels[i])

    def forward(self, y: Tensor, sigma: float) -> Tensor:
        check_images(y, self.channels)
        place = self.place(level(sigma))
        start = y / sigma
        if self.width:
            start = F.pad(start, (0, 0, 0, 0, 0, self.width - self.channels))
        x = start
        for block in self.blocks:
            x = block(x, start, place)
        return x[:, : self.channels] * sigma

    def anchored_steps(self) -> list[AnchoredStep]:
        """The steps, in order."""
        blocks: Any = self.blocks
        return list(blocks)

    def claims(self, sigma: float | None = None) -> Claims:
        """Averagedness, from upper bounds of the norms of the present weights (a tenth of a second a step)."""
        return self.claims_at([sigma])[0]

    def claims_at(self, sigmas: Sequence[float | None]) -> list[Claims]:
        """`claims` for several noise levels; the norms are computed once."""
        fields = [(step, step.field.claims()) for step in self.anchored_steps()]
        found = []
        for sigma in sigmas:
            place, averaged = None if sigma is None else self.place(level(sigma)), None
            for k, (step, field) in enumerate(fields):
                if k == 0 or averaged is not None:
                    averaged = step.after(averaged, place, field)
            found.append(Claims([] if averaged is None else [averaged]))
        return found

    @classmethod
    def examples(cls) -> Iterator[Self]:
        sizes: dict[str, Any] = {"steps": 2, "filters": 4, "levels": (0.1, 0.5)}
        wider: dict[str, Any] = sizes | {"filters": 8}
        grouped = cls(1, group_size=2, **wider)
        for net in (cls(1, **sizes), cls(2, stride=1, width=3, **sizes), grouped):
            for p in net.parameters():
                p.data += torch.randn_like(p) / 2
            yield net.eval()


class AnchoredStep(nn.Module):
    """x -> (1 - theta) (x + 2 tau f(x)) + theta y, with a 1-cocoercive field f; tau, theta in (0, 1) at each level."""

    def __init__(self, bank: FilterBank, profile: Activation, levels: int, group_size: int) -> None:
        super().__init__()
        width = 0.5 * group_size**0.5  # of a single response, times the usual length of a group
        scaled = Scaled(profile, bank.filters // 4 // group_size, levels=levels, width=width)
        self.field = FilterGradient(bank, scaled, group_size=group_size)
        self.tau_logit = nn.Parameter(torch.zeros(levels))
        self.theta_logit = nn.Parameter(torch.full((levels,), -1.5))

    def shares(self, place: float) -> tuple[Tensor, Tensor]:
        """tau and theta at a place between the levels."""
        return interpolate(self.tau_logit, place).sigmoid(), interpolate(self.theta_logit, place).sigmoid()

    def forward(self, x: Tensor, y: Tensor, place: float) -> Tensor:
        tau, theta = self.shares(place)
        return torch.lerp(x + self.field.pull(x, 2 * tau, place), y, theta)

    @torch.no_grad()
    def after(self, first: Averaged | None, place: float | None, field: Claims) -> Averaged | None:
        """The claim about y -> this step of x(y), given that about y -> x(y), and the field's; `first` None: x(y) = y.

        `place` None: the largest tau and the smallest theta of all levels. They bound all others, since alpha grows
        with tau and falls with theta, and both are interpolated monotonically. The result None: nothing is proved.
        """
        if place is None:
            tau, theta = self.tau_logit.max().sigmoid(), self.theta_logit.min().sigmoid()
        else:
            tau, theta = self.shares(place)
        if not (0 < tau < 1 and 0 <= theta <= 1 and bool(self.theta_logit.isfinite().all())):
            return None  # NaN, tau rounded to 1, or a level between infinite ones, where a NaN comes out
        h, keep = 2 * float(tau) * (1 + ROOM), min(1.0, (1 - float(theta)) * (1 + ROOM) + ROOM)
        step = Euler().transfer(field, h).get(Averaged)
        if step is None:
            return None
        both = step if first is None else step.after(first)
        return both.relaxed(keep) if isinstance(both, Averaged) else None


ROOM = 1e-6  # tau and theta are computed in float32 when the network runs
