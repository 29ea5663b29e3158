"""Streaming ONNX: one frame in, one gain out, every state a named input and output.

The graph is written by hand, node by node, so that its nodes bear the layer they belong to (``encoder_1/conv``) and
each way of writing the same network is one function in `FORMS`. Layers count from 1 at the input; decoder l mirrors
encoder l, so ``decoder_1`` is the last. Shapes of one frame: ``log_power`` and ``gain`` (1, 1, 1, 161), activations
(1, C, 1, F). States, all zero before the first frame:
    encoder_l_state   (1, C, 1, F)   the encoder's previous input frame
    gru_g_state       (1, 1, H)      the hidden vector of group g
    decoder_l_state   (1, C, 1, F)   the decoder's previous input frame
Each comes back as ``…_state_next``.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from dnslib.errors import MisuseError
from dnslib.gru import ParallelGru
from dnslib.model import KERNEL, LEAKY_SLOPE, STRIDE, Cruse, frequency_sizes, lost_bins
from dnslib.paths import resolve, write_atomically
from dnslib.stft import BINS, HOP, SAMPLE_RATE, WINDOW

OPSET, IR_VERSION = 17, 8  # old enough for the runtimes in use, new enough for every node written here
PRODUCER = "dns-pruning-study"
INPUT, OUTPUT, NEXT = "log_power", "gain", "_next"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def export_streaming(model: Cruse, path: str | os.PathLike, form: str = "plain") -> Path:
    """Write ``model`` as a streaming ONNX file of one `FORMS` and return its absolute path.

    The file is checked, then renamed into place; the same weights give the same bytes. Relative paths are resolved
    against the project. Raises MisuseError for an unknown form.
    """
    if form not in FORMS:
        raise MisuseError(f"There is no streaming form {form!r}; choose one of {', '.join(FORMS)}.")
    graph = FORMS[form](model)
    proto = helper.make_model(
        graph.proto(f"cruse_{form}"),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
    facts = {
        "form": form,
        "widths": model.widths,
        "groups": model.groups,
        "sample_rate": SAMPLE_RATE,
        "window": WINDOW,
        "hop": HOP,
    }
    helper.set_model_props(proto, {name: json.dumps(value).strip('"') for name, value in facts.items()})
    onnx.checker.check_model(proto, full_check=True)
    with write_atomically(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
    return resolve(path)


class Graph:
    """The parts of one ONNX graph. Every method returns the name of a value, to be fed to later nodes."""

    def __init__(self):
        self.nodes, self.inputs, self.outputs, self.constants = [], [], [], []

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def output(self, name: str, shape: tuple[int, ...]) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def state(self, name: str, shape: tuple[int, ...]) -> tuple[str, str]:
        """The value from the last frame, and the name that some node must give to the value for the next frame."""
        return self.input(name, shape), self.output(name + NEXT, shape)

    def constant(self, name: str, value) -> str:
        array = value.detach().float().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, name: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """A node of one output, which bears the node's name unless ``output`` says otherwise."""
        output = output or name
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def proto(self, name: str) -> onnx.GraphProto:
        return helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.constants)


def plain(model: Cruse) -> Graph:
    """The natural streaming export: each convolution sees (state, frame), each group is an ONNX GRU of one step."""
    graph, sizes = Graph(), frequency_sizes(len(model.widths))
    x, skipped = graph.input(INPUT, (1, 1, 1, BINS)), []
    graph.node("Identity", "encoder_1/keep", x, output="encoder_1_state" + NEXT)
    for level, (encoder, skip) in enumerate(zip(model.encoders, model.skips, strict=True), start=1):
        is_last = level == len(model.widths)
        x = _encoder(
            graph, level, encoder, sizes[level - 1], x, None if is_last else f"encoder_{level + 1}_state{NEXT}"
        )
        skipped.append(_convolution(graph, f"skip_{level}", skip, x))
    x = _grus(graph, model.gru, (1, model.widths[-1], 1, sizes[-1]), x)
    for level in range(len(model.widths), 0, -1):
        x = _decoder(
            graph, level, model.decoders[level - 1], sizes[level], lost_bins(sizes)[level - 1], x, skipped.pop()
        )
    graph.output(OUTPUT, (1, 1, 1, BINS))
    return graph


def _convolution(graph: Graph, layer: str, convolution: torch.nn.Conv2d, x: str) -> str:
    return graph.node(
        "Conv",
        f"{layer}/conv",
        x,
        graph.constant(f"{layer}/weight", convolution.weight),  # (C_out, C_in, 2 or 1, 3 or 1)
        graph.constant(f"{layer}/bias", convolution.bias),
        kernel_shape=convolution.kernel_size,
        strides=convolution.stride,
    )


def _encoder(graph: Graph, level: int, encoder: torch.nn.Conv2d, bins: int, x: str, output: str | None) -> str:
    """(1, C_in, 1, F_in) -> (1, C_out, 1, F_out), which is the next encoder's state for the next frame."""
    layer = f"encoder_{level}"
    previous, _ = graph.state(f"{layer}_state", (1, encoder.in_channels, 1, bins))
    two_frames = graph.node("Concat", f"{layer}/concat", previous, x, axis=2)
    x = _convolution(graph, layer, encoder, two_frames)
    return graph.node("LeakyRelu", f"{layer}/activation", x, output=output, alpha=LEAKY_SLOPE)


def _grus(graph: Graph, gru: ParallelGru, shape: tuple[int, int, int, int], x: str) -> str:
    """Parallel GRUs over the channel-major features of (1, C, 1, F); the layer ``gru`` splits and joins the groups."""
    x = graph.node("Reshape", "gru/flatten", x, graph.constant("gru/flat_shape", [1, 1, gru.groups * gru.size]))
    parts = [f"gru/split_{group}" for group in range(1, gru.groups + 1)]
    graph.nodes.append(helper.make_node("Split", [x], parts, name="gru/split", axis=2))
    hidden = [_gru(graph, group, gru, part) for group, part in enumerate(parts, start=1)]
    x = graph.node("Concat", "gru/concat", *hidden, axis=2)  # (1, 1, P H)
    return graph.node("Reshape", "gru/unflatten", x, graph.constant("gru/shape", shape))


def _gru(graph: Graph, group: int, gru: ParallelGru, x: str) -> str:
    """One group, one step: (T = 1, B = 1, H) -> its next hidden vector (1, 1, H)."""
    layer, index = f"gru_{group}", group - 1
    previous, following = graph.state(f"{layer}_state", (1, 1, gru.size))
    biases = torch.cat([_update_first(gru.bias_ih[index]), _update_first(gru.bias_hh[index])])
    inputs = [
        x,
        graph.constant(f"{layer}/weight_ih", _update_first(gru.weight_ih[index])[None]),  # (1, 3 H, I)
        graph.constant(f"{layer}/weight_hh", _update_first(gru.weight_hh[index])[None]),  # (1, 3 H, H)
        graph.constant(f"{layer}/bias", biases[None]),  # (1, 6 H)
        "",  # no sequence lengths
        previous,
    ]
    graph.nodes.append(
        # linear_before_reset: the reset gate multiplies W_hn h + b_hn, as in PyTorch
        helper.make_node(
            "GRU", inputs, ["", following], name=f"{layer}/gru", hidden_size=gru.size, linear_before_reset=1
        )
    )
    return following


def _update_first(gates: torch.Tensor) -> torch.Tensor:
    """PyTorch stacks reset, update, new along the first dimension; ONNX update, reset, new."""
    reset, update, new = gates.chunk(3)
    return torch.cat([update, reset, new])


def _decoder(
    graph: Graph, level: int, decoder: torch.nn.ConvTranspose2d, bins: int, lost: int, x: str, skipped: str
) -> str:
    """(1, C_in, 1, F_in) -> (1, C_out, 1, F_out); of the three frames that two give, the middle one is now."""
    layer = f"decoder_{level}"
    previous, following = graph.state(f"{layer}_state", (1, decoder.in_channels, 1, bins))
    x = graph.node("Add", f"{layer}/add_skip", x, skipped, output=following)
    two_frames = graph.node("Concat", f"{layer}/concat", previous, x, axis=2)
    three_frames = graph.node(
        "ConvTranspose",
        f"{layer}/conv_transpose",
        two_frames,
        graph.constant(f"{layer}/weight", decoder.weight),  # (C_in, C_out, 2, 3)
        graph.constant(f"{layer}/bias", decoder.bias),
        kernel_shape=KERNEL,
        strides=STRIDE,
        output_padding=(0, lost),
    )
    crop = [graph.constant(f"{layer}/{name}", [value]) for name, value in (("start", 1), ("end", 2), ("axis", 2))]
    x = graph.node("Slice", f"{layer}/crop", three_frames, *crop)
    if level == 1:
        return graph.node("Sigmoid", f"{layer}/activation", x, output=OUTPUT)
    return graph.node("LeakyRelu", f"{layer}/activation", x, alpha=LEAKY_SLOPE)


FORMS: dict[str, Callable[[Cruse], Graph]] = {"plain": plain}


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


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Inside, this thread takes denormal numbers for zero; afterwards it does what it did before.

    The session option of that name cannot be relied on: ONNX Runtime obeys that of the first session of a process
    only, and leaves the thread so for good, which would change the arithmetic of a training that comes later.
    """
    flushed_already = bool(torch.tensor(1e-40) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed_already)


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
        self._frame, self._gain = _buffer((1, 1, 1, BINS)), _buffer((1, 1, 1, BINS))
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
        return self._gain.numpy().reshape(BINS).copy()


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
