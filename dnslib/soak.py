"""Faults that take time to show: audio streams through a denoiser for minutes or hours, faster than real time.

The audio is made of scenes: speech-like noise in syllables, long digital silence, noise that decays until nothing is
left of it, and noise that is clipped at full scale. They come hop by hop and in chunks of uneven lengths in turn. What
may go wrong: memory that grows with each frame, a state that drifts away or becomes infinite, silence
that is not silent, silence that takes longer than speech because numbers have become denormal.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from dnslib import processes
from dnslib.denoiser import Denoiser
from dnslib.errors import MisuseError
from dnslib.networks import find_model
from dnslib.progress import track
from dnslib.stft import HOP, SAMPLE_RATE, WINDOW

LONGEST_CHUNKS = (0, 50, 0, 500, 0, 5_000)  # samples, for one cycle of scenes after another; 0: hop by hop
FRAMES_PER_MINUTE = 60 * SAMPLE_RATE // HOP
SPEECH, SILENCE, FULL_SCALE, DECAY = "speech", "silence", "full scale", "decay"
SILENT_SECONDS = 2, 12  # from and to
CYCLE = tuple(
    scene
    for loud in ((SPEECH, (3, 8)), (FULL_SCALE, (0.2, 1)), (DECAY, (2, 5)))
    for scene in (loud, (SILENCE, SILENT_SECONDS))
)
DECAY_DECADES_PER_SECOND = 25  # in amplitude: below the smallest denormal number, 1e-45, after less than 2 s


@dataclass(frozen=True)
class Soak:
    """What a soak test saw after its warm-up. Times are medians of `Denoiser.process`, one hop a call."""

    minutes: float  # of audio
    frames: int
    memory_start_mb: float  # resident memory of the process, MB of 10^6 bytes
    memory_end_mb: float
    memory_slope_mb_per_hour: float  # of audio, fitted to the memory after each scene
    all_finite: bool
    silence_peak: float  # loudest sample of the digital silence once the last frame with sound has gone through
    speech_us: float
    silence_us: float
    silence_ratio: float  # of the two; above 1 silence is slower


def soak(
    denoiser_or_path: Denoiser | str | os.PathLike,
    minutes: float = 60.0,
    seed: int = 0,
    warmup_minutes: float = 1.0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Soak:
    """Stream ``minutes`` of audio through a denoiser, after ``warmup_minutes`` that are not evaluated.

    The same ``seed`` gives the same audio in the same chunks. Forgets what the denoiser heard before. Raises
    MisuseError as `dnslib.Denoiser` does, and for a time that is not above zero.
    """
    if not minutes > 0 or not warmup_minutes >= 0:
        raise MisuseError("A soak test lasts longer than zero minutes, and its warm-up must not be negative.")
    is_denoiser = isinstance(denoiser_or_path, Denoiser)
    denoiser = denoiser_or_path if is_denoiser else Denoiser(denoiser_or_path)
    denoiser.reset()
    generator, watch = np.random.default_rng(seed), _Watch(denoiser, minutes + warmup_minutes, clock)
    for scene in scenes(generator, warmup_minutes):
        watch.play(scene, generator)
    watch.begin()
    for _ in track(_whole_minutes(watch.play(scene, generator) for scene in scenes(generator, minutes)), int(minutes),
                   "minutes of audio"):  # fmt: skip
        pass
    denoiser.reset()
    return watch.record(minutes)


class Scene(NamedTuple):
    kind: str
    samples: np.ndarray  # float32
    longest_chunk: int  # samples; 0: it comes hop by hop


def scenes(generator: np.random.Generator, minutes: float) -> Iterator[Scene]:
    """One scene after another until ``minutes`` are full; every second cycle comes hop by hop, including the first."""
    left = round(minutes * 60 * SAMPLE_RATE)
    for longest_chunk in cycle(LONGEST_CHUNKS):
        for kind, seconds in CYCLE:
            count = min(left, int(generator.uniform(*seconds) * SAMPLE_RATE))
            if not count:
                return
            yield Scene(kind, _samples(kind, count, generator), longest_chunk)
            left -= count


def _samples(kind: str, count: int, generator: np.random.Generator) -> np.ndarray:
    if kind == SILENCE:
        return np.zeros(count, np.float32)
    noise, time_s = generator.standard_normal(count, np.float32), np.arange(count) / SAMPLE_RATE
    if kind == SPEECH:  # four syllables a second over a quiet room
        return (noise * (0.002 + 0.1 * np.maximum(np.sin(2 * np.pi * 4 * time_s), 0) ** 2)).astype(np.float32)
    if kind == FULL_SCALE:
        return np.clip(4 * noise, -1, 1)
    return (noise * 0.1 * 10.0 ** (-DECAY_DECADES_PER_SECOND * time_s)).astype(np.float32)


def chunks(scene: Scene, generator: np.random.Generator, given: int) -> Iterator[np.ndarray]:
    """The samples of a scene, of which the first chunk completes the hop that the ``given`` samples before it began."""
    start, end = 0, -given % HOP
    while start < len(scene.samples):
        yield scene.samples[start:end]
        longest = scene.longest_chunk
        start, end = end, end + (int(generator.integers(0, longest, endpoint=True)) if longest else HOP)


class _Watch:
    """Plays audio to a denoiser and notes what comes of it. Its own memory is all taken at the start."""

    def __init__(self, denoiser: Denoiser, minutes: float, clock: Callable[[], int]):
        self.denoiser, self.clock, self.process = denoiser, clock, psutil.Process()
        most = int(minutes * FRAMES_PER_MINUTE) + 2  # frames, or notes on memory
        self.times_ns = {kind: np.full(most, -1) for kind in (SPEECH, SILENCE)}  # -1, not 0: allocated now
        self.memory = np.full((most, 2), -1.0)  # hours of audio, MB
        self.given = self.returned = 0  # samples
        self.begin()

    def begin(self) -> None:
        """Start counting: what came before was warm-up."""
        self.timed, self.noted = dict.fromkeys(self.times_ns, 0), 0
        self.first, self.all_finite, self.silence_peak = self.given, True, 0.0
        self._note_memory()

    def play(self, scene: Scene, generator: np.random.Generator) -> float:
        """Play a scene; returns its length in seconds."""
        silent_from = self.given + WINDOW  # output before overlaps with sound
        for chunk in chunks(scene, generator, self.given):
            start = self.clock()
            enhanced = self.denoiser.process(chunk)
            self._note_time(scene.kind, len(chunk), self.clock() - start)
            self.all_finite &= bool(np.isfinite(enhanced).all())
            if scene.kind == SILENCE:
                silent = enhanced[max(0, silent_from - self.returned) :]
                self.silence_peak = max(self.silence_peak, float(np.abs(silent).max(initial=0)))
            self.given += len(chunk)
            self.returned += len(enhanced)
        self._note_memory()
        return len(scene.samples) / SAMPLE_RATE

    def _note_time(self, kind: str, count: int, time_ns: int) -> None:
        if kind in self.timed and count == HOP:
            self.times_ns[kind][self.timed[kind]] = time_ns
            self.timed[kind] += 1

    def _note_memory(self) -> None:
        hours = (self.given - self.first) / SAMPLE_RATE / 3600
        self.memory[self.noted] = hours, self.process.memory_info().rss / 1e6
        self.noted += 1

    def record(self, minutes: float) -> Soak:
        hours, memory_mb = self.memory[: self.noted].T
        speech_us, silence_us = (
            float(np.median(self.times_ns[kind][:count])) / 1e3 if count else float("nan")
            for kind, count in self.timed.items()
        )
        return Soak(
            minutes=minutes,
            frames=(self.given - self.first) // HOP,
            memory_start_mb=float(memory_mb[0]),
            memory_end_mb=float(memory_mb[-1]),
            memory_slope_mb_per_hour=float(np.polyfit(hours, memory_mb, 1)[0]),
            all_finite=self.all_finite,
            silence_peak=self.silence_peak,
            speech_us=speech_us,
            silence_us=silence_us,
            silence_ratio=silence_us / speech_us,
        )


def _whole_minutes(seconds: Iterator[float]) -> Iterator[None]:
    """One item for each minute that these seconds fill, when it is full."""
    filled = 0.0
    for more in seconds:
        before, filled = int(filled / 60), filled + more
        for _ in range(int(filled / 60) - before):
            yield


def soak_table(
    paths: Mapping[str, str | os.PathLike], minutes: float = 60.0, seed: int = 0, warmup_minutes: float = 1.0
):
    """`soak` of several models, each in a fresh process so that their memories do not mix: one row per model.

    ``paths`` are what `dnslib.Denoiser` takes, by name. Raises MisuseError for what none of the processes could use,
    before any starts.
    """
    import pandas as pd

    files = {name: find_model(path) for name, path in paths.items()}
    rows = [
        {"model": name, **processes.ask("dnslib.soak", file, minutes, seed, warmup_minutes)}
        for name, file in track(list(files.items()), description="models")
    ]
    return pd.DataFrame(rows)


def _main(path: str, minutes: str, seed: str, warmup_minutes: str) -> None:
    processes.answer(lambda: asdict(soak(Path(path), float(minutes), int(seed), float(warmup_minutes))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
