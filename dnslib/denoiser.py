"""Denoise audio as it arrives: chunks of any length in, enhanced samples out, in constant memory.

A waveform is float32 ``(samples,)``, one channel, 16 kHz. Windows, Fourier transforms and overlap-add are NumPy's, the
rest of a frame is one run of a streaming network whose states never leave the runtime. Audio goes hop by hop, however
long the chunks, through buffers made once; only what `Denoiser.process` returns is new.

A large network pushes everything else out of the caches, frame by frame. What Python adds then depends on how much
code and memory it touches: hence few calls, and NumPy's transforms without their wrappers.

Denormals: `Denoiser.process` flushes them for its own transform and for the network, which runs in the same thread,
once a call, which costs about a microsecond. Without it, states that decay in silence could make a frame many times
slower; what is flushed lies some 750 dB below full scale.
"""

import os
import time
from collections.abc import Callable

import numpy as np
import torch

from dnslib.errors import MisuseError
from dnslib.export import SpectralSession, StreamingSession, flushed_denormals
from dnslib.networks import find_model, streaming_file
from dnslib.profiling import time_rounds
from dnslib.stft import HOP, SAMPLE_RATE, WINDOW, delay_samples, log_power, stft, window

try:  # the functions behind numpy.fft.rfft and irfft: their wrappers cost more than they do
    from numpy.fft._pocketfft_umath import irfft as _irfft
    from numpy.fft._pocketfft_umath import rfft_n_even as _rfft
except ImportError:

    def _rfft(frame: np.ndarray, factor: np.float32, out: np.ndarray) -> None:
        np.fft.rfft(frame, out=out)

    def _irfft(spectrum: np.ndarray, factor: np.float32, out: np.ndarray) -> None:
        np.fft.irfft(spectrum, out=out)


LARGEST_ENERGY = 1e30  # of a chunk: beyond it, power spectra overflow float32; a minute at full scale has 1e6
FRAMES_PER_ROUND, WARMUP_FRAMES = 50, 20  # of the measurement
NANOSECONDS_PER_US = 1e3
_FLOAT32, _FORWARD, _BACKWARD = np.dtype(np.float32), np.float32(1), np.float32(1 / WINDOW)


class Denoiser:
    """A denoiser for one channel of live audio: ``process(chunk)`` as long as audio comes, then ``flush()``.

    ``path_or_name`` is a streaming ONNX file, the ``model.safetensors`` of a run, or the name of a configuration
    (`dnslib.networks.find_model`). What `process` and `flush` return, joined, is as long as the input, aligned with it,
    the same whatever the lengths of the chunks, and equals `dnslib.enhance` of the whole to 1e-4. Raises MisuseError
    for a file that is no streaming network.

    ``precision`` is the form that weights run in: ``exact`` (unless named otherwise), ``plain`` or ``int8``, which is
    fast for large networks and differs from `dnslib.enhance`. An ONNX file has its form already. Which form is the
    fastest here is measured by `dnslib.deployment.deploy`, which needs some seconds of training audio and writes an
    ONNX file.

    ``latency_samples`` is the delay of the method, without computing time: the window and the frames that the network
    looks ahead. With one frame these are 480 samples (30 ms) from the first sample of a hop to its output: output
    sample n is ready when input sample n + 479 has arrived, or earlier. Fewer than that are held back at any time.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, path_or_name: str | os.PathLike, precision: str | None = None):
        self.model, self.precision = find_model(path_or_name), precision
        with streaming_file(self.model, precision) as path:
            self._session = SpectralSession(path)
        self._incomplete = 1 + self._session.look_ahead  # first frames of a recording, which complete no hop
        self.latency_samples = delay_samples(self._session.look_ahead)
        self._window = window(torch.device("cpu")).numpy().copy()
        self._rising, self._falling = self._window[:HOP], self._window[HOP:]
        self._frame = np.zeros(WINDOW, np.float32)  # windowed
        self._past, self._now = self._frame[:HOP], self._frame[HOP:]
        enhanced = np.zeros((2, WINDOW), np.float32)  # frames, windowed: this one and the one before take turns
        self._turns = [(enhanced[turn], enhanced[turn, :HOP], enhanced[1 - turn, HOP:]) for turn in (0, 1)]
        self._waiting = np.zeros(HOP, np.float32)  # samples of a hop that is not yet full
        self.reset()

    def reset(self) -> None:
        """Forget all audio: the next chunk begins a recording."""
        self._session.reset()
        for buffer in (self._frame, *(frame for frame, _, _ in self._turns)):
            buffer[:] = 0
        self._turn = self._filled = 0
        self._missing = self._incomplete  # of those first frames; after them every frame completes a hop

    def process(self, chunk: np.ndarray) -> np.ndarray:
        """Take float32 ``(any number,)``; give what is ready, float32: a multiple of 160 samples, often none.

        Raises MisuseError for another type or shape and for NaN or infinite samples; such a chunk changes nothing.
        """
        _check(chunk)
        return self._run(chunk)

    def flush(self) -> np.ndarray:
        """The rest, fewer than ``latency_samples``: the recording ended. The next chunk begins another one."""
        held_back = self._filled + HOP * (self._incomplete - self._missing)
        to_last_frame = -self._filled % HOP + HOP * self._incomplete  # zeros after the end, as in `dnslib.apply_gain`
        rest = self._run(np.zeros(to_last_frame, np.float32))[:held_back]
        self.reset()
        return rest

    def _run(self, samples: np.ndarray) -> np.ndarray:
        if len(samples) == HOP and not self._filled and not self._missing:  # the usual case of live audio
            out = np.empty(HOP, np.float32)
            with flushed_denormals():
                self._denoise(samples, out)
            return out
        hops = np.empty(((self._filled + len(samples)) // HOP, HOP), np.float32)
        start = -self._filled  # of the hop, in samples
        with flushed_denormals():
            for out in hops:
                hop = samples[start : start + HOP] if start >= 0 else self._fill(samples[: start + HOP])
                self._denoise(hop, out)
                start += HOP
        if len(hops):
            self._filled = 0
        self._fill(samples[max(start, 0) :])
        incomplete = min(self._missing, len(hops))
        self._missing -= incomplete
        return hops[incomplete:].reshape(-1)

    def _fill(self, samples: np.ndarray) -> np.ndarray:
        """The waiting hop, with these samples after those that wait already."""
        self._waiting[self._filled : self._filled + len(samples)] = samples
        self._filled += len(samples)
        return self._waiting

    def _denoise(self, hop: np.ndarray, out: np.ndarray) -> None:
        """Take the frame that ends with ``hop``, and write the hop that it completes; both ``(160,)``."""
        session = self._session
        frame, head, tail_before = self._turns[self._turn]
        np.multiply(hop, self._falling, self._now)
        _rfft(self._frame, _FORWARD, session.spectrum)
        np.multiply(hop, self._rising, self._past)  # of the next frame
        session.run()
        _irfft(session.enhanced, _BACKWARD, frame)
        np.multiply(frame, self._window, frame)
        np.add(head, tail_before, out)
        self._turn = 1 - self._turn


def _check(chunk: np.ndarray) -> None:
    if not isinstance(chunk, np.ndarray) or chunk.dtype != _FLOAT32:
        kind = chunk.dtype if isinstance(chunk, np.ndarray) else type(chunk).__name__
        raise MisuseError(f"A chunk is a numpy array of float32 samples in [-1, 1], not {kind}.")
    if chunk.ndim != 1:
        raise MisuseError(f"A chunk is one channel of shape (samples,), not {chunk.shape}: one Denoiser a channel.")
    if not chunk.dot(chunk) <= LARGEST_ENERGY:  # true for NaN too
        raise MisuseError("The chunk holds NaN or infinite samples.")


# --- what Python adds ------------------------------------------------------------------------------------------------


def overhead_rounds_us(
    denoiser: Denoiser, rounds: int = 20, seed: int = 0, clock: Callable = time.perf_counter_ns
) -> np.ndarray:
    """Time of `Denoiser.process`, one hop a call, less the time of its network alone, in microseconds ``(rounds,)``.

    The network alone is what `dnslib.profiling` calls latency: one frame of log power copied into the bound input, and
    the run. All else counts: checks, transform, log power, product with the gain, copies, and what the network loses
    because others use the caches as well. Both are opened anew in every round, take turns to go first, and hear the
    same noise; a round gives the difference of its medians. The denoiser's own audio is left alone.
    """
    noise = np.random.default_rng(seed).uniform(-0.1, 0.1, (FRAMES_PER_ROUND, HOP)).astype(np.float32)
    powers = log_power(stft(torch.from_numpy(noise.reshape(-1)))).numpy()[:FRAMES_PER_ROUND]
    pairs = list(zip(noise, powers, strict=True))
    with streaming_file(denoiser.model, denoiser.precision) as path, flushed_denormals():

        def open_network() -> Callable:
            torch.set_flush_denormal(True)
            step = StreamingSession(path).step
            return lambda pair: step(pair[1])

        def open_denoiser() -> Callable:
            torch.set_flush_denormal(False)  # that it does so itself is part of what it costs
            process = Denoiser(path).process
            return lambda pair: process(pair[0])

        openers = {"denoiser": open_denoiser, "network": open_network}
        times_ns = time_rounds(openers, pairs, rounds, FRAMES_PER_ROUND, WARMUP_FRAMES, clock)
    medians_ns = {name: np.median(times, axis=1) for name, times in times_ns.items()}
    return (medians_ns["denoiser"] - medians_ns["network"]) / NANOSECONDS_PER_US
