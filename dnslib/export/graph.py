"""The parts of an ONNX graph, written node by node, and what all streaming graphs of this study share."""

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8  # old enough for the runtimes in use, new enough for every node written here
RUNTIME_DOMAIN = "com.microsoft"  # operators of ONNX Runtime only
INPUT, OUTPUT, NEXT = "log_power", "gain", "_next"
LOOK_AHEAD = "look_ahead"  # of a file's metadata


class Graph:
    """The parts of one ONNX graph. Every method returns the name of a value, to be fed to later nodes."""

    def __init__(self):
        self.nodes, self.inputs, self.outputs, self.constants, self.shapes = [], [], [], [], []

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def output(self, name: str, shape: tuple[int, ...]) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def state(self, name: str, shape: tuple[int, ...]) -> tuple[str, str]:
        """The value from the last frame, and the name that some node must give to the value for the next frame."""
        return self.input(name, shape), self.output(name + NEXT, shape)

    def constant(self, name: str, value) -> str:
        array = value.detach().float().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(
        self, operator: str, name: str, *inputs: str, output: str | None = None, shape: tuple = (), **attributes
    ) -> str:
        """A node of one output, which bears the node's name unless ``output`` says otherwise.

        ``shape`` of the output must be given for the runtime's own operators, whose shapes ONNX cannot infer.
        """
        output = output or name
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        if shape:
            self.shapes.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
        return output

    def reshape(self, name: str, x: str, shape: tuple[int, ...], output: str | None = None) -> str:
        return self.node("Reshape", name, x, self.constant(f"{name}_shape", shape), output=output)

    def split(self, name: str, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Parts of ``sizes`` along ``axis``; one part is the whole."""
        if len(sizes) == 1:
            return [x]
        parts = [f"{name}_{index}" for index in range(1, len(sizes) + 1)]
        self.nodes.append(
            helper.make_node("Split", [x, self.constant(f"{name}_sizes", sizes)], parts, name=name, axis=axis)
        )
        return parts

    def concat(self, name: str, *parts: str, axis: int) -> str:
        return self.node("Concat", name, *parts, axis=axis) if len(parts) > 1 else parts[0]

    @property
    def runtime_operators(self) -> bool:
        """Whether any node is an operator of ONNX Runtime only."""
        return any(node.domain == RUNTIME_DOMAIN for node in self.nodes)

    def proto(self, name: str) -> onnx.GraphProto:
        return helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.constants, value_info=self.shapes)
