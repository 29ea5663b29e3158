"""The parts of an ONNX graph, written node by node, and what all streaming graphs of this study share."""


import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8  # old enough for the runtimes in use, new enough for every node written here
RUNTIME_DOMAIN = "com.microsoft"  # operators of ONNX Runtime only
INPUT, OUTPUT, NEXT = "log_power", "gain", "_next"


class Graph:
    """The parts of one ONNX graph. Every method returns the name of a value, to be fed to later nodes."""

    def __init__(self):
        self.nodes, self.inputs, self.outputs, self.constants = [], [], [], []

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

    def node(self, operator: str, name: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """A node of one output, which bears the node's name unless ``output`` says otherwise."""
        output = output or name
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def proto(self, name: str) -> onnx.GraphProto:
        return helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.constants)
