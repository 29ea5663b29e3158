"""Files of a laboratory: named by digests of what decides their content, and either whole or absent."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from dnslib import data, digests, quality
from dnslib.errors import MisuseError
from dnslib.paths import write_atomically

DAMAGE = (FileNotFoundError, ValueError, KeyError, TypeError)  # MisuseError, pandas' and json's errors are ValueErrors


def source_digest(module) -> str:
    """Eight hexadecimal digits of the code of a module, or of all files of a package."""
    file = Path(module.__file__)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return digests.code_digest(files)[:8]


def scores_name(clips: Iterable[data.Clip], kind: str = "") -> str:
    """Name of the file that holds the scores of these clips."""
    return f"scores-{digest_of_clips(clips)}{kind}.csv"


def digest_of_clips(clips: Iterable[data.Clip]) -> str:
    """Twelve hexadecimal digits of clips, scoring code and its network: scores are reused for the same ones only."""
    digest = hashlib.sha256((source_digest(quality) + digests.file_digest(quality.weights_path())).encode())
    for clip in clips:
        digest.update(clip.name.encode())
        for waveform in (clip.noisy, clip.clean):
            digest.update(b"" if waveform is None else np.ascontiguousarray(waveform).tobytes())
    return digest.hexdigest()[:12]


def outlines(clips: Iterable[data.Clip]) -> list[tuple[str, int, float]]:
    """Name, number of samples and RMS of each clip: what tells sets of clips apart, but not processors."""
    return [(clip.name, len(clip.noisy), float(np.sqrt(np.mean(np.square(clip.noisy))))) for clip in clips]


@contextmanager
def reading(path: Path, made_with: Path | None = None) -> Iterator[None]:
    """Context around reading ``path``: damage becomes a MisuseError that says what to delete to have it made again.

    That is the file itself, or ``made_with``, the folder of a run, which is made as a whole.
    """
    try:
        yield
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        raise MisuseError(
            f"{path} is damaged or gone ({reason}): delete {made_with or path} and start again."
        ) from None


def read_csv(path: Path, **options) -> pd.DataFrame:
    """A table of `write_csv`; ValueError for one that does not end with a whole line."""
    if not path.read_bytes().endswith(b"\n"):
        raise ValueError("it is cut short")
    return pd.read_csv(path, **options)


def read_scores(path: Path, clips: Sequence[data.Clip]) -> pd.DataFrame:
    """Scores that were kept for these clips, one row each in their order, with their speakers, which older files lack.

    Raises MisuseError for a file cut short.
    """
    with reading(path):
        empty = {metric: [""] for metric in quality.METRICS}  # these are NaN, while a clip may be called NA
        scores = read_csv(path, dtype={"clip": str}, keep_default_na=False, na_values=empty)
        if scores["clip"].tolist() != [clip.name for clip in clips]:
            raise ValueError(f"it holds {len(scores)} of {len(clips)} clips")
        return scores.assign(speaker=[clip.speaker for clip in clips])


def with_snr_and_noise(scores: pd.DataFrame, clips: Iterable[data.Clip]) -> pd.DataFrame:
    """Scores, rounded, with the SNR in dB and the noise of each row's clip; these and scores are the last columns."""
    about = pd.DataFrame([{"clip": clip.name, "snr_db": clip.snr_db, "noise": clip.noise} for clip in clips])
    last = ["clip", *quality.METRICS, "speaker", "snr_db", "noise"]
    table = scores.merge(about, on="clip", validate="many_to_one")
    return table[[*table.columns.drop(last), *last]].round(6)


def write_json(path: Path, value) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    with write_atomically(path) as temporary:
        table.to_csv(temporary, index=False)
