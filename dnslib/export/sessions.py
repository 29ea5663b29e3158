"""Streaming files at work: one frame in, one gain out, one thread, the states kept inside ONNX Runtime."""

import os
from functools import cache

import numpy as np
import torch

from dnslib.errors import MisuseError
from dnslib.export.graph import INPUT, NEXT, OUTPUT
from dnslib.paths import resolve
from dnslib.stft import BINS

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_DENORMAL, _ONE = np.float32(1e-40), np.float32(1)


@cache
def onnxruntime():
    """The onnxruntime package, imported when first needed and with one thread asked for.

    Its own pool is sized by the session options; the variables speak to OpenMP and BLAS builds, and only during the
    import, so that a training in the same process or in its children keeps its threads.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        import onnxruntime
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
    return onnxruntime


class flushed_denormals:  # a generator would cost several times as much
    """Context inside which this thread takes denormal numbers for zero; afterwards it does what it did before.

    The session option of that name cannot be relied on: ONNX Runtime obeys that of the first session of a process
    only, and leaves the thread so for good, which would change the arithmetic of a training that comes later. Going in
    and out takes a microsecond or two, so that it can stand around every frame of live audio.
    """

    def __enter__(self) -> None:
        self._flushed_already = bool(_DENORMAL * _ONE == 0)
        torch.set_flush_denormal(True)

    def __exit__(self, *_) -> None:
        torch.set_flush_denormal(self._flushed_already)


def session_options():
    """One thread, sequential, no spinning, denormals flushed, all graph optimisations: what every timing here uses."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")  # decaying states would become denormal
    options.log_severity_level = 3  # errors
    return options


def open_session(path: str | os.PathLike, options=None):
    """A single-thread ONNX Runtime session of a streaming file; ``options`` replace `session_options`.

    Raises MisuseError for a file that is missing, corrupt, or not a streaming network.
    """
    path = resolve(path)
    if not path.is_file():
        raise MisuseError(f"There is no ONNX file {path}.")
    options = options or session_options()
    try:
        with flushed_denormals():
            session = onnxruntime().InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class
        raise MisuseError(f"{path} cannot be opened as an ONNX network: {str(error).splitlines()[0]}") from error
    problem = _not_streaming(session)
    if problem:
        raise MisuseError(f"{path} is not a streaming network: {problem}.")
    return session


def _not_streaming(session) -> str:
    """What keeps a session from being a streaming network, or nothing."""
    inputs, outputs = ({v.name: (v.type, v.shape) for v in vs} for vs in (session.get_inputs(), session.get_outputs()))
    one_frame = ("tensor(float)", [1, 1, 1, BINS])
    if inputs.get(INPUT) != one_frame or outputs.get(OUTPUT) != one_frame:
        return f"it must read one float32 frame {INPUT} and write one {OUTPUT}, both (1, 1, 1, {BINS})"
    following = {name + NEXT: described for name, described in inputs.items() if name != INPUT}
    for name, described in following.items():
        if outputs.get(name) != described or described[0] != "tensor(float)" or None in map(_size, described[1]):
            return f"the input {name.removesuffix(NEXT)} needs an output {name} of the same fixed shape in float32"
    unpaired = sorted(set(outputs) - set(following) - {OUTPUT})
    return f"no input takes up the output {unpaired[0]}" if unpaired else ""


def _size(size) -> int | None:
    return size if isinstance(size, int) else None  # a name or nothing where the file leaves it open


def initial_states(session_or_path) -> dict[str, np.ndarray]:
    """Zeros for every state of a streaming network, by input name. Raises MisuseError as `open_session` does."""
    is_path = isinstance(session_or_path, str | os.PathLike)
    session = open_session(session_or_path) if is_path else session_or_path
    return {v.name: np.zeros(v.shape, np.float32) for v in session.get_inputs() if v.name != INPUT}


class StreamingSession:
    """A streaming file ready to run: `step` takes one frame, the states stay inside the runtime.

    Two sets of state buffers take turns: what one step writes the next one reads, so that nothing is copied or
    allocated between frames, as in a program that deploys the network.
    """

    def __init__(self, path: str | os.PathLike, options=None):
        self.session = open_session(path, options)
        self._frame = _buffer((1, 1, 1, BINS))
        self._gain_values = np.zeros((1, 1, 1, BINS), np.float32)  # the runtime writes right into this array
        self._gain = onnxruntime().OrtValue.ortvalue_from_numpy(self._gain_values)
        self._zeros = initial_states(self.session)
        self._states = [{name: _buffer(zero.shape) for name, zero in self._zeros.items()} for _ in range(2)]
        self._bindings = [self._bind(*self._states), self._bind(*reversed(self._states))]
        self.reset()

    def _bind(self, states: dict, next_states: dict):
        binding = self.session.io_binding()
        binding.bind_ortvalue_input(INPUT, self._frame)
        binding.bind_ortvalue_output(OUTPUT, self._gain)
        for name in states:
            binding.bind_ortvalue_input(name, states[name])
            binding.bind_ortvalue_output(name + NEXT, next_states[name])
        return binding

    def reset(self) -> None:
        """Back to the state before the first frame."""
        self._turn = 0
        for name, zero in self._zeros.items():
            self._states[0][name].update_inplace(zero)

    def step(self, frame: np.ndarray) -> None:
        """Run one frame of log power: float32, contiguous, (1, 1, 1, 161) or (161,)."""
        self._frame.update_inplace(frame)
        self.session.run_with_iobinding(self._bindings[self._turn])
        self._turn = 1 - self._turn

    @property
    def gain(self) -> np.ndarray:
        """Gain of the last frame, (161,)."""
        return self._gain_values.flatten()  # a copy


def _buffer(shape: tuple[int, ...]):
    return onnxruntime().OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cpu", 0)


def as_frames(log_power: np.ndarray) -> np.ndarray:
    """``(T, 161)`` as contiguous float32; ValueError for another shape, no frames, or values that are not finite."""
    frames = np.ascontiguousarray(log_power, dtype=np.float32)
    if frames.ndim != 2 or frames.shape[1] != BINS or len(frames) == 0:
        raise ValueError(f"Frames of log power have shape (T, {BINS}), not {frames.shape}.")
    if not np.isfinite(frames).all():
        raise ValueError("The frames hold values that are NaN or infinite.")
    return frames


def run_streaming(path: str | os.PathLike, log_power: np.ndarray) -> np.ndarray:
    """Gains ``(T, 161)`` of a whole utterance ``(T, 161)``, computed frame by frame from zero states."""
    frames = as_frames(log_power)
    session, gains = StreamingSession(path), np.empty_like(frames)
    with flushed_denormals():
        for frame, gain in zip(frames, gains, strict=True):
            session.step(frame)
            gain[:] = session.gain
    return gains
