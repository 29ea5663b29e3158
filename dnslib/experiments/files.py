"""Files of a laboratory: names that hold digests of what decides their content, locks, whole or not there."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from dnslib import data, quality
from dnslib.paths import write_atomically


def source_digest(module) -> str:
    """Eight hexadecimal digits of the source of a module, or of all files of a package."""
    file = Path(module.__file__)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def scores_name(clips: Iterable[data.Clip], kind: str = "") -> str:
    """Name of the file that holds the scores of these clips."""
    return f"scores-{digest_of_clips(clips)}{kind}.csv"


def digest_of_clips(clips: Iterable[data.Clip]) -> str:
    """Twelve hexadecimal digits of clips and scoring code: scores are found again for the same only."""
    digest = hashlib.sha256(source_digest(quality).encode())
    for clip in clips:
        digest.update(clip.name.encode())
        for waveform in (clip.noisy, clip.clean):
            digest.update(b"" if waveform is None else np.ascontiguousarray(waveform).tobytes())
    return digest.hexdigest()[:12]


def waiting_lock(path: Path) -> FileLock:
    """A lock on ``path``; says so once when another process holds it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
        lock.release()
    except Timeout:
        print(f"{path.name} is held by another process, waiting for it …", flush=True)
    return lock


def write_json(path: Path, value) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    with write_atomically(path) as temporary:
        table.to_csv(temporary, index=False)
