"""A machine that rounds as badly as the model of float32 arithmetic permits, to hold bounds against.

Measured errors of real machines are thousands of times smaller than what may happen, so a bound that is wrong by a
factor of ten would pass. Here every operation of an evaluation in float64 is made wrong by exactly what the model
allows, each entry with a sign of its own, chosen to push a given difference of scores up.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

U = 2.0**-24


def gamma(m: int) -> float:
    return m * U / (1 - m * U)


def allowed(call: Any, args: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Tensor | None:
    """How far each entry of an operation's result may be off; None for operations without rounding."""
    sizes = tuple(a.abs() if isinstance(a, Tensor) else a for a in args)
    if call is F.linear:
        return gamma(args[1].shape[1] + (len(args) > 2 and args[2] is not None)) * call(*sizes, **options)
    if call in (torch.conv1d, torch.conv2d):
        return gamma(args[1][0].numel()) * call(*sizes, **options)
    if call in (torch.conv_transpose1d, torch.conv_transpose2d):
        return gamma(args[1][:, 0].numel()) * call(*sizes, **options)
    if call is torch.add:  # x + h k, with h rounded to float32
        return U * sizes[0] + gamma(3) * abs(options["alpha"]) * sizes[1]
    if call in (Tensor.add, Tensor.__add__, Tensor.mul, Tensor.__mul__, Tensor.__rmul__):
        return U * result.abs()
    if call in (Tensor.sin, Tensor.cos):
        return 8 * U * result.abs()
    if call in (Tensor.sub, Tensor.__sub__):  # of a mean that is itself rounded
        return U * sizes[1] + U * (sizes[0] + sizes[1])
    if call in (Tensor.div, Tensor.__truediv__):
        return gamma(2) * result.abs()
    if call is F.normalize:
        return gamma(args[0].shape[1] // 2 + 3) * result.abs()
    if call is F.leaky_relu:
        return gamma(2) * result.abs() * (result < 0)
    if call in (torch.tanh, F.tanh, F.softplus):
        return 8 * U * result.abs()
    if call is F.avg_pool2d:
        return gamma(args[1] ** 2 + 1) * call(*sizes, **options)
    return None


class Machine(TorchFunctionMode):
    """Adds to the result of the i-th rounding operation `signs[i]` times what is allowed.

    Without signs nothing is added, but `disturbances` has zeros there whose gradients say which signs to choose.
    """

    def __init__(self, signs: list[Tensor] | None) -> None:
        super().__init__()
        self.signs, self.disturbances, self.count = signs, [], 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        off = allowed(func, args, options, result)
        if off is None:
            return result
        if self.signs is None:
            unit = torch.zeros_like(result).requires_grad_()
            self.disturbances.append(unit)
        else:
            unit = self.signs[self.count]
        self.count += 1
        return result + unit * off.detach()


def worst_scores(net: nn.Module, x: Tensor, direction: Tensor, rounds: int = 2) -> Tensor:
    """Scores of `net` (float64) at `x`, rounded as far as permitted towards `direction` (batch, classes)."""
    signs = None
    for _ in range(rounds):
        probe = Machine(None)
        with probe, torch.enable_grad():
            scores = net(x.clone())
        gradients = torch.autograd.grad((scores * direction).sum(), probe.disturbances, allow_unused=True)
        signs = [
            torch.zeros_like(d) if g is None else torch.where(g < 0, -1.0, 1.0).to(d)
            for d, g in zip(probe.disturbances, gradients, strict=True)
        ]
    with Machine(signs), torch.no_grad():
        return net(x.clone())
