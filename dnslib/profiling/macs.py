"""Multiply-accumulates of one frame, counted from the shapes in the file."""

import os
from collections import defaultdict
from math import prod

import numpy as np
import onnx

from dnslib.errors import MisuseError
from dnslib.paths import resolve
from dnslib.profiling.size import load


def count_macs(path: str | os.PathLike) -> int:
    """Multiply-accumulates that one frame needs, from the shapes in the file: CRUSE32 needs 15.50 million.

    Counted are (transposed) convolutions, GRUs and matrix products, quantised ones too; biases, activations and other
    element-wise work are not. What a transposed convolution computes only for a following Slice to cut off is not
    needed, so not counted: the plain form computes twice what its decoders need. What the other forms multiply in their
    rows of zeros is counted. Raises MisuseError for a node with a weight matrix that is none of these, rather than
    count it as 0.
    """
    return sum(macs_by_operator(path).values())


def macs_by_operator(path: str | os.PathLike) -> dict[str, int]:
    """`count_macs`, for each kind of node that has any: ``{"Gemm": …, "MatMulNBits": …}``."""
    model = load(path)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise MisuseError(f"The shapes in {resolve(path)} do not fit together: {error}") from error
    shapes, counts = _Shapes(inferred.graph), defaultdict(int)
    for node in model.graph.node:
        counts[node.op_type] += _macs(node, shapes)
    return {operator: macs for operator, macs in counts.items() if macs}


class _Shapes(dict):
    """Shape of every value of a graph by name, with its constants and the consumers of each value."""

    def __init__(self, graph: onnx.GraphProto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            dims = value.type.tensor_type.shape.dim
            if all(dim.HasField("dim_value") for dim in dims):  # a size left open is an unknown shape
                self[value.name] = tuple(dim.dim_value for dim in dims)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        indices = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)  # and sizes
        self.weights = {name for name, tensor in self.constants.items() if tensor.data_type not in indices}
        self.update({name: tuple(tensor.dims) for name, tensor in self.constants.items()})
        self.consumers = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.consumers[name].append(node)

    def __missing__(self, name: str):
        raise MisuseError(f"The file does not tell the shape of {name!r}, so its arithmetic cannot be counted.")

    def ints(self, name: str) -> list[int]:
        return onnx.numpy_helper.to_array(self.constants[name]).tolist()


def _macs(node: onnx.NodeProto, shapes: _Shapes) -> int:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    match node.op_type:
        case "Conv" | "ConvInteger":
            return prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])
        case "QLinearConv":
            return prod(shapes[node.output[0]]) * prod(shapes[node.input[3]][1:])
        case "ConvTranspose":
            return _transposed_macs(node, attributes, shapes)
        case "GRU":
            frames, batch, _ = shapes[node.input[0]]
            return frames * batch * (prod(shapes[node.input[1]]) + prod(shapes[node.input[2]]))
        case "MatMul" | "MatMulInteger" | "DynamicQuantizeMatMul" | "MatMulIntegerToFloat":
            return prod(shapes[node.input[0]]) * shapes[node.input[1]][-1]
        case "QLinearMatMul":
            return prod(shapes[node.input[0]]) * shapes[node.input[3]][-1]
        case "Gemm":
            return prod(shapes[node.input[0]]) * shapes[node.input[1]][0 if attributes.get("transB") else 1]
        case "MatMulNBits":
            return prod(shapes[node.input[0]]) * attributes["N"]
    weights = [name for name in node.input if name in shapes.weights and sum(d > 1 for d in shapes[name]) > 1]
    if weights and node.op_type not in ("DequantizeLinear", "Add", "Mul"):
        raise MisuseError(f"The arithmetic of {node.op_type} nodes, such as {node.name!r}, is not counted yet.")
    return 0


def _transposed_macs(node: onnx.NodeProto, attributes: dict, shapes: _Shapes) -> int:
    """Pairs (input position, tap) that land in a kept output position, times C_in C_out / groups."""
    batch, channels, *sizes = shapes[node.input[0]]
    out_channels = shapes[node.input[1]][1]  # per group
    taps, rank = attributes["kernel_shape"], len(sizes)
    strides, dilations = (attributes.get(name, [1] * rank) for name in ("strides", "dilations"))
    pads = attributes.get("pads", [0] * (2 * rank))
    outputs = shapes[node.output[0]][2:]
    pairs = 1
    for axis in range(rank):
        low, high = _kept(node.output[0], axis + 2, outputs[axis], shapes)
        position = (
            np.arange(sizes[axis])[:, None] * strides[axis] + np.arange(taps[axis]) * dilations[axis] - pads[axis]
        )
        pairs *= int(np.count_nonzero((position >= low) & (position < high)))
    return batch * channels * out_channels * pairs


def _kept(value: str, axis: int, size: int, shapes: _Shapes) -> tuple[int, int]:
    """Range [low, high) of ``axis`` that the readers of ``value`` use: all of it unless every reader is a Slice."""
    ranges = []
    for reader in shapes.consumers[value]:
        if reader.op_type != "Slice" or not all(name in shapes.constants for name in reader.input[1:]):
            return 0, size
        starts, ends, axes, *steps = (shapes.ints(name) for name in reader.input[1:])
        if axis not in axes or (steps and set(steps[0]) != {1}):
            return 0, size
        low, high, _ = slice(starts[axes.index(axis)], ends[axes.index(axis)]).indices(size)
        ranges.append((low, high))
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (0, size)
