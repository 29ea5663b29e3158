"""Latency of streaming files, with intervals.

The protocol of `measure_latency`, to be printed with every number: ONNX Runtime on the CPU, one thread, sequential, no
spinning, denormals flushed, all graph optimisations; one frame of 10 ms per call with the states carried; every model
of a table in one process, interleaved in rounds of `balanced` order. Every round opens each model anew and warms it up:
where its weights happen to lie in memory changes its time by some per cent for as long as it is open, so rounds of one
session are not independent. The median of a round is one observation, and intervals are over rounds.
The timed region is one frame's way through the network: 161 numbers copied into the bound input, and the run, which
leaves gain and states in bound buffers. Nothing is allocated or converted by Python inside it; STFT and inverse STFT
stay outside. Python and the binding cost some 3 µs of every reported time, the same for all models.
A user's measurements wait for each other, and other programs that are busy meanwhile are reported.
"""

import gc
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch

from dnslib import intervals
from dnslib.digests import code_digest
from dnslib.errors import MisuseError
from dnslib.export import StreamingSession, as_frames, flushed_denormals, onnxruntime
from dnslib.locks import waiting
from dnslib.machine import cpu_model, governor, last_level_cache_mb
from dnslib.progress import track
from dnslib.stft import SAMPLE_RATE, log_power, stft

SELF_CHECK = "self_check"  # the row of the reference measured a second time
WARM_UP_FRAMES = 50
NANOSECONDS_PER_MS = 1e6
LOAD_SECONDS = 0.1  # for which the load of other programs is observed
BUSY_CORES = 0.5  # of other programs, beyond which times are disturbed


def measure_latency(
    paths: Mapping[str, str | os.PathLike],
    rounds: int = 30,
    frames_per_round: int = 100,
    warmup_frames: int = WARM_UP_FRAMES,
    reference: str | None = None,
    seed: int = 0,
    frames: np.ndarray | None = None,
    self_check: bool = True,
    evict_mb: float = 0.0,
    pace_ms: float = 0.0,
):
    """Latency per frame of several streaming files, as `latency_table` describes it, one row per model.

    ``frames`` is log power ``(T, 161)`` of real audio, repeated as often as needed; without it, decaying noise. The
    last row, ``self_check``, is a second session of the ``reference`` (the first model unless named): its speedup must
    be 1 within its interval. Rounds must be at least 2. With ``evict_mb`` that many MB of other memory are read before
    every frame, outside the timed region: the weights then come from memory, as when other programs run in the 10 ms
    between frames; without it, back to back, a network that fits into the last-level cache stays there. With
    ``pace_ms`` the process sleeps before every frame until so much time has passed since the frame before, as when
    audio arrives: clock and caches may have changed meanwhile. Raises MisuseError for files that are no streaming
    networks.
    """
    reference = reference or next(iter(paths), None)
    times_ns = measure_times(
        paths, rounds, frames_per_round, warmup_frames, reference, seed, frames, self_check, evict_mb, pace_ms
    )
    return latency_table(times_ns, reference, seed)


def measure_times(
    paths: Mapping[str, str | os.PathLike],
    rounds: int,
    frames_per_round: int,
    warmup_frames: int = WARM_UP_FRAMES,
    reference: str | None = None,
    seed: int = 0,
    frames: np.ndarray | None = None,
    self_check: bool = False,
    evict_mb: float = 0.0,
    pace_ms: float = 0.0,
) -> dict[str, np.ndarray]:
    """The nanoseconds ``(rounds, frames_per_round)`` of each model that `measure_latency` makes its table from."""
    if not isinstance(paths, Mapping):
        raise MisuseError("Give every model a name: {'mine': 'mine.onnx'}.")
    paths = dict(paths)
    reference = reference or next(iter(paths), None)
    _check_models(paths, reference)
    frames = decaying_frames(seed=seed) if frames is None else as_frames(frames)
    if self_check:
        paths[SELF_CHECK] = paths[reference]
    openers = {name: partial(_open_step, path) for name, path in paths.items()}
    before = between_frames(evict_mb, pace_ms)
    with flushed_denormals():
        return time_rounds(openers, frames, rounds, frames_per_round, warmup_frames, before=before)


def between_frames(evict_mb: float = 0.0, pace_ms: float = 0.0) -> Callable[[], object]:
    """What happens ahead of every timed frame, as `measure_latency` describes it: eviction, or waiting, or both."""
    if min(evict_mb, pace_ms) < 0:
        raise MisuseError(f"Eviction and pace must not be negative, not {evict_mb:g} MB and {pace_ms:g} ms.")
    evict = np.ones(round(evict_mb * 1e6 / 8)).sum
    if not pace_ms:
        return evict
    wait = Pace(pace_ms)
    return wait if not evict_mb else lambda: (evict(), wait())


class Pace:
    """Called before every frame, sleeps until a period has passed since the last frame was due.

    Where that moment has passed (the first frame of a turn, a frame that took too long) it sleeps a whole period, so
    that every frame comes after a pause.
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


def _check_models(paths: Mapping, reference: str) -> None:
    if not paths:
        raise MisuseError("There is no model to measure.")
    if SELF_CHECK in paths:
        raise MisuseError(f"No model may be called {SELF_CHECK!r}: that row is the reference measured twice.")
    if reference not in paths:
        raise MisuseError(f"The reference {reference!r} is not among the models {', '.join(paths)}.")


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

    In every round the models take turns, in `balanced` order, so that a slow spell of the machine hits all of them. At
    its turn a model is opened, warmed up and timed. ``before`` is called ahead of every frame and not timed. Raises
    MisuseError for fewer than two rounds, which give no interval, or no frames.
    """
    if rounds < 2 or frames_per_round < 1 or warmup_frames < 0:
        raise MisuseError("Latency needs at least 2 rounds of at least 1 frame; warm-up must not be negative.")
    names = list(openers)
    times = {name: np.empty((rounds, frames_per_round), np.int64) for name in names}
    with waiting(clock_lock(), "the clock for latencies"), no_collection():
        tell_busy_cores()
        for r in track(range(rounds), description="latency rounds"):
            first = r * (warmup_frames + frames_per_round)
            batch = [frames[index % len(frames)] for index in range(first, first + warmup_frames + frames_per_round)]
            row_of_square = r if rounds >= len(names) else r * len(names) // rounds  # spread: nobody is always early
            for name in (names[place] for place in balanced(len(names), row_of_square)):
                step = None  # the model before is closed first, so that its memory is free again
                step, row = openers[name](), times[name][r]
                for frame in batch[:warmup_frames]:
                    step(frame)
                for index, frame in enumerate(batch[warmup_frames:]):
                    before()
                    start = clock()
                    step(frame)
                    row[index] = clock() - start
    return times


def clock_lock() -> Path:
    """What a user's measurements on this machine hold while they run: two at once would disturb each other."""
    return Path(tempfile.gettempdir(), f"dns-study-clock-{os.getuid()}.lock")


@contextmanager
def no_collection() -> Iterator[None]:
    """Python's garbage collector off: a collection would land in somebody's frame."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def tell_busy_cores() -> None:
    """Print one line where other programs keep the processor busy; this one only waits meanwhile."""
    cores = psutil.cpu_percent(LOAD_SECONDS) / 100 * (psutil.cpu_count() or 1)
    if cores > BUSY_CORES:
        print(f"other programs keep {cores:.1f} cores busy: these latencies are disturbed", flush=True)


def balanced(count: int, round_number: int) -> list[int]:
    """The order of ``count`` models in a round: Williams' Latin square (1949), one row per round.

    Over ``count`` rounds each model comes once at every place and, where ``count`` is even, once right after every
    other model, whose traces it finds in the caches; where it is odd, twice over ``2 * count`` rounds.

    >>> [balanced(4, round_number) for round_number in range(4)]
    [[0, 3, 1, 2], [1, 0, 2, 3], [2, 1, 3, 0], [3, 2, 0, 1]]
    """
    zigzag = [count - (place + 1) // 2 if place % 2 else place // 2 for place in range(count)]
    order = [(model + round_number) % count for model in zigzag]
    return order[::-1] if count % 2 and round_number // count % 2 else order


def latency_table(times_ns: Mapping[str, np.ndarray], reference: str, seed: int = 0):
    """Statistics of nanoseconds ``(rounds, frames)`` per model, one row per model, in milliseconds per frame.

    ``latency_ms`` is the median over rounds of each round's median frame; ``p95_ms`` and ``p99_ms`` are over all
    frames. ``speedup`` is the median over rounds of the reference's round median divided by the model's in the same
    round. Intervals are 95 % percentile bootstraps over rounds, because frames inside a round are not independent.
    """
    import pandas as pd

    medians = round_medians_ms(times_ns)
    rows = []
    for name, times in times_ns.items():
        latency, speedup = medians[name], medians[reference] / medians[name]
        p95, p99 = np.percentile(times, [95, 99]) / NANOSECONDS_PER_MS
        row = {"model": name, "latency_ms": np.median(latency)}
        row["ci_low"], row["ci_high"] = intervals.median_interval(latency, seed)
        row |= {"p95_ms": p95, "p99_ms": p99, "speedup": np.median(speedup)}
        row["speedup_ci_low"], row["speedup_ci_high"] = intervals.median_interval(speedup, seed)
        row |= {"rounds": times.shape[0], "frames": times.size}
        rows.append(row)
    return pd.DataFrame(rows)


def round_medians_ms(times_ns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The median frame of each round ``(rounds,)`` in milliseconds, from nanoseconds ``(rounds, frames)`` a model."""
    return {name: np.median(times, axis=1) / NANOSECONDS_PER_MS for name, times in times_ns.items()}


def round_table(times_ns: Mapping[str, np.ndarray]):
    """`round_medians_ms` as a table, one row per model and round: any two models can be compared round by round."""
    import pandas as pd

    medians = pd.DataFrame(round_medians_ms(times_ns)).rename_axis(index="round", columns="model")
    return medians.unstack().rename("median_ms").reset_index()


def self_check_verdict(row: Mapping[str, float], column: str = "speedup") -> str:
    """Whether the interval of a model raced against itself contains 1, and how far off it reaches, in words."""
    low, high = row[f"{column}_ci_low"], row[f"{column}_ci_high"]
    off = max(abs(low - 1), abs(high - 1))
    said = "holds 1" if low <= 1 <= high else "misses 1, as one in twenty does on a quiet machine"
    return f"[{low:.4f}, {high:.4f}] {said}; off by {off:.1%} at most"


def decaying_frames(seconds: float = 10.0, seed: int = 0) -> np.ndarray:
    """Log power ``(T, 161)`` of noise bursts, one a second, that decay by 60 dB into silence: states get small."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    envelope = 0.2 * 10 ** (-3 * np.minimum(time_s % 1 / 0.6, 1)) * (time_s % 1 < 0.8)
    waveform = (envelope * generator.standard_normal(time_s.size)).astype(np.float32)
    return log_power(stft(torch.from_numpy(waveform))).numpy()


def timing_conditions() -> dict[str, object]:
    """What a latency depends on besides the model: CPU, its largest cache, governor, load now, ONNX Runtime."""
    return {
        "cpu": cpu_model(),
        "last_level_cache_mb": round(last_level_cache_mb()),
        "cores": os.cpu_count(),
        "governor": governor(),
        "load_1_min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime().__version__,
    }


def decisive(conditions: Mapping[str, object]) -> dict[str, object]:
    """What a stored time is looked up by, besides its files: some `timing_conditions`, and the code that timed."""
    code = code_digest([Path(__file__), Path(intervals.__file__)])
    return {"timing_code": code} | {what: conditions[what] for what in ("cpu", "onnxruntime")}


def conditions(table) -> str:
    """How a table with the columns of `latency_table` and of `timing_conditions` was taken, for the line below."""
    first = table.iloc[0]
    return (
        f"{first['cpu']}, last-level cache {first['last_level_cache_mb']} MB, governor {first['governor']}, "
        f"one thread, ONNX Runtime {first['onnxruntime']}; "
        f"{first['rounds']} rounds, {first['frames']} frames a network, {WARM_UP_FRAMES} more to warm up each round; "
        f"load {first['load_1_min']:.1f} in the minute before"
    )
