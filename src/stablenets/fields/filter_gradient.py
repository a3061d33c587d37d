"""Gradient flows of potentials that add up the responses of filters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor

from ..core.claims import Claims
from ..core.errors import InputError, message
from ..core.properties import Cocoercive, Lipschitz, OneSidedLipschitz
from ..linear.filter_bank import FilterBank
from .activations import HardTanh, SoftShrink
from .base import Field, Norm, upper_bound
from .scaled import Scaled

FITTING = 2**17  # responses that are held at a time
SLACK = 1 + 1e-9  # a bound is computed afresh when claims are asked for; its last digits differ between machines


class FilterGradient(Field):
    """x' = -A^T sigma(A x) = -grad V on images of any size, where A is a filter bank divided by (a bound of) its norm.

    V(x) is the sum of gamma(A x), gamma' = sigma. It is convex, since sigma is non-decreasing, and s-smooth, where s is
    the largest slope of sigma, since ||A|| <= 1: as for `ConvexGradient`, the field is cocoercive with beta = 1 / s
    (Baillon & Haddad 1977), here for every size of image at once. With an odd sigma the field is odd: a picture and its
    negative are treated alike.

    **Groups.** With `group_size` m, the responses of m filters at a place are cut off together: sigma maps a group z to
    z min(1, w / |z|), the projection onto the ball of radius w. This is the gradient of a convex, 1-smooth function of
    |z| (Huber's), so that the same theorem holds. Filters of a group learn to see one feature in several phases, which
    then is kept or removed as a whole. Where the squares of the responses overflow, beyond 1e19 widths in float32, a
    group's result is 0 instead of a vector of length w: an error far below the rounding of such a response. Responses
    that overflow themselves give NaN.

    In training mode the norm is that on a coarse grid of frequencies, with its gradient; leaving it freezes `scale`,
    by which the filters are multiplied, from the upper bound.

    Args:
        linear: the filters, mirror images of a quarter of them; mirror images share a width.
        activation: sigma, with a width for each of the free filters, or for each group of them.
        group_size: free filters that are cut off together; above 1, the activation must be a scaled `HardTanh`.

    Raises:
        InputError: widths or groups that do not fit the number of filters.

    >>> field = FilterGradient(FilterBank(1, 8), Scaled(HardTanh(), 2)).eval()
    >>> field(torch.rand(2, 1, 9, 12)).shape
    torch.Size([2, 1, 9, 12])
    >>> round(field.claims().get(Cocoercive).beta, 6)
    1.0
    """

    def __init__(self, linear: FilterBank, activation: Scaled, *, group_size: int = 1) -> None:
        super().__init__()
        self.linear, self.activation, self.group_size = linear, activation, group_size
        free, channels = linear.filters // 4, activation.channels
        if group_size < 1 or (group_size > 1 and channels * group_size != free) or free % channels:
            given = f"{free} free filters, {channels} widths, group_size={group_size}"
            raise InputError(message(given, "as many widths as groups"))
        if group_size > 1 and not isinstance(activation.profile, HardTanh):
            given = f"groups of {group_size} with {type(activation.profile).__name__}"
            raise InputError(message(given, "HardTanh, which becomes the projection onto a ball"))
        self.state_shape = linear.input_shape
        self.scale = 1.0
        self.freeze()

    def freeze(self) -> None:
        """Take the scale from the upper bound of the present norm."""
        self.scale = self._safe_scale()

    def _safe_scale(self) -> float:
        return 1 / max(upper_bound(self.linear) * SLACK, 1e-15)

    def train(self, mode: bool = True) -> Self:
        """Leaving training mode freezes the scale: no network is evaluated with another."""
        if self.training and not mode:
            self.freeze()
        return super().train(mode)

    def forward(self, x: Tensor, t: float = 0.0) -> Tensor:
        return self.pull(x, 1.0)

    def filters(self) -> Tensor:
        """All filters, scaled, as rows of a matrix."""
        scale = 1 / self.linear.training_norm() if self.training else self.scale
        return self.linear.bank(self.linear.weight).flatten(1) * scale

    def widths(self, place: float = 0.0) -> Tensor:
        """The widths of all filters, (filters, 1)."""
        return self.activation.widths(place).repeat(self.linear.filters // self.activation.channels).view(-1, 1)

    def pull(self, x: Tensor, h: Any, place: float = 0.0) -> Tensor:
        """h f(x), with the widths at a place between their levels; `h` is a number, or a tensor with a gradient.

        w phi(A x / w): widths and h are multiplied into the filters, which are far fewer numbers than the responses.
        """
        filters, widths = self.filters(), self.widths(place)
        to, back = filters / widths, (filters * (-h * widths)).T
        seen = self.linear.windows(x)
        # without derivatives nothing is kept of the responses: a part of them at a time, which fits the caches
        parts = (seen,) if torch.is_grad_enabled() else seen.split(max(1, FITTING // len(filters)), dim=1)
        pulled = [back @ self.respond(to @ part) for part in parts]
        return self.linear.gather(torch.cat(pulled, 1) if len(pulled) > 1 else pulled[0], (x.shape[2], x.shape[3]))

    def respond(self, z: Tensor) -> Tensor:
        """sigma with widths 1: the scaled responses (filters, places), one by one or each group by its length."""
        if self.group_size == 1:
            return self.activation.profile(z)
        groups = self._groups(z)
        return (groups * (groups * groups).sum(1, keepdim=True).clamp(min=1).rsqrt()).view(z.shape)

    def _groups(self, z: Tensor) -> Tensor:
        """(mirror images, members of a group, groups, places)."""
        return z.view(4, self.group_size, -1, z.shape[1])

    def potential(self, x: Tensor) -> Tensor:
        """V(x), shape (batch,)."""
        widths = self.widths()
        scaled = (self.filters() / widths) @ self.linear.windows(x)
        if self.group_size > 1:  # a function of the length, in the place of the first member of each group
            widths, scaled = self._groups(widths)[:, 0], torch.linalg.vector_norm(self._groups(scaled), dim=1)
            widths, scaled = widths.flatten(0, 1), scaled.flatten(0, 1)
        values = widths.square() * self.activation.profile.potential(scaled)
        return values.sum(0).view(len(x), values.shape[1] // max(1, len(x))).sum(1)

    def claims(self, norm: Norm = upper_bound) -> Claims:
        widths = self.activation.log_width.detach().exp()
        if not bool(((widths > 0) & (widths < math.inf)).all()):  # then it is no function with such slopes
            return Claims()
        size = norm(self.linear) * (self._safe_scale() if self.training else self.scale)
        smoothness = max(self.activation.slope[1] * size * size * (1 + 1e-15), 1e-30)  # the product rounds
        return Claims([Cocoercive(1 / smoothness), Lipschitz(smoothness), OneSidedLipschitz(0.0)])

    def get_extra_state(self) -> dict[str, float]:
        return {"scale": self.scale}

    def set_extra_state(self, state: dict[str, float]) -> None:
        scale = float(state["scale"])
        if not 0 < scale < math.inf:
            raise InputError(message(f"filters scaled by {scale}", "a positive, finite number"))
        self.scale = scale

    @classmethod
    def examples(cls) -> Iterator[Self]:
        for profile, stride, size in ((HardTanh(), 2, (7, 6)), (SoftShrink(), 1, (6, 6))):
            bank = FilterBank(1, 8, 3, stride=stride, offset=(stride // 2, 0), image_size=size)
            field = cls(bank, Scaled(profile, 2))
            field.activation.log_width.data.copy_(torch.tensor([[-0.5, 0.7]]))
            yield field.eval()
        field = cls(FilterBank(1, 16, image_size=(7, 6)), Scaled(HardTanh(), 2, width=0.4), group_size=2)
        field.linear.weight.data *= 2
        yield field.eval()
