"""A network as a plain graph: what depends on weights alone is computed once, so convolutions and matrix products stay.

A trace of a network still normalises the head's rows, flips kernels and rescales weights at every call. Here each such
part is replaced by its value, as PyTorch computes it in the dtype of the export.
"""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export import export as traced

from ..core.errors import ClaimError, InputError, message

aten = torch.ops.aten
ARITHMETIC = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)
DTYPES = (torch.float32, torch.float64)
Decompositions = dict[Any, Callable[..., Any]]


@torch.no_grad()
def program(
    net: nn.Module,
    *,
    dtype: torch.dtype = torch.float64,
    input_shape: tuple[int, ...] | None = None,
    decompositions: Decompositions | None = None,
) -> ExportedProgram:
    """The network as a `torch.export` program from inputs (batch, ...), for any batch size, to scores.

    Args:
        net: a `Network`, or any module whose evaluation PyTorch can trace, in evaluation mode.
        dtype: of the inputs, the weights and all arithmetic: torch.float64, of which certificates speak by default,
            or torch.float32.
        input_shape: shape of one input, without the batch. A `Network` knows its own.
        decompositions: operations to replace, and the functions that do the same by others.

    Raises:
        ClaimError: in training mode or under autocast.
        InputError: another dtype, an input of unknown shape, or a network that cannot be traced.

    >>> from stablenets.networks import NonExpansiveNet
    >>> net = next(NonExpansiveNet.examples()).eval()
    >>> program(net).module()(torch.rand(5, 1, 4, 4, dtype=torch.float64)).shape
    torch.Size([5, 3])
    """
    if any(part.training for part in net.modules()):
        raise ClaimError(message("the network is in training mode", "frozen steps", "Call net.eval() first."))
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise ClaimError(message("autocast is on", "one dtype throughout", "Leave the torch.autocast block."))
    if dtype not in DTYPES:
        raise InputError(message(f"dtype={dtype}", " or ".join(map(str, DTYPES))))
    shape = input_shape or getattr(net, "image_shape", None)
    if shape is None:
        raise InputError(message("a network with inputs of unknown shape", "input_shape=..."))
    x = torch.zeros(2, *shape, dtype=dtype)
    first = _trace(copy.deepcopy(net).cpu().to(dtype), x)  # a copy keeps every part's mode, and so the frozen steps
    with warnings.catch_warnings(action="ignore"):
        first = first.run_decompositions(decompositions or {})  # which also opens blocks like `torch.autocast`
    plain = _trace(_folded(first.module(), dtype), x)
    for node in plain.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    return plain


def _trace(module: nn.Module, x: Tensor) -> ExportedProgram:
    try:
        with warnings.catch_warnings(action="ignore"):  # PyTorch's, about its own code
            return traced(module, (x,), dynamic_shapes=({0: Dim("batch")},), strict=False)
    except Exception as error:  # of many kinds: a Python branch on a value, a shape that does not fit, ...
        given = f"{type(module).__name__} cannot be traced ({' '.join(str(error).split()):.160})"
        raise InputError(message(given, "a network that does the same operations for every input")) from error


def _folded(module: Any, dtype: torch.dtype) -> fx.GraphModule:
    """The same graph, with everything that does not depend on the input computed."""
    root, graph = nn.Module(), fx.Graph()
    constants: dict[fx.Node, Any] = {}
    kept: dict[fx.Node, fx.Node] = {}

    def constant(name: str, value: Tensor) -> fx.Node:
        root.register_buffer(name, value.detach().clone(memory_format=torch.contiguous_format))
        return graph.get_attr(name)

    def argument(node: fx.Node) -> fx.Node:
        if node not in kept:
            kept[node] = constant(node.name, constants[node])
        return kept[node]

    def arithmetic(node: fx.Node) -> fx.Node:
        """The operation with its numbers (such as a step size) as tensors: ONNX files hold numbers in float32."""
        x, y = fx.map_arg(node.args, argument)
        if isinstance(y, float):
            y = constant(f"{node.name}_operand", torch.tensor(y, dtype=dtype))
        if "alpha" in node.kwargs:
            size = constant(f"{node.name}_size", torch.tensor(node.kwargs["alpha"], dtype=dtype))
            y = graph.call_function(aten.mul.Tensor, (y, size))
        return graph.call_function(cast(Any, node.target), (x, y))

    for node in module.graph.nodes:
        if not node.users and node.op not in ("placeholder", "output"):
            continue  # checks of shapes and dtypes, as the new trace makes them
        if node.op == "get_attr":
            constants[node] = operator.attrgetter(node.target)(module)
        elif node.op == "call_function" and all(n in constants for n in node.all_input_nodes):
            args, kwargs = fx.map_arg((node.args, node.kwargs), constants.__getitem__)
            constants[node] = node.target(*args, **kwargs)
        elif node.target in ARITHMETIC:
            kept[node] = arithmetic(node)
        elif node.op == "output":
            (scores,) = node.all_input_nodes  # traces return a tuple
            graph.output(argument(scores))
        else:
            kept[node] = graph.node_copy(node, argument)
    return fx.GraphModule(root, graph)
