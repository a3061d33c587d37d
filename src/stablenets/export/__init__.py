"""Networks for other programs: ONNX and `torch.export`, as plain convolutions and matrix products."""

from .onnx_file import Exported as Exported
from .onnx_file import load as load
from .onnx_file import to_onnx as to_onnx
from .program import program as program
from .statement import statement as statement
from .torch_file import to_torch as to_torch
