"""The network as matrix products, for speed: every layer is one product over rows of frequency bins.

Activations are (F, C), a row per bin, so a convolution is a product of the rows it sees, gathered side by side, and a
matrix (taps C_in, C_out); what it saw a frame ago is a state of raw rows. A transposed convolution with stride 2 makes
an even and an odd bin from each pair of neighbouring bins: one product to 2 C_out columns, which *are* the two bins
when the same numbers are read as rows of C_out (a quarter of its weights are zeros: the odd bin sees one neighbour
only). Nothing is computed that is cropped away, apart from one spare row where a level has an odd number of bins.

``exact`` does this in float32. ``int8`` quantises the weights of all larger products; the first encoder, whose input
is the log power, and the last decoder, whose output is the gain, stay in float32.

States, zero before the first frame, with F rows or one more (the spare one):
    encoder_1_state   (1, 1, 1, 161)   the previous frame
    encoder_l_state   (F, C)           the encoder's previous input
    gru_state         see `dnslib.export.recurrence`
    decoder_l_state   (F, C)           the decoder's previous input
"""

from collections.abc import Sequence

import numpy as np
import torch

from dnslib.export.graph import INPUT, NEXT, OUTPUT, Graph
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
    graph.node("Identity", "encoder_1/keep", x, output="encoder_1_state" + NEXT)
    for level, encoder in enumerate(model.encoders, start=1):
        x = _encoder(graph, level, encoder, rows[level - 1 : level + 1], bins[level], x, level == levels, quantised)
        encoded.append(x)
    x = recurrence(graph, model.gru, bins[-1], x, quantised)
    for level in range(levels, 0, -1):
        skipped = _skip(graph, level, model.skips[level - 1], rows[level], encoded.pop(), quantised)
        x = _decoder(graph, level, model.decoders[level - 1], rows[level], bins[level], x, skipped, quantised)
    graph.output(OUTPUT, (1, 1, 1, BINS))
    return graph


def row_counts(bins: Sequence[int]) -> list[int]:
    """Rows before and after each encoder: as many as the decoder makes that comes back to this level.

    A decoder makes two rows of each of its F + 1 pairs of neighbours, so 162, 80, 40, 20, 9 for 161, 80, 39, 19, 9.
    """
    return [2 * smaller + 2 for smaller in bins[1:]] + [bins[-1]]


def _product(
    graph: Graph, layer: str, x: str, rows: int, weight: np.ndarray, bias: torch.Tensor, quantise: bool
) -> str:
    weight, bias = weight.astype(np.float32), bias.detach().numpy()
    if quantise and weight.size >= FEWEST_QUANTISED:
        return columnwise_product(graph, f"{layer}/product", x, rows, weight, bias)
    return float_product(graph, f"{layer}/product", x, weight, bias)


def _columns(graph: Graph, layer: str, x: str, seen: np.ndarray, channels: int, axis: int) -> str:
    """Rows ``seen (rows, taps)`` of ``x``, side by side: (rows, taps C)."""
    x = graph.node("Gather", f"{layer}/gather", x, graph.constant(f"{layer}/seen", seen), axis=axis)
    return graph.reshape(f"{layer}/columns", x, (len(seen), seen.shape[1] * channels))


def _encoder(
    graph: Graph,
    level: int,
    encoder: torch.nn.Conv2d,
    rows: Sequence[int],
    bins: int,
    x: str,
    last: bool,
    quantise: bool,
) -> str:
    """(rows[0], C_in) -> (rows[1], C_out), of which ``bins`` count, and which is the next encoder's state."""
    layer, channels, is_first = f"encoder_{level}", encoder.in_channels, level == 1
    rows_in, rows_out = BINS if is_first else rows[0], rows[1]
    previous, _ = graph.state(f"{layer}_state", (1, 1, 1, BINS) if is_first else (rows_in, channels))
    axis = 3 if is_first else 0
    two_frames = graph.concat(f"{layer}/concat", previous, x, axis=axis)
    first_bin = STRIDE[1] * np.minimum(np.arange(rows_out), bins - 1)  # the spare row repeats the last bin
    seen = [frame * rows_in + first_bin + tap for frame in range(KERNEL[0]) for tap in range(KERNEL[1])]
    columns = _columns(graph, layer, two_frames, np.stack(seen, axis=1), channels, axis)
    weight = encoder.weight.detach().permute(2, 3, 1, 0).flatten(0, 2).numpy()  # (2 frames, 3 taps, C_in), C_out
    x = _product(graph, layer, columns, rows_out, weight, encoder.bias, quantise and not is_first)
    output = None if last else f"encoder_{level + 1}_state{NEXT}"
    return graph.node("LeakyRelu", f"{layer}/activation", x, output=output, alpha=LEAKY_SLOPE)


def _skip(graph: Graph, level: int, skip: torch.nn.Conv2d, rows: int, x: str, quantise: bool) -> str:
    weight = skip.weight.detach()[:, :, 0, 0].T.numpy()  # (C_in, C_out)
    return _product(graph, f"skip_{level}", x, rows, weight, skip.bias, quantise)


def _decoder(
    graph: Graph,
    level: int,
    decoder: torch.nn.ConvTranspose2d,
    rows: int,
    bins: int,
    x: str,
    skipped: str,
    quantise: bool,
) -> str:
    """(rows, C_in), of which ``bins`` count, -> (2 bins + 2, C_out), or the gain after the last."""
    layer, channels, is_last = f"decoder_{level}", decoder.in_channels, level == 1
    previous, following = graph.state(f"{layer}_state", (rows, channels))
    x = graph.node("Add", f"{layer}/add_skip", x, skipped, output=following)
    beyond = graph.constant(f"{layer}/beyond", np.zeros((1, channels), np.float32))  # what lies past either edge
    two_frames = graph.concat(f"{layer}/concat", previous, x, beyond, axis=0)
    columns = _columns(graph, layer, two_frames, pairs_of_bins(rows, bins), channels, axis=0)
    bias = decoder.bias.repeat(2)
    x = _product(graph, layer, columns, bins + 1, sub_pixel_weight(decoder), bias, quantise and not is_last)
    if not is_last:
        x = graph.node("LeakyRelu", f"{layer}/activation", x, alpha=LEAKY_SLOPE)
        return graph.reshape(f"{layer}/interleave", x, (2 * bins + 2, decoder.out_channels))
    x = graph.reshape(f"{layer}/interleave", x, (1, 1, 1, 2 * bins + 2))
    crop = [graph.constant(f"{layer}/{name}", [value]) for name, value in (("start", 0), ("end", BINS), ("axis", 3))]
    x = graph.node("Slice", f"{layer}/crop", x, *crop)
    return graph.node("Sigmoid", f"{layer}/activation", x, output=OUTPUT)


def pairs_of_bins(rows: int, bins: int) -> np.ndarray:
    """Rows of (previous, current, beyond) that the pair i = 0 … ``bins`` sees: bins i and i - 1 of both frames."""
    pair = np.arange(bins + 1)
    seen = []
    for frame in range(KERNEL[0]):
        for bin_ in (pair, pair - 1):
            inside = (bin_ >= 0) & (bin_ < bins)
            seen.append(np.where(inside, frame * rows + bin_, 2 * rows))
    return np.stack(seen, axis=1)  # (bins + 1, 4)


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
