"""What a file and the process that runs it hold: bytes of memory, parameters, weights read in every frame."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx

from dnslib.errors import MisuseError
from dnslib.export import NEXT, open_session
from dnslib.paths import resolve

PROGRAM = Path(__file__).with_name("hold_session.py")


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


def process_memory(path: str | os.PathLike, frames: int = 20) -> ProcessMemory:
    """Memory of a fresh process that imports NumPy and ONNX Runtime only, opens the file and runs ``frames`` frames.

    What the network takes is ``resident_mb - before_mb``, and for a moment, while it is opened, ``peak_mb -
    before_mb``: the file, its parsed weights and the weights packed for the processor lie side by side then. Raises
    MisuseError as `dnslib.export.open_session` does.
    """
    path = resolve(path)
    open_session(path)  # a file that is no streaming network is reported here, in one line
    command = [sys.executable, "-P", str(PROGRAM), str(path), str(frames), NEXT]  # -P: its own folder is not searched
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return ProcessMemory(*json.loads(done.stdout))


def parameter_count(path: str | os.PathLike) -> int:
    """Weights and biases in a file of the plain form, without shapes and indices (int64).

    Raises MisuseError for the other forms, which repeat biases, add rows of zeros and store scales: there the count
    would not be that of the network.
    """
    model = load(path)
    form = next((entry.value for entry in model.metadata_props if entry.key == "form"), "plain")
    if form != "plain":
        raise MisuseError(f"Parameters are counted in the plain form, not in the {form} one of {resolve(path)}.")
    return sum(prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type != onnx.TensorProto.INT64)


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
