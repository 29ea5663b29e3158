"""What this machine could do at best with one thread, and how close a network comes to it.

Two things no frame can do without: every weight has to reach the core once, from memory or from a cache, and every
multiply-accumulate has to be computed. How long that takes at least is estimated by programs that do nothing else: a
matrix times a vector, which uses each number it reads once, as a network does (NumPy's OpenBLAS, the matrix stored by
rows and by columns in turn, as either is the faster one on some processors), and a dense product of square matrices
(ONNX Runtime's own), one thread. Which cache the weights come from is not looked up but measured, with matrices from a
quarter of a megabyte on: a shared cache offers less than its nominal size. The bounds leave out states, activations and
everything element-wise. They are no proofs: a network beats one where the measurement of the limit was disturbed, or
where there are faster ways to read.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from threadpoolctl import threadpool_limits

from dnslib.errors import MisuseError
from dnslib.export import session_of
from dnslib.export.graph import IR_VERSION, OPSET
from dnslib.locks import waiting
from dnslib.machine import last_level_cache_mb
from dnslib.profiling import clock_lock, macs_by_operator, weight_bytes
from dnslib.progress import track

REPEATS = 60
READ_BYTES = 64e6  # in one timing: a part of a large matrix, the next time the following part; a small one many times
FEWEST_PASSES = 4  # over a matrix that is read again and again, before the timing and in it
READ_MB = tuple(0.25 * 2.0**power for power in range(9))  # 0.25 to 64: networks, from the smallest int8 to CRUSE32
ROW = 1024  # numbers in a row of the matrices that are read
MEMORY_CACHES, LEAST_MEMORY_MB = 8, 256  # of the matrix that no cache holds: last-level caches, and the least size
SIZE = 512  # of the square matrices: some milliseconds, short enough to pass undisturbed on a busy machine
INT8_OPERATORS = {"MatMulNBits", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "ConvInteger"} | {
    "QLinearMatMul",
    "QLinearConv",
}


@dataclass(frozen=True)
class Limits:
    """The best of one thread; NaN where it could not be measured."""

    memory_gb_s: float  # read bandwidth from memory, in 10^9 bytes
    read_gb_s: Mapping[float, float]  # the same of what is read again and again, by its size in 10^6 bytes
    float32_gmac_s: float  # 10^9 multiply-accumulates a second
    int8_gmac_s: float

    def reading_gb_s(self, size_bytes: float) -> float:
        """The bandwidth of so many bytes read again and again.

        It is that of the largest size measured that is no larger, as more bytes are not faster to read; for the same
        reason a size is at least as fast as those above it, even where its own timing was disturbed.
        """
        below = [mb for mb in self.read_gb_s if mb * 1e6 <= size_bytes]
        least = max(below) if below else min(self.read_gb_s)
        return max([self.memory_gb_s, *(rate for mb, rate in self.read_gb_s.items() if mb >= least)])


@dataclass(frozen=True)
class Bounds:
    """Lower bounds of the latency of one frame, in ms, as good as the limits they are made from."""

    memory_ms: float  # all weights from memory
    reading_ms: float  # all weights from where they are when they were read a moment ago
    arithmetic_ms: float

    @property
    def warm_ms(self) -> float:
        """The larger of what back-to-back frames cannot avoid."""
        return max(self.reading_ms, self.arithmetic_ms)

    @property
    def cold_ms(self) -> float:
        """The larger of what a frame with evicted caches cannot avoid."""
        return max(self.memory_ms, self.arithmetic_ms)


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(
    repeats: int = REPEATS, memory_mb: float | None = None, read_mb: Sequence[float] = READ_MB, size: int = SIZE
):
    """One row per limit: ``limit``, ``mb``, ``unit``, ``best``, ``median``, ``worst``, ``repeats``, ``how``.

    The best repeat is the limit, for whatever disturbs a repeat makes it slower; the other two show how much it was
    disturbed. Limits take turns, so that a slow spell affects all of them. ``mb`` is the size of a matrix that is read:
    those of ``read_mb`` again and again, ``memory_mb`` (by default eight last-level caches) from memory; ``size`` is
    the height and width of the matrices that are multiplied.
    """
    import pandas as pd

    sizes = [*read_mb, *([] if memory_mb is None else [memory_mb])]
    if repeats < 1 or size < 1 or not read_mb or not all(mb > 0 for mb in sizes):
        raise MisuseError("Limits need at least one repeat, and matrices that are not empty.")
    memory_mb = memory_mb or max(LEAST_MEMORY_MB, MEMORY_CACHES * last_level_cache_mb())
    trials = {
        ("memory_gb_s", memory_mb): (_reader(memory_mb), "matrix times vector, float32, part by part"),
        **{("read_gb_s", mb): (_reader(mb), "matrix times vector, float32, again and again") for mb in read_mb},
        ("float32_gmac_s", np.nan): (_multiplier(size, np.float32), f"MatMul of {size} x {size}"),
        ("int8_gmac_s", np.nan): (_multiplier(size, np.int8), f"MatMulInteger of {size} x {size}, uint8 by int8"),
    }
    rates = {limit: np.full(repeats, np.nan) for limit in trials}
    with waiting(clock_lock(), "the clock for latencies"), threadpool_limits(1):
        for repeat in track(range(repeats), description="limits of the machine"):
            for limit, (trial, _) in trials.items():
                rates[limit][repeat] = trial()
    rows = [
        (*limit, _unit(limit[0]), rate.max(), np.median(rate), rate.min(), repeats, trials[limit][1])
        for limit, rate in rates.items()
    ]
    return pd.DataFrame(rows, columns=["limit", "mb", "unit", "best", "median", "worst", "repeats", "how"])


def merged(*tables):
    """One table of several of `measure`, of equal sizes: a machine is as fast as it was in its best moment."""
    import pandas as pd

    summary = {"best": "max", "median": "median", "worst": "min", "repeats": "sum"}
    keys = ["limit", "mb", "unit", "how"]
    table = pd.concat(tables).groupby(keys, sort=False, dropna=False, as_index=False).agg(summary)
    return table[tables[0].columns]


def best_of(table) -> Limits:
    """The limits in a table of `measure`."""
    reading = table["limit"] == "read_gb_s"
    read = table[reading].set_index("mb")["best"].astype(float).to_dict()
    return Limits(read_gb_s=read, **table[~reading].set_index("limit")["best"].astype(float))


def _unit(name: str) -> str:
    return "GB/s" if name.endswith("gb_s") else "GMAC/s"


def _reader(megabytes: float) -> Callable[[], float]:
    """Function that reads a matrix of so many MB, or the next part of it, and returns the 10^9 bytes read in a second.

    Every second call or part is stored by columns. What was read a whole matrix ago is in no cache smaller than the
    matrix. One that is read as a whole is first read untimed a few times, as other trials have taken its place in the
    caches, and it comes back only with the second or third pass.
    """
    rows = max(1, round(megabytes * 1e6 / 4 / ROW))
    count = max(1, round(rows * ROW * 4 / READ_BYTES))
    again = count == 1
    heights = [rows, rows] if again else [len(part) for part in np.array_split(np.empty(rows, np.int8), count)]
    parts = [np.ones((height, ROW), np.float32, order="CF"[turn % 2]) for turn, height in enumerate(heights)]
    vector = np.ones(ROW, np.float32)
    passes = max(FEWEST_PASSES, round(READ_BYTES / parts[0].nbytes)) if again else 1
    coming = cycle(parts)

    def trial() -> float:
        part = next(coming)
        for _ in range(FEWEST_PASSES if again else 0):
            np.matmul(part, vector)
        start = time.perf_counter()
        for _ in range(passes):
            np.matmul(part, vector)
        return passes * part.nbytes / (time.perf_counter() - start) / 1e9

    return trial


def _multiplier(size: int, kind: type) -> Callable[[], float]:
    """Function that multiplies square matrices and returns the 10^9 multiply-accumulates done in a second.

    The right matrix is a constant of the graph, as weights are, so that the runtime may pack it beforehand. NaN where
    this runtime has no product of int8 matrices.
    """
    rng = np.random.default_rng(0)
    if kind is np.int8:
        operator, x, out = "MatMulInteger", rng.integers(0, 128, (size, size), np.uint8), TensorProto.INT32
        weight = rng.integers(-64, 64, (size, size), np.int8)
    else:
        operator, out = "MatMul", TensorProto.FLOAT
        x, weight = (rng.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "weight"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", out, x.shape)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    try:
        session = session_of(model.SerializeToString())
        session.run(None, {"x": x})
    except Exception:  # the runtime's exceptions share no base class
        if kind is np.float32:
            raise
        return lambda: float("nan")

    def trial() -> float:
        start = time.perf_counter()
        session.run(None, {"x": x})
        return size**3 / (time.perf_counter() - start) / 1e9

    return trial


# --- bounds -----------------------------------------------------------------------------------------------------------


def bound_ms(weight_bytes: float, macs: float, limits: Limits, int8_macs: float = 0) -> Bounds:
    """Lower bounds of the latency of a frame that reads these bytes of weights once and computes these products.

    ``macs`` are multiply-accumulates in float32, ``int8_macs`` those in int8 (at the speed of float32 where the peak of
    int8 is not known).

    >>> machine = Limits(memory_gb_s=10, read_gb_s={1: 60, 16: 30}, float32_gmac_s=40, int8_gmac_s=160)
    >>> bound_ms(30e6, 16e6, machine)  # 30 MB: 3 ms from memory; read again and again not faster than 16 MB are
    Bounds(memory_ms=3.0, reading_ms=1.0, arithmetic_ms=0.4)
    """
    in_int8 = limits.int8_gmac_s if limits.int8_gmac_s == limits.int8_gmac_s else limits.float32_gmac_s
    return Bounds(
        weight_bytes / limits.memory_gb_s / 1e6,
        weight_bytes / limits.reading_gb_s(weight_bytes) / 1e6,
        macs / limits.float32_gmac_s / 1e6 + int8_macs / in_int8 / 1e6,
    )


def bounds_of(path: str | os.PathLike, limits: Limits) -> Bounds:
    """`bound_ms` of a streaming file."""
    macs = macs_by_operator(path)
    in_int8 = sum(count for operator, count in macs.items() if operator in INT8_OPERATORS)
    return bound_ms(weight_bytes(path), sum(macs.values()) - in_int8, limits, in_int8)


def closeness(files: Mapping[str, str | os.PathLike], latency, limits: Limits):
    """How close each graph comes to the machine: one row per model of ``latency``, the table of `measure_latency`.

    Columns: ``model``, ``weight_mb``, ``macs_per_frame``, the three bounds ``memory_bound_ms``, ``reading_bound_ms``,
    ``arithmetic_bound_ms``, ``bound_ms`` and ``bound_by`` (the higher one back to back, and which that is), and
    ``latency_per_bound``: the latency as a multiple of that bound, 1 at best; ``cold_latency_per_bound`` with all
    weights from memory, where the table has ``cold_latency_ms``. Models without a file are left out.
    """
    import pandas as pd

    rows = []
    for row in latency.to_dict(orient="records"):
        if row["model"] not in files:
            continue
        path = files[row["model"]]
        bounds = bounds_of(path, limits)
        about = {
            "model": row["model"],
            "weight_mb": weight_bytes(path) / 1e6,
            "macs_per_frame": sum(macs_by_operator(path).values()),
            "memory_bound_ms": bounds.memory_ms,
            "reading_bound_ms": bounds.reading_ms,
            "arithmetic_bound_ms": bounds.arithmetic_ms,
            "bound_ms": bounds.warm_ms,
            "bound_by": "reading" if bounds.reading_ms >= bounds.arithmetic_ms else "arithmetic",
            "latency_per_bound": row["latency_ms"] / bounds.warm_ms,
        }
        if "cold_latency_ms" in row:
            about["cold_latency_per_bound"] = row["cold_latency_ms"] / bounds.cold_ms
        rows.append(about)
    return pd.DataFrame(rows)
