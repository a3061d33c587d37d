"""What is refused before any work."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError, message
from ..fields import Field
from ..gradients import Backpropagation, Gradient
from ..integrators import Integrator


def check(field: Field, x0: Tensor, t0: float, method: Integrator[Any]) -> None:
    """The field, its slopes, and the initial states.

    Raises:
        TypeError: when the integrator does not accept the field.
        InputError: for states of another shape, or not finite, and slopes that are not like the states.
    """
    if not isinstance(field, method.needs):
        accepted = ", ".join(Integrator.accepting(field)) if isinstance(field, Field) else "none, as it is no Field"
        raise TypeError(
            f"{type(method).__name__} integrates a {method.needs.__name__}, but got {type(field).__name__}. "
            f"Integrators that accept it: {accepted}."
        )
    if not x0.is_floating_point() or x0.dim() < 2:
        given = f"x0 of {x0.dtype} and shape {tuple(x0.shape)}"
        raise InputError(message(given, "floating-point states (batch, ...) with at least two dimensions"))
    if field.state_shape is not None and x0.shape[1:] != field.state_shape:
        expected = ", ".join(map(str, field.state_shape))
        raise InputError(message(f"x0 of shape {tuple(x0.shape)}", f"(batch, {expected})"))
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return  # no decisions there
    finite = x0.detach().isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise InputError(message(f"x0 of sample {first} is not finite", "finite states"))
    with torch.no_grad():
        slope = field(x0[:2], t0)
    if slope.shape != x0[:2].shape or slope.dtype != x0.dtype:
        given = f"{type(field).__name__} gives {tuple(slope.shape)} of {slope.dtype} for states {tuple(x0[:2].shape)}"
        raise InputError(message(f"{given} of {x0.dtype}", "slopes like the states"))


def check_transforms(adaptive: bool, tensor_times: bool, way: Gradient) -> None:
    """Refuse what PyTorch's transforms cannot trace: decisions that depend on numbers.

    Raises:
        InputError: naming what can be transformed.
    """
    if torch.compiler.is_compiling() and (adaptive or tensor_times or not isinstance(way, Backpropagation)):
        needed = "steps of equal sizes (h or steps), times as numbers, and gradient=Backpropagation()"
        raise InputError(message("integrate under torch.compile", needed))
    if adaptive and torch._C._are_functorch_transforms_active():
        functorch: Any = getattr(torch._C, "_functorch")  # noqa: B009  not in PyTorch's stubs
        kinds = [level.key() for level in functorch.get_interpreter_stack() or ()]
        if functorch.TransformType.Vmap in kinds:
            needed = "steps of equal sizes (h or steps)"
            todo = "Or leave vmap: samples of one batch have steps of their own with joint=False."
            raise InputError(message("adaptive steps under torch.func.vmap", needed, todo))
