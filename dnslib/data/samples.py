"""Files of samples: ``.npy``, int16, 16 kHz, one recording after another, under a header that is rewritten in place."""

from hashlib import sha256
from pathlib import Path

import numpy as np

HEADER = 128  # bytes before the samples
_FULL_SCALE = 32768


def header(total: int) -> bytes:
    """The .npy header (version 1.0) of ``total`` samples, of fixed length: older maps of a file stay valid."""
    text = f"{{'descr': '<i2', 'fortran_order': False, 'shape': ({total:>20d},), }}"
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + text.ljust(HEADER - 11).encode() + b"\n"


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1], rounded and limited to 16 bits; int16 samples stay as they are."""
    if samples.dtype == np.int16:
        return samples
    return np.clip(np.round(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def as_float(samples: np.ndarray) -> np.ndarray:
    """int16 samples as float32 in [-1, 1)."""
    return samples.astype(np.float32) / _FULL_SCALE


class Writer:
    """Appends recordings to ``<folder>/<kind>.npy``; a context manager, reusable. ``rows`` is the index."""

    def __init__(self, folder: Path, kind: str):
        self.path, self.kind, self.rows, self.total = folder / f"{kind}.npy", kind, [], 0
        self.hash = sha256()

    def __enter__(self) -> "Writer":
        self.file = self.path.open("r+b" if self.rows else "wb")
        self.file.write(header(self.total))
        self.file.seek(0, 2)
        return self

    def __exit__(self, *error) -> None:
        self.file.seek(0)
        self.file.write(header(self.total))  # as long as the first one, now with the true length
        self.file.close()

    def add(self, recording: np.ndarray, source: str, name: str, split: str = "") -> None:
        """Adds one recording, int16, or float in [-1, 1] that is rounded and limited to 16 bits."""
        recording = as_int16(recording)
        self.file.write(recording.tobytes())
        self.hash.update(recording.tobytes())
        row = {"kind": self.kind, "split": split, "source": source, "name": name}
        self.rows.append(row | {"start": self.total, "length": recording.size})
        self.total += recording.size
