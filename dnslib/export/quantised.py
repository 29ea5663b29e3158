"""Matrix products over rows: ``x (M, K) @ weight (K, N) + bias``, in float32 or with int8 weights.

Quantised weights are symmetric (no zero points), one scale per output column or finer; activations are quantised while
the network runs, from the values of the frame at hand, so nothing is calibrated. Results are float32 again.
"""

import numpy as np

from dnslib.export.graph import RUNTIME_DOMAIN, Graph

FEWEST_QUANTISED = 5_000  # weights of a product: with fewer, quantising its input costs more than int8 saves
LEVELS = 127  # of an int8 on either side of zero
BLOCK = 64  # weights along K that share a scale in `blockwise_product`
ZERO = 128  # what stands for zero in unsigned bytes
SMALLEST = np.finfo(np.float32).tiny  # of a scale, for columns that hold zeros only


def float_product(graph: Graph, name: str, x: str, weight: np.ndarray, bias: np.ndarray | str) -> str:
    """A Gemm; ONNX Runtime packs its weights at load time and appends an activation that follows.

    ``bias`` is (N) or (M, N), or the name of a value of the graph.
    """
    bias = bias if isinstance(bias, str) else graph.constant(f"{name}_bias", bias)
    return graph.node("Gemm", name, x, graph.constant(f"{name}_weight", weight), bias)


def columnwise_product(graph: Graph, name: str, x: str, rows: int, weight: np.ndarray, bias: np.ndarray) -> str:
    """int8 weights with a scale per column, activations with one scale and zero point for the whole frame."""
    quantised, scales = quantise_columns(weight)
    inputs = [
        x,
        graph.constant(f"{name}_weight", quantised),
        graph.constant(f"{name}_weight_scale", scales),
        "",  # no zero points
        graph.constant(f"{name}_bias", bias),
    ]
    shape = (rows, weight.shape[1])
    return graph.node("DynamicQuantizeMatMul", name, *inputs, domain=RUNTIME_DOMAIN, shape=shape)


def blockwise_product(graph: Graph, name: str, x: str, rows: int, weight: np.ndarray, bias: np.ndarray) -> str:
    """Scales per column and `BLOCK` weights, for activations too: made for one row, where reading weights dominates."""
    quantised, scales = quantise_blocks(weight)
    inputs = [
        x,
        graph.constant(f"{name}_weight", quantised),
        graph.constant(f"{name}_weight_scale", scales),
        "",  # no zero points: 128 stands for zero
        "",  # columns in their order
        graph.constant(f"{name}_bias", bias),
    ]
    size, columns = weight.shape
    attributes = {"K": size, "N": columns, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}  # 4: int8 products
    return graph.node("MatMulNBits", name, *inputs, domain=RUNTIME_DOMAIN, shape=(rows, columns), **attributes)


def quantise_columns(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(K, N)`` -> int8 (K, N) and scales (N), with ``weight ≈ int8 * scale``, off by half a scale at most."""
    scales = np.maximum(np.abs(weight).max(axis=0) / LEVELS, SMALLEST).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales


def quantise_blocks(weight: np.ndarray, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """``(K, N)`` -> uint8 (N, blocks, block) and scales (N, blocks): ``weight.T ≈ (uint8 - 128) * scale``.

    The last block is filled up with zeros.
    """
    size, columns = weight.shape
    blocks = -(-size // block)
    padded = np.zeros((columns, blocks * block), np.float32)
    padded[:, :size] = weight.T
    padded = padded.reshape(columns, blocks, block)
    scales = np.maximum(np.abs(padded).max(axis=2) / LEVELS, SMALLEST).astype(np.float32)
    return (np.rint(padded / scales[..., None]) + ZERO).astype(np.uint8), scales
