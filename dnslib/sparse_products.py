"""When zeros become speed: products of the GRUs by dense, unstructured and block-sparse kernels of stock packages.

One frame of CRUSE32 is eight products of a matrix (1728, 576) and a vector (576): four groups, each with a weight for
its input and one for its state. Together they are 32 MB of float32 that every frame reads, so the eight are always
timed in turn, as a frame needs them, by the protocol of `dnslib.profiling` (interleaved rounds, each of which opens
every kernel anew). Here ``matrices`` is such a list, all of one shape (rows, columns), float32.

What is zero together is a kernel's `Kernel.block`, rows x columns: single weights; blocks of 8 x 4, as RNNoise prunes
its GRUs; or *bands*, where some consecutive rows share the columns they keep, and every band keeps equally many.
Equally many means that a band is a small dense matrix, for which every library has a fast product.
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from time import perf_counter, process_time

import numpy as np
import pandas as pd
import torch
from onnx import helper
from scipy import sparse

from dnslib.errors import MisuseError
from dnslib.export import flushed_denormals, onnxruntime, session_options
from dnslib.export.files import RUNTIME_OPERATORS
from dnslib.export.graph import IR_VERSION, OPSET, Graph
from dnslib.export.quantised import BLOCK, blockwise_product, float_product
from dnslib.model import Cruse
from dnslib.profiling import latency_table, time_rounds
from dnslib.pruning import gru_weights

Matrices = Sequence[np.ndarray]
FLOAT_TOLERANCE, INT8_TOLERANCE = 1e-5, 0.05  # of the largest error, relative to the largest value of the product
FLOAT_BYTES, INDEX_BYTES, INDEX_64_BYTES = 4, 4, 8
BAND_ROWS = 144  # divides the rows of all three widths that are compared: 1728, 864, 432
SPEEDUP = ("speedup", "speedup_ci_low", "speedup_ci_high")
MICROSECONDS_PER_MS = 1e3

# --- which weights are zero ------------------------------------------------------------------------------------------


def gru_matrices(model: Cruse) -> list[np.ndarray]:
    """The weights of all groups, those of the inputs first: 2 P matrices of shape (3 H, H), copies."""
    return [matrix.copy() for weight in gru_weights(model) for matrix in weight.detach().cpu().numpy()]


def with_gru_matrices(model: Cruse, matrices: Matrices) -> Cruse:
    """A copy of ``model`` with other GRU weights, in the order of `gru_matrices`."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for weight, part in zip(gru_weights(changed), np.split(np.stack(matrices), 2), strict=True):
            weight.copy_(torch.from_numpy(part))
    return changed


def prune_blocks(matrices: Matrices, block: tuple[int, int], zeros: float) -> list[np.ndarray]:
    """Copies in which the share ``zeros`` of all blocks, those of the smallest L2 norm in all matrices together, is 0.

    Blocks of (1, 1) are single weights by magnitude, which is `dnslib.pruning.sparsify`.
    """
    norms = np.stack([_blocks(matrix, block, zeros) for matrix in matrices])
    kept = np.ones(norms.size, dtype=bool)
    count = round(zeros * norms.size)
    if count:
        kept[np.argpartition(norms.ravel(), count - 1)[:count]] = False
    kept = kept.reshape(norms.shape).repeat(block[0], axis=1).repeat(block[1], axis=2)
    return [np.where(keep, matrix, np.float32(0)) for matrix, keep in zip(matrices, kept, strict=True)]


def prune_bands(matrices: Matrices, rows: int, zeros: float) -> list[np.ndarray]:
    """Copies in which each band of ``rows`` rows keeps the columns of its largest L2 norms, equally many in each."""
    return [np.where(_kept_in_bands(matrix, rows, zeros), matrix, np.float32(0)) for matrix in matrices]


def _kept_in_bands(matrix: np.ndarray, rows: int, zeros: float) -> np.ndarray:
    norms = _blocks(matrix, (rows, 1), zeros)  # (bands, columns)
    kept = np.zeros(norms.shape, dtype=bool)
    largest = np.argsort(-norms, axis=1, kind="stable")[:, : _columns_kept(matrix.shape[1], zeros)]
    np.put_along_axis(kept, largest, True, axis=1)
    return kept.repeat(rows, axis=0)


def _columns_kept(columns: int, zeros: float) -> int:
    return max(1, round((1 - zeros) * columns))


def _blocks(matrix: np.ndarray, block: tuple[int, int], zeros: float) -> np.ndarray:
    """Squared norms of the blocks, (rows / height, columns / width)."""
    if not 0 <= zeros < 1:
        raise MisuseError(f"The share of zeros must lie in [0, 1), not {zeros}.")
    (rows, columns), (height, width) = matrix.shape, block
    if rows % height or columns % width:
        raise MisuseError(f"A matrix of {rows} x {columns} cannot be cut into blocks of {height} x {width}.")
    return np.square(matrix).reshape(rows // height, height, columns // width, width).sum(axis=(1, 3))


# --- kernels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernel:
    """A product that a package offers.

    ``store(matrices, block)`` brings the matrices into its format once; ``bind(stored, x, y)`` copies that to new
    memory and returns the function that multiplies: from ``x`` (matrices, columns) into ``y`` (matrices, rows).
    """

    name: str
    package: str  # that brings it
    storage: str  # rows or columns of a dense matrix, packed by the package, int8, csr, bsr, bands
    store: Callable[[Matrices, tuple[int, int]], Sequence]
    bind: Callable[[Sequence, np.ndarray, np.ndarray], Callable[[], None]]
    block: tuple[int, int] | None = None  # rows x columns that are zero together; None: zeros are stored
    index_bytes: int = INDEX_BYTES
    tolerance: float = FLOAT_TOLERANCE

    @property
    def dense(self) -> bool:
        """Whether it stores every weight as it is."""
        return self.storage in ("rows", "columns", "packed")

    def prune(self, matrices: Matrices, zeros: float) -> list[np.ndarray]:
        """``matrices`` with the zeros that this kernel can make use of."""
        if self.block is None:
            return list(matrices)
        if self.storage == "bands":
            return prune_bands(matrices, self.block[0], zeros)
        return prune_blocks(matrices, self.block, zeros)

    def opener(self, matrices: Matrices) -> "Opener":
        """What opens the product of (pruned) matrices; every call takes new memory for the weights."""
        return partial(Product, self.bind, self.store(matrices, self.block), len(matrices), matrices[0].shape)

    def bytes_per_weight(self) -> float:
        """Bytes read for each weight that is kept, its share of the column index included; without row pointers."""
        if self.storage == "int8":
            return 1 + FLOAT_BYTES / BLOCK
        return FLOAT_BYTES + (self.index_bytes / prod(self.block) if self.block else 0)

    def bytes_per_frame(self, count: int, shape: tuple[int, int], zeros: float = 0.0) -> int:
        """Bytes of weights, indices and row pointers that one frame reads; the vectors are a thousandth of it."""
        rows, columns = shape
        if self.block is None:
            columns = -(-columns // BLOCK) * BLOCK if self.storage == "int8" else columns  # the last block is filled up
            return round(count * rows * columns * self.bytes_per_weight())
        height, width = self.block
        if self.storage == "bands":
            kept, pointers = count * (rows // height) * _columns_kept(columns, zeros), 0
        else:
            blocks = count * rows * columns // (height * width)
            kept, pointers = blocks - round(zeros * blocks), count * (rows // height + 1)
        return kept * (FLOAT_BYTES * height * width + self.index_bytes) + self.index_bytes * pointers

    def zeros_for_traffic(self, share: float) -> float:
        """The share of zeros at which it reads ``share`` of what a dense float32 product reads.

        CSR, with 8 bytes a value, reads as much as the dense product at 0.5, half of it at 0.75.
        """
        return 1 - share * FLOAT_BYTES / self.bytes_per_weight()


class Product:
    """All products of one frame, ready to run: called with a frame (matrices, at least columns), fills ``y``.

    The frame is copied first, as a network's input would be. ``y`` is (matrices, rows).
    """

    def __init__(self, bind: Callable, stored: Sequence, count: int, shape: tuple[int, int]):
        self.x, self.y = np.zeros((count, shape[1]), np.float32), np.zeros((count, shape[0]), np.float32)
        self._multiply = bind(stored, self.x, self.y)

    def __call__(self, frame: np.ndarray) -> None:
        np.copyto(self.x, frame[:, : self.x.shape[1]])
        self._multiply()


Opener = Callable[[], Product]


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
            out[:] = matrix @ vector  # SciPy has no product into an array that is there

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

    ``form`` is the shape in which ``add`` wants the vector; it returns the shape of what it makes.
    """
    graph, ort = Graph(), onnxruntime()
    arrays = {}
    for index, (one, vector, out) in enumerate(zip(stored, x, y, strict=True)):
        vector = vector.reshape(form)
        name, given = f"y_{index}", graph.input(f"x_{index}", vector.shape)
        arrays[given], arrays[name] = vector, out.reshape(add(graph, name, given, one))
        graph.output(name, arrays[name].shape)
    operators = [helper.make_opsetid("", OPSET), RUNTIME_OPERATORS]
    model = helper.make_model(graph.proto("products"), opset_imports=operators, ir_version=IR_VERSION)
    session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in arrays.items():  # the runtime reads and writes right in the arrays
        bind = binding.bind_ortvalue_input if name.startswith("x") else binding.bind_ortvalue_output
        bind(name, ort.OrtValue.ortvalue_from_numpy(array))
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


# --- the race --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One row of the table: a kernel on the GRUs of a configuration with a share of zeros."""

    kernel: Kernel
    configuration: str
    zeros: float
    count: int
    shape: tuple[int, int]
    relative_error: float

    @property
    def name(self) -> str:
        """Kernel, configuration and zeros, unique in a race."""
        return f"{self.kernel.name} {self.configuration} {self.zeros:g}"


def prepare(
    weights: Mapping[str, Matrices], chosen: Iterable[Kernel], zeros: Iterable[float], seed: int = 0
) -> dict[Case, Opener]:
    """What the race needs, for every configuration in ``weights`` and every share; dense kernels run once, at 0.

    Each kernel's product of its own pruned matrices was compared with the dense product in float64: raises
    ArithmeticError for one that is wrong.
    """
    openers, chosen = {}, list(chosen)
    for configuration, matrices in weights.items():
        count, shape = len(matrices), matrices[0].shape
        frame = random_frames(1, count, shape[1], seed)[0]
        for share in [None, *sorted(set(zeros))]:  # None: kernels that store every weight
            pruned, stored = {}, {}  # shared by kernels of one pattern or format
            for kernel in chosen:
                if (kernel.block is None) is not (share is None):
                    continue
                pattern = (kernel.block, kernel.storage == "bands")
                if pattern not in pruned:
                    own = kernel.prune(matrices, share or 0)
                    pruned[pattern] = own, exact_product(own, frame)
                own, exact = pruned[pattern]
                form = (kernel.block, kernel.store)
                if form not in stored:
                    stored[form] = kernel.store(own, kernel.block)
                opener = partial(Product, kernel.bind, stored[form], count, shape)
                error = relative_error(opener(), frame, exact)
                if not error <= kernel.tolerance:
                    raise ArithmeticError(f"{kernel.name} with {share or 0:.0%} zeros errs by {error:.1e}.")
                openers[Case(kernel, configuration, share or 0.0, count, shape, error)] = opener
    return openers


def exact_product(matrices: Matrices, frame: np.ndarray) -> np.ndarray:
    """The dense products in float64, (matrices, rows)."""
    vectors = frame[:, : matrices[0].shape[1]].astype(np.float64)
    return np.stack([matrix.astype(np.float64) @ vector for matrix, vector in zip(matrices, vectors, strict=True)])


def relative_error(product: Product, frame: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference from ``exact`` (matrices, rows), relative to its largest value."""
    product(frame)
    return float(np.abs(product.y - exact).max() / np.abs(exact).max())


def random_frames(frames: int, count: int, columns: int, seed: int = 0) -> np.ndarray:
    """Vectors for all products of some frames, (frames, count, columns), standard normal."""
    return np.random.default_rng(seed).standard_normal((frames, count, columns), dtype=np.float32)


def race(
    openers: Mapping[Case, Opener],
    rounds: int,
    frames_per_round: int,
    warmup_frames: int = 3,
    evict_mb: float = 0.0,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Nanoseconds of every frame, (rounds, frames) by `Case.name`, one thread, as `dnslib.profiling` times networks.

    With ``evict_mb`` that many MB of other memory are read before every frame, outside the timed region.
    """
    if rounds < 2 or frames_per_round < 1 or warmup_frames < 0 or evict_mb < 0:
        raise MisuseError("A race needs at least 2 rounds of at least 1 frame; warm-up and eviction are not negative.")
    if not openers:
        raise MisuseError("There is no kernel to race.")
    count, widest = next(iter(openers)).count, max(case.shape[1] for case in openers)
    frames = random_frames(16, count, widest, seed)
    other = np.ones(round(evict_mb * 1e6 / 8))
    with one_torch_thread(), flushed_denormals():
        named = {case.name: opener for case, opener in openers.items()}
        return time_rounds(named, frames, rounds, frames_per_round, warmup_frames, before=other.sum)


@contextmanager
def one_torch_thread():
    """PyTorch, with the MKL inside it, on one thread. NumPy's OpenBLAS reads OPENBLAS_NUM_THREADS when imported."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def busy_cores(openers: Mapping[Case, Opener], frames: int = 50) -> dict[str, float]:
    """Processor time over elapsed time, by `Case.name`: 1 for one thread that nobody interrupts, more for several."""
    busy = {}
    with one_torch_thread(), flushed_denormals():
        for case, opener in openers.items():
            product, frame = opener(), random_frames(1, case.count, case.shape[1])[0]
            product(frame)
            processor, start = process_time(), perf_counter()
            for _ in range(frames):
                product(frame)
            busy[case.name] = (process_time() - processor) / (perf_counter() - start)
    return busy


# --- the table -------------------------------------------------------------------------------------------------------


def results(times_ns: Mapping[str, np.ndarray], cases: Iterable[Case], seed: int = 0) -> pd.DataFrame:
    """One row a case: latency of one frame, speedups over dense products, and what was read.

    ``speedup`` is over the fastest dense product of the same configuration, ``library_speedup`` over the fastest of
    the same library (NumPy's for SciPy, which has no dense product of its own). Ratios are of paired rounds, intervals
    95 % bootstraps over rounds, as in `dnslib.profiling.latency_table`.
    """
    cases = list(cases)
    about = pd.DataFrame([_about(case) for case in cases])
    plain = latency_table(times_ns, next(iter(times_ns)), seed).set_index("model")
    about["latency_us"] = about["case"].map(plain["latency_ms"]) * MICROSECONDS_PER_MS
    for bound in ("ci_low", "ci_high"):
        about[bound] = about["case"].map(plain[bound]) * MICROSECONDS_PER_MS
    for prefix, by in (("", ["configuration"]), ("library_", ["configuration", "library"])):
        about[[prefix + column for column in SPEEDUP]] = np.nan
        for _, rows in about.assign(library=about["library"].replace("SciPy", "NumPy")).groupby(by, sort=False):
            dense = rows[rows["dense"]]
            if len(dense):
                best = dense.loc[dense["latency_us"].idxmin(), "case"]
                found = speedups({name: times_ns[name] for name in {*rows["case"], best}}, best, seed)
                about.loc[rows.index, [prefix + column for column in SPEEDUP]] = found.loc[rows["case"]].to_numpy()
    about["read_gb_per_s"] = about["read_mb"] / about["latency_us"] * 1e3
    about["rounds"] = about["case"].map(plain["rounds"])
    return about


def _about(case: Case) -> dict:
    kernel = case.kernel
    return {
        "case": case.name,
        "kernel": kernel.name,
        "library": kernel.package,
        "format": kernel.storage,
        "block": "x".join(map(str, kernel.block)) if kernel.block else "",
        "dense": kernel.dense,
        "configuration": case.configuration,
        "rows": case.shape[0],
        "columns": case.shape[1],
        "zeros": case.zeros,
        "relative_error": case.relative_error,
        "read_mb": kernel.bytes_per_frame(case.count, case.shape, case.zeros) / 1e6,
    }


def speedups(times_ns: Mapping[str, np.ndarray], reference: str, seed: int = 0) -> pd.DataFrame:
    """``speedup`` with its interval over the case ``reference``, by case."""
    return latency_table(times_ns, reference, seed).set_index("model")[list(SPEEDUP)]


def faster_from(zeros: Sequence[float], ci_low: Sequence[float]) -> float:
    """The smallest measured share of zeros from which on all speedups are surely above 1; NaN where there is none."""
    first = float("nan")
    for share, low in sorted(zip(zeros, ci_low, strict=True), reverse=True):
        if not low > 1:
            break
        first = share
    return first
