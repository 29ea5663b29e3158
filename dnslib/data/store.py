"""Decoded recordings, kept by content: an array that only grows, and an index that says which parts of it are complete.

``<kind>.npy`` holds int16 samples at 16 kHz one recording after another, memory-mapped by whoever reads;
``<kind>.sqlite`` says for each content (SHA-256 of the files it was decoded from) where its samples lie, how many were
clipped, or why there are none, and what content a path had at which size and time. So a file is decoded once, whatever
it is called and however often its folder is moved, touched or added to: an unchanged path, size and time is trusted;
else the bytes are read and hashed, which takes a fraction of decoding; only new bytes are decoded. The index names a
recording only after its samples are on the disk. Samples after the last indexed recording, left by a kill, are cut off
at the next start, which goes on from there. Removed files stay in the array: to shrink it, delete the folder.
"""

import contextlib
import os
import secrets
import sqlite3
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnslib.data.samples import HEADER, as_int16, header
from dnslib.progress import track

CHECKPOINT_SECONDS = 2.0  # of work that a kill can cost
_BLOCK = 1 << 20  # samples hashed at a time
_TABLES = """
CREATE TABLE IF NOT EXISTS recordings (content BLOB PRIMARY KEY, start INTEGER, length INTEGER, reason TEXT,
    clipped INTEGER)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identity (token TEXT);
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp TEXT, content BLOB) WITHOUT ROWID;
"""


class Recorded(NamedTuple):
    """Where a recording lies, in samples, and how many of the file's were clipped; or why it cannot be used."""

    start: int
    length: int
    reason: str
    clipped: int = 0


class Store:
    """The recordings of one kind in ``folder``, for one writer at a time; a context manager.

    Every write may raise OSError or sqlite3.OperationalError, as on a full disk; what was added before is kept.
    """

    def __init__(self, folder: Path, kind: str):
        self.folder, self.kind = folder, kind
        self.path, self.index = folder / f"{kind}.npy", folder / f"{kind}.sqlite"

    def __enter__(self) -> "Store":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        self.connection = sqlite3.connect(self.index, check_same_thread=False)
        self.connection.executescript(_TABLES)
        self.total = self.drop_torn()
        self.saved = time.monotonic()
        return self

    def __exit__(self, *error) -> None:
        with contextlib.suppress(OSError, sqlite3.Error) if error[0] else contextlib.nullcontext():
            self.checkpoint()
            self.write_header()
        self.connection.close()
        os.close(self.file)

    @property
    def identity(self) -> str:
        """Changes when the store is made anew, so that nobody looks in it for what lay in the old one."""
        return self.connection.execute("SELECT token FROM identity").fetchone()[0]

    def drop_torn(self) -> int:
        """Forgets incomplete recordings, cuts off samples that no index entry names; returns the samples left."""
        there = max(0, os.fstat(self.file).st_size - HEADER) // 2
        lost = self.connection.execute("DELETE FROM recordings WHERE start + length > ?", (there,)).rowcount
        if lost or not self.connection.execute("SELECT * FROM identity").fetchone():
            self.connection.execute("DELETE FROM identity")
            self.connection.execute("INSERT INTO identity VALUES (?)", (secrets.token_hex(8),))
        total = self.connection.execute("SELECT COALESCE(MAX(start + length), 0) FROM recordings").fetchone()[0]
        self.connection.commit()
        os.ftruncate(self.file, HEADER + 2 * total)
        return total

    def content_of(self, path: str, stamp: str) -> bytes | None:
        """The content that a path had at this size and time, if it was seen."""
        row = self.connection.execute("SELECT stamp, content FROM files WHERE path = ?", (path,)).fetchone()
        return row[1] if row and row[0] == stamp else None

    def find(self, content: bytes) -> Recorded | None:
        """Where the samples of a content lie, or why it has none; None where it was never decoded."""
        columns = ", ".join(Recorded._fields)
        row = self.connection.execute(f"SELECT {columns} FROM recordings WHERE content = ?", (content,))
        found = row.fetchone()
        return Recorded(*found) if found else None

    def add(self, content: bytes, samples: np.ndarray | None, reason: str = "", clipped: int = 0) -> Recorded:
        """Adds a decoded recording, int16 or float in [-1, 1], or the ``reason`` why there is none."""
        if found := self.find(content):
            return found
        start, length = self.total, 0
        if samples is not None:
            length = samples.size
            write_at(self.file, as_int16(samples).tobytes(), HEADER + 2 * start)
        recorded = Recorded(start, length, reason, clipped)
        self.connection.execute("INSERT INTO recordings VALUES (?, ?, ?, ?, ?)", (content, *recorded))
        self.total += length
        return recorded

    def note(self, path: str, stamp: str, content: bytes) -> None:
        """Remembers what a path held at a size and time; saves what was added, now and then."""
        self.connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (path, stamp, content))
        if time.monotonic() - self.saved >= CHECKPOINT_SECONDS:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Saves samples first, then the index that names them."""
        os.fsync(self.file)
        self.connection.commit()
        self.saved = time.monotonic()

    def write_header(self) -> None:
        """Writes the header for the samples that are there."""
        write_at(self.file, header(self.total), 0)

    def digest(self, starts: np.ndarray, lengths: np.ndarray):
        """SHA-256 (a hashlib object) of the samples of recordings, in their order, read without filling the memory."""
        digest = sha256()
        where = zip(starts.tolist(), lengths.tolist(), strict=True)
        for start, length in track(where, len(starts), f"checking {self.kind}"):
            for place in range(start, start + length, _BLOCK):
                count = min(_BLOCK, start + length - place)
                digest.update(os.pread(self.file, 2 * count, HEADER + 2 * place))
        return digest


def identity_of(folder: Path, kind: str) -> str:
    """What tells a store from one made anew in its place; "" where there is none, or a damaged one."""
    if not (folder / f"{kind}.npy").is_file():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(f"{(folder / kind).as_uri()}.sqlite?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT token FROM identity").fetchone()[0]
    except (sqlite3.Error, TypeError):
        return ""


def write_at(file: int, content: bytes, place: int) -> None:
    """Writes all of ``content``: one call may write less."""
    view = memoryview(content)
    while view:
        written = os.pwrite(file, view, place)
        view, place = view[written:], place + written
