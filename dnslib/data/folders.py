"""Recordings in folders: which files there are, and their samples at 16 kHz mono.

wav, flac, ogg, opus or mp3 at any rate, with any number of channels. A file that cannot be used raises `Unusable` with
the reason; `Passing` is a reason that may not apply the next time, so it is never remembered.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from dnslib.sampling import HIGHEST_RATE, HOP, SAMPLE_RATE

READ = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"}
UNREAD = {".m4a", ".mp4", ".aac", ".wma", ".amr", ".webm", ".raw", ".pcm", ".sph"}  # sound too: listed as skipped
LOWEST_RATE = 2_000  # Hz; what a damaged header says can be far off
OVERSHOOT = 1.5  # times full scale, which lossy coding and resampling do not reach
CLIPPED = 0.999  # of full scale; three equal samples in a row beyond it are no coincidence
UNREADABLE = (TypeError, UnicodeError)  # a .raw file, which has no sample rate; a file name that is not UTF-8


class Unusable(ValueError):
    """Why one file is skipped."""


class Passing(Unusable):
    """Why one file is skipped this time: no permission, somebody is writing it."""


class Entry(NamedTuple):
    """A file: its name below the folder that was listed, and its size and time of change ("" where unknown)."""

    name: str
    stamp: str


def entries(folder: str | Path, closed: list[str] | None = None) -> list[Entry]:
    """All files below a folder whose names are those of recordings, sorted; hidden ones are left out.

    Links to folders are followed, each folder once. ``closed`` collects the names of folders that cannot be listed.
    """
    return [Entry(name, stamp_of(os.path.join(folder, name))) for name in walk(str(folder), "", set(), closed)]


def walk(root: str, below: str, seen: set, closed: list[str] | None = None) -> Iterator[str]:
    """Names, below ``root``, of the recordings in the folder ``below`` and its folders, sorted.

    A link that leads nowhere counts as a file, which cannot be read.
    """
    try:
        status = os.stat(os.path.join(root, below))
        with os.scandir(os.path.join(root, below)) as scanned:
            inside = sorted((entry.name, leads_to_folder(entry), may_be_file(entry)) for entry in scanned)
    except OSError:
        if closed is not None:
            closed.append(below or os.path.basename(root))
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for name, is_folder, is_file in inside:
        path = f"{below}/{name}" if below else name
        if is_folder:
            yield from walk(root, path, seen, closed)
        elif is_file and not name.startswith(".") and os.path.splitext(name)[1].lower() in READ | UNREAD:
            yield path


def leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle, or into a folder that is closed
        return False


def may_be_file(entry: os.DirEntry) -> bool:
    return entry.is_symlink() or entry.is_file()


def files(folder: Path, closed: list[str] | None = None) -> list[Path]:
    """Paths of all recordings below a folder, sorted; ``closed`` collects the folders that cannot be listed."""
    return [folder / name for name in walk(str(folder), "", set(), closed)]


def stamp_of(path: str) -> str:
    """Size and time of change, and whether the file may be read; "" for a file that is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}" + ("" if os.access(path, os.R_OK) else " closed")


def read_bytes(path: str, stamp: str | None = None) -> bytes:
    """The content of a file; raises Passing where it cannot be read, or has changed meanwhile or since ``stamp``."""
    before = stamp_of(path)
    try:
        content = Path(path).read_bytes()
    except PermissionError:
        raise Passing("may not be read: no permission") from None
    except OSError as error:
        raise Passing(f"cannot be read: {error.strerror}") from None
    if before != stamp_of(path) or stamp not in (None, before) or len(content) != int(before.split()[0]):
        raise Passing("changed while it was read")
    return content


def read(path: Path | io.BytesIO) -> tuple[np.ndarray, int]:
    """One recording as float32 ``(samples,)``, 16 kHz, the mean of its channels; and how many samples were clipped.

    Raises Unusable with the reason for what is not audio, empty, not finite, silent or shorter than a frame.
    """
    samples, rate = read_as_is(path)
    return long_enough(converted(samples, rate)), clipped_samples(samples)


def read_as_is(path: Path | io.BytesIO) -> tuple[np.ndarray, int]:
    """Samples ``(samples, channels)`` and rate of a file; raises Unusable."""
    samples, rate = decoded(path)
    if np.abs(samples).max() < 1e-4:
        raise Unusable("is silent")
    return samples, rate


def decoded(path: Path | io.BytesIO) -> tuple[np.ndarray, int]:
    """As `read_as_is`, for sound that may be silent, such as the output of a denoiser."""
    file = os.fsencode(path) if isinstance(path, Path) else path  # bytes: a name need not be UTF-8
    try:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError, *UNREADABLE):
        raise Unusable("is empty" if _no_bytes(path) else "cannot be decoded as audio") from None
    if samples.size == 0:
        raise Unusable("is empty")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise Unusable(f"has a sample rate of {rate} Hz")
    if not np.isfinite(samples).all():
        raise Unusable("holds NaN or infinite samples")
    return samples, rate


def _no_bytes(path: Path | io.BytesIO) -> bool:
    if isinstance(path, Path):
        return path.is_file() and path.stat().st_size == 0
    return path.getbuffer().nbytes == 0


def converted(samples: np.ndarray, rate: int) -> np.ndarray:
    """``(samples, channels)`` at any rate to float32 ``(samples,)`` at 16 kHz."""
    mono = samples.mean(axis=1, dtype=np.float32)
    return mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE).astype(np.float32)


def within_full_scale(waveform: np.ndarray) -> np.ndarray:
    """A waveform, scaled down where it far exceeds full scale: floating-point files may have another scale."""
    peak = np.abs(waveform).max(initial=0)
    return waveform / peak if peak > OVERSHOOT else waveform


def clipped_samples(samples: np.ndarray) -> int:
    """How many of ``(samples, channels)`` are overdriven: three or more in a row have the same value at full scale.

    Samples beyond full scale count as at it, where they will be cut off; a file that has another scale has none.
    """
    peak = np.abs(samples).max(initial=0)
    if not CLIPPED <= peak <= OVERSHOOT:
        return 0
    samples = samples.clip(-1, 1)
    flat = (samples[1:] == samples[:-1]) & (np.abs(samples[1:]) >= CLIPPED)
    inside = flat[1:] & flat[:-1]
    rows = np.zeros(samples.shape, bool)
    for shift in range(3):
        rows[shift : len(rows) - 2 + shift] |= inside
    return int(rows.sum())


def long_enough(waveform: np.ndarray) -> np.ndarray:
    """A waveform ``(samples,)`` at 16 kHz; raises Unusable where it does not fill a frame."""
    if waveform.size < 2 * HOP:
        raise Unusable("is shorter than one frame of 20 ms")
    return waveform


def read_room(path: Path | io.BytesIO) -> np.ndarray:
    """The first channel of an impulse response at 16 kHz: averaging channels would comb-filter it."""
    samples, rate = read_as_is(path)
    response = converted(samples[:, :1], rate)
    if not response.size:
        raise Unusable("is empty")
    return response


def difference(noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """The noise of a mixture whose clean speech is known, all ``(samples,)``; raises Unusable where they do not fit."""
    if noisy.shape != clean.shape:
        raise Unusable("is not as long as its clean recording")
    noise = noisy - clean
    if np.abs(noise).max() < 1e-4:
        raise Unusable("equals its clean recording")
    return noise
