"""Latency of any streaming ONNX files, ours or others', by the protocol of `dnslib.profiling`.

A streaming file takes one frame and its states, and gives a result and the next states. Which input is which is
decided from the file alone:
* a state ``x`` is an input that comes back as ``x_next``, ``x_out``, ``x_new``, ``next_x``, ``out_x`` or ``new_x``, or
  as ``x_out`` for ``x_in`` or ``out_x`` for ``in_x``;
* of what is left, inputs and outputs of equal shape and type are paired in their order, from the last one backwards,
  because results come first where frame and state look alike;
* the frame is the one input that remains; if none does, the first of those paired by shape, which then is no state.
A size that the file leaves open is taken as 1: one frame, one channel. States begin as zeros and are carried from frame
to frame; frames are bursts of noise that decay into silence, in log power for the files of this project.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dnslib import profiling
from dnslib.errors import MisuseError
from dnslib.export import INPUT, StatefulSession, bound, flushed_denormals, session_of
from dnslib.paths import resolve
from dnslib.stft import BINS

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
FRAMES = 1000  # different ones; then they repeat
MOST_FRAMES = 10_000_000  # per model; all times are kept
PROTOCOL = (
    "one thread, sequential, no spinning, denormals flushed; one frame a call, states carried; all models interleaved "
    "in rounds of balanced order, each opened anew in every round; intervals: 95 % bootstrap over rounds"
)


@dataclass(frozen=True)
class Value:
    """An input or output of a network."""

    name: str
    shape: tuple[int, ...]
    dtype: type

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.shape))}"

    def zeros(self) -> np.ndarray:
        return np.zeros(self.shape, self.dtype)


@dataclass(frozen=True)
class Roles:
    """What the inputs and outputs of a streaming network are for."""

    frame: Value
    states: tuple[tuple[Value, Value], ...]  # each with the output that is its next value
    results: tuple[Value, ...]


def benchmark(
    paths: Sequence[str | os.PathLike], rounds: int = 30, frames_per_round: int = 100, warmup_frames: int = 50, seed=0
):
    """One row per model with the columns of `profiling.latency_table`, and besides them ``memory_mb``,
    ``states`` (their number) and ``frame`` (the input that was taken for it).

    The first model is the reference of ``speedup`` and, measured a second time, the last row: its speedup must be 1
    within its interval. Raises MisuseError for a file that is not a streaming network.
    """
    if not paths:
        raise MisuseError("There is no model to measure.")
    if rounds * frames_per_round > MOST_FRAMES:
        raise MisuseError(
            f"{rounds} rounds of {frames_per_round} frames are more than {MOST_FRAMES:.0e} frames a model."
        )
    files = labels([resolve(path) for path in paths])
    sessions = {name: AnySession(path, seed) for name, path in files.items()}  # all are checked before any is measured
    about = {
        name: (path.stat().st_size / 1e6, len(sessions[name].roles.states), str(sessions[name].roles.frame))
        for name, path in files.items()
    }
    reference = next(iter(files))
    files, about = files | {profiling.SELF_CHECK: files[reference]}, about | {profiling.SELF_CHECK: about[reference]}
    openers = {name: partial(_open_step, path, seed) for name, path in files.items()}
    del sessions
    with flushed_denormals():
        times_ns = profiling.time_rounds(openers, np.arange(FRAMES), rounds, frames_per_round, warmup_frames)
    table = profiling.latency_table(times_ns, reference, seed)
    table["memory_mb"], table["states"], table["frame"] = zip(*(about[name] for name in table["model"]), strict=True)
    return table


def _open_step(path: Path, seed: int) -> Callable[[int], None]:
    return AnySession(path, seed).step


def labels(paths: Sequence[Path]) -> dict[str, Path]:
    """A short name for each path: its stem, after as many folders as it takes to tell the paths apart."""
    paths = list(dict.fromkeys(paths))
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.with_suffix("").parts[-depth:]) for path in paths]
        if len(set(names)) == len(names) and profiling.SELF_CHECK not in names:
            return dict(zip(names, paths, strict=True))
    return {str(path): path for path in paths}  # a.onnx and a.ort in one folder


class AnySession(StatefulSession):
    """A streaming network ready to run; ``step(index)`` gives it one of its prepared frames. States stay inside."""

    def __init__(self, path: str | os.PathLike, seed: int = 0):
        session = session_of(path)
        self.roles = recognise(*described(session, path), path)
        self.frames = example_frames(self.roles.frame, seed)
        self._frame = bound(self.frames[0].copy())
        sizes = self._result_sizes(session, path)
        outputs = {value.name: bound(np.zeros(sizes[value.name], value.dtype)) for value in self.roles.results}
        states = {state.name: (state.zeros(), following.name) for state, following in self.roles.states}
        super().__init__(session, {self.roles.frame.name: self._frame}, outputs, states)

    def _result_sizes(self, session, path) -> dict[str, tuple[int, ...]]:
        """Shapes of all outputs after one frame; a file may leave them open, and states must keep theirs."""
        feeds = {self.roles.frame.name: self.frames[0]} | {s.name: s.zeros() for s, _ in self.roles.states}
        names = [value.name for value in session.get_outputs()]
        try:
            sizes = {n: v.shape for n, v in zip(names, session.run(names, feeds), strict=True)}
        except Exception as error:  # the runtime's exceptions share no base class
            raise MisuseError(f"{path} does not run on one frame: {str(error).splitlines()[0]}") from None
        for state, following in self.roles.states:
            if sizes[following.name] != state.shape:
                size = sizes[following.name]
                raise MisuseError(f"{path}: the state {state.name}, {state.shape}, comes back as {size}.")
        return sizes

    def step(self, index: int) -> None:
        """Run one frame; the time of this call is the latency."""
        self._frame.update_inplace(self.frames[index])
        self.run()


def described(session, path) -> tuple[list[Value], list[Value]]:
    """Inputs and outputs; a size that is open becomes 1. Raises MisuseError for a type that is not in `TYPES`."""
    for value in (*session.get_inputs(), *session.get_outputs()):
        if value.type not in TYPES:
            raise MisuseError(f"{path} is not a streaming network that can be measured: {value.name} is {value.type}.")
    return tuple(
        [Value(v.name, tuple(n if isinstance(n, int) else 1 for n in v.shape), TYPES[v.type]) for v in values]
        for values in (session.get_inputs(), session.get_outputs())
    )


def recognise(inputs: Sequence[Value], outputs: Sequence[Value], path: object = "The file") -> Roles:
    """Which input is the frame and which are states (rules above). Raises MisuseError where that cannot be told."""
    named = {i.name: o for i in inputs for o in outputs if o.name in next_names(i.name) and _alike(i, o)}
    inputs_left = [value for value in inputs if value.name not in named]
    outputs_left = [value for value in outputs if value not in named.values()]
    by_shape: dict[str, Value] = {}
    for value in reversed(inputs_left):
        partner = next((o for o in reversed(outputs_left) if o not in by_shape.values() and _alike(value, o)), None)
        if partner:
            by_shape[value.name] = partner
    remaining = [value for value in inputs_left if value.name not in by_shape]
    if by_shape and not any(issubclass(value.dtype, np.floating) for value in remaining):  # frame and result look alike
        first = next(value for value in inputs_left if value.name in by_shape)
        del by_shape[first.name]
        remaining.insert(0, first)
    following = named | by_shape
    if not following:
        raise MisuseError(f"{path} is not a streaming network: no input comes back as an output, so it has no state.")
    if len(remaining) != 1:
        names = ", ".join(value.name for value in remaining) or "none"
        raise MisuseError(f"{path} is not a streaming network of one frame a call: inputs that are no state: {names}.")
    if not issubclass(remaining[0].dtype, np.floating):
        raise MisuseError(f"{path}: the frame {remaining[0].name} is not made of floating-point numbers.")
    states = tuple((value, following[value.name]) for value in inputs if value.name in following)
    results = tuple(value for value in outputs if value not in following.values())
    return Roles(remaining[0], states, results)


def next_names(name: str) -> set[str]:
    """Names under which a state usually comes back."""
    words = ("next", "out", "new")
    swapped = "_".join({"in": "out"}.get(part, part) for part in name.split("_"))  # h_in, in_h; not input
    return {f"{name}_{word}" for word in words} | {f"{word}_{name}" for word in words} | ({swapped} - {name})


def _alike(one: Value, other: Value) -> bool:
    return (one.shape, one.dtype) == (other.shape, other.dtype)


def example_frames(frame: Value, seed: int = 0) -> np.ndarray:
    """Frames ``(FRAMES, *shape)``: log power of decaying bursts for our files, plain decaying bursts for others."""
    if frame.name == INPUT and frame.shape[-1] == BINS:
        frames = profiling.decaying_frames(seed=seed).reshape(-1, *frame.shape)
        return np.ascontiguousarray(np.resize(frames, (FRAMES, *frame.shape)), dtype=frame.dtype)
    position = (
        np.arange(FRAMES) % 100 / 100
    )  # one burst every hundred frames: 60 dB down after sixty of them, zeros from the eightieth on
    envelope = 0.1 * 10 ** (-3 * np.minimum(position / 0.6, 1)) * (position < 0.8)
    values = np.random.default_rng(seed).standard_normal((FRAMES, *frame.shape))
    return (values * envelope.reshape(-1, *(1 for _ in frame.shape))).astype(frame.dtype)


def as_text(table, machine: Mapping[str, object]) -> str:
    """The protocol, the machine and the table."""
    columns = [column for column in table.columns if column not in ("rounds", "frames")]
    lines = [
        PROTOCOL,
        f"{table['rounds'].iloc[0]} rounds, {table['frames'].iloc[0]} frames a model",
        ", ".join(f"{name} {value}" for name, value in machine.items()),
        "",
        table[columns].to_string(index=False, float_format=lambda value: f"{value:.4g}"),
    ]
    return "\n".join(lines)
