"""Denoise audio as it arrives: chunks of any length in, enhanced samples out, in constant memory.

A waveform is float32 ``(samples,)``, one channel, 16 kHz. The transform is that of `dnslib.stft`, here in NumPy; the
network runs frame by frame as a streaming ONNX file whose states never leave the runtime. Buffers are made once; only
what `Denoiser.process` returns is new.

Denormals: `Denoiser.process` flushes them for its own transform and for the network, which runs in the same thread,
once a call, which costs about a microsecond. Without it, states that decay in silence could make a frame many times
slower; what is flushed lies some 750 dB under full scale.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from safetensors import SafetensorError, safe_open
from scipy.fftpack import irfft, rfft  # half the overhead of numpy.fft's wrappers

from dnslib.errors import MisuseError
from dnslib.export import StreamingSession, export_streaming, flushed_denormals
from dnslib.model import Cruse, load_weights
from dnslib.paper import CONFIGURATIONS
from dnslib.paths import PROJECT, resolve
from dnslib.settings import unknown
from dnslib.stft import BINS, HOP, LOG_POWER_CENTRE, LOG_POWER_SPREAD, POWER_FLOOR, SAMPLE_RATE, WINDOW, window

SHIPPED = Path(__file__).parent / "weights"  # <configuration>.safetensors, where the project brings weights along
MODEL_SUFFIXES = (".onnx", ".safetensors")
BLOCK = 64  # frames transformed at once, where a chunk is longer than a frame
LARGEST_ENERGY = 1e30  # of a chunk: beyond, power spectra leave float32; a minute of full scale has 1e6
NANOSECONDS_PER_US = 1e3
_FLOOR, _MIDDLE, _WIDTH = (np.array(value, np.float32) for value in (POWER_FLOOR, LOG_POWER_CENTRE, LOG_POWER_SPREAD))


class Denoiser:
    """A denoiser for one channel of live audio: ``process(chunk)`` as long as audio comes, then ``flush()``.

    ``path_or_name`` is a streaming ONNX file, the ``model.safetensors`` of a run, or the name of a configuration
    (`find_model`). What `process` and `flush` return, joined, is as long as the input, aligned with it, and equals
    `dnslib.enhance` of the whole to 1e-4, whatever the lengths of the chunks. Raises MisuseError for a file that is no
    streaming network.

    ``latency_samples`` is the delay of the method, without computing time: output sample n is ready when input sample
    n + 319 has come, or earlier, so 320 samples (20 ms) from the first sample of a hop to its way out. At no time more
    than 319 samples are held back.
    """

    latency_samples = WINDOW
    sample_rate = SAMPLE_RATE

    def __init__(self, path_or_name: str | os.PathLike):
        self.model = find_model(path_or_name)
        self._session = open_streaming(self.model)
        self._window = window(torch.device("cpu")).numpy().copy()
        self._audio = np.zeros((BLOCK + 1) * HOP, np.float32)  # the hop before, then what is not yet denoised
        self._frames = _Frames.all_counts(self._audio)
        self._tail = np.zeros(HOP, np.float32)  # second half of the last frame, to be overlapped with the next one
        self.reset()

    def reset(self) -> None:
        """Forget all audio: the next chunk begins a recording."""
        self._session.reset()
        self._audio[:HOP] = self._tail[:] = 0
        self._filled = 0  # samples that wait for the end of their frame
        self._started = False  # whether a frame was denoised; the first one completes no hop
        self._given = self._returned = 0  # samples

    def process(self, chunk: np.ndarray) -> np.ndarray:
        """Take float32 ``(any number,)``; give what is ready, float32: a multiple of 160 samples, often none.

        Raises MisuseError for another type or shape and for NaN or infinite samples; such a chunk changes nothing.
        """
        _check(chunk)
        enhanced = self._run(chunk)
        self._given += len(chunk)
        self._returned += len(enhanced)
        return enhanced

    def flush(self) -> np.ndarray:
        """The rest, at most 319 samples: the recording ended. The next chunk begins another one."""
        to_last_frame = -self._given % HOP + HOP  # zeros after the end, as in `dnslib.stft.stft`
        rest = self._run(np.zeros(to_last_frame, np.float32))[: self._given - self._returned]
        self.reset()
        return rest

    def _run(self, samples: np.ndarray) -> np.ndarray:
        hops = np.empty(((self._filled + len(samples)) // HOP, HOP), np.float32)
        started = self._started
        position = done = 0
        with flushed_denormals():
            while position < len(samples):
                position += self._fill(samples[position:])
                if frames := self._filled // HOP:
                    self._denoise(hops[done : done + frames])
                    done += frames
        return hops.reshape(-1) if started else hops[1:].reshape(-1)

    def _fill(self, samples: np.ndarray) -> int:
        """Append as many samples as there is room for; returns how many."""
        start = HOP + self._filled
        count = min(len(self._audio) - start, len(samples))
        self._audio[start : start + count] = samples[:count]
        self._filled += count
        return count

    def _denoise(self, hops: np.ndarray) -> None:
        """Denoise the waiting frames, one for each row of ``hops (frames, 160)``, and write the hop it completes there,
        which is the one in the second half of the frame before.
        """
        block = self._frames[len(hops)]
        powers = block.powers
        block.packed[:] = rfft(block.audio * self._window)
        np.vecdot(block.parts, block.parts, out=powers)
        np.add(powers, _FLOOR, out=powers)  # from here on as in `dnslib.stft.log_power`
        np.log10(powers, out=powers)
        np.subtract(powers, _MIDDLE, out=powers)
        np.divide(powers, _WIDTH, out=powers)
        for power, gain in block.steps:
            self._session.step(power)
            gain[:] = self._session.gain[:, None]
        np.multiply(block.parts, block.gains, out=block.parts)
        frames = irfft(block.packed)  # (count, 320)
        frames *= self._window
        np.add(frames[0, :HOP], self._tail, out=hops[0])
        if len(hops) > 1:
            np.add(frames[1:, :HOP], frames[:-1, HOP:], out=hops[1:])
        self._tail[:] = frames[-1, HOP:]
        self._forget(len(hops))

    def _forget(self, frames: int) -> None:
        """Keep the last hop of these frames and what waits after them."""
        start, end = frames * HOP, HOP + self._filled
        self._audio[: end - start] = self._audio[start:end]
        self._filled -= start
        self._started = True


class _Frames:
    """Buffers for the first ``count`` frames, or views of them: made once, so that none is made while audio comes."""

    def __init__(self, audio, spectra, powers, gains):
        self.audio = audio  # (count, 320), overlapping views of the waiting samples
        self.parts = spectra  # (count, 161, 2): real, imaginary
        self.packed = spectra.reshape(-1, 2 * BINS)[:, 1:-1]  # (count, 320) as SciPy's rfft: two imaginary parts are 0
        self.powers = powers  # (count, 161), in the end the network's input
        self.gains = gains  # (count, 161, 2): one for each part, as equal shapes multiply faster
        self.steps = list(zip(powers, gains, strict=True))

    @classmethod
    def all_counts(cls, audio: np.ndarray) -> list["_Frames"]:
        """Entry ``count`` is for so many frames, up to as many as the waiting samples have room for."""
        windows = sliding_window_view(audio, WINDOW)[::HOP]
        shapes = (BINS, 2), (BINS,), (BINS, 2)
        whole = [windows, *(np.zeros((len(windows), *shape), np.float32) for shape in shapes)]
        return [cls(*(buffer[:count] for buffer in whole)) for count in range(len(windows) + 1)]


def _check(chunk: np.ndarray) -> None:
    if not isinstance(chunk, np.ndarray) or chunk.dtype != np.float32:
        kind = chunk.dtype if isinstance(chunk, np.ndarray) else type(chunk).__name__
        raise MisuseError(f"A chunk is a numpy array of float32 samples in [-1, 1], not {kind}.")
    if chunk.ndim != 1:
        raise MisuseError(f"A chunk is one channel of shape (samples,), not {chunk.shape}: one Denoiser a channel.")
    if not np.dot(chunk, chunk) <= LARGEST_ENERGY:  # NaN is not under it either
        raise MisuseError("The chunk holds NaN or infinite samples.")


def overhead_us(denoiser: Denoiser, frames: int = 1000, seed: int = 0, clock: Callable = time.perf_counter_ns) -> float:
    """What Python adds to a frame, in microseconds: the median over ``frames`` calls of `Denoiser.process`, one hop
    each, of the time of the call without the time its network takes.

    Transform, checks, copies of gain and samples are in it. The network's part is what `dnslib.profiling` calls
    latency: one frame copied into the bound input, and the run. Both are read in the same call. Forgets the
    denoiser's audio.
    """
    noise = np.random.default_rng(seed).uniform(-0.1, 0.1, (frames, HOP)).astype(np.float32)
    session = denoiser._session
    denoiser._session = timed = _TimedSession(session, clock)
    denoiser.reset()
    rest_ns = np.empty(frames, np.int64)
    try:
        for index, hop in enumerate(noise):
            start = clock()
            denoiser.process(hop)
            rest_ns[index] = clock() - start - timed.last_ns
    finally:
        denoiser._session = session
        denoiser.reset()
    return float(np.median(rest_ns)) / NANOSECONDS_PER_US


class _TimedSession:
    """A StreamingSession that knows how long its last step took."""

    def __init__(self, session: StreamingSession, clock: Callable):
        self.session, self.clock, self.reset = session, clock, session.reset
        self.last_ns = 0

    def step(self, frame: np.ndarray) -> None:
        start = self.clock()
        self.session.step(frame)
        self.last_ns = self.clock() - start

    @property
    def gain(self) -> np.ndarray:
        return self.session.gain


# --- which network ---------------------------------------------------------------------------------------------------


def find_model(path_or_name: str | os.PathLike) -> Path:
    """The file meant: a streaming ONNX file, a safetensors file, or the weights of a named configuration.

    Relative paths are resolved against the project. Raises MisuseError, saying what is known or how to get one.
    """
    path = resolve(path_or_name)
    if str(path_or_name) in CONFIGURATIONS:
        return weights_of(str(path_or_name))
    if path.suffix not in MODEL_SUFFIXES and not path.exists():
        raise MisuseError(unknown("configuration", str(path_or_name), CONFIGURATIONS))
    if not path.is_file():
        raise MisuseError(f"There is no file {path}.")
    if path.suffix not in MODEL_SUFFIXES:
        raise MisuseError(f"{path} is neither a streaming network (.onnx) nor weights (.safetensors).")
    return path


def weights_of(name: str, shipped: Path = SHIPPED, outputs: Path = PROJECT / "outputs") -> Path:
    """Weights of a configuration: those that the project brings along, else a finished run's.

    Among the studies under ``outputs`` the one that finished such a run last is taken, and in it, where ablations stand
    beside the network itself, the run with the lowest loss on the validation data. Runs without training and sparse
    ones do not count.
    """
    if (path := shipped / f"{name}.safetensors").is_file():
        return path
    runs = [done.parent for done in outputs.glob("*/runs/*/DONE") if _is_trained(done.parent, name)]
    if not runs:
        raise MisuseError(
            f"There are no weights of {name} yet: train some by `python -m dnslib run 05_0_speed_and_quality`, "
            "or name a streaming .onnx or a .safetensors file."
        )
    newest = max(runs, key=lambda run: (run / "DONE").stat().st_mtime_ns).parent
    return min((run for run in runs if run.parent == newest), key=_validation_loss) / "model.safetensors"


def _is_trained(run: Path, name: str) -> bool:
    config = _read_json(run / "config.json")
    trained = config.get("steps", 0) > 0 and not config.get("sparsity")
    return trained and config.get("widths") == list(CONFIGURATIONS[name]) and (run / "model.safetensors").is_file()


def _validation_loss(run: Path) -> float:
    return _read_json(run / "summary.json").get("validation_loss", float("inf"))


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def open_streaming(path: Path) -> StreamingSession:
    """A session of a streaming ONNX file, or of the network whose weights a safetensors file holds, in exact form."""
    if path.suffix == ".onnx":
        return StreamingSession(path)
    with tempfile.TemporaryDirectory(prefix="dns-study-") as folder:
        return StreamingSession(export_streaming(load_network(path), Path(folder, "streaming.onnx"), "exact"))


def load_network(path: Path) -> Cruse:
    """The network of a safetensors file; its widths and groups follow from the shapes of the weights."""
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise MisuseError(f"{path} is not a whole safetensors file: {str(error).splitlines()[0]}.") from None
    levels = sum(name.startswith("encoders.") and name.endswith(".weight") for name in shapes)
    try:
        widths = [shapes[f"encoders.{level}.weight"][0] for level in range(levels)]
        model = Cruse(widths, groups=shapes["gru.weight_ih"][0])
    except (KeyError, IndexError, ValueError):
        raise MisuseError(f"{path} does not hold the weights of a CRUSE network.") from None
    return load_weights(model, path)
