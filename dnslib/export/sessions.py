"""Streaming files at work: one frame in, one gain out, one thread, the states kept inside ONNX Runtime."""

import os
from collections.abc import Mapping

import numpy as np
import torch

from dnslib.errors import MisuseError
from dnslib.export.graph import INPUT, LOOK_AHEAD, NEXT, OUTPUT
from dnslib.machine import onnxruntime
from dnslib.paths import resolve
from dnslib.stft import BINS

_DENORMAL, _ONE = 5e-324, 1.0  # Python's numbers: the processor's setting applies to them too, and they are cheap
_flush_denormals = torch.set_flush_denormal


class flushed_denormals:  # a generator would cost several times as much
    """Context inside which this thread treats denormal numbers as zero; afterwards it does what it did before.

    The session option of that name cannot be relied on: ONNX Runtime obeys that of the first session of a process
    only, and leaves the thread in that mode for good, which would change the arithmetic of a later training. Entering
    and leaving takes a microsecond or two, so that it can surround every frame of live audio.
    """

    __slots__ = ("_flushed_already",)

    def __enter__(self) -> None:
        self._flushed_already = _DENORMAL * _ONE == 0
        _flush_denormals(True)

    def __exit__(self, *_) -> None:
        _flush_denormals(self._flushed_already)


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


def session_of(network: str | os.PathLike | bytes, options=None):
    """A session of an ONNX file or of its bytes, with `session_options` unless others are given.

    The thread treats denormal numbers afterwards as it did before. Raises MisuseError for a file that is missing or is
    no ONNX network.
    """
    name = "The network"
    if not isinstance(network, bytes):
        name = network = str(resolve(network))
        if not os.path.isfile(network):
            raise MisuseError(f"There is no ONNX file {name}.")
    options = options or session_options()
    try:
        with flushed_denormals():
            return onnxruntime().InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class
        raise MisuseError(f"{name} cannot be opened as an ONNX network: {str(error).splitlines()[0]}") from error


def open_session(path: str | os.PathLike, options=None):
    """A single-thread ONNX Runtime session of a streaming file; ``options`` replace `session_options`.

    Raises MisuseError for a file that is missing, corrupt, or not a streaming network.
    """
    session = session_of(path, options)
    problem = _not_streaming(session)
    if problem:
        raise MisuseError(f"{resolve(path)} is not a streaming network: {problem}.")
    return session


def _not_streaming(session) -> str:
    """What keeps a session from being a streaming network; "" where nothing does."""
    inputs, outputs = ({v.name: (v.type, v.shape) for v in vs} for vs in (session.get_inputs(), session.get_outputs()))
    one_frame = ("tensor(float)", [1, 1, 1, BINS])
    if inputs.get(INPUT) != one_frame or outputs.get(OUTPUT) != one_frame:
        return f"it must read one float32 frame {INPUT} and write one {OUTPUT}, both (1, 1, 1, {BINS})"
    following = {name + NEXT: described for name, described in inputs.items() if name != INPUT}
    for name, described in following.items():
        if outputs.get(name) != described or described[0] != "tensor(float)" or None in map(_size, described[1]):
            return f"the input {name.removesuffix(NEXT)} needs an output {name} of the same fixed shape in float32"
    unpaired = sorted(set(outputs) - set(following) - {OUTPUT})
    if unpaired:
        return f"no input takes up the output {unpaired[0]}"
    frames = _facts(session).get(LOOK_AHEAD, "0")
    return "" if frames.isdecimal() else f"its {LOOK_AHEAD} is {frames!r}, no number of frames"


def _size(size) -> int | None:
    return size if isinstance(size, int) else None  # a name or nothing where the file leaves it open


def look_ahead(session_or_path) -> int:
    """Frames that a streaming network hears before it decides, see `dnslib.Cruse`; 0 where its file does not say.

    Raises MisuseError as `open_session` does.
    """
    return int(_facts(_opened(session_or_path)).get(LOOK_AHEAD, 0))


def _facts(session) -> dict[str, str]:
    return session.get_modelmeta().custom_metadata_map


def initial_states(session_or_path) -> dict[str, np.ndarray]:
    """Zeros for every state of a streaming network, by input name. Raises MisuseError as `open_session` does."""
    return _zeros(_opened(session_or_path), {INPUT})


def _opened(session_or_path):
    return open_session(session_or_path) if isinstance(session_or_path, str | os.PathLike) else session_or_path


def _zeros(session, others: set[str]) -> dict[str, np.ndarray]:
    return {v.name: np.zeros(v.shape, np.float32) for v in session.get_inputs() if v.name not in others}


class StatefulSession:
    """A session whose states stay inside the runtime: `run` takes what the bound inputs hold.

    Two sets of state buffers take turns: what one run writes the next one reads, so that nothing is copied or
    allocated between frames, as in a program that deploys the network. ``inputs`` and ``outputs`` are bound for good.
    ``states`` maps the name of a state's input to its zeros and to the name of the output that is its next value. By
    default every other input is a state, and its next value has its name with ``_next`` appended.
    """

    def __init__(
        self,
        session,
        inputs: Mapping[str, object],
        outputs: Mapping[str, object],
        states: Mapping[str, tuple[np.ndarray, str]] | None = None,
    ):
        self.session = session
        if states is None:
            states = {name: (zeros, name + NEXT) for name, zeros in _zeros(session, set(inputs)).items()}
        self._zeros, self._following = ({name: state[part] for name, state in states.items()} for part in (0, 1))
        self._states = [{name: _buffer(zeros) for name, zeros in self._zeros.items()} for _ in range(2)]
        self._bound = (inputs, outputs)  # a binding borrows their memory and does not keep them alive
        self._bindings = [self._bind(*turn) for turn in (self._states, self._states[::-1])]
        self.reset()

    def _bind(self, states: dict, next_states: dict):
        inputs, outputs = self._bound
        following = {self._following[name]: state for name, state in next_states.items()}
        binding = self.session.io_binding()
        for name, value in {**inputs, **states}.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in {**outputs, **following}.items():
            binding.bind_ortvalue_output(name, value)
        return binding

    def reset(self) -> None:
        """Back to the state before the first frame."""
        self._turn = 0
        for name, zero in self._zeros.items():
            self._states[0][name].update_inplace(zero)

    def run(self) -> None:
        self.session.run_with_iobinding(self._bindings[self._turn])
        self._turn = 1 - self._turn


class StreamingSession(StatefulSession):
    """A streaming file ready to run: `step` takes one frame, the states stay inside the runtime."""

    def __init__(self, path: str | os.PathLike, options=None):
        session = open_session(path, options)
        self.look_ahead = look_ahead(session)  # frames
        self._frame = _buffer(np.zeros((1, 1, 1, BINS), np.float32))
        self._gain_values = np.zeros((1, 1, 1, BINS), np.float32)
        super().__init__(session, {INPUT: self._frame}, {OUTPUT: bound(self._gain_values)})

    def step(self, frame: np.ndarray) -> None:
        """Run one frame of log power: float32, contiguous, (1, 1, 1, 161) or (161,)."""
        self._frame.update_inplace(frame)
        self.run()

    @property
    def gain(self) -> np.ndarray:
        """Gain of the last frame, (161,)."""
        return self._gain_values.flatten()  # a copy


def bound(values: np.ndarray):
    """The contiguous array as a value of the runtime, which reads and writes its memory: keep both alive."""
    return onnxruntime().OrtValue.ortvalue_from_numpy(values)


def _buffer(values: np.ndarray):
    """Memory of the runtime's own, as large as these values."""
    return onnxruntime().OrtValue.ortvalue_from_shape_and_type(values.shape, values.dtype.type, "cpu", 0)


def as_frames(log_power: np.ndarray) -> np.ndarray:
    """``(T, 161)`` as contiguous float32; ValueError for another shape, no frames, or values that are not finite."""
    frames = np.ascontiguousarray(log_power, dtype=np.float32)
    if frames.ndim != 2 or frames.shape[1] != BINS or len(frames) == 0:
        raise ValueError(f"Frames of log power have shape (T, {BINS}), not {frames.shape}.")
    if not np.isfinite(frames).all():
        raise ValueError("The frames hold values that are NaN or infinite.")
    return frames


def run_streaming(network: str | os.PathLike | StreamingSession, log_power: np.ndarray) -> np.ndarray:
    """Gains ``(T, 161)`` of a whole utterance ``(T, 161)``, computed frame by frame from zero states."""
    frames = as_frames(log_power)
    session = network if isinstance(network, StreamingSession) else StreamingSession(network)
    gains = np.empty_like(frames)
    session.reset()
    with flushed_denormals():
        for frame, gain in zip(frames, gains, strict=True):
            session.step(frame)
            gain[:] = session.gain
    return gains
