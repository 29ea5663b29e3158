"""Recordings on disk: one memory-mapped int16 array per corpus (16 kHz, mono), and an index of what lies where.

A `Corpus` is that array and some rows of its index, so the three splits of one cache share one file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from dnslib.data.samples import as_float
from dnslib.sampling import SAMPLE_RATE

AUDIBLE = 1e-3  # RMS; a crop below it is drawn again
GAP = (0.1, 0.4)  # s, between recordings joined to fill a crop


@dataclass(frozen=True)
class Corpus:
    """Recordings of one kind in one split: ``samples`` (of the whole file), and per recording four arrays ``(N,)``."""

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
        return self._part(index, 0, int(self.lengths[index]))

    def _part(self, index: int, first: int, count: int) -> np.ndarray:
        start = int(self.starts[index]) + first
        return as_float(self.samples[start : start + count])

    def draw(self, rng: np.random.Generator) -> int:
        """Index of a random recording, in proportion to its length."""
        return int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))

    def crop(self, rng: np.random.Generator, samples: int, index: int | None = None) -> np.ndarray:
        """``samples`` samples, float32, from recording ``index``, by default a random one.

        A random part of a long recording; a short one is followed, after short gaps, by others of its source.
        """
        index = self.draw(rng) if index is None else index
        spare = int(self.lengths[index]) - samples
        if spare >= 0:
            return self._part(index, int(rng.integers(spare + 1)), samples)
        crop, filled, part = np.zeros(samples, np.float32), 0, index
        while filled < samples:
            count = min(int(self.lengths[part]), samples - filled)
            crop[filled : filled + count] = self._part(part, 0, count)
            filled += count + int(rng.uniform(*GAP) * SAMPLE_RATE)
            part = int(rng.choice(self.by_source[str(self.sources[index])]))
        return crop

    def audible_crop(self, rng: np.random.Generator, samples: int, source: str | None = None) -> np.ndarray:
        """A random `crop`, of one source if named, that is not silence (unless eight in a row are)."""
        for _ in range(8):
            crop = self.crop(rng, samples, None if source is None else int(rng.choice(self.by_source[source])))
            if np.dot(crop, crop) > AUDIBLE**2 * samples:
                break
        return crop


@dataclass(frozen=True)
class Split:
    """What one split may hear; ``rooms`` is float32 ``(R, taps)``, aligned as in `dnslib.data.rooms`."""

    speech: Corpus
    noise: Corpus
    rooms: np.ndarray


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
