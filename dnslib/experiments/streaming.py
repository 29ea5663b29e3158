"""What streaming files do: how one sounds, and the latency of several, back to back, evicted and paced."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dnslib import digests, export, profiling
from dnslib.experiments.files import read_csv, reading, write_csv
from dnslib.locks import waiting
from dnslib.machine import keep_freed_memory, last_level_cache_mb
from dnslib.model import Cruse, enhance_many, with_gains
from dnslib.stft import SAMPLE_RATE

FRAME_MS = 10.0
BACK_TO_BACK = "back to back"
LONG_SECONDS = 60.0  # a longer waveform does not go through a network as a whole
PACED_FRAMES = 10  # frames in a paced round, each takes 10 ms
COLD_FRAMES_SHARE = 10  # one frame in ten is timed with evicted caches too: filling them takes longer than a frame
CONDITIONS = ("cpu", "last_level_cache_mb", "governor", "load_1_min", "onnxruntime")  # before the measurement


def enhance_streaming(path: Path, noisy: np.ndarray) -> np.ndarray:
    """`dnslib.enhance` with the gains of a streaming file: a waveform (samples,) frame by frame."""
    waveform = torch.from_numpy(np.ascontiguousarray(noisy, dtype=np.float32))
    session = export.StreamingSession(path)
    gains = lambda power: torch.from_numpy(export.run_streaming(session, power.numpy()))  # noqa: E731
    return with_gains(gains, waveform, session.look_ahead).numpy()


def enhance_clips(model: Cruse, noisy: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`dnslib.model.enhance_many` for waveforms of any length: long ones go frame by frame.

    On a waveform as a whole, CRUSE32 needs 13 MB for each second.
    """
    keep_freed_memory()
    is_long = [len(one) > LONG_SECONDS * SAMPLE_RATE for one in noisy]
    short = iter(enhance_many(model, [one for one, long in zip(noisy, is_long, strict=True) if not long]))
    if not any(is_long):
        return list(short)
    with tempfile.TemporaryDirectory(prefix="dns-study-") as folder:
        path = export.export_streaming(model, Path(folder, "exact.onnx"), "exact")
        return [enhance_streaming(path, one) if long else next(short) for one, long in zip(noisy, is_long, strict=True)]


def measured_once(
    outputs: Path, files: Mapping[str, Path], protocol: Mapping[str, int], paced_rounds: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`measure_everywhere`, kept under ``outputs`` by files in their order, protocol, code, CPU and ONNX Runtime.

    The latency table also has the columns `CONDITIONS`.
    """
    machine = profiling.timing_conditions()
    about = {"files": [(name, str(path.relative_to(outputs))) for name, path in files.items()]}  # the first is at 1x
    about |= {"protocol": protocol, "paced_rounds": paced_rounds, "own_code": digests.code_digest([Path(__file__)])}
    key = digests.record_digest(about | profiling.decisive(machine))
    path, path_of_rounds = (outputs / "latency" / f"{key}{kind}.csv" for kind in ("", "-rounds"))
    there = lambda: path.exists() and path_of_rounds.exists()  # noqa: E731
    if not there():
        with waiting(path.with_suffix(".lock"), "a measurement of the same files"):
            if not there():
                table, rounds = measure_everywhere(files, protocol, paced_rounds)
                write_csv(path_of_rounds, rounds)
                write_csv(path, table.assign(**{what: machine[what] for what in CONDITIONS}))
    return _read_latency(path, files), _read_latency(path_of_rounds, files)


def _read_latency(path: Path, files: Mapping[str, Path]) -> pd.DataFrame:
    """A table whose column ``model`` must name all ``files``."""
    with reading(path):
        table = read_csv(path)
        if missing := files.keys() - set(table["model"]):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        return table


def measure_everywhere(
    files: Mapping[str, Path], protocol: Mapping[str, int], paced_rounds: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Latency of ``files`` in each way of measuring: the latency table, and the medians that it rests on.

    The table has the latency back to back, then ``cold_…`` columns (the same with evicted caches, on fewer frames) and
    ``paced_…`` columns where there are paced rounds. The medians are `profiling.round_table` of each ``way``.
    """
    frames = max(1, protocol["frames_per_round"] // COLD_FRAMES_SHARE)
    evict_mb = 2 * last_level_cache_mb()
    ways = {BACK_TO_BACK: protocol, "cold": {**protocol, "frames_per_round": frames, "evict_mb": evict_mb}}
    if paced_rounds:
        paced = {"rounds": paced_rounds, "frames_per_round": PACED_FRAMES, "pace_ms": FRAME_MS}
        ways["paced"] = {**protocol, **paced}
    times_ns = {way: profiling.measure_times(files, **values, self_check=True) for way, values in ways.items()}
    reference = next(iter(files))
    tables = {way: profiling.latency_table(times, reference, protocol["seed"]) for way, times in times_ns.items()}
    table = tables.pop(BACK_TO_BACK)
    for way, other in tables.items():
        table = join_prefixed(table, other, f"{way}_")
    rounds = pd.concat({way: profiling.round_table(times) for way, times in times_ns.items()}, names=["way", None])
    return table.assign(cold_evicted_mb=evict_mb), rounds.reset_index("way").reset_index(drop=True)


def join_prefixed(table: pd.DataFrame, other: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The columns of another measurement of the same models beside those of a table, bounds named for their column."""
    bounds = {f"ci_{end}": f"latency_ms_ci_{end}" for end in ("low", "high")}
    other = other.drop(columns=["rounds"]).rename(columns=bounds).set_index("model").add_prefix(prefix)
    return table.merge(other, on="model", validate="1:1")
