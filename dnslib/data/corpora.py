"""Recordings on disk: one memory-mapped int16 array a corpus (16 kHz, mono), and an index of what lies where.

A `Corpus` is that array and some rows of its index, so the three splits of one cache share one file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from dnslib.errors import MisuseError
from dnslib.sampling import SAMPLE_RATE

SPLITS = ("train", "validation", "test")
SHARES = {"validation": 0.05, "test": 0.15}  # of the minutes; the rest is for training
GAP = (0.1, 0.4)  # s, between recordings joined to fill a crop


@dataclass(frozen=True)
class Corpus:
    """Recordings of one kind in one split: ``samples`` (all of the file), and per recording four arrays ``(N,)``."""

    samples: np.ndarray  # int16, memory-mapped
    starts: np.ndarray
    lengths: np.ndarray
    sources: np.ndarray  # speaker or noise source
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def minutes(self) -> float:
        return float(self.lengths.sum()) / SAMPLE_RATE / 60

    @cached_property
    def by_source(self) -> dict[str, np.ndarray]:
        """Indices of the recordings of each source."""
        order = np.argsort(self.sources, kind="stable")
        names, first = np.unique(self.sources[order], return_index=True)
        return dict(zip(names.tolist(), np.split(order, first[1:]), strict=True))

    def without(self, prefix: str) -> "Corpus":
        """The recordings of the sources whose names do not begin with ``prefix``."""
        kept = ~np.char.startswith(self.sources, prefix)
        return Corpus(self.samples, *(column[kept] for column in (self.starts, self.lengths, self.sources, self.names)))

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.lengths)

    def recording(self, index: int) -> np.ndarray:
        """One recording, float32 ``(samples,)`` in [-1, 1)."""
        start = self.starts[index]
        return self.samples[start : start + self.lengths[index]].astype(np.float32) / 32768

    def draw(self, rng: np.random.Generator) -> int:
        """Index of a random recording, in proportion to its length."""
        return int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))

    def crop(self, rng: np.random.Generator, samples: int, index: int | None = None) -> tuple[np.ndarray, int]:
        """``samples`` samples, float32, from recording ``index`` (a random one), and that index.

        A random part of a long recording; a short one is followed, after short gaps, by others of its source.
        """
        index = self.draw(rng) if index is None else index
        spare = int(self.lengths[index]) - samples
        if spare >= 0:
            start = int(self.starts[index]) + int(rng.integers(spare + 1))
            return self.samples[start : start + samples].astype(np.float32) / 32768, index
        crop, filled, part = np.zeros(samples, np.float32), 0, index
        while filled < samples:
            start, count = int(self.starts[part]), min(int(self.lengths[part]), samples - filled)
            crop[filled : filled + count] = self.samples[start : start + count].astype(np.float32) / 32768
            filled += count + int(rng.uniform(*GAP) * SAMPLE_RATE)
            part = int(rng.choice(self.by_source[str(self.sources[index])]))
        return crop, index


class Writer:
    """Appends recordings to ``<folder>/<kind>.npy``; a context manager, also more than once. ``rows`` is the index."""

    def __init__(self, folder: Path, kind: str):
        self.path, self.kind, self.rows, self.total = folder / f"{kind}.npy", kind, [], 0
        self.hash = sha256()

    def __enter__(self) -> "Writer":
        self.file = self.path.open("r+b" if self.rows else "wb")
        self.file.write(self._header())
        self.file.seek(0, 2)
        return self

    def __exit__(self, *error) -> None:
        self.file.seek(0)
        self.file.write(self._header())  # as long as the first one, now with the true length
        self.file.close()

    def add(self, recording: np.ndarray, source: str, name: str, split: str = "") -> None:
        """Adds one recording, int16, or float in [-1, 1] that is rounded and limited to 16 bits."""
        if recording.dtype != np.int16:
            recording = np.clip(np.round(recording * 32768), -32768, 32767).astype(np.int16)
        self.file.write(recording.tobytes())
        self.hash.update(recording.tobytes())
        row = {"kind": self.kind, "split": split, "source": source, "name": name}
        self.rows.append(row | {"start": self.total, "length": recording.size})
        self.total += recording.size

    def _header(self) -> bytes:
        """A .npy header of version 1.0, padded to 128 bytes for any length."""
        text = f"{{'descr': '<i2', 'fortran_order': False, 'shape': ({self.total:>20d},), }}"
        return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def open_corpus(folder: Path, kind: str, index: pd.DataFrame, split: str) -> Corpus:
    """The recordings of one kind and split, from the index of a cache."""
    rows = index[(index["kind"] == kind) & (index["split"] == split)]
    samples = np.load(folder / f"{kind}.npy", mmap_mode="r", allow_pickle=False)
    numbers = (rows[column].to_numpy(np.int64) for column in ("start", "length"))
    words = (rows[column].to_numpy(str) for column in ("source", "name"))
    return Corpus(samples, *numbers, *words)


def joined(parts: Sequence[Corpus]) -> Corpus:
    """One corpus of what several parts of the same file hold."""
    rows = ("starts", "lengths", "sources", "names")
    return Corpus(parts[0].samples, *(np.concatenate([getattr(part, name) for part in parts]) for name in rows))


def assign_splits(minutes: dict[str, float], what: str) -> dict[str, str]:
    """A split for every source: about 80 / 5 / 15 % of the minutes, in an order fixed by a hash of the names.

    No source may exceed half of what a held-out split needs, so large ones train; where that leaves a split without
    any source it takes the smallest one. Raises MisuseError for fewer than three sources.
    """
    if len(minutes) < len(SPLITS):
        raise MisuseError(
            f"training, validation and test need at least 3 {what}, one each, and the data holds {len(minutes)}."
        )
    free = sorted(minutes, key=lambda source: sha256(source.encode()).digest())
    chosen: dict[str, str] = {}
    for split, share in SHARES.items():
        needed, taken = share * sum(minutes.values()), 0.0
        kept_back = len(SPLITS) - 1 - len(set(chosen.values()))  # sources that the splits without any still need
        for source in list(free):
            if taken < needed and minutes[source] <= needed / 2 and len(free) > kept_back:
                chosen[source], taken = split, taken + minutes[source]
                free.remove(source)
    for split in SHARES:
        if split not in chosen.values():
            smallest = min(free, key=lambda source: (minutes[source], source))
            chosen[smallest] = split
            free.remove(smallest)
    return {source: chosen.get(source, "train") for source in minutes}


def minutes_by_source(rows: Iterable[dict]) -> dict[str, float]:
    """Minutes of each source of an index."""
    totals: dict[str, float] = {}
    for row in rows:
        totals[row["source"]] = totals.get(row["source"], 0.0) + row["length"] / SAMPLE_RATE / 60
    return totals
