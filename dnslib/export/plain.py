"""The natural streaming export: each convolution sees (state, frame), each group is an ONNX GRU of one step.

Layers count from 1 at the input; decoder l mirrors encoder l, so ``decoder_1`` is the last. Activations are
(1, C, 1, F). States, all zero before the first frame:
    encoder_l_state   (1, C, 1, F)   the encoder's previous input frame
    gru_g_state       (1, 1, H)      the hidden vector of group g
    decoder_l_state   (1, C, 1, F)   the decoder's previous input frame
"""

import torch
from onnx import helper

from dnslib.export.graph import INPUT, NEXT, OUTPUT, Graph
from dnslib.gru import ParallelGru
from dnslib.model import KERNEL, LEAKY_SLOPE, STRIDE, Cruse, frequency_sizes, lost_bins
from dnslib.stft import BINS


def plain(model: Cruse) -> Graph:
    """The streaming graph of ``model`` with one node of ONNX for each of its layers."""
    graph, sizes = Graph(), frequency_sizes(len(model.widths))
    x, skipped = graph.input(INPUT, (1, 1, 1, BINS)), []
    graph.node("Identity", "encoder_1/keep", x, output="encoder_1_state" + NEXT)
    for level, (encoder, skip) in enumerate(zip(model.encoders, model.skips, strict=True), start=1):
        is_last = level == len(model.widths)
        x = _encoder(
            graph, level, encoder, sizes[level - 1], x, None if is_last else f"encoder_{level + 1}_state{NEXT}"
        )
        skipped.append(_convolution(graph, f"skip_{level}", skip, x))
    x = _grus(graph, model.gru, (1, model.widths[-1], 1, sizes[-1]), x)
    for level in range(len(model.widths), 0, -1):
        x = _decoder(
            graph, level, model.decoders[level - 1], sizes[level], lost_bins(sizes)[level - 1], x, skipped.pop()
        )
    graph.output(OUTPUT, (1, 1, 1, BINS))
    return graph


def _convolution(graph: Graph, layer: str, convolution: torch.nn.Conv2d, x: str) -> str:
    return graph.node(
        "Conv",
        f"{layer}/conv",
        x,
        graph.constant(f"{layer}/weight", convolution.weight),  # (C_out, C_in, 2 or 1, 3 or 1)
        graph.constant(f"{layer}/bias", convolution.bias),
        kernel_shape=convolution.kernel_size,
        strides=convolution.stride,
    )


def _encoder(graph: Graph, level: int, encoder: torch.nn.Conv2d, bins: int, x: str, output: str | None) -> str:
    """(1, C_in, 1, F_in) -> (1, C_out, 1, F_out), which is the next encoder's state for the next frame."""
    layer = f"encoder_{level}"
    previous, _ = graph.state(f"{layer}_state", (1, encoder.in_channels, 1, bins))
    two_frames = graph.node("Concat", f"{layer}/concat", previous, x, axis=2)
    x = _convolution(graph, layer, encoder, two_frames)
    return graph.node("LeakyRelu", f"{layer}/activation", x, output=output, alpha=LEAKY_SLOPE)


def _grus(graph: Graph, gru: ParallelGru, shape: tuple[int, int, int, int], x: str) -> str:
    """Parallel GRUs over the channel-major features of (1, C, 1, F); the layer ``gru`` splits and joins the groups."""
    x = graph.node("Reshape", "gru/flatten", x, graph.constant("gru/flat_shape", [1, 1, gru.groups * gru.size]))
    parts = [f"gru/split_{group}" for group in range(1, gru.groups + 1)]
    graph.nodes.append(helper.make_node("Split", [x], parts, name="gru/split", axis=2))
    hidden = [_gru(graph, group, gru, part) for group, part in enumerate(parts, start=1)]
    x = graph.node("Concat", "gru/concat", *hidden, axis=2)  # (1, 1, P H)
    return graph.node("Reshape", "gru/unflatten", x, graph.constant("gru/shape", shape))


def _gru(graph: Graph, group: int, gru: ParallelGru, x: str) -> str:
    """One group, one step: (T = 1, B = 1, H) -> its next hidden vector (1, 1, H)."""
    layer, index = f"gru_{group}", group - 1
    previous, following = graph.state(f"{layer}_state", (1, 1, gru.size))
    biases = torch.cat([_update_first(gru.bias_ih[index]), _update_first(gru.bias_hh[index])])
    inputs = [
        x,
        graph.constant(f"{layer}/weight_ih", _update_first(gru.weight_ih[index])[None]),  # (1, 3 H, I)
        graph.constant(f"{layer}/weight_hh", _update_first(gru.weight_hh[index])[None]),  # (1, 3 H, H)
        graph.constant(f"{layer}/bias", biases[None]),  # (1, 6 H)
        "",  # no sequence lengths
        previous,
    ]
    graph.nodes.append(
        # linear_before_reset: the reset gate multiplies W_hn h + b_hn, as in PyTorch
        helper.make_node(
            "GRU", inputs, ["", following], name=f"{layer}/gru", hidden_size=gru.size, linear_before_reset=1
        )
    )
    return following


def _update_first(gates: torch.Tensor) -> torch.Tensor:
    """PyTorch stacks reset, update, new along the first dimension; ONNX update, reset, new."""
    reset, update, new = gates.chunk(3)
    return torch.cat([update, reset, new])


def _decoder(
    graph: Graph, level: int, decoder: torch.nn.ConvTranspose2d, bins: int, lost: int, x: str, skipped: str
) -> str:
    """(1, C_in, 1, F_in) -> (1, C_out, 1, F_out); of the three frames that two give, the middle one is now."""
    layer = f"decoder_{level}"
    previous, following = graph.state(f"{layer}_state", (1, decoder.in_channels, 1, bins))
    x = graph.node("Add", f"{layer}/add_skip", x, skipped, output=following)
    two_frames = graph.node("Concat", f"{layer}/concat", previous, x, axis=2)
    three_frames = graph.node(
        "ConvTranspose",
        f"{layer}/conv_transpose",
        two_frames,
        graph.constant(f"{layer}/weight", decoder.weight),  # (C_in, C_out, 2, 3)
        graph.constant(f"{layer}/bias", decoder.bias),
        kernel_shape=KERNEL,
        strides=STRIDE,
        output_padding=(0, lost),
    )
    crop = [graph.constant(f"{layer}/{name}", [value]) for name, value in (("start", 1), ("end", 2), ("axis", 2))]
    x = graph.node("Slice", f"{layer}/crop", three_frames, *crop)
    if level == 1:
        return graph.node("Sigmoid", f"{layer}/activation", x, output=OUTPUT)
    return graph.node("LeakyRelu", f"{layer}/activation", x, alpha=LEAKY_SLOPE)
