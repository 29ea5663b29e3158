"""What a streaming ONNX file costs: latency with intervals, multiply-accumulates, memory, shares per layer.

Everything here takes paths of files written by `dnslib.export`. The protocol of `measure_latency`, to be printed with
every number: ONNX Runtime on the CPU, one thread, sequential, no spinning, denormals flushed, all graph optimisations;
one frame of 10 ms per call with the states carried; every model of a table in one process, interleaved in rounds whose
order rotates. Every round opens each model anew and warms it up: where its weights happen to lie in memory changes its
time by some per cent for as long as it is open, so rounds of one session are not independent. The median of a round is
one observation, and intervals are over rounds.
The timed region is one frame's way through the network: 161 numbers copied into the bound input, and the run, which
leaves gain and states in bound buffers. Nothing is allocated or converted by Python inside it; STFT and inverse STFT
stay outside. Python and the binding cost some 3 µs of every reported time, the same for all models.
"""

import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import onnx
import torch

from dnslib.errors import MisuseError
from dnslib.export import (
    NEXT,
    StreamingSession,
    as_frames,
    flushed_denormals,
    onnxruntime,
    open_session,
    session_options,
)
from dnslib.machine import cpu_model, governor
from dnslib.paths import resolve
from dnslib.progress import track
from dnslib.stft import SAMPLE_RATE, log_power, stft

SELF_CHECK = "self_check"  # the row of the reference measured a second time
RESAMPLES = 9_999
NANOSECONDS_PER_MS = 1e6

# --- latency ---------------------------------------------------------------------------------------------------------


def measure_latency(
    paths: Mapping[str, str | os.PathLike],
    rounds: int = 30,
    frames_per_round: int = 100,
    warmup_frames: int = 50,
    reference: str | None = None,
    seed: int = 0,
    frames: np.ndarray | None = None,
    self_check: bool = True,
    evict_mb: float = 0.0,
    pace_ms: float = 0.0,
):
    """Latency per frame of several streaming files, as `latency_table` describes it, one row a model.

    ``frames`` is log power ``(T, 161)`` of real audio, repeated as often as needed; without it, decaying noise. The
    last row, ``self_check``, is a second session of the ``reference`` (the first model unless named): its speedup must
    be 1 within its interval. Rounds must be at least 2. With ``evict_mb`` that many MB of other memory are read before
    every frame, outside the timed region: the weights then come from memory, as where other programs run in the 10 ms
    between frames; without it, back to back, a network that fits into the last-level cache stays there. With
    ``pace_ms`` the process sleeps before every frame until so much time has passed since the frame before, as where
    audio arrives: clock and caches may have changed meanwhile. Raises MisuseError for files that are no streaming
    networks.
    """
    paths = dict(paths)
    reference = reference or next(iter(paths), None)
    _check_protocol(paths, reference, rounds, frames_per_round, warmup_frames, evict_mb, pace_ms)
    frames = decaying_frames(seed=seed) if frames is None else as_frames(frames)
    if self_check:
        paths[SELF_CHECK] = paths[reference]
    openers = {name: partial(_open_step, path) for name, path in paths.items()}
    before = _between_frames(evict_mb, pace_ms)
    with flushed_denormals():
        times_ns = time_rounds(openers, frames, rounds, frames_per_round, warmup_frames, before=before)
    return latency_table(times_ns, reference, seed)


def _between_frames(evict_mb: float, pace_ms: float) -> Callable[[], object]:
    """What happens ahead of every timed frame: eviction, or waiting, or both."""
    evict = np.ones(round(evict_mb * 1e6 / 8)).sum
    if not pace_ms:
        return evict
    wait = Pace(pace_ms)
    return wait if not evict_mb else lambda: (evict(), wait())


class Pace:
    """Called before every frame, sleeps until a period has passed since the last frame was due.

    Where that moment is over (the first frame of a turn, a frame that took too long) it sleeps a whole period, so that
    every frame comes after a pause.
    """

    def __init__(
        self,
        period_ms: float,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.period, self.clock, self.sleep = period_ms / 1e3, clock, sleep
        self.due = -np.inf

    def __call__(self) -> None:
        now = self.clock()
        self.due += self.period
        if self.due <= now:
            self.due = now + self.period
        self.sleep(self.due - now)


def _open_step(path: str | os.PathLike) -> Callable[[np.ndarray], None]:
    return StreamingSession(path).step


def _check_protocol(paths, reference, rounds, frames_per_round, warmup_frames, evict_mb, pace_ms) -> None:
    if not paths:
        raise MisuseError("There is no model to measure.")
    if SELF_CHECK in paths:
        raise MisuseError(f"No model may be called {SELF_CHECK!r}: that row is the reference measured twice.")
    if reference not in paths:
        raise MisuseError(f"The reference {reference!r} is not among the models {', '.join(paths)}.")
    if rounds < 2 or frames_per_round < 1 or min(warmup_frames, evict_mb, pace_ms) < 0:
        raise MisuseError(
            "Latency needs at least 2 rounds of at least 1 frame; warm-up, eviction and pace are not negative."
        )


def time_rounds(
    openers: Mapping[str, Callable[[], Callable[[np.ndarray], None]]],
    frames: np.ndarray,
    rounds: int,
    frames_per_round: int,
    warmup_frames: int,
    clock: Callable[[], int] = time.perf_counter_ns,
    before: Callable[[], object] = int,
) -> dict[str, np.ndarray]:
    """Nanoseconds of every call, ``(rounds, frames_per_round)`` per model; all models see the same ``frames``.

    In round r the models take turns in their order rotated by r, so that a slow spell of the machine meets all of
    them. At its turn a model is opened, warmed up and timed. ``before`` is called ahead of every frame and not timed.
    """
    names = list(openers)
    times = {name: np.empty((rounds, frames_per_round), np.int64) for name in names}
    collecting = gc.isenabled()
    gc.disable()  # a collection would land in somebody's frame
    try:
        for r in track(range(rounds), description="latency rounds"):
            turn = r % len(names)
            first = r * (warmup_frames + frames_per_round)
            batch = [frames[index % len(frames)] for index in range(first, first + warmup_frames + frames_per_round)]
            for name in names[turn:] + names[:turn]:
                step, row = openers[name](), times[name][r]
                for frame in batch[:warmup_frames]:
                    step(frame)
                for index, frame in enumerate(batch[warmup_frames:]):
                    before()
                    start = clock()
                    step(frame)
                    row[index] = clock() - start
    finally:
        if collecting:
            gc.enable()
    return times


def latency_table(times_ns: Mapping[str, np.ndarray], reference: str, seed: int = 0):
    """Statistics of nanoseconds ``(rounds, frames)`` per model, one row a model, in milliseconds per frame.

    ``latency_ms`` is the median over rounds of each round's median frame; ``p95_ms`` and ``p99_ms`` are over all
    frames. ``speedup`` is the median over rounds of the reference's round median divided by the model's in the same
    round. Intervals are 95 % percentile bootstraps over rounds, because frames inside a round are not independent.
    """
    import pandas as pd

    medians = {name: np.median(times, axis=1) / NANOSECONDS_PER_MS for name, times in times_ns.items()}  # (rounds,)
    rows = []
    for name, times in times_ns.items():
        latency, speedup = medians[name], medians[reference] / medians[name]
        p95, p99 = np.percentile(times, [95, 99]) / NANOSECONDS_PER_MS
        row = {"model": name, "latency_ms": np.median(latency)}
        row["ci_low"], row["ci_high"] = median_interval(latency, seed)
        row |= {"p95_ms": p95, "p99_ms": p99, "speedup": np.median(speedup)}
        row["speedup_ci_low"], row["speedup_ci_high"] = median_interval(speedup, seed)
        row |= {"rounds": times.shape[0], "frames": times.size}
        rows.append(row)
    return pd.DataFrame(rows)


def median_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the median of ``values``, one per round."""
    from scipy.stats import bootstrap

    result = bootstrap(
        (values,), np.median, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def decaying_frames(seconds: float = 10.0, seed: int = 0) -> np.ndarray:
    """Log power ``(T, 161)`` of noise bursts, one a second, that decay by 60 dB into silence: states get small."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    envelope = 0.2 * 10 ** (-3 * np.minimum(time_s % 1 / 0.6, 1)) * (time_s % 1 < 0.8)
    waveform = (envelope * generator.standard_normal(time_s.size)).astype(np.float32)
    return log_power(stft(torch.from_numpy(waveform))).numpy()


def machine() -> dict[str, object]:
    """What a latency depends on besides the model: CPU, governor, load now, ONNX Runtime."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "governor": governor(),
        "load_1_min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime().__version__,
    }


# --- size and arithmetic ---------------------------------------------------------------------------------------------


def memory_mb(path: str | os.PathLike) -> float:
    """Size of the file in MB of 10^6 bytes."""
    path = resolve(path)
    if not path.is_file():
        raise MisuseError(f"There is no ONNX file {path}.")
    return path.stat().st_size / 1e6


@dataclass(frozen=True)
class ProcessMemory:
    """Resident memory of a process in MB of 10^6 bytes."""

    before_mb: float  # Python, NumPy and ONNX Runtime, no network yet
    resident_mb: float  # with the session open, after some frames
    peak_mb: float  # the highest of all: while the file was opened


_HOLD_SESSION = """
import json, sys
import numpy as np, onnxruntime, psutil

def resident():
    return psutil.Process().memory_info().rss

def peak():
    try:  # of this process only; what getrusage tells begins with the peak of the parent
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
before = resident()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
values = {v.name: np.zeros(v.shape, np.float32) for v in session.get_inputs()}
names = [v.name for v in session.get_outputs()]
for _ in range(int(sys.argv[2])):
    results = dict(zip(names, session.run(names, values)))
    values |= {name: results[name + sys.argv[3]] for name in values if name + sys.argv[3] in results}
print(json.dumps([value / 1e6 for value in (before, resident(), peak())]))
"""


def process_memory(path: str | os.PathLike, frames: int = 20) -> ProcessMemory:
    """Memory of a fresh process that imports NumPy and ONNX Runtime only, opens the file and runs ``frames`` frames.

    What the network takes is ``resident_mb - before_mb``, and for a moment, while it is opened, ``peak_mb -
    before_mb``: the file, its parsed weights and the weights packed for the processor lie side by side then. Raises
    MisuseError as `dnslib.export.open_session` does.
    """
    path = resolve(path)
    open_session(path)  # a file that is no streaming network is told here, in one line
    command = [sys.executable, "-c", _HOLD_SESSION, str(path), str(frames), NEXT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return ProcessMemory(*json.loads(done.stdout))


def parameter_count(path: str | os.PathLike) -> int:
    """Weights and biases in the file, without shapes and indices (int64) and without scales of quantised weights."""
    return sum(
        prod(tensor.dims)
        for tensor in load(path).graph.initializer
        if tensor.data_type != onnx.TensorProto.INT64 and not tensor.name.endswith(("_scale", "_zero_point"))
    )


def load(path: str | os.PathLike) -> onnx.ModelProto:
    """The network of an ONNX file; MisuseError when it is missing or corrupt."""
    path = resolve(path)
    if not path.is_file():
        raise MisuseError(f"There is no ONNX file {path}.")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's exceptions share no base class
        raise MisuseError(f"{path} is not a valid ONNX network: {str(error).splitlines()[0]}") from error
    return model


def count_macs(path: str | os.PathLike) -> int:
    """Multiply-accumulates that one frame needs, from the shapes in the file: CRUSE32 needs 15.50 million.

    Counted are (transposed) convolutions, GRUs and matrix products, quantised ones too; biases, activations and other
    element-wise work are not. What a transposed convolution computes only for a following Slice to cut off is not
    needed, so not counted: the plain form computes twice what its decoders need. Raises MisuseError for a node with a
    weight matrix that is none of these, rather than count it as 0.
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


def weight_bytes(path: str | os.PathLike) -> int:
    """Bytes of the constants that some node reads, each once: what every frame must fetch from memory or a cache.

    Weights, biases, scales and indices as they are stored in the file; states and activations come on top.
    """
    graph = load(path).graph
    read = {name for node in graph.node for name in node.input}
    return sum(
        prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in graph.initializer
        if tensor.name in read
    )


class _Shapes(dict):
    """Shape of every value of a graph by name, with its constants and the consumers of each value."""

    def __init__(self, graph: onnx.GraphProto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            dims = value.type.tensor_type.shape.dim
            if all(dim.HasField("dim_value") for dim in dims):  # a size left open is an unknown shape
                self[value.name] = tuple(dim.dim_value for dim in dims)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.weights = {name for name, t in self.constants.items() if t.data_type != onnx.TensorProto.INT64}
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


# --- shares ----------------------------------------------------------------------------------------------------------

INTERRUPTED = 0.1  # share of frames left out, the slowest: something else ran meanwhile


def layer_shares(path: str | os.PathLike, frames: int = 500, warmup_frames: int = 50, seed: int = 0):
    """Share of each layer in the kernel time of one frame, from ONNX Runtime's own profile; the shares sum to 1.

    One row a layer in the order of the network: ``layer`` (``encoder_1`` … ``gru_1`` … ``decoder_1``; ``gru`` splits
    and joins the groups), ``kind`` (the layer without its number), ``share``, ``nodes`` (after optimisation).
    Profiling slows every node down by about the same amount, so small layers look larger than they are, and no time of
    a profile is a latency. The slowest tenth of the frames is left out. Raises MisuseError as `measure_latency` does.
    """
    import pandas as pd

    if frames < 10 or warmup_frames < 0:
        raise MisuseError("A profile needs at least 10 frames, and no negative warm-up.")
    inputs, written = decaying_frames(seed=seed), load(path).graph
    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        session = StreamingSession(path, options)
        with flushed_denormals():
            for index in range(warmup_frames + frames):
                session.step(inputs[index % len(inputs)])
        events = json.loads(Path(session.session.end_profiling()).read_text(encoding="utf-8"))
        layer_of = _layers(written, onnx.load(options.optimized_model_filepath).graph)
    names, times = kernel_times(events)
    times = times[warmup_frames:]
    total = times.sum(axis=1)
    times = times[np.argsort(total, kind="stable")[: max(1, round(len(times) * (1 - INTERRUPTED)))]]
    table = pd.DataFrame({"layer": [layer_of[name] for name in names], "share": times.sum(axis=0) / times.sum()})
    table = table.groupby("layer", sort=False).agg(share=("share", "sum"), nodes=("share", "size")).reset_index()
    table.insert(1, "kind", [layer.rstrip("0123456789").rstrip("_") for layer in table["layer"]])
    order = {layer: index for index, layer in enumerate(dict.fromkeys(map(_layer, written.node)))}
    return table.sort_values("layer", key=lambda layers: layers.map(order), ignore_index=True)


def kernel_times(events: list[dict]) -> tuple[list[str], np.ndarray]:
    """Node names and microseconds ``(runs, nodes)`` of a profile of ONNX Runtime."""
    suffix = "_kernel_time"
    runs: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(suffix):
            runs[event["name"].removesuffix(suffix)].append(event["dur"])
    return list(runs), np.array(list(runs.values())).T


def _layer(node: onnx.NodeProto) -> str:
    return node.name.partition("/")[0]


def _layers(written: onnx.GraphProto, optimised: onnx.GraphProto) -> dict[str, str]:
    """Layer of each node of the optimised graph, whose fusions and changes of layout bear new names.

    A node belongs to the layer of the written node or value that its name begins with, else of the value it makes,
    else of the first node that reads what it makes.
    """
    known = {name: _layer(node) for node in written.node for name in (node.name, *node.output) if name}
    by_length = sorted(known, key=len, reverse=True)
    layers, readers = {}, {}
    for node in reversed(optimised.node):
        names = [next((name for name in by_length if node.name.startswith(name)), ""), *node.output]
        found = [known[name] for name in names if name in known] + [
            readers[name] for name in node.output if name in readers
        ]
        layers[node.name] = found[0] if found else "other"
        readers |= dict.fromkeys(node.input, layers[node.name])
    return layers
