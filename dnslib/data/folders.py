"""Folders of recordings: which files, who speaks in them, and their samples at 16 kHz mono.

``speech/<corpus>/<speaker>/…``, ``noise/<corpus>/<class>/…``, ``rir/<room>/…`` hold wav, flac, ogg or mp3 at any rate.
What may share a voice or an original recording gets one *source*, and a source never stands in two splits:
* speech: the name of the speaker's folder, so a speaker of two corpora is one source; a corpus without speaker folders
  is one source as a whole, and so is one of single words (median under 2.5 s), whose folders are words, not speakers;
* noise: corpus and class folder; files named as in ESC-50 (fold-clip-take-class) by their clip; files right under
  the corpus by their name without a trailing number, as ``train_01`` and ``train_02`` are pieces of one recording;
* rooms: the first folder under ``rir/``.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from dnslib.errors import MisuseError
from dnslib.stft import SAMPLE_RATE

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
SINGLE_WORDS_SECONDS = 2.5
_NOT_RECORDINGS = {".txt", ".md", ".csv", ".json", ".pdf", ".html", ".tsv", ".trn", ".xml", ""}
_ESC50 = re.compile(r"\d-(\d+)-[A-Z]-\d+$")
_PIECE = re.compile(r"[_-]?\d+$")


class Unusable(ValueError):
    """Why one file is skipped."""


def files(folder: Path) -> list[Path]:
    """All files below a folder that are or pretend to be recordings, sorted; notes and hidden files are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower() not in _NOT_RECORDINGS and not path.name.startswith(".")
    )


def read(path: Path) -> np.ndarray:
    """One recording as float32 ``(samples,)``, 16 kHz, the mean of its channels.

    Raises Unusable with the reason for what is not audio, empty, not finite or silent.
    """
    samples, rate = read_as_is(path)
    return converted(samples, rate)


def read_as_is(path: Path) -> tuple[np.ndarray, int]:
    """Samples ``(samples, channels)`` and rate of a file; raises Unusable."""
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError):
        raise Unusable("cannot be decoded as audio") from None
    if samples.size == 0:
        raise Unusable("is empty")
    if not np.isfinite(samples).all():
        raise Unusable("holds NaN or infinite samples")
    if np.abs(samples).max() < 1e-4:
        raise Unusable("is silent")
    return samples, rate


def converted(samples: np.ndarray, rate: int) -> np.ndarray:
    """``(samples, channels)`` at any rate to float32 ``(samples,)`` at 16 kHz."""
    mono = samples.mean(axis=1, dtype=np.float32)
    return mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE).astype(np.float32)


def read_room(path: Path) -> np.ndarray:
    """The first channel of an impulse response at 16 kHz: a mean of channels would comb it."""
    samples, rate = read_as_is(path)
    return converted(samples[:, :1], rate)


def try_read(path: Path, reader: Callable[[Path], np.ndarray] = read) -> np.ndarray | str:
    """What the reader gives, or why the file is unusable; for worker processes and threads."""
    try:
        return reader(path)
    except Unusable as reason:
        return str(reason)


def check(data: Path) -> None:
    """Raises MisuseError, one sentence, where ``data`` is not a folder with speech/ and noise/ that hold files."""
    if not data.is_dir():
        raise MisuseError(f"The data folder {data} does not exist.")
    for kind in ("speech", "noise"):
        if not (data / kind).is_dir():
            raise MisuseError(
                f"The data folder {data} has no {kind}/ folder; it needs speech/, noise/ and may have rir/."
            )
        if not files(data / kind):
            raise MisuseError(f"The folder {data / kind} holds no recordings (wav, flac, ogg, mp3).")


def speech_sources(root: Path, seconds: dict[Path, float]) -> dict[Path, str]:
    """Source of every speech file below ``root``, from their lengths in seconds."""
    corpora: dict[Path, list[Path]] = {}
    for path in seconds:
        corpora.setdefault(Path(*path.relative_to(root).parts[:1]), []).append(path)
    sources = {}
    for corpus, paths in corpora.items():
        single_words = np.median([seconds[path] for path in paths]) < SINGLE_WORDS_SECONDS
        for path in paths:
            parts = path.relative_to(root).parts
            whole = single_words or len(parts) < 3
            sources[path] = (corpus.name if len(parts) > 1 else root.name) if whole else parts[1]
    return sources


def noise_source(root: Path, path: Path) -> str:
    """Source of a noise file below ``root``."""
    *folder, _ = path.relative_to(root).parts
    if match := _ESC50.match(path.stem):
        return f"{folder[0] if folder else root.name}/{match[1]}"
    return "/".join(folder[:2]) if len(folder) > 1 else "/".join([*folder, _PIECE.sub("", path.stem) or path.stem])


def room_source(root: Path, path: Path) -> str:
    """Source of an impulse response: its first folder, or its own name."""
    return path.relative_to(root).parts[0]
