"""The parallel GRUs over rows of bins (rows, C), in ordinary nodes: products for input and state, gates for all groups.

Group g owns channels [g C / P, (g + 1) C / P) of every bin. Inside a group features are taken in the order of the rows,
bin by bin, which permutes the weights at export and spares the network a transposition to channel by channel.
PyTorch's gates, with z the share that is kept:
    r, z = sigmoid(W_r x + U_r h), sigmoid(W_z x + U_z h);  n = tanh(W_n x + r U_n h);  h' = n + z (h - n)

Small groups take one batched product for all groups, state (P, 1, H); it cannot use weights packed at load time, so
large ones, and int8, take one product per group, state (P, H).
"""

from typing import NamedTuple

import numpy as np

from dnslib.export.graph import Graph
from dnslib.export.quantised import FEWEST_QUANTISED, blockwise_product, float_product
from dnslib.gru import ParallelGru

FEWEST_BY_GROUP = 50_000  # weights of one group's product; with fewer the number of nodes costs more than it saves


class _Weights(NamedTuple):
    """Weights of all groups, features bin by bin: (P, 3 H, H) and (P, 3 H). Biases of r and z are in ``bias`` only."""

    of_input: np.ndarray
    of_state: np.ndarray
    bias: np.ndarray
    state_bias: np.ndarray


def recurrence(graph: Graph, gru: ParallelGru, rows: int, bins: int, x: str, quantised: bool) -> str:
    """(rows, C) -> (rows, C), of which ``bins`` count and the last is zero. State ``gru_state``."""
    weights = _by_bin(gru, bins)
    size = weights.of_input[0].size
    x = _groups(graph, gru, rows, bins, x)
    if (quantised and size >= FEWEST_QUANTISED) or size >= FEWEST_BY_GROUP:
        x = _by_group(graph, gru, x, weights, quantised)
    else:
        x = _batched(graph, gru, x, weights)
    return _rows(graph, gru, bins, x)


def _by_bin(gru: ParallelGru, bins: int) -> _Weights:
    groups, size = gru.groups, gru.size
    order = np.arange(size).reshape(-1, bins).T.ravel()  # of channel-major features, bin by bin
    of_input, of_state, bias, state_bias = (
        parameter.detach().numpy().reshape(groups, 3, size, -1)[:, :, order]
        for parameter in (gru.weight_ih, gru.weight_hh, gru.bias_ih, gru.bias_hh)
    )
    outside = state_bias * np.array([1, 1, 0], np.float32)[:, None, None]  # of r and z: not multiplied by r
    return _Weights(
        of_input[..., order].reshape(groups, 3 * size, size),
        of_state[..., order].reshape(groups, 3 * size, size),
        (bias + outside).reshape(groups, 3 * size),
        (state_bias - outside).reshape(groups, 3 * size),
    )


def _groups(graph: Graph, gru: ParallelGru, rows: int, bins: int, x: str) -> str:
    """(rows, C) -> (P, 1, H), features bin by bin."""
    parts = graph.reshape("gru/parts", x, (rows * gru.groups, gru.size // bins))  # row by row its parts of the groups
    of_group = np.arange(bins) * gru.groups + np.arange(gru.groups)[:, None]  # (P, F)
    x = graph.node("Gather", "gru/gather", parts, graph.constant("gru/of_group", of_group.astype(np.int32)), axis=0)
    return graph.reshape("gru/flatten", x, (gru.groups, 1, gru.size))


def _rows(graph: Graph, gru: ParallelGru, bins: int, state: str) -> str:
    """(P, 1, H) -> (F + 1, C), the last row zero."""
    channels = gru.groups * gru.size // bins
    if gru.groups > 1:
        state = graph.reshape("gru/by_group", state, (gru.groups, bins, channels // gru.groups))
        state = graph.node("Transpose", "gru/join", state, perm=(1, 0, 2))
    x = graph.reshape("gru/unflatten", state, (bins, channels))
    return graph.concat("gru/beyond", x, graph.constant("gru/zero", np.zeros((1, channels), np.float32)), axis=0)


def _by_group(graph: Graph, gru: ParallelGru, x: str, weights: _Weights, quantised: bool) -> str:
    groups, size = gru.groups, gru.size
    state, following = graph.state("gru_state", (groups, size))
    x_parts = graph.split("gru/split", graph.reshape("gru/vectors", x, (groups, size)), [1] * groups, axis=0)
    h_parts = graph.split("gru/split_state", state, [1] * groups, axis=0)
    from_input, from_state = [], []
    for index, (x_part, h_part) in enumerate(zip(x_parts, h_parts, strict=True)):
        layer = f"gru_{index + 1}"
        for kind, part, weight, bias, products in (
            ("input", x_part, weights.of_input, weights.bias, from_input),
            ("state", h_part, weights.of_state, weights.state_bias, from_state),
        ):
            arguments = (graph, f"{layer}/{kind}_product", part)
            matrix = weight[index].T
            products.append(
                blockwise_product(*arguments, 1, matrix, bias[index])
                if quantised
                else float_product(*arguments, matrix, bias[index])
            )
    from_input = graph.concat("gru/concat_input", *from_input, axis=0)  # (P, 3 H)
    from_state = graph.concat("gru/concat_state", *from_state, axis=0)
    return _gates(graph, size, from_input, from_state, state, following, axis=1)


def _batched(graph: Graph, gru: ParallelGru, x: str, weights: _Weights) -> str:
    groups, size = gru.groups, gru.size
    state, following = graph.state("gru_state", (groups, 1, size))
    from_input, from_state = (
        graph.node(
            "Add",
            f"gru/{kind}_bias",
            graph.node("MatMul", f"gru/{kind}_product", y, graph.constant(f"gru/{kind}_weight", matrix)),
            graph.constant(f"gru/{kind}_bias_value", bias[:, None]),
        )
        for kind, y, matrix, bias in (
            ("input", x, weights.of_input.transpose(0, 2, 1), weights.bias),
            ("state", state, weights.of_state.transpose(0, 2, 1), weights.state_bias),
        )
    )
    return _gates(graph, size, from_input, from_state, state, following, axis=2)


def _gates(graph: Graph, size: int, from_input: str, from_state: str, state: str, following: str, axis: int) -> str:
    """The next state from the products (…, 3 H), all groups at once."""
    x_gates, x_new = graph.split("gru/input_parts", from_input, [2 * size, size], axis)
    h_gates, h_new = graph.split("gru/state_parts", from_state, [2 * size, size], axis)
    gates = graph.node("Sigmoid", "gru/gates", graph.node("Add", "gru/gates_sum", x_gates, h_gates))
    reset, kept = graph.split("gru/gates_parts", gates, [size, size], axis)
    new = graph.node("Add", "gru/new_sum", x_new, graph.node("Mul", "gru/reset", reset, h_new))
    new = graph.node("Tanh", "gru/new", new)
    change = graph.node("Mul", "gru/kept", kept, graph.node("Sub", "gru/difference", state, new))
    return graph.node("Add", "gru/next", new, change, output=following)
