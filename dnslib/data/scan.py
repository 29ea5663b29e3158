"""One pass over many files: what is new is decoded into a `store.Store`, in the order of the names.

Memory does not grow with the number of files, apart from their names: a few recordings are in memory at any time, and
where they lie is kept in flat arrays.
"""

import io
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnslib.data import folders
from dnslib.data.store import Recorded, Store
from dnslib.paths import readable
from dnslib.progress import track

_THREADS = 2  # decoding releases Python's lock
_AHEAD = 16  # files decoded before they are stored, at most


class Item(NamedTuple):
    """A recording to be scanned: its name in the index, its file (or a noisy file and its clean one), their stamps."""

    name: str
    paths: tuple[str, ...]
    stamp: str


class Decoded(NamedTuple):
    """What became of an item: its content and samples, or why there are none (``content`` None: only this time)."""

    content: bytes | None
    samples: np.ndarray | None = None
    reason: str = ""
    clipped: int = 0
    noted: bool = False  # the store knows that this path holds this content


@dataclass
class Found:
    """The usable items of a scan, by their place in the list of items; what was skipped, and why."""

    places: array = field(default_factory=lambda: array("q"))
    starts: array = field(default_factory=lambda: array("q"))
    lengths: array = field(default_factory=lambda: array("q"))
    skipped: list[tuple[int, str]] = field(default_factory=list)  # place, reason
    passing: int = 0  # skipped, but maybe not the next time
    clipped: list[tuple[int, int]] = field(default_factory=list)  # place, samples; they are used all the same

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``places, starts, lengths``, int64 each."""
        return tuple(np.array(column, np.int64) for column in (self.places, self.starts, self.lengths))


def scan(items: list[Item], store: Store, description: str) -> Found:
    """Decodes what the store does not hold, in order, and says where everything lies. Unusable files never end it."""
    found = Found()
    with ThreadPoolExecutor(_THREADS) as pool:
        for place, (item, decoded) in enumerate(track(_in_order(pool, items, store), len(items), description)):
            recorded = _stored(item, decoded, store)
            if recorded.reason:
                found.skipped.append((place, recorded.reason))
                found.passing += decoded.content is None
            else:
                found.places.append(place)
                found.starts.append(recorded.start)
                found.lengths.append(recorded.length)
                if recorded.clipped:
                    found.clipped.append((place, recorded.clipped))
    store.checkpoint()
    return found


def _in_order(pool: ThreadPoolExecutor, items: list[Item], store: Store) -> Iterator[tuple[Item, Decoded]]:
    """Every item with what became of it, in order; only a few are decoded ahead."""
    pending: deque[tuple[Item, Future | Decoded]] = deque()
    for item in items:
        content = store.content_of(_key(item), item.stamp)
        known = content is not None and store.find(content) is not None
        pending.append((item, Decoded(content, noted=True) if known else pool.submit(decode, item, store.find)))
        while len(pending) > _AHEAD or (pending and isinstance(pending[0][1], Decoded)):
            yield _finished(*pending.popleft())
    while pending:
        yield _finished(*pending.popleft())


def _finished(item: Item, outcome: Future | Decoded) -> tuple[Item, Decoded]:
    return item, outcome if isinstance(outcome, Decoded) else outcome.result()


def _stored(item: Item, decoded: Decoded, store: Store) -> Recorded:
    """Where the samples lie from now on, or why there are none."""
    if decoded.content is None:
        return Recorded(0, 0, decoded.reason)
    recorded = store.add(decoded.content, decoded.samples, decoded.reason, decoded.clipped)
    if not decoded.noted:
        store.note(_key(item), item.stamp, decoded.content)
    return recorded


def _key(item: Item) -> str:
    """What a store remembers an item by: its paths, joined by a character that no path holds."""
    return "\0".join(readable(path) for path in item.paths)


def decode(item: Item, find: Callable[[bytes], Recorded | None] = lambda content: None) -> Decoded:
    """Reads an item once: hashes it, and decodes it unless ``find`` knows its content."""
    try:
        stamps = item.stamp.split("\0")
        contents = [folders.read_bytes(path, stamp) for path, stamp in zip(item.paths, stamps, strict=True)]
    except folders.Passing as reason:
        return Decoded(None, reason=str(reason))
    content = sha256(b"".join(sha256(one).digest() for one in contents)).digest()
    if find(content):
        return Decoded(content)
    try:
        waves, clipped = zip(*(folders.read(io.BytesIO(one)) for one in contents), strict=True)
        wave = waves[0] if len(waves) == 1 else folders.difference(*waves)
        return Decoded(content, folders.within_full_scale(wave), clipped=clipped[0])  # the clean file has its own entry
    except folders.Unusable as reason:
        return Decoded(content, reason=str(reason))
    except (ValueError, RuntimeError, OverflowError):  # nonsense in a header
        return Decoded(content, reason="cannot be decoded as audio")
    except MemoryError:
        return Decoded(None, reason="does not fit into the memory")


def item(name: str, *paths: str | Path) -> Item:
    """An item with the stamps that its files have now."""
    paths = tuple(str(path) for path in paths)
    return Item(name, paths, "\0".join(folders.stamp_of(path) for path in paths))
