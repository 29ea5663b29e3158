"""The kernels that NumPy, SciPy, PyTorch and ONNX Runtime offer: formats, and products bound to memory."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from onnx import helper
from scipy import sparse

from dnslib.export import onnxruntime, session_of
from dnslib.export.files import RUNTIME_OPERATORS
from dnslib.export.graph import IR_VERSION, OPSET, Graph
from dnslib.export.quantised import blockwise_product, float_product
from dnslib.sparse_products.kernel import INDEX_64_BYTES, INT8_TOLERANCE, Kernel
from dnslib.sparse_products.patterns import Matrices

BAND_ROWS = 144  # divides the rows of all three widths that are compared: 1728, 864, 432


def store_dense(matrices: Matrices, _=None) -> list[np.ndarray]:
    return list(matrices)


def store_csr(matrices: Matrices, _=None) -> list[sparse.csr_array]:
    return [sparse.csr_array(matrix) for matrix in matrices]


def store_bsr(matrices: Matrices, block: tuple[int, int]) -> list[sparse.bsr_array]:
    return [sparse.bsr_array(matrix, blocksize=block) for matrix in matrices]


def store_bands(matrices: Matrices, block: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each matrix the columns kept (bands, kept), and their weights (bands, kept, rows of a band)."""
    return [_band(matrix, block[0]) for matrix in matrices]


def _band(matrix: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    bands = matrix.reshape(-1, height, matrix.shape[1])
    used = (bands != 0).any(axis=1)  # (bands, columns)
    kept = used.sum(axis=1).max()
    columns = np.sort(np.argsort(~used, axis=1, kind="stable")[:, :kept], axis=1)
    weights = np.take_along_axis(bands, columns[:, None], axis=2).transpose(0, 2, 1)
    return columns, np.ascontiguousarray(weights)


def _numpy(order: str, stored: Matrices, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    own = [matrix.copy(order=order) for matrix in stored]

    def multiply():
        for matrix, vector, out in zip(own, x, y, strict=True):
            np.dot(matrix, vector, out=out)

    return multiply


def _scipy(stored: Sequence, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    own = [matrix.copy() for matrix in stored]

    def multiply():
        for matrix, vector, out in zip(own, x, y, strict=True):
            out[:] = matrix @ vector  # SciPy has no product into an existing array

    return multiply


def _torch(build: Callable, stored: Sequence, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    own, vectors, outs = [build(one) for one in stored], list(torch.from_numpy(x)), list(torch.from_numpy(y))

    def multiply():
        for matrix, vector, out in zip(own, vectors, outs, strict=True):
            torch.mv(matrix, vector, out=out)

    return multiply


def _torch_dense(order: str, matrix: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(matrix.copy(order=order))


def _torch_sparse(stored) -> torch.Tensor:
    """CSR or BSR of SciPy's. MKL takes 32-bit indices as they are; others would be converted at every product."""
    constructor = torch.sparse_bsr_tensor if stored.format == "bsr" else torch.sparse_csr_tensor
    parts = (torch.from_numpy(part.copy()) for part in (stored.indptr, stored.indices, stored.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")  # beta state; invariants, which are SciPy's
        return constructor(*parts, size=stored.shape)


def _torch_bands(stored: Sequence, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    own = [(torch.from_numpy(columns.copy()), torch.from_numpy(weights.copy())) for columns, weights in stored]
    vectors = list(torch.from_numpy(x))
    outs = [out.view(len(weights), 1, -1) for out, (_, weights) in zip(torch.from_numpy(y), own, strict=True)]

    def multiply():
        for (columns, weights), vector, out in zip(own, vectors, outs, strict=True):
            torch.bmm(vector[columns][:, None], weights, out=out)

    return multiply


def _runtime(
    add: Callable, form: tuple[int, ...], stored: Sequence, x: np.ndarray, y: np.ndarray
) -> Callable[[], None]:
    """A graph of its own for all products; ``add(graph, name, vector, stored matrix)`` writes one of them.

    ``form`` is the shape in which ``add`` wants the vector; it returns the shape of the product.
    """
    graph, arrays = Graph(), {}
    for index, (one, vector, out) in enumerate(zip(stored, x, y, strict=True)):
        vector = vector.reshape(form)
        name, given = f"y_{index}", graph.input(f"x_{index}", vector.shape)
        arrays[given], arrays[name] = vector, out.reshape(add(graph, name, given, one))
        graph.output(name, arrays[name].shape)
    operators = [helper.make_opsetid("", OPSET), RUNTIME_OPERATORS]
    model = helper.make_model(graph.proto("products"), opset_imports=operators, ir_version=IR_VERSION)
    session = session_of(model.SerializeToString())
    binding = session.io_binding()
    for name, array in arrays.items():  # the runtime reads and writes directly in the arrays
        bind = binding.bind_ortvalue_input if name.startswith("x") else binding.bind_ortvalue_output
        bind(name, onnxruntime().OrtValue.ortvalue_from_numpy(array))
    return lambda: session.run_with_iobinding(binding)


def _gemm(graph: Graph, name: str, x: str, matrix: np.ndarray) -> tuple[int, ...]:
    float_product(graph, name, x, matrix.T, np.zeros(len(matrix), np.float32))
    return 1, len(matrix)


def _int8(graph: Graph, name: str, x: str, matrix: np.ndarray) -> tuple[int, ...]:
    blockwise_product(graph, name, x, 1, matrix.T, np.zeros(len(matrix), np.float32))
    return 1, len(matrix)


def _gather(graph: Graph, name: str, x: str, stored: tuple[np.ndarray, np.ndarray]) -> tuple[int, ...]:
    columns, weights = stored
    indices = graph.constant(f"{name}_columns", columns[:, None].astype(np.int32))
    gathered = graph.node("Gather", f"{name}_gather", x, indices)  # (bands, 1, kept)
    graph.node("MatMul", name, gathered, graph.constant(f"{name}_weight", weights))
    return len(weights), 1, weights.shape[2]


def kernels(block: tuple[int, int] = (8, 4), square: int = 8, band_rows: int = BAND_ROWS) -> dict[str, Kernel]:
    """All kernels by name. PyTorch's block-sparse product takes square blocks only: ``square`` is their side."""
    bands = (band_rows, 1)
    rows = (
        Kernel("numpy_rows", "NumPy", "rows", store_dense, partial(_numpy, "C")),
        Kernel("numpy_columns", "NumPy", "columns", store_dense, partial(_numpy, "F")),
        Kernel("torch_rows", "PyTorch", "rows", store_dense, partial(_torch, partial(_torch_dense, "C"))),
        Kernel("torch_columns", "PyTorch", "columns", store_dense, partial(_torch, partial(_torch_dense, "F"))),
        Kernel("onnxruntime_dense", "ONNX Runtime", "packed", store_dense, partial(_runtime, _gemm, (1, -1))),
        Kernel(
            "onnxruntime_int8",
            "ONNX Runtime",
            "int8",
            store_dense,
            partial(_runtime, _int8, (1, -1)),
            tolerance=INT8_TOLERANCE,
        ),
        Kernel("scipy_csr", "SciPy", "csr", store_csr, _scipy, (1, 1)),
        Kernel("torch_csr", "PyTorch", "csr", store_csr, partial(_torch, _torch_sparse), (1, 1)),
        Kernel("scipy_bsr", "SciPy", "bsr", store_bsr, _scipy, block),
        Kernel("torch_bsr", "PyTorch", "bsr", store_bsr, partial(_torch, _torch_sparse), (square, square)),
        Kernel("torch_bands", "PyTorch", "bands", store_bands, _torch_bands, bands, INDEX_64_BYTES),
        Kernel("onnxruntime_bands", "ONNX Runtime", "bands", store_bands, partial(_runtime, _gather, (-1,)), bands),
    )
    return {kernel.name: kernel for kernel in rows}
