"""The network as matrix products, for speed: every layer is one product over rows of frequency bins.

Activations are (rows, C), a row per bin and below them at least one row of zeros, which stands for all that lies beyond
the edges. A convolution is a product of the rows it sees, gathered side by side, and a matrix (taps C_in, C_out); what
it saw a frame ago is a state, gathered already. A transposed convolution with stride 2 makes an even and an odd bin
from each pair of neighbouring bins: one product to 2 C_out columns, which *are* the two bins when the same numbers are
read as rows of C_out (a quarter of its weights are zeros: the odd bin sees one neighbour only).

``exact`` does this in float32; rows of zeros stay so because they see zeros and have no bias. ``int8`` quantises the
weights of all larger products; the first encoder, whose input is the log power, and the last decoder, whose output is
the gain, stay in float32. Quantised products have one bias for all rows: zeros are put back before each decoder.

States, zero before the first frame:
    encoder_l_state   (rows, 3 taps C)         what the encoder saw of the previous frame
    gru_state         see `dnslib.export.recurrence`
    decoder_l_state   (pairs, 2 neighbours C)  what the decoder saw of the previous frame
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from dnslib.export.graph import INPUT, OUTPUT, Graph
from dnslib.export.quantised import FEWEST_QUANTISED, columnwise_product, float_product
from dnslib.export.recurrence import recurrence
from dnslib.model import KERNEL, LEAKY_SLOPE, STRIDE, Cruse, frequency_sizes
from dnslib.stft import BINS


def exact(model: Cruse) -> Graph:
    """The same function as the plain form, to rounding."""
    return _products(model, quantised=False)


def int8(model: Cruse) -> Graph:
    """An approximation with int8 weights."""
    return _products(model, quantised=True)


def _products(model: Cruse, quantised: bool) -> Graph:
    graph, levels = Graph(), len(model.widths)
    bins = frequency_sizes(levels)
    rows = row_counts(bins)
    x, encoded = graph.input(INPUT, (1, 1, 1, BINS)), []
    zero = graph.constant("encoder_1/zero", np.zeros((1, 1, 1, 1), np.float32))
    x = graph.concat("encoder_1/beyond", x, zero, axis=3)
    for level, encoder in enumerate(model.encoders, start=1):
        x = _encoder(graph, level, encoder, rows[level], bins[level - 1 : level + 1], x, quantised)
        encoded.append(x)
    x = recurrence(graph, model.gru, rows[-1], bins[-1], x, quantised)
    for level in range(levels, 0, -1):
        skipped = _skip(graph, level, model.skips[level - 1], rows[level], bins[level], encoded.pop(), quantised)
        x = graph.node("Add", f"decoder_{level}/add_skip", x, skipped)
        if quantised:
            x = _zeros_beyond(graph, f"decoder_{level}", x, model.widths[level - 1], rows[level], bins[level])
        up = bins[level - 1 : level + 1]
        x = _decoder(graph, level, model.decoders[level - 1], rows[level - 1], up, x, quantised)
    graph.output(OUTPUT, (1, 1, 1, BINS))
    return graph


def row_counts(bins: Sequence[int]) -> list[int]:
    """Rows before and after each encoder: more than bins, and as many as the decoder back to that level makes.

    A decoder makes two rows from each of its pairs of neighbours, of which there are F + 1 or more.
    """
    return [2 * max(smaller + 1, bins_here // 2 + 1) for bins_here, smaller in pairwise(bins)] + [bins[-1] + 1]


def _product(
    graph: Graph, layer: str, frames: Sequence[str], weight: np.ndarray, bias: np.ndarray, quantise: bool
) -> str:
    """The product of the ``frames``, (rows, …) each, side by side; their weights are stacked in ``weight``.

    ``bias`` is (rows, C_out). One product per frame, the second added to the first, is faster than one for all frames
    side by side. Quantised products cannot add, and have the bias of the first row in all rows.
    """
    weight = weight.astype(np.float32)
    if quantise and weight.size >= FEWEST_QUANTISED:
        columns = graph.concat(f"{layer}/concat", *frames, axis=1)
        return columnwise_product(graph, f"{layer}/product", columns, len(bias), weight, bias[0])
    x = bias
    for frame, part, matrix in zip(frames, ("past", "now")[-len(frames) :], np.split(weight, len(frames)), strict=True):
        x = float_product(graph, f"{layer}/{part}", frame, matrix, x)
    return x


def _of_bins(values, rows: int, bins: int) -> np.ndarray:
    """(rows, C): the values (C) for all bins, then zeros."""
    return np.where(np.arange(rows)[:, None] < bins, np.asarray(values, np.float32), np.float32(0))


def _zeros_beyond(graph: Graph, layer: str, x: str, channels: int, rows: int, bins: int) -> str:
    inside = graph.constant(f"{layer}/inside", _of_bins(np.ones(channels), rows, bins))
    return graph.node("Mul", f"{layer}/mask", x, inside)


def _two_frames(graph: Graph, layer: str, x: str, seen: np.ndarray, channels: int) -> tuple[str, str]:
    """Rows ``seen (rows, taps)`` of ``x``, side by side, a frame ago and now: both (rows, taps C).

    ``x`` is (rows, C), or the frame itself, (1, 1, 1, rows).
    """
    rows, taps = seen.shape
    previous, following = graph.state(f"{layer}_state", (rows, taps * channels))
    indices = graph.constant(f"{layer}/seen", seen.astype(np.int32))  # a little faster than 64 bits
    x = graph.node("Gather", f"{layer}/gather", x, indices, axis=3 if layer == "encoder_1" else 0)
    return previous, graph.reshape(f"{layer}/columns", x, (rows, taps * channels), output=following)


def _encoder(
    graph: Graph, level: int, encoder: torch.nn.Conv2d, rows: int, bins: Sequence[int], x: str, quantise: bool
) -> str:
    """Rows of bins[0] bins -> (rows, C_out), of which bins[1] count."""
    layer = f"encoder_{level}"
    columns = _two_frames(graph, layer, x, bins_seen(rows, *bins), encoder.in_channels)
    weight = encoder.weight.detach().permute(2, 3, 1, 0).flatten(0, 2).numpy()  # (2 frames, 3 taps, C_in), C_out
    x = _product(graph, layer, columns, weight, _of_bins(encoder.bias.detach(), rows, bins[1]), quantise and level > 1)
    return graph.node("LeakyRelu", f"{layer}/activation", x, alpha=LEAKY_SLOPE)


def _skip(graph: Graph, level: int, skip: torch.nn.Conv2d, rows: int, bins: int, x: str, quantise: bool) -> str:
    weight = skip.weight.detach()[:, :, 0, 0].T.numpy()  # (C_in, C_out)
    return _product(graph, f"skip_{level}", [x], weight, _of_bins(skip.bias.detach(), rows, bins), quantise)


def _decoder(
    graph: Graph, level: int, decoder: torch.nn.ConvTranspose2d, rows: int, bins: Sequence[int], x: str, quantise: bool
) -> str:
    """Rows of bins[1] bins -> (rows, C_out), of which bins[0] count, or the gain after the last."""
    layer, channels, is_last = f"decoder_{level}", decoder.out_channels, level == 1
    columns = _two_frames(graph, layer, x, pairs_of_bins(rows // 2, bins[1]), decoder.in_channels)
    bias = _of_bins(decoder.bias.detach(), rows, bins[0]).reshape(rows // 2, 2 * channels)
    x = _product(graph, layer, columns, sub_pixel_weight(decoder), bias, quantise and not is_last)
    if not is_last:
        x = graph.node("LeakyRelu", f"{layer}/activation", x, alpha=LEAKY_SLOPE)
        return graph.reshape(f"{layer}/interleave", x, (rows, channels))
    x = graph.reshape(f"{layer}/interleave", x, (1, 1, 1, rows))
    crop = [graph.constant(f"{layer}/{name}", [value]) for name, value in (("start", 0), ("end", BINS), ("axis", 3))]
    x = graph.node("Slice", f"{layer}/crop", x, *crop)
    return graph.node("Sigmoid", f"{layer}/activation", x, output=OUTPUT)


def bins_seen(rows: int, bins_in: int, bins_out: int) -> np.ndarray:
    """Bins that each row of an encoder sees, (rows, 3); ``bins_in``, the first row of zeros, where no bin belongs."""
    first = STRIDE[1] * np.arange(rows)[:, None]
    return np.where(first < STRIDE[1] * bins_out, first + np.arange(KERNEL[1]), bins_in)


def pairs_of_bins(pairs: int, bins: int) -> np.ndarray:
    """Bins i and i - 1 of the pairs i = 0 …, (pairs, 2); ``bins``, the first row of zeros, past either edge."""
    seen = np.arange(pairs)[:, None] - np.arange(2)
    return np.where((seen >= 0) & (seen < bins), seen, bins)


def sub_pixel_weight(decoder: torch.nn.ConvTranspose2d) -> np.ndarray:
    """(2 frames, bins i and i - 1, C_in), (even and odd bin, C_out): even bins see taps 0 and 2, odd ones tap 1."""
    weight = decoder.weight.detach().numpy()  # (C_in, C_out, 2 frames, 3 taps)
    c_in, c_out = weight.shape[:2]
    by_pair = np.zeros((2, 2, c_in, 2, c_out), np.float32)
    for frame in (0, 1):
        taps = weight[:, :, 1 - frame]  # the transposed kernel's second frame is what the previous frame adds to now
        by_pair[frame, 0, :, 0], by_pair[frame, 1, :, 0], by_pair[frame, 0, :, 1] = (
            taps[..., 0], taps[..., 2], taps[..., 1],
        )  # fmt: skip
    return by_pair.reshape(4 * c_in, 2 * c_out)
